"""From the URI of an exposure to a local file that may be read: roots, size and checksum are verified. Runs in the worker."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from streamchar.stream.errors import (
    ChecksumError,
    ChecksumFormatError,
    FileMissingError,
    FileTooLargeError,
    FileUnreadableError,
    OutsideRootsError,
    UnsupportedSchemeError,
)

_SHA256_DIGITS = 64


def locate(uri: str, roots: Sequence[Path], max_bytes: int, checksum: str | None = None) -> Path:
    """Return the file behind a URI after having verified that it may be read and is the announced one.

    Parameters
    ----------
    uri
        A path or a ``file://`` URI.
    roots
        Folders below which the file must lie; symbolic links are resolved on both sides.
    max_bytes
        Largest size.
    checksum
        SHA-256 in hexadecimal, optionally after ``sha256:``; not verified when None.

    Raises
    ------
    UnsupportedSchemeError, OutsideRootsError, FileTooLargeError, ChecksumError, ChecksumFormatError
        Another attempt will not help.
    FileMissingError, FileUnreadableError
        Another attempt may help.
    """
    path = local_path(uri)
    try:
        resolved = path.resolve()
        allowed = [root.resolve() for root in roots]
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, embedded null bytes
        raise OutsideRootsError(uri=_short(uri), roots=_list(roots)) from error
    if not any(resolved.is_relative_to(root) for root in allowed):
        raise OutsideRootsError(uri=_short(uri), roots=_list(roots))
    try:
        status = resolved.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileMissingError(uri=_short(uri)) from error
    except OSError as error:
        raise FileUnreadableError(uri=_short(uri), detail=error.strerror) from error
    if not resolved.is_file():
        raise FileUnreadableError(uri=_short(uri), detail="not a regular file")
    if status.st_size > max_bytes:
        raise FileTooLargeError(uri=_short(uri), size=status.st_size, limit=max_bytes)
    if checksum is not None:
        verify(resolved, uri, checksum)
    return resolved


def local_path(uri: str) -> Path:
    """Return the path that a URI names.

    Raises
    ------
    UnsupportedSchemeError
        The URI is not a local path.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise UnsupportedSchemeError(uri=_short(uri), scheme="") from error
    if not parts.scheme:
        return Path(uri)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise UnsupportedSchemeError(uri=_short(uri), scheme=parts.scheme)
    return Path(unquote(parts.path))


def verify(path: Path, uri: str, checksum: str) -> None:
    """Compare the SHA-256 of a file with the announced one.

    Raises
    ------
    ChecksumFormatError, ChecksumError, FileUnreadableError
        The checksum is malformed or different, or the file cannot be read.
    """
    announced = checksum.strip().lower().removeprefix("sha256:")
    if len(announced) != _SHA256_DIGITS or not set(announced) <= set("0123456789abcdef"):
        raise ChecksumFormatError(checksum=_short(checksum))
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileUnreadableError(uri=_short(uri), detail=error.strerror) from error
    if actual != announced:
        raise ChecksumError(uri=_short(uri), actual=actual, announced=announced)


def _short(text: str) -> str:
    return text if len(text) <= 300 else text[:300] + "..."


def _list(roots: Sequence[Path]) -> str:
    return ", ".join(map(str, roots)) or "none are configured"
