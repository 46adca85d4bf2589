"""From what the user names to what is read: patterns become files, and every file gets a name for its products."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from streamchar.errors import ConfigurationError
from streamchar.frozen import frozen
from streamchar.image.access import Access, s3_filesystem, split_extension

_PATTERN = re.compile(r"[*?[]")
_REMOTE = ("http://", "https://", "s3://")
_FITS_SUFFIX = re.compile(r"\.(fits?|fts)(\.(gz|fz))?$|\.(gz|fz)$", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\w.+-]+")


@frozen
class Input:
    """One exposure to characterize.

    Attributes
    ----------
    source
        Path or address, as it is read.
    stem
        First part of the names of its products, different for every input.
    """

    source: str
    stem: str


def find_inputs(names: Sequence[str], access: Access) -> list[Input]:
    """Expand patterns and give every file a name for its products.

    Parameters
    ----------
    names
        Paths, ``file://``, ``https://`` and ``s3://`` addresses. Paths and ``s3://`` addresses may hold ``*``, ``?``,
        ``[...]`` and ``**``; what a pattern matches comes in alphabetical order.
    access
        How S3 is reached.

    Returns
    -------
    list
        In order, each file once.

    Raises
    ------
    ConfigurationError
        A pattern matches no file or cannot be listed, or a folder is named.
    """
    sources = list(dict.fromkeys(source for name in names for source in _expanded(name, access)))
    return [Input(source, stem) for source, stem in zip(sources, _stems(sources), strict=True)]


def _expanded(name: str, access: Access) -> Iterator[str]:
    remote = name.startswith(_REMOTE)
    if not remote and Path(name).is_dir():
        raise ConfigurationError.at(
            name, f"is a folder; name its files, for example '{Path(name) / '*.fits'}'"
        )
    if not _PATTERN.search(name) or (not remote and Path(name).exists()) or name.startswith(_REMOTE[:2]):
        yield name
        return
    found = _listed_on_s3(name, access) if remote else sorted(glob.glob(name, recursive=True))  # noqa: PTH207
    if not found:
        raise ConfigurationError.at(name, "matches no file")
    yield from found


def _listed_on_s3(name: str, access: Access) -> list[str]:
    filesystem, failures = s3_filesystem(access.endpoint, access.timeout)
    try:
        return sorted(f"s3://{found}" for found in filesystem.glob(name.removeprefix("s3://")))
    except failures as error:
        detail = f"cannot be listed: {str(error) or type(error).__name__}"
        raise ConfigurationError.at(name, detail) from error


def _stems(sources: Sequence[str]) -> Iterator[str]:
    taken: set[str] = set()
    for source in sources:
        stem = unique = _stem(source)
        number = 1
        # Names of files that differ in case only are the same on some file systems.
        while unique.casefold() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.casefold())
        yield unique


def _stem(source: str) -> str:
    address, extension = split_extension(source)
    if address.startswith((*_REMOTE, "file://")):
        address = unquote(urlsplit(address).path)
    name = _FITS_SUFFIX.sub("", address.rstrip("/").rpartition("/")[2])
    parts = [_UNSAFE.sub("_", part).strip(".") for part in (name, extension)]
    return "-".join(part for part in parts if part) or "exposure"
