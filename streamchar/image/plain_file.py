"""FITS files of uncompressed images without astropy, whose import alone costs a third of an exposure.

A file with anything else (tables, compressed images, scaled or blank pixels, unusual header cards) is left to astropy. What
comes of a file is the same either way, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import SEEK_END, BufferedReader
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.image.cards import PlainHeader, parse_header
from streamchar.image.claims import HduClaim
from streamchar.image.errors import UnreadableExposureError
from streamchar.kernels import copy_swapped

_DTYPES: Mapping[int, str] = MappingProxyType(
    {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
)
_UNSIGNED = 1 << 15
"""BZERO of 16-bit pixels without sign."""
_PIECE = 1 << 19
"""Bytes read at a time: they are still in the processor's cache when their order is changed."""


class PlainImage:
    """One extension, or the beginning of a file: a header, and the pixels when they are asked for.

    Parameters
    ----------
    stream
        The file.
    claim
        Where the extension is.
    header
        Its header.
    path
        For messages.

    Attributes
    ----------
    is_image
        True: it is no table.
    name
        EXTNAME in capitals, PRIMARY for the first extension without one, else empty.
    shape
        Lengths of the axes, the fastest one last; empty without data.
    """

    is_image = True

    def __init__(self, stream: BufferedReader, claim: HduClaim, header: PlainHeader, path: str) -> None:
        self._stream, self._claim, self._path = stream, claim, path
        self.header = header
        axes = int(header.get("NAXIS"))
        self.shape = tuple(int(header.get(f"NAXIS{axis}")) for axis in range(axes, 0, -1))
        self.name = str(header.get("EXTNAME", "PRIMARY" if claim.offset == 0 else "")).strip().upper()

    @property
    def data(self) -> NDArray[Any] | None:
        """Pixels, read anew, in native byte order; None without any.

        Raises
        ------
        UnreadableExposureError
            The file has become shorter.
        """
        if not self.shape:
            return None
        stored = np.dtype(_DTYPES[int(self.header.get("BITPIX"))])
        content = np.empty(self._claim.data_bytes, np.uint8)
        piece = np.empty(min(_PIECE, len(content)), np.uint8)
        self._stream.seek(self._claim.offset + self._claim.header_bytes)
        for first in range(0, len(content), _PIECE):
            part = content[first : first + _PIECE]
            if self._stream.readinto(piece[: len(part)].data) != len(part):
                raise UnreadableExposureError(path=self._path, detail="is truncated")
            copy_swapped(piece[: len(part)], stored.itemsize, part)
        pixels = content.view(stored.newbyteorder()).reshape(self.shape)
        if not self.header.get("BZERO"):
            return pixels
        unsigned = pixels.view(np.uint16)
        unsigned ^= _UNSIGNED
        return unsigned

    @data.deleter
    def data(self) -> None:
        """Do nothing: the pixels are not kept."""


class PlainFile(Sequence[PlainImage]):
    """The extensions of a file in order; by number or by name."""

    def __init__(self, images: Sequence[PlainImage]) -> None:
        self._images = tuple(images)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return self._images[key]
        for image in self._images:
            if image.name == key.strip().upper():
                return image
        raise KeyError(key)

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[PlainImage]:
        return iter(self._images)


def plain_file(stream: BufferedReader, claims: Sequence[HduClaim], path: str) -> PlainFile | None:
    """Give the extensions of a file whose structure was verified; ``None`` when it is for astropy.

    Parameters
    ----------
    stream
        The file; it must stay open while pixels are read.
    claims
        Its structure.
    path
        For messages.
    """
    if stream.seek(0, SEEK_END) < claims[-1].end:
        return None  # astropy calls a file truncated whose last block is not whole
    images: list[PlainImage] = []
    for claim in claims:
        stream.seek(claim.offset)
        header = parse_header(stream.read(claim.header_bytes))
        if header is None or not _is_plain(header, claim, first=not images):
            return None
        images.append(PlainImage(stream, claim, header, path))
    return PlainFile(images)


def _is_plain(header: PlainHeader, claim: HduClaim, *, first: bool) -> bool:
    """Whether an extension holds an image, or nothing, whose pixels stand there as they are."""
    kind = header.get("SIMPLE") is True if first else header.get("XTENSION") == "IMAGE"
    pixels = claim.pixels if claim.keys["NAXIS"] else 1
    whole = header.get("PCOUNT", 0) == 0 and header.get("GCOUNT", 1) == 1 and "GROUPS" not in header
    named = isinstance(header.get("EXTNAME", ""), str)
    return kind and whole and named and pixels > 0 and "BLANK" not in header and _is_unscaled(header)


def _is_unscaled(header: PlainHeader) -> bool:
    scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
    unsigned = header.get("BITPIX") == 16 and zero == _UNSIGNED
    return bool(scale == 1 and scale is not True and (zero == 0 or unsigned))
