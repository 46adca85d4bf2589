"""From the address of an exposure to a local file that may be read: roots, hosts, sizes and checksums are verified.

Paths and ``file://`` addresses are used where they are; ``https://`` and ``s3://`` are copied to a temporary file,
never more than the limit, while the checksum is made.
"""

from __future__ import annotations

import hashlib
import posixpath
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pydantic import Field

from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image.errors import (
    ChecksumError,
    ChecksumFormatError,
    FileMissingError,
    FileTooLargeError,
    FileUnreadableError,
    HostRefusedError,
    MissingExtraError,
    OutsideRootsError,
    UnsupportedSchemeError,
)

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SHA256_DIGITS = 64
_CHUNK = 1 << 20
_REMOTE = ("http", "https", "s3")
_PLAIN_KEY = "any bucket, with the plain name of an object in it"


class Access(Configuration):
    """Which addresses may be read, and how much."""

    roots: tuple[Path, ...] | None = None
    """Folders below which local files must lie, symbolic links resolved; none means anywhere."""

    hosts: tuple[str, ...] | None = None
    """Hosts that may be asked, as ``host`` (its usual port), ``host:port`` or ``*.example.org``; none means any."""

    buckets: tuple[str, ...] | None = None
    """Buckets that may be read, as ``bucket`` or ``bucket/prefix``; none means any."""

    plain_http: bool = False
    """Whether ``http://`` is allowed besides ``https://``."""

    max_bytes: int = Field(2 << 30, gt=0)
    """Largest file in bytes."""

    timeout: float = Field(20.0, gt=0)
    """Seconds to wait for the next bytes of a server."""

    deadline: float = Field(100.0, gt=0)
    """Seconds that a whole file may take to arrive, looked at whenever bytes arrive."""

    endpoint: str | None = None
    """Address of the S3 service, when it is not Amazon's or that of ``AWS_ENDPOINT_URL``; credentials are taken from
    the environment, the shared files or the machine's role, as always with S3."""


def split_extension(uri: str) -> tuple[str, str]:
    """Separate an address from the extension it names: ``file.fits#N4`` gives ``file.fits`` and ``N4``.

    A local path that exists as it stands is not divided.
    """
    address, _, extension = uri.rpartition("#")
    if (
        not address
        or "/" in extension
        or (urlsplit(uri).scheme not in {*_REMOTE, "file"} and Path(uri).exists())
    ):
        return uri, ""
    return address, unquote(extension)


@frozen
class LocalFile:
    """A file that may be read.

    Attributes
    ----------
    path
        Where it is now.
    uri
        Where it came from.
    name
        Its own name, without directory.
    """

    path: Path
    uri: str
    name: str


@contextmanager
def local_file(uri: str, access: Access, checksum: str | None = None) -> Iterator[LocalFile]:
    """Give a local file with the bytes of an address, after having verified that they may be read.

    Parameters
    ----------
    uri
        A path, ``file://``, ``https://`` or ``s3://`` address.
    access
        Limits.
    checksum
        SHA-256 in hexadecimal, optionally after ``sha256:``; not verified when ``None``.

    Raises
    ------
    AccessError
        Says what is not allowed or did not work; ``retryable`` says whether another attempt may help.
    """
    announced = None if checksum is None else parse_checksum(checksum)
    parts = _split(uri)
    if parts.scheme not in _REMOTE:
        path = locate(uri, access)
        with _held(path, uri, access) as held:
            if announced is not None:
                verify(held, uri, announced)
            yield LocalFile(held, uri, path.name)
        return
    name = posixpath.basename(unquote(parts.path)) or "exposure.fits"
    with tempfile.TemporaryFile(prefix="streamchar-") as file:
        digest = hashlib.sha256()
        target = Bounded(file, digest, uri, access)
        if parts.scheme == "s3":
            _copy_s3(uri, parts, access, target)
        else:
            # Its libraries take a tenth of a worker's start, and most files are local.
            from streamchar.image.web import copy_http

            copy_http(uri, parts, access, target)
        if announced is not None and digest.hexdigest() != announced:
            raise ChecksumError(uri=short(uri), actual=digest.hexdigest(), announced=announced)
        file.flush()
        # The file has no name of its own, so that nothing is left behind when the process is killed.
        yield LocalFile(Path(f"/proc/self/fd/{file.fileno()}"), uri, name)


