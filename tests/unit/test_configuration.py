"""Settings: overrides, TOML, and errors that name the field and the fix."""

from pathlib import Path

import pytest
from pydantic import Field

from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.configuration import (
    Configuration,
    description_of,
    merge,
    named_in,
    parse_override,
    read_toml,
    validate,
)
from streamchar.errors import ConfigurationError


class Inner(Configuration):
    threshold_value: float = Field(default=5.0, gt=0)
    """Threshold."""


class Outer(Configuration):
    detection: Inner = Inner()
    """Detection."""
    names: tuple[str, ...] = ("a",)
    """Names."""


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a=1", {"a": 1}),
        ("a.b.c=2.5", {"a": {"b": {"c": 2.5}}}),
        ("a=true", {"a": True}),
        ("a=word", {"a": "word"}),
        ('a="quoted"', {"a": "quoted"}),
        ("a=[1, 2]", {"a": [1, 2]}),
        ("a=host:9092", {"a": "host:9092"}),
        ("a=", {"a": None}),
        ('a=""', {"a": ""}),
    ],
)
def test_overrides_are_toml_or_bare_words(text, tree):
    assert parse_override(text, Outer) == tree


@pytest.mark.parametrize("text", ["nothing", "=1", " =1"])
def test_an_override_without_a_name_is_refused(text):
    with pytest.raises(ConfigurationError, match="name=value"):
        parse_override(text, Outer)


def test_overrides_apply_in_order():
    config = Outer().with_overrides(
        "detection.threshold_value=4", "detection.threshold_value=6", 'names=["x"]'
    )
    assert config.detection.threshold_value == 6
    assert config.names == ("x",)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        ConfigurationError,
        match=r"'detection\.treshold_value' is not a setting; did you mean 'detection\.threshold_value'",
    ):
        Outer().with_overrides("detection.treshold_value=4")


def test_an_unknown_name_without_a_near_one_lists_the_known():
    with pytest.raises(ConfigurationError, match="known are detection, names"):
        Outer().with_overrides("zzz=4")


def test_a_wrong_value_names_the_field():
    with pytest.raises(ConfigurationError, match=r"'detection\.threshold_value'.*greater than 0.*-1"):
        Outer().with_overrides("detection.threshold_value=-1")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Outer().names = ()


def test_merge_keeps_what_is_not_changed():
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}, "d": 4}) == {"a": {"b": 1, "c": 3}, "d": 4}


def test_toml_errors_name_the_file(tmp_path):
    with pytest.raises(ConfigurationError, match=r"gone\.toml: cannot be read"):
        read_toml(tmp_path / "gone.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("a = = 1")
    with pytest.raises(ConfigurationError, match=r"bad\.toml: is not valid TOML"):
        read_toml(bad)


def test_validate_returns_the_model():
    assert validate(Outer, {"detection": {"threshold_value": 3}}, "here").detection.threshold_value == 3.0


class _Base(Configuration):
    speed: float = 1.0
    """How fast,
    in two lines."""
    silent: int = 0


class _Derived(_Base):
    colour: str = Field(default="red", description="Said here.")
    """Not read."""
    count: int = 3
    """How many."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("speed", "How fast,\nin two lines."),
        ("silent", ""),
        ("colour", "Said here."),
        ("count", "How many."),
    ],
)
def test_descriptions_are_the_strings_below_the_fields(name, expected):
    assert description_of(_Derived, name) == expected


def test_every_setting_of_the_characterization_has_a_description():
    missing = []

    def visit(model, path):
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, Configuration):
                visit(kind, f"{path}{name}.")
            if not description_of(model, name):
                missing.append(f"{path}{name}")

    visit(CharacterizeImageConfig, "")
    assert missing == []


def test_texts_named_in_a_group_and_the_chosen_alternative():
    config = CharacterizeImageConfig().measure_psf
    names = set(named_in(config))
    assert {"base_PsfFlux_instFlux", "base_PixelFlags_flag_edge"} <= names
    assert "base_CircularApertureFlux_9_0_instFlux" not in names
    other = config.with_overrides("psf_determiner.name=psfex")
    assert "base_CircularApertureFlux_9_0_instFlux" in set(named_in(other))


class Named(Configuration):
    name: str | None = "camera"
    """Name."""
    place: Path = Path()
    """Place."""
    several: list[str] = Field(default_factory=list)
    """Several."""
    count: int | str = 1
    """Number or word."""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("name=2026", "2026"),
        ("name=007", "007"),
        ("name=1e5", "1e5"),
        ("name=true", "true"),
        ("name=12 # 34", "12 # 34"),
        ('name="2026"', "2026"),
        ("name=", None),
        ("place=2026", Path("2026")),
        ('several=["a"]', ["a"]),
        ("count=3", 3),
    ],
)
def test_what_looks_like_a_number_is_text_where_text_is_wanted(text: str, value: object) -> None:
    assert getattr(Named().with_overrides(text), text.partition("=")[0]) == value


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_bytes(b"a = 1\n\xff")
    with pytest.raises(ConfigurationError, match=r"night\.toml: is not text in UTF-8 \(byte 6\)"):
        read_toml(path)
