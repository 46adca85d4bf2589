"""What is frozen behaves as a dataclass that is frozen and has slots, though its methods are shared."""

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pytest

import streamchar
from streamchar.frozen import frozen

ROOT = Path(streamchar.__file__).parent


def declare(decorator):
    class Star:
        """A star."""

        x: float
        y: float = 0.5
        names: tuple[str, ...] = ()
        memory: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

        def __post_init__(self):
            object.__setattr__(self, "names", tuple(sorted(self.names)))

    return decorator(Star)


@frozen
class Place:
    x: float
    y: float = 2.0


@frozen(eq=False)
class Pixels:
    values: np.ndarray


@frozen
class Named:
    name: str
    catalog: int = 0

    def __repr__(self):
        return f"Named({self.name})"

    def __eq__(self, other):
        return self.name == other.name

    def __hash__(self):
        return hash(self.name)


OURS, THEIRS = declare(frozen), declare(dataclass(frozen=True, slots=True))


def test_methods_of_the_class_itself_stay():
    vega = Named("Vega", 1)
    assert repr(vega) == "Named(Vega)"
    assert vega == Named("Vega", 2)
    assert hash(vega) == hash("Vega")
    with pytest.raises(FrozenInstanceError):
        vega.name = "Deneb"
    assert pickle.loads(pickle.dumps(vega)).catalog == 1


def test_who_compares_its_own_way_has_a_hash_as_any_dataclass():
    @frozen
    class Angle:
        degrees: float

        def __eq__(self, other):
            return (self.degrees - other.degrees) % 360.0 == 0.0

    assert Angle(10.0) == Angle(370.0)
    assert hash(Angle(10.0)) == hash(Angle(10.0))


def test_a_class_that_could_be_changed_is_refused():
    class Drifting:
        x: float

        def __setattr__(self, name, value):
            object.__setattr__(self, name, value)

    for decorator in (frozen, frozen(eq=False), dataclass(frozen=True)):
        with pytest.raises(TypeError, match="__setattr__"):
            decorator(Drifting)


@pytest.mark.parametrize("arguments", [(1.0,), (1.0, 2.0), (1.0, 2.0, ("b", "a")), (float("nan"),)])
def test_it_is_made_and_shown_as_any_dataclass(arguments):
    ours, theirs = OURS(*arguments), THEIRS(*arguments)
    assert repr(ours) == repr(theirs)
    assert [getattr(ours, item.name) for item in fields(ours)] == [
        getattr(theirs, item.name) for item in fields(theirs)
    ]
    assert OURS.__match_args__ == THEIRS.__match_args__
    assert OURS.__slots__ == THEIRS.__slots__


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((), {}),
        ((1.0, 2.0, (), {}), {}),
        ((1.0,), {"x": 2.0}),
        ((1.0,), {"z": 2.0}),
        ((1.0,), {"memory": {}}),
        ((), {"y": 2.0}),
    ],
)
def test_it_is_made_of_its_fields_only(values, named):
    for star in (OURS, THEIRS):
        with pytest.raises(TypeError):
            star(*values, **named)


def test_values_are_given_by_place_or_by_name():
    ours, theirs = (star(names=("b", "a"), x=1.0) for star in (OURS, THEIRS))
    assert repr(ours) == repr(theirs)
    assert ours.memory == {}
    assert ours.memory is not OURS(1.0).memory


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((1.0,), (1.0, 0.5)),
        ((1.0,), (2.0,)),
        ((1.0, 2.0, ("a", "b")), (1.0, 2.0, ("b", "a"))),
        ((1,), (1.0,)),
    ],
)
def test_it_is_compared_and_hashed_by_value(a, b):
    assert (OURS(*a) == OURS(*b)) == (THEIRS(*a) == THEIRS(*b))
    assert (hash(OURS(*a)) == hash(OURS(*b))) == (hash(THEIRS(*a)) == hash(THEIRS(*b)))
    OURS(*a).memory["seen"] = 1
    assert OURS(*a) != THEIRS(*a)


def test_it_is_compared_by_identity_where_it_says_so():
    pixels = Pixels(np.zeros(3))
    assert pixels == pixels
    assert pixels != Pixels(pixels.values)
    assert len({pixels, pixels, Pixels(pixels.values)}) == 2


@pytest.mark.parametrize("name", ["x", "y", "memory"])
def test_no_field_can_be_changed(name):
    star = OURS(1.0)
    with pytest.raises(FrozenInstanceError, match=name):
        setattr(star, name, 2.0)
    with pytest.raises(FrozenInstanceError, match=name):
        delattr(star, name)
    assert star == OURS(1.0)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda place: pickle.loads(pickle.dumps(place))]
)
def test_it_can_be_copied_and_sent(duplicate):
    assert duplicate(Place(1.0)) == Place(1.0, 2.0)
    assert np.array_equal(duplicate(Pixels(np.arange(3))).values, np.arange(3))


def test_it_can_be_replaced():
    assert replace(Place(1.0), y=3.0) == Place(1.0, 3.0)
    with pytest.raises(TypeError):
        Place(1.0, 2.0, 3.0)
    with pytest.raises(TypeError):
        Place(z=1.0)


@pytest.mark.parametrize("package", ["characterize", "image", "messages", "monitor", "stream"])
def test_no_class_of_a_worker_has_its_methods_compiled_one_by_one(package):
    sources = {str(path): path.read_text() for path in (ROOT / package).rglob("*.py")}
    assert sources
    assert [path for path, text in sources.items() if "\n@dataclass(frozen=True, slots=True" in text] == []
