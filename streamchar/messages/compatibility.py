"""What may change between versions of a schema: inside a major version only optional additions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

ANNOTATIONS = frozenset({"description", "examples", "title", "$id", "$comment"})
"""Keywords a new minor version may reword; they do not bear on which messages are valid."""


def version_of(name: str) -> tuple[int, int]:
    """Return major and minor of a file or schema version.

    >>> version_of("v1.12.json")
    (1, 12)
    """
    major, minor = name.removesuffix(".json").removeprefix("v").split(".")
    return int(major), int(minor)


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Say what keeps readers of ``old`` from reading messages of ``new``, or the reverse.

    The policy is that of schema registries under the name FULL_TRANSITIVE, checked pair by pair: fields are neither
    removed, renamed, redefined nor made required or optional; units, types and limits stay; new fields are optional.

    Parameters
    ----------
    old, new
        JSON Schemas of two minor versions of one major version.

    Returns
    -------
    list of str
        One sentence per change; empty when the versions are compatible.
    """
    return list(_compare(old, new, "message"))


def _compare(old: Any, new: Any, place: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _compare_schemas(old, new, place)
    elif old != new:
        yield f"{place}: {old!r} became {new!r}"


def _compare_schemas(old: Schema, new: Schema, place: str) -> Iterator[str]:
    for keyword in sorted((set(old) | set(new)) - ANNOTATIONS - {"default"}):
        inside = f"{place}.{keyword}"
        if keyword in ("properties", "$defs"):
            yield from _compare_members(old.get(keyword, {}), new.get(keyword, {}), place)
        elif keyword == "required":
            yield from _compare_required(old, new, place)
        elif keyword not in new:
            yield f"{inside} was dropped"
        elif keyword not in old:
            yield f"{inside} was added"
        else:
            yield from _compare(old[keyword], new[keyword], inside)


def _compare_members(old: Schema, new: Schema, place: str) -> Iterator[str]:
    for name in old:
        if name not in new:
            yield f"{place}.{name} was removed"
        else:
            yield from _compare(old[name], new[name], f"{place}.{name}")


def _compare_required(old: Schema, new: Schema, place: str) -> Iterator[str]:
    before, after = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(before - after):
        yield f"{place}.{name} is no longer required: readers of older versions need it"
    for name in sorted(after - before):
        yield f"{place}.{name} became required: older messages do not have it"
