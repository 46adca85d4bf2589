"""Print the part of requirements.lock that some packages need, hashes included. Standard library only.

The lock holds everything, development and all extras, and says after each package which others need it ("via"). An
image wants what it runs: streamchar's own dependencies and chosen extras, or the tools that build the wheel.

Usage: lock_subset.py --extras parquet,plots,s3
       lock_subset.py --packages cmake,ninja
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


class UnknownNameError(Exception):
    """A package is not in the lock, or an extra not in the project."""


@dataclass(frozen=True, slots=True)
class Locked:
    """An entry of the lock.

    Attributes
    ----------
    name
        Normalized; a package that is locked in several versions, by Python version, has several entries.
    text
        Its lines.
    via
        Normalized names of the packages that need it.
    """

    name: str
    text: str
    via: frozenset[str]


def normalized(name: str) -> str:
    """Name of a package as indexes compare it; extras, versions and markers are left off."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", name.strip(), maxsplit=1)[0]).lower()


def read_lock(text: str) -> list[Locked]:
    """Entries in the order of the lock."""
    entries = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
        requirement, *comments = re.split(r"\n\s+# via", block, maxsplit=1)
        needed_by = [line.strip(" #") for line in "".join(comments).splitlines()]
        via = frozenset(normalized(line) for line in needed_by if line)
        entries.append(Locked(normalized(requirement), requirement, via))
    return entries


def subset(entries: Sequence[Locked], wanted: Iterable[str]) -> list[str]:
    """Texts of the wanted packages and of everything they need, in the order of the lock.

    Raises
    ------
    UnknownNameError
        A wanted package is not locked.
    """
    found = {normalized(name) for name in wanted}
    unknown = sorted(found - {entry.name for entry in entries})
    if unknown:
        raise UnknownNameError(f"not in the lock: {', '.join(unknown)}")
    while more := {entry.name for entry in entries if entry.via & found} - found:
        found |= more
    return [entry.text for entry in entries if entry.name in found]


def dependencies(pyproject: str, extras: Iterable[str]) -> list[str]:
    """Direct dependencies of the project and of some of its extras.

    Raises
    ------
    UnknownNameError
        There is no such extra.
    """
    project = tomllib.loads(pyproject)["project"]
    optional = project["optional-dependencies"]
    unknown = sorted(set(extras) - set(optional))
    if unknown:
        raise UnknownNameError(f"not an extra: {', '.join(unknown)}")
    return [*project["dependencies"], *(name for extra in extras for name in optional[extra])]


def main() -> None:
    """Print the requirements that the arguments ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--extras", type=_names, default=[])
    parser.add_argument("--packages", type=_names, default=[])
    arguments = parser.parse_args()
    pyproject = (HERE.parent / "pyproject.toml").read_text()
    try:
        wanted = arguments.packages or dependencies(pyproject, arguments.extras)
        texts = subset(read_lock((HERE / "requirements.lock").read_text()), wanted)
    except UnknownNameError as error:
        sys.exit(f"lock_subset.py: {error}")
    print("\n".join(texts))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    main()
