"""Frozen dataclasses with slots that share their methods.

``dataclass`` writes and compiles six methods for every class, which took a seventh of a worker's start; here none is
compiled, and an instance is made as fast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
def frozen(kind: type[T], /) -> type[T]: ...


@overload
def frozen(*, eq: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(kind: type[T] | None = None, /, *, eq: bool = True) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a class a dataclass with slots whose instances cannot be changed, as ``dataclass(frozen=True, slots=True)`` does.

    Methods that the class has itself stay.

    Parameters
    ----------
    kind
        The class.
    eq
        Whether instances are compared, and hashed, by the values of their fields; otherwise by identity.

    Raises
    ------
    TypeError
        The class sets or deletes attributes its own way, which what is frozen cannot.
    """

    def make(kind: type[T]) -> type[T]:
        if changing := {"__setattr__", "__delattr__"}.intersection(vars(kind)):
            raise TypeError(f"{kind.__qualname__} is frozen and cannot have {' and '.join(sorted(changing))}")
        made = dataclass(slots=True, init=False, eq=False, repr=False)(kind)
        for name, method in (_SHARED | _BY_VALUE if eq else _SHARED).items():
            # Who compares its own way is given __hash__ = None by Python.
            if vars(kind).get(name) is None:
                setattr(made, name, method)
        setattr(made, "__init__", _initializer(made))  # noqa: B010 - otherwise mypy takes it for a mistake
        return made

    return make if kind is None else make(kind)


def _initializer(made: type[Any]) -> Callable[..., None]:
    """Return the method that sets a class's fields through their slots, which only refuse assignments."""
    items = sorted(fields(made), key=lambda item: not item.init)
    taken = sum(item.init for item in items)
    setters = tuple(getattr(made, item.name).__set__ for item in items)
    complete = taken if taken == len(items) else None
    finish = getattr(made, "__post_init__", None)

    def initialize(self: Any, *values: Any, **named: Any) -> None:
        if named or len(values) != complete:
            if len(values) > taken:
                raise TypeError(f"{made.__qualname__} takes {taken} values, {len(values)} were given")
            values = _completed(made, items[len(values) :], values, named)
        # There are as many; strict, this would take as long again.
        for assign, value in zip(setters, values):  # noqa: B905
            assign(self, value)
        if finish is not None:
            finish(self)

    return initialize


def _completed(
    made: type[Any], missing: Sequence[Field[Any]], values: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Any, ...]:
    """Return values by place followed by those given by name and the defaults of the others."""
    found = list(values)
    for item in missing:
        if item.init and item.name in named:
            found.append(named.pop(item.name))
        elif item.default is not MISSING:
            found.append(item.default)
        elif item.default_factory is not MISSING:
            found.append(item.default_factory())
        else:
            raise TypeError(f"{made.__qualname__} needs a value of {item.name!r}")
    if named:
        raise TypeError(f"{made.__qualname__} takes no value, or not a second one, of {', '.join(named)}")
    return tuple(found)


def _refuse_value(_self: Any, name: str, _value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(_self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, item.name) for item in fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for item, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, item.name, value)


def _describe(self: Any) -> str:
    shown = (f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, item.name) for item in fields(self) if item.compare)


def _equal(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


_SHARED: dict[str, Any] = {
    "__setattr__": _refuse_value,
    "__delattr__": _refuse_deletion,
    "__getstate__": _state,
    "__setstate__": _restore,
    "__repr__": _describe,
}
_BY_VALUE: dict[str, Any] = {"__eq__": _equal, "__hash__": _hash}
