"""Typed configuration: the base model, TOML files, ``key=value`` overrides, and errors that name the field and the fix."""

from __future__ import annotations

import ast
import inspect
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from streamchar.errors import ConfigurationError

Tree = dict[str, Any]
M = TypeVar("M", bound=BaseModel)
_TEXTS = frozenset({str, SecretStr, Path, type(None)})


class Configuration(BaseModel):
    """A frozen group of settings. Unknown names are refused; every field has a description (:func:`description_of`)."""

    # Building the validators of groups that are only parts of others would take a tenth of a worker's start.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)

    def with_overrides(self, *overrides: str) -> Self:
        """Return a copy with ``dotted.name=value`` settings applied, validated as a whole."""
        tree = self.model_dump()
        for text in overrides:
            merge(tree, parse_override(text, type(self)))
        return validate(type(self), tree, "override")


def description_of(model: type[BaseModel], name: str) -> str:
    """Return what is known about a field: its own description, or the string below it in the source; empty without one.

    The source is read on demand, since parsing it for every model takes a worker a fifth of its start.
    """
    own = model.model_fields[name].description
    if own is not None:
        return own
    for kind in model.__mro__:
        if name in vars(kind).get("__annotations__", {}):
            return _attribute_docstrings(kind).get(name, "")
    return ""


def named_in(config: Configuration) -> Iterator[str]:
    """Yield every text among the values of a group and the groups below it.

    Of groups that are alternatives, chosen by a field ``name`` beside them, only the chosen one counts.
    """
    chosen = getattr(config, "name", None)
    if chosen not in type(config).model_fields:
        chosen = None
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Configuration):
            if chosen in (None, name):
                yield from named_in(value)
        elif isinstance(value, str):
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if isinstance(item, str))


@cache
def _attribute_docstrings(kind: type[Any]) -> Mapping[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in pairwise(definition.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(doc))):
                found[name] = inspect.cleandoc(doc)
    return found


def parse_override(text: str, model: type[BaseModel]) -> Tree:
    """Read ``dotted.name=value``; the value is TOML, a bare string when it is not, and ``None`` when it is empty.

    Where a field of the ``model`` is text, a number is text as well: nobody thinks of quotes for a name that happens to be
    one, and in environment variables they are hard to write.

    >>> parse_override("detection.threshold_value=4.5", Configuration)
    {'detection': {'threshold_value': 4.5}}
    >>> parse_override("repair.cosmicray.max_star_loss=", Configuration)
    {'repair': {'cosmicray': {'max_star_loss': None}}}
    """
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise ConfigurationError.at(
            text, "an override reads name=value, for example detection.threshold_value=4.5"
        )
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"] if value.strip() else None
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    path = name.strip().split(".")
    field = _fields_at(model, path[:-1]).get(path[-1])
    if field is not None and _is_text(field.annotation) and not isinstance(parsed, str | None):
        parsed = value.strip()
    for part in reversed(path):
        parsed = {part: parsed}
    tree: Tree = parsed
    return tree


def read_toml(path: Path) -> Tree:
    """Read a TOML file into a tree of settings."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except UnicodeDecodeError as error:
        raise ConfigurationError.at(str(path), f"is not text in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise ConfigurationError.at(str(path), f"cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError.at(str(path), f"is not valid TOML: {error}") from error


def merge(into: Tree, changes: Mapping[str, Any]) -> Tree:
    """Merge ``changes`` into the nested tree ``into`` (which is modified) and return it."""
    for name, value in changes.items():
        present = into.get(name)
        if isinstance(value, Mapping) and isinstance(present, dict):
            merge(present, value)
        else:
            into[name] = value
    return into


def validate(model: type[M], tree: Mapping[str, Any], where: str) -> M:
    """Build ``model`` from a tree of settings, turning the first problem into one clear sentence.

    Raises
    ------
    ConfigurationError
        Names the field, what is wrong with it and, for an unknown name, the nearest known one.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError.at(where, _explain(model, error)) from error


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    import difflib  # only to explain an error

    problem = error.errors(include_url=False)[0]
    location = [str(part) for part in problem["loc"]]
    name = ".".join(location)
    if problem["type"] != "extra_forbidden":
        return f"'{name}': {problem['msg'].removeprefix('Value error, ')}{_given(location, problem.get('input'))}"
    known = list(_fields_at(model, location[:-1]))
    nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.4)
    hint = (
        f"; did you mean '{'.'.join([*location[:-1], nearest[0]])}'?"
        if nearest
        else f"; known are {', '.join(known)}"
    )
    return f"'{name}' is not a setting{hint}"


def _given(location: Sequence[str], value: object) -> str:
    """Tell what was given, but no password."""
    if isinstance(value, Mapping):
        return f" (given: {', '.join(map(str, value)) or 'nothing'})"
    return "" if "password" in location[-1] else f" (got {value!r})"


def _is_text(annotation: object) -> bool:
    """Whether a field holds text, or a path, or nothing."""
    alternatives = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return _TEXTS.issuperset(alternatives)


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> Mapping[str, Any]:
    for part in path:
        field = model.model_fields.get(part)
        candidates = [] if field is None else [field.annotation, *get_args(field.annotation)]
        inner = [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return {}
        model = inner[0]
    return model.model_fields