@contextmanager
def _held(path: Path, uri: str, access: Access) -> Iterator[Path]:
    """Give an open file by its descriptor: whoever replaces the file or a link to it now comes too late."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise FileUnreadableError(uri=short(uri), detail=error.strerror) from error
    with file:
        held = Path(f"/proc/self/fd/{file.fileno()}")
        if access.roots is not None and not _below(
            held.readlink(), [root.resolve() for root in access.roots]
        ):
            raise OutsideRootsError(uri=short(uri), roots=_listed(access.roots))
        yield held


def _below(path: Path, roots: Sequence[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def sibling(uri: str, name: str) -> str:
    """Return the address of another file in the same place."""
    parts = _split(uri)
    if parts.scheme in {"http", "https"}:
        return parts._replace(path=posixpath.join(posixpath.dirname(parts.path), quote(name))).geturl()
    if parts.scheme == "s3":
        return f"{uri.rpartition('/')[0]}/{name}"
    return str(local_path(uri).with_name(name))


def file_name(uri: str) -> str:
    """Return the last part of an address."""
    parts = _split(uri)
    return local_path(uri).name if parts.scheme not in _REMOTE else posixpath.basename(unquote(parts.path))


def locate(uri: str, access: Access) -> Path:
    """Return the local file behind a path or ``file://`` address, below the roots, not too large.

    Raises
    ------
    UnsupportedSchemeError, OutsideRootsError, FileTooLargeError, FileMissingError, FileUnreadableError
        Says why it may not be read.
    """
    path = local_path(uri)
    try:
        resolved = path.resolve()
        allowed = None if access.roots is None else [root.resolve() for root in access.roots]
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, embedded null bytes
        raise OutsideRootsError(uri=short(uri), roots=_listed(access.roots or ())) from error
    if allowed is not None and not _below(resolved, allowed):
        raise OutsideRootsError(uri=short(uri), roots=_listed(access.roots or ()))
    try:
        status = resolved.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileMissingError(uri=short(uri)) from error
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FileUnreadableError(uri=short(uri), detail=detail) from error
    if not stat.S_ISREG(status.st_mode):
        raise FileUnreadableError(uri=short(uri), detail="not a regular file")
    if status.st_size > access.max_bytes:
        raise FileTooLargeError(uri=short(uri), size=status.st_size, limit=access.max_bytes)
    return resolved


def local_path(uri: str) -> Path:
    """Return the path that an address names.

    Raises
    ------
    UnsupportedSchemeError
        The address is not a local path.
    """
    parts = _split(uri)
    if not parts.scheme:
        return Path(uri)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        raise UnsupportedSchemeError(uri=short(uri), scheme=parts.scheme, detail="")
    return Path(unquote(parts.path))


def parse_checksum(checksum: str) -> str:
    """Return the 64 digits of a SHA-256 checksum.

    Raises
    ------
    ChecksumFormatError
        It is none.
    """
    digits = checksum.strip().lower().removeprefix("sha256:")
    if len(digits) != _SHA256_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise ChecksumFormatError(checksum=short(checksum))
    return digits


def verify(path: Path, uri: str, announced: str) -> None:
    """Compare the SHA-256 of a file with the announced digits.

    Raises
    ------
    ChecksumError, FileUnreadableError
        It is different, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileUnreadableError(uri=short(uri), detail=error.strerror) from error
    if actual != announced:
        raise ChecksumError(uri=short(uri), actual=actual, announced=announced)


