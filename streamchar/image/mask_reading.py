"""Masks of all kinds into named planes: bits, codes, span lists, and bits that the file names itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.image.errors import InvalidExposureError
from streamchar.image.mask import MAX_PLANES, MaskPlanes
from streamchar.image.opening import FitsFile, FitsHeader, card_value
from streamchar.image.profiles.model import MaskPlane

Mask = NDArray[np.int32]

_BYTES_OF_SPAN = 6


def named_planes(header: FitsHeader, prefix: str, path: str) -> MaskPlanes:
    """Return the planes that a header names by keys ``<prefix><plane>``, and the standard ones.

    Raises
    ------
    InvalidExposureError
        A key gives no bit number, or two share one.
    """
    bits: dict[str, int] = {}
    for key in header:
        if not key.startswith(prefix) or len(key) == len(prefix):
            continue
        value = card_value(header, key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_PLANES:
            raise InvalidExposureError(
                path=path, detail=f"key {key} is {str(value)[:30]!r}, not a bit from 0 to {MAX_PLANES - 1}"
            )
        bits[key[len(prefix) :]] = value
    if not bits:
        return MaskPlanes()
    if len(set(bits.values())) != len(bits):
        raise InvalidExposureError(path=path, detail=f"two of the keys {prefix}... name the same bit")
    missing = [name for name in MaskPlanes() if name not in bits]
    if len(bits) + len(missing) > MAX_PLANES:
        raise InvalidExposureError(
            path=path, detail=f"{len(bits)} mask planes leave no room for {', '.join(missing)}"
        )
    return MaskPlanes(bits).including(*missing)


def translated(values: NDArray[Any], rules: MaskPlane, planes: MaskPlanes, path: str) -> Mask:
    """Set planes by the bits or codes of another mask: int32 of its shape.

    Raises
    ------
    InvalidExposureError
        Its pixels are no integers.
    """
    if values.dtype.kind == "f":
        # Scaled integers (BZERO) arrive as floats.
        whole = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        if np.any(whole != np.rint(whole)) or np.any(np.abs(whole) > 2**53):
            raise InvalidExposureError(path=path, detail="the mask holds fractions, not bits or codes")
        values = whole.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise InvalidExposureError(path=path, detail=f"the mask has dtype {values.dtype}, not integers")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    mask = np.zeros(values.shape, np.int32)
    for name, numbers in rules.planes.items():
        chosen = _with_bits(values, numbers) if rules.kind == "bits" else np.isin(values, numbers)
        np.bitwise_or(mask, np.int32(planes.value(name)), out=mask, where=chosen)
    return mask


def _with_bits(values: NDArray[Any], numbers: Sequence[int]) -> NDArray[np.bool_]:
    """Whether any of the numbered bits is set; bits that the dtype does not have never are."""
    unsigned = values.view(np.dtype(f"u{values.dtype.itemsize}"))
    pattern = sum(1 << number for number in set(numbers) if number < 8 * values.dtype.itemsize)
    return np.asarray((unsigned & unsigned.dtype.type(pattern)) != 0)


def painted(file: FitsFile, rules: MaskPlane, planes: MaskPlanes, shape: tuple[int, int], path: str) -> Mask:
    """Set planes by lists of spans: rows of tables that hold (y, first x, last x) as big-endian 16-bit integers.

    Spans that leave the image are cut.

    Raises
    ------
    InvalidExposureError
        A table is missing or holds something else.
    """
    mask = np.zeros(shape, np.int32)
    for name, numbers in rules.planes.items():
        for number in numbers:
            if number >= len(file):
                raise InvalidExposureError(
                    path=path,
                    detail=f"has {len(file)} extensions, but {number} should list the pixels of {name}",
                )
            mask[_covered(_spans(file[number], path), shape)] |= planes.value(name)
    return mask


def _spans(hdu: Any, path: str) -> NDArray[np.int64]:
    """All spans of one table, int64 (n, 3)."""
    names: Mapping[str, Any] = {} if not hasattr(hdu, "columns") else dict.fromkeys(hdu.columns.names)
    if "nspan" not in names or "s" not in names:
        raise InvalidExposureError(
            path=path, detail=f"extension '{hdu.name}' is no list of spans (columns nspan and s)"
        )
    if hdu.data is None or not len(hdu.data):
        return np.zeros((0, 3), np.int64)
    counts, lists = hdu.data["nspan"], hdu.data["s"]
    pieces = []
    for count, item in zip(counts, lists, strict=True):
        data = np.asarray(item, np.uint8).tobytes()
        whole = min(max(int(count), 0), len(data) // _BYTES_OF_SPAN)
        pieces.append(np.frombuffer(data, ">i2", 3 * whole).reshape(-1, 3))
    return np.concatenate(pieces).astype(np.int64)


def _covered(spans: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = shape
    y, first, last = spans.T
    first, last = np.maximum(first, 0), np.minimum(last, width - 1)
    inside = (y >= 0) & (y < height) & (first <= last)
    y, first, last = y[inside], first[inside], last[inside]
    steps = np.zeros((height, width + 1), np.int32)
    np.add.at(steps, (y, first), 1)
    np.add.at(steps, (y, last + 1), -1)
    return np.asarray(np.cumsum(steps, axis=1)[:, :width] > 0)
