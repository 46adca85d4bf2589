"""Instrument profiles from TOML files: those built in, those of a directory, and a single file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from streamchar.configuration import Tree, merge, read_toml, validate
from streamchar.errors import ConfigurationError
from streamchar.frozen import frozen
from streamchar.image.errors import AmbiguousProfileError, UnknownInstrumentError
from streamchar.image.profiles.model import InstrumentProfile, Rule

_LONGEST_VALUE = 200
"""Characters of a header value that are compared: bounds the time of a regular expression."""


@frozen
class Facts:
    """What a file tells about itself before anything is read from it.

    Attributes
    ----------
    file_name
        Without its directory.
    extensions
        Names of the extensions in order, ``""`` for those without.
    headers
        Primary header and the header of the first two-dimensional image: key to value.
    """

    file_name: str
    extensions: tuple[str, ...]
    headers: tuple[Mapping[str, Any], ...]


class ProfileSet(Mapping[str, InstrumentProfile]):
    """Profiles by name.

    Parameters
    ----------
    profiles
        Of equal names the last one counts.
    """

    def __init__(self, profiles: Iterable[InstrumentProfile]) -> None:
        self._profiles = MappingProxyType({profile.name: profile for profile in profiles})

    def __getitem__(self, name: str) -> InstrumentProfile:
        return self._profiles[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._profiles)

    def __len__(self) -> int:
        return len(self._profiles)

    def named(self, name: str) -> InstrumentProfile:
        """Return the profile of this name, or that in the TOML file of this path.

        Raises
        ------
        ConfigurationError
            There is neither, or the file is wrong.
        """
        if name in self:
            return self[name]
        if name.endswith(".toml"):
            return read_profile(Path(name), self)
        raise ConfigurationError.at(
            f"profile '{name}'",
            f"is neither a known profile ({', '.join(sorted(self))}) nor the path of a .toml file",
        )

    def matching(self, facts: Facts) -> list[InstrumentProfile]:
        """Return the profiles that recognise a file, highest priority first."""
        found = [profile for profile in self.values() if recognises(profile, facts)]
        return sorted(found, key=lambda profile: (-profile.priority, profile.name))

    def recognise(self, facts: Facts, path: str) -> InstrumentProfile:
        """Return the profile of a file.

        Raises
        ------
        UnknownInstrumentError
            No profile recognises it.
        AmbiguousProfileError
            Several of the same priority do.
        """
        found = self.matching(facts)
        if not found:
            raise UnknownInstrumentError(path=path, known=", ".join(sorted(self)))
        equal = [profile.name for profile in found if profile.priority == found[0].priority]
        if len(equal) > 1:
            raise AmbiguousProfileError(path=path, profiles=", ".join(equal))
        return found[0]


def recognises(profile: InstrumentProfile, facts: Facts) -> bool:
    """Say whether one of the profile's rules holds for a file."""
    return any(_holds(rule, facts) for rule in profile.recognise)


def _holds(rule: Rule, facts: Facts) -> bool:
    if rule.file_name and not re.search(rule.file_name, facts.file_name[:_LONGEST_VALUE]):
        return False
    if not {name.upper() for name in rule.extensions} <= set(facts.extensions):
        return False
    if any(key in header for key in rule.absent for header in facts.headers):
        return False
    return all(
        any(re.fullmatch(pattern, _text(header.get(key))) for header in facts.headers if key in header)
        for key, pattern in rule.headers.items()
    )


def _text(value: Any) -> str:
    return str(value).strip()[:_LONGEST_VALUE]


def load_profiles(directories: Sequence[Path] = ()) -> ProfileSet:
    """Return the built-in profiles and those of the TOML files in ``directories``, which may replace them.

    Raises
    ------
    ConfigurationError
        A directory cannot be listed, or a file is wrong.
    """
    known = builtin_profiles()
    for directory in directories:
        if not directory.is_dir():
            raise ConfigurationError.at(str(directory), "is not a directory of instrument profiles")
        trees = {str(path): read_toml(path) for path in sorted(directory.glob("*.toml"))}
        known = ProfileSet([*known.values(), *_build(trees, known)])
    return known


@cache
def builtin_profiles() -> ProfileSet:
    """Return the profiles that come with the package."""
    trees = {file.name: read_toml(file) for file in sorted(Path(__file__).parent.glob("*.toml"))}
    return ProfileSet(_build(trees, {}))


def read_profile(path: Path, known: Mapping[str, InstrumentProfile] | None = None) -> InstrumentProfile:
    """Read one profile from a TOML file.

    Parameters
    ----------
    known
        Profiles it may extend; those built in when omitted.

    Raises
    ------
    ConfigurationError
        Names the file, the setting, what is wrong with it and how it is mended.
    """
    return _build({str(path): read_toml(path)}, builtin_profiles() if known is None else known)[0]


def _build(trees: Mapping[str, Tree], known: Mapping[str, InstrumentProfile]) -> list[InstrumentProfile]:
    raw = {name: profile.model_dump(exclude_unset=True) for name, profile in known.items()}
    raw |= {str(tree["name"]): tree for tree in trees.values() if "name" in tree}
    return [
        validate(InstrumentProfile, _extended(tree, raw, where, ()), where) for where, tree in trees.items()
    ]


def _extended(tree: Tree, raw: Mapping[str, Tree], where: str, seen: tuple[str, ...]) -> Tree:
    base = tree.get("extends")
    if not base:
        return tree
    if base not in raw:
        raise ConfigurationError.at(
            where, f"'extends': there is no profile '{base}'; known are {', '.join(sorted(raw))}"
        )
    if base in seen or base == tree.get("name"):
        raise ConfigurationError.at(where, f"'extends': '{base}' extends itself")
    whole = _extended(raw[base], raw, where, (*seen, base))
    return merge(_copy(whole), tree)


def _copy(tree: Tree) -> Tree:
    return {name: _copy(value) if isinstance(value, dict) else value for name, value in tree.items()}
