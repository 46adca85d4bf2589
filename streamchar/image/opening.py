"""A FITS file opened under limits: its structure is verified before anything is allocated for it.

Files of plain images are read by :mod:`streamchar.image.plain_file`, all others by astropy.
"""

from __future__ import annotations

import errno
import gzip
import math
import re
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from streamchar.errors import StreamcharError
from streamchar.image.cards import PlainHeader
from streamchar.image.claims import FileLimits, HduClaim, refuse, scan
from streamchar.image.errors import FileUnreadableError, UnreadableExposureError
from streamchar.image.plain_file import PlainFile, plain_file

if TYPE_CHECKING:
    from astropy.io.fits import HDUList, Header

FitsFile: TypeAlias = "HDUList | PlainFile"
FitsHeader: TypeAlias = "Header | PlainHeader"

_CHUNK = 1 << 20


@contextmanager
def opened(path: Path, limits: FileLimits, name: str = "") -> Iterator[FitsFile]:
    """Give the extensions of a FITS file, plain or in gzip, whose claims are within the limits.

    Parameters
    ----------
    path
        Where it is.
    limits
        What it may claim.
    name
        What it is called in messages, when not by its path.

    Raises
    ------
    UnreadableExposureError
        The file is missing, truncated or not FITS.
    ExposureTooLargeError
        It claims more than the limits allow.
    """
    name = name or str(path)
    with _unpacked(path, limits, name) as whole, ExitStack() as stack:
        claims = scan(whole, name, limits)
        with reading(name):
            plain = plain_file(whole, claims, name)
        if plain is not None:
            yield plain
            return
        from astropy.io import fits

        stream = stack.enter_context(_beginning(whole, claims[-1].end))
        with warnings.catch_warnings():
            # Odd headers draw warnings from astropy that would be errors under -W error; a truncated file does too.
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".*truncated.*")
            with reading(name):
                hdus = fits.open(stream, mode="readonly", memmap=False, lazy_load_hdus=False)
            with hdus:
                with reading(name):
                    _compare(hdus, claims, name)
                yield hdus


def _compare(hdus: HDUList, claims: list[HduClaim], path: str) -> None:
    """Refuse a file that astropy takes for something else than the scanner did."""
    if len(hdus) != len(claims):
        detail = f"is damaged: {len(claims)} headers, {len(hdus)} readable extensions"
        raise UnreadableExposureError(path=path, detail=detail)
    for number, (hdu, claim) in enumerate(zip(hdus, claims, strict=True)):
        pixels = math.prod(hdu.shape) if hdu.is_image and hdu.shape else 0
        if pixels != claim.pixels:
            detail = f"is damaged: extension {number} has {pixels} pixels, its header claims {claim.pixels}"
            raise UnreadableExposureError(path=path, detail=detail)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn whatever a file's bytes make astropy, wcslib or zlib raise into one sentence that names the file.

    What such libraries raise on garbage is not documented and has no common base; our own errors and the lack of
    memory pass through.

    Raises
    ------
    UnreadableExposureError
        The file is damaged.
    FileUnreadableError
        The disk or the network failed.
    """
    try:
        yield
    except (StreamcharError, MemoryError):
        raise
    except OSError as error:
        if error.errno in {None, errno.EINVAL}:  # astropy's own, or a position that cannot be
            raise _damage(name, error) from error
        raise FileUnreadableError(uri=name, detail=error.strerror) from error
    except Exception as error:
        raise _damage(name, error) from error


def _damage(name: str, error: Exception) -> UnreadableExposureError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    truncated = "truncated" in first or isinstance(error, EOFError)
    detail = "is truncated" if truncated else f"is damaged: {first}"
    return UnreadableExposureError(path=name, detail=detail[:300])


def card_value(header: FitsHeader, key: str) -> Any:
    """Return the value of a header card, ``None`` when it is absent or cannot be parsed."""
    if isinstance(header, PlainHeader):
        return header.get(key)
    from astropy.io.fits import VerifyError

    try:
        return header.get(key)
    except (VerifyError, ValueError, KeyError, re.error):
        return None


@contextmanager
def _beginning(stream: BufferedReader, end: int) -> Iterator[BufferedReader]:
    """Give a file without what follows its last extension: astropy would look for further ones in it."""
    if stream.seek(0, 2) - end <= 0:
        stream.seek(0)
        yield stream
        return
    stream.seek(0)
    with tempfile.TemporaryFile() as copy:
        for begin in range(0, end, _CHUNK):
            copy.write(stream.read(min(_CHUNK, end - begin)))
        copy.flush()
        with _readable(copy) as plain:
            yield plain


def _readable(file: IO[bytes]) -> BufferedReader:
    """Open a temporary file by its descriptor, since astropy wants a file that was opened for reading only."""
    return Path(f"/proc/self/fd/{file.fileno()}").open("rb")


@contextmanager
def _unpacked(path: Path, limits: FileLimits, name: str) -> Iterator[BufferedReader]:
    if not path.is_file():
        detail = "is a directory" if path.is_dir() else "no such file"
        raise UnreadableExposureError(path=name, detail=detail)
    # Opened here and not by astropy, which leaves files open when it fails.
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableExposureError(path=name, detail=f"cannot be opened: {error.strerror}") from error
    with file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            yield file
            return
        # To disk, since the planes are read in any order and going back in a gzip stream starts over.
        with tempfile.TemporaryFile() as plain:
            _unpack(file, plain, name, limits.max_unpacked_bytes)
            with _readable(plain) as readable:
                yield readable


def _unpack(packed: BufferedReader, plain: IO[bytes], path: str, limit: int) -> None:
    written = 0
    try:
        with gzip.GzipFile(fileobj=packed) as stream:
            while chunk := stream.read(_CHUNK):
                written += len(chunk)
                if written > limit:
                    refuse(path, "the unpacked size", written, limit, "max_unpacked_bytes")
                plain.write(chunk)
    except (OSError, EOFError, zlib.error) as error:
        reason = "is truncated" if isinstance(error, EOFError) else f"is no valid gzip file: {error}"
        raise UnreadableExposureError(path=path, detail=reason) from error
    plain.flush()