def short(text: str) -> str:
    """Return a text that fits into a message."""
    return text if len(text) <= 300 else text[:300] + "..."


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise UnsupportedSchemeError(uri=short(uri), scheme="", detail=f" ({error})") from error


class Bounded:
    """A file that takes so many bytes in so many seconds and no more."""

    def __init__(self, file: IO[bytes], digest: Any, uri: str, access: Access) -> None:
        self._file, self._digest, self._uri = file, digest, short(uri)
        self._limit, self._deadline = access.max_bytes, time.monotonic() + access.deadline
        self._seconds = access.deadline
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises
        ------
        FileTooLargeError, FileUnreadableError
            They are too many, or came too late.
        """
        self.size += len(chunk)
        self.expect(self.size)
        if time.monotonic() > self._deadline:
            detail = f"only {self.size} bytes arrived within {self._seconds:g} s"
            raise FileUnreadableError(uri=self._uri, detail=detail)
        self._digest.update(chunk)
        self._file.write(chunk)

    def expect(self, size: int) -> None:
        """Refuse a size that is above the limit."""
        if size > self._limit:
            raise FileTooLargeError(uri=self._uri, size=size, limit=self._limit)


def _copy_s3(uri: str, parts: SplitResult, access: Access, target: Bounded) -> None:
    bucket, key = parts.netloc, parts.path.lstrip("/")
    allow_bucket(uri, bucket, key, access.buckets)
    filesystem, failures = s3_filesystem(access.endpoint, access.timeout)
    where = f"{bucket}/{key}"
    try:
        target.expect(int(filesystem.info(where)["size"]))
        with filesystem.open(where, "rb", block_size=8 * _CHUNK, cache_type="readahead") as file:
            while chunk := file.read(8 * _CHUNK):
                target.write(chunk)
    except FileNotFoundError as error:
        raise FileMissingError(uri=short(uri)) from error
    except failures as error:
        detail = str(error) or type(error).__name__
        raise FileUnreadableError(uri=short(uri), detail=detail[:200]) from error


def allow_bucket(uri: str, bucket: str, key: str, buckets: Sequence[str] | None) -> None:
    """Refuse a bucket, or a key in it, that is not allowed.

    Raises
    ------
    HostRefusedError
        Names it and what is allowed.
    """
    steps = key.split("/")
    inside = not any(step in {".", ".."} for step in steps)
    known = buckets is None or any(
        bucket == allowed.partition("/")[0]
        and f"{key}/".startswith(f"{prefix}/" if (prefix := allowed.partition("/")[2].strip("/")) else "")
        for allowed in buckets
    )
    if not bucket or not key or not inside or not known:
        raise HostRefusedError(
            uri=short(uri),
            host=short(f"{bucket}/{key}"),
            kind="buckets",
            allowed=allowed_names(buckets, _PLAIN_KEY),
        )


def s3_filesystem(
    endpoint: str | None, timeout: float
) -> tuple[AbstractFileSystem, tuple[type[Exception], ...]]:
    """Return the S3 file system and the exceptions by which it says that something did not work.

    Raises
    ------
    MissingExtraError
        s3fs is not installed.
    """
    try:
        from botocore.exceptions import (  # type: ignore[import-untyped]
            BotoCoreError,
            ClientError,
        )
        from s3fs import S3FileSystem
    except ImportError as error:
        raise MissingExtraError(what="s3://", package="s3fs", extra="s3") from error
    filesystem = S3FileSystem(
        endpoint_url=endpoint,
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={
            "connect_timeout": timeout,
            "read_timeout": timeout,
            "retries": {"max_attempts": 2, "mode": "standard"},
        },
    )
    return filesystem, (OSError, BotoCoreError, ClientError, ValueError)


def allowed_names(names: Sequence[object] | None, shape: str) -> str:
    """Say in a message what is allowed: the names, or the shape of any when there are none."""
    return shape if names is None else _listed(names)


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names)) or "none are configured"
