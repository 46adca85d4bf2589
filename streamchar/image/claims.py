"""What the headers of a FITS file claim about its data, within limits: read before anything is allocated for it.

The number of extensions, the length of each header, the pixels and tiles that it claims, and that the file is long enough
to hold them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import BinaryIO, NoReturn

from pydantic import Field

from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image.cards import BLOCK, CARD, CARDS_KEPT
from streamchar.image.errors import ExposureTooLargeError, UnreadableExposureError

COMPRESSIONS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "NOCOMPRESS", "PLIO_1")
"""Tile compressions that are read. HCOMPRESS_1 is not: its streams carry dimensions of their own, which nothing bounds."""

_RICE = {"BLOCKSIZE": ("16", "32"), "BYTEPIX": ("1", "2", "4", "8")}
_MOST = {"NAXIS": 999, "ZNAXIS": 999, "TFIELDS": 999}
"""Largest values that FITS allows; astropy counts up to whatever it is told."""
_MAX_AXES = 4
_SIZES = {8: 1, 16: 2, 32: 4, 64: 8, -32: 4, -64: 8}
_NUMBERS = re.compile(r"Z?BITPIX|Z?NAXIS\d*|ZTILE\d+|PCOUNT|GCOUNT|TFIELDS")
_TEXTS = re.compile(r"XTENSION|ZCMPTYPE|ZIMAGE|(ZNAME|ZVAL|TFORM)\d+")
_TFORM = re.compile(r"(?P<repeat>\d{0,12})(?P<kind>[LXBIJKAEDCMPQ])")
_WIDTHS = MappingProxyType(
    {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "P": 8, "M": 16, "Q": 16}
)
_DESCRIPTORS = MappingProxyType({"P": ">i4", "Q": ">i8"})


class FileLimits(Configuration):
    """How much a file may claim."""

    max_pixels: int = Field(default=20_000 * 20_000, gt=0)
    """Largest image accepted, in pixels."""
    max_hdus: int = Field(default=256, gt=0)
    """Most extensions accepted in one file."""
    max_header_bytes: int = Field(default=4 << 20, ge=BLOCK)
    """Longest header of one extension in bytes."""
    max_unpacked_bytes: int = Field(default=4 << 30, gt=0)
    """Largest size of a gzip file when it is unpacked, in bytes."""


@frozen
class HduClaim:
    """What one header claims about its data.

    Attributes
    ----------
    offset
        Byte at which the header begins.
    header_bytes
        Length of the header.
    keys
        Structural keys and their values; of repeated ones the first.
    data_bytes
        Size of the data without the padding.
    """

    offset: int
    header_bytes: int
    keys: Mapping[str, int | str]
    data_bytes: int

    @property
    def end(self) -> int:
        """Byte behind the padded data."""
        return -(-(self.offset + self.header_bytes + self.data_bytes) // BLOCK) * BLOCK

    def descriptors(self) -> list[tuple[int, str]]:
        """First byte in a row, and dtype of length and position, of each column of variable-length arrays."""
        found, column = [], 0
        for number in range(1, int(self.keys.get("TFIELDS", 0)) + 1):
            kind, width = _column(str(self.keys[f"TFORM{number}"]))
            if kind in _DESCRIPTORS and width:
                found.append((column, _DESCRIPTORS[kind]))
            column += width
        return found

    @property
    def is_compressed(self) -> bool:
        """Whether it is a tile-compressed image."""
        return self.keys.get("ZIMAGE") == "T"

    @property
    def pixels(self) -> int:
        """Pixels of the image; 0 for tables and empty data."""
        if self.is_compressed:
            return _product(self.keys, "ZNAXIS")
        return 0 if self.keys.get("XTENSION", "IMAGE") != "IMAGE" else _product(self.keys, "NAXIS")


def scan(stream: BinaryIO, path: str, limits: FileLimits) -> list[HduClaim]:
    """Read the structure of a FITS file from its headers alone.

    Parameters
    ----------
    stream
        Seekable; read from its beginning.
    path
        For messages.

    Raises
    ------
    UnreadableExposureError
        A header is not one, or the file ends before the data that it claims.
    ExposureTooLargeError
        It claims more than the limits allow.
    """
    size = stream.seek(0, 2)
    offset = 0
    claims: list[HduClaim] = []
    while offset < size:
        stream.seek(offset)
        keys, length = _header(stream, path, limits, first=not claims)
        if not keys:
            break
        claim = HduClaim(offset, length, keys, _data_bytes(keys, path))
        claims.append(claim)
        if len(claims) > limits.max_hdus:
            refuse(path, "the number of extensions", len(claims), limits.max_hdus, "max_hdus")
        _check_claim(claim, path, limits)
        if offset + length + claim.data_bytes > size:
            raise UnreadableExposureError(path=path, detail="is truncated")
        offset = claim.end
    if not claims:
        raise UnreadableExposureError(path=path, detail="is not a FITS file")
    return claims


def _header(
    stream: BinaryIO, path: str, limits: FileLimits, *, first: bool
) -> tuple[dict[str, int | str], int]:
    """Structural keys and length of the header that begins here; none when what begins here is no header."""
    keys: dict[str, int | str] = {}
    for number in range(limits.max_header_bytes // BLOCK):
        block = stream.read(BLOCK)
        if number == 0 and not block.startswith(b"SIMPLE  =" if first else b"XTENSION="):
            if first:
                raise UnreadableExposureError(path=path, detail="is not a FITS file")
            return {}, 0  # what follows the last extension is nobody's business
        if len(block) < BLOCK:
            raise UnreadableExposureError(path=path, detail="is truncated")
        for begin in range(0, BLOCK, CARD):
            card = block[begin : begin + CARD]
            if card.rstrip() == b"END":
                return keys, (number + 1) * BLOCK
            _note(card, keys, path)
    longest = limits.max_header_bytes
    raise ExposureTooLargeError(
        path=path,
        quantity="the length of a header",
        value=longest + 1,
        limit=longest,
        setting="max_header_bytes",
    )


def _note(card: bytes, keys: dict[str, int | str], path: str) -> None:
    found = _structural(card)
    if found is None:
        return
    name, value = found
    if value is None:
        detail = f"is damaged: {name} is {_text(card)[:30]!r}, not a number"
        raise UnreadableExposureError(path=path, detail=detail)
    if keys.setdefault(name, value) != value:  # of which astropy takes now the first, now the last
        raise UnreadableExposureError(path=path, detail=f"is damaged: {name} is {keys[name]} and {value!r}")


@lru_cache(maxsize=CARDS_KEPT)
def _structural(card: bytes) -> tuple[str, int | str | None] | None:
    """Key and value of a card that tells something about structure; a value of ``None`` ought to be a number."""
    if card[8:10] != b"= ":
        return None
    name = card[:8].rstrip().decode("latin-1").upper()  # astropy does not mind small letters either
    if _TEXTS.fullmatch(name):
        return name, _text(card).strip("' ")
    if not _NUMBERS.fullmatch(name):
        return None
    try:
        return name, int(_text(card))
    except ValueError:
        return name, None


def _text(card: bytes) -> str:
    return card[10:].split(b"/")[0].strip().decode("latin-1")


def _data_bytes(keys: Mapping[str, int | str], path: str) -> int:
    bits = int(keys.get("BITPIX", 0))
    extra = int(keys.get("PCOUNT", 0))
    groups = int(keys.get("GCOUNT", 1))
    if bits not in _SIZES or extra < 0 or groups < 0:
        raise UnreadableExposureError(
            path=path, detail=f"is damaged: BITPIX {bits}, PCOUNT {extra}, GCOUNT {groups}"
        )
    for name, most in _MOST.items():
        if not 0 <= int(keys.get(name, 0)) <= most:
            raise UnreadableExposureError(path=path, detail=f"is damaged: {name} is {keys[name]}")
    if "NAXIS" not in keys:
        raise UnreadableExposureError(path=path, detail="is damaged: a header has no NAXIS")
    elements = _product(keys, "NAXIS", path)
    return _SIZES[bits] * groups * (extra + elements)


def _product(keys: Mapping[str, int | str], name: str, path: str = "") -> int:
    axes = int(keys.get(name, 0))
    if axes == 0:
        return 0
    total = 1
    for axis in range(1, axes + 1):
        length = keys.get(f"{name}{axis}", -1)
        if not isinstance(length, int) or length < 0 or axis > 999:
            raise UnreadableExposureError(path=path, detail=f"is damaged: {name}{axis} is {length}")
        total *= length
    return total


def _check_claim(claim: HduClaim, path: str, limits: FileLimits) -> None:
    if claim.pixels > limits.max_pixels:
        refuse(path, "the number of pixels", claim.pixels, limits.max_pixels, "max_pixels")
    if claim.keys.get("XTENSION") == "BINTABLE":
        _check_columns(claim.keys, path)
    if not claim.is_compressed:
        return
    kind, axes = claim.keys.get("ZCMPTYPE", ""), int(claim.keys.get("ZNAXIS", 0))
    if kind not in COMPRESSIONS:
        raise UnreadableExposureError(
            path=path,
            detail=f"is compressed with {kind!r}; {', '.join(COMPRESSIONS)} are read",
        )
    if claim.keys.get("ZBITPIX") not in _SIZES or not 0 < axes <= _MAX_AXES:
        raise UnreadableExposureError(
            path=path, detail=f"is damaged: ZBITPIX {claim.keys.get('ZBITPIX')}, ZNAXIS {axes}"
        )
    _check_parameters(claim.keys, path)
    for axis in range(1, axes + 1):
        length = int(claim.keys[f"ZNAXIS{axis}"])
        tile = int(claim.keys.get(f"ZTILE{axis}", length if axis == 1 else 1))
        if not 0 < tile <= max(length, 1):
            raise UnreadableExposureError(
                path=path, detail=f"is damaged: tiles of {tile} pixels in an image of {length} (ZTILE{axis})"
            )


def _check_columns(keys: Mapping[str, int | str], path: str) -> None:
    """Refuse a table whose columns are wider than its rows: astropy would allocate what they say."""
    width = 0
    for number in range(1, int(keys.get("TFIELDS", 0)) + 1):
        form = str(keys.get(f"TFORM{number}", ""))
        kind, bytes_ = _column(form)
        if not kind:
            raise UnreadableExposureError(path=path, detail=f"is damaged: TFORM{number} is {form[:30]!r}")
        width += bytes_
    if width != keys.get("NAXIS1"):
        detail = f"is damaged: columns of {width} bytes in rows of {keys.get('NAXIS1')}"
        raise UnreadableExposureError(path=path, detail=detail)


def _column(form: str) -> tuple[str, int]:
    """Type and width in bytes of a column; no type when the format is none."""
    match = _TFORM.match(form)
    if match is None:
        return "", 0
    repeat = int(match["repeat"] or 1)
    return match["kind"], -(-repeat // 8) if match["kind"] == "X" else repeat * _WIDTHS[match["kind"]]


def _check_parameters(keys: Mapping[str, int | str], path: str) -> None:
    """Refuse parameters of Rice's method that would make astropy's decoder write beyond its buffer."""
    for key, name in keys.items():
        allowed = _RICE.get(str(name).upper()) if key.startswith("ZNAME") else None
        if allowed is None:
            continue
        value = str(keys.get("ZVAL" + key.removeprefix("ZNAME"), ""))
        if value not in allowed:
            detail = f"is damaged: {name} is {value[:30]!r}, not {' or '.join(allowed)}"
            raise UnreadableExposureError(path=path, detail=detail)


def refuse(path: str, quantity: str, value: int, limit: int, setting: str) -> NoReturn:
    """Say that a file claims more of a quantity than the limit of a setting."""
    raise ExposureTooLargeError(path=path, quantity=quantity, value=value, limit=limit, setting=setting)
