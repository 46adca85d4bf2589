"""An image plane made small and grey enough to look at: block means, a robust asinh stretch, a PNG file."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen
from streamchar.robust import MAD_TO_SIGMA

Plane = NDArray[np.floating[Any]]
Gray = NDArray[np.uint8]

MISSING = 204
"""Grey of pixels without a value."""

_BLACKEST = 500.0
_FAINTEST = -2.0
_SAMPLE = 1e6


@frozen
class Stretch:
    """Which pixel values are white and which are black: linear about the sky, logarithmic in bright sources.

    Attributes
    ----------
    middle
        Level of the sky.
    sigma
        Noise of the sky, positive.
    high
        Value drawn black.
    """

    middle: float
    sigma: float
    high: float

    @classmethod
    def of(cls, image: Plane) -> Self:
        """Choose it from the median, the median absolute deviation and the brightest 0.05 % of the finite pixels."""
        step = max(1, int(np.sqrt(image.size / _SAMPLE)))
        sample = image[::step, ::step]
        sample = sample[np.isfinite(sample)].astype(np.float64)
        if not sample.size:
            return cls(0.0, 1.0, 10.0)
        middle = float(np.median(sample))
        sigma = MAD_TO_SIGMA * float(np.median(np.abs(sample - middle))) or float(sample.std()) or 1.0
        height = (float(np.quantile(sample, 0.9995)) - middle) / sigma
        return cls(middle, sigma, middle + sigma * min(max(height, 10.0), _BLACKEST))

    @property
    def limits(self) -> tuple[float, float]:
        """What :meth:`apply` makes of the values drawn white and black."""
        return float(np.arcsinh(_FAINTEST)), float(np.arcsinh((self.high - self.middle) / self.sigma))

    def apply(self, values: Plane) -> NDArray[np.float64]:
        """Return the asinh of the values in standard deviations above the sky; NaN stays NaN."""
        return np.asarray(np.arcsinh((values.astype(np.float64) - self.middle) / self.sigma))


def block_width(shape: tuple[int, ...], max_side: int) -> int:
    """Width of the square blocks that make the longer side at most ``max_side`` blocks long."""
    return -(-max(shape) // max_side)


def block_means(plane: Plane, width: int) -> NDArray[np.float64]:
    """Means of square blocks, leaving out what is not finite; the last blocks of a side may hold fewer pixels."""
    if width <= 1:
        return plane.astype(np.float64)
    strips = (plane[first : first + width] for first in range(0, plane.shape[0], width))
    return np.concatenate([_strip_means(strip, width) for strip in strips])


def _strip_means(strip: Plane, width: int) -> NDArray[np.float64]:
    """Means of one row of blocks: strip by strip no plane is copied."""
    finite = np.isfinite(strip)
    total = _block_sums(np.where(finite, strip, strip.dtype.type(0)), width)
    count = _block_sums(finite, width)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def any_in_blocks(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Whether any pixel of a block is true; blocks as in :func:`block_means`."""
    if width <= 1:
        return mask
    rows = np.maximum.reduceat(mask.view(np.uint8), np.arange(0, mask.shape[0], width), axis=0)
    padded = np.pad(rows, ((0, 0), (0, -mask.shape[1] % width)))
    return np.asarray(padded.reshape(len(rows), -1, width).any(axis=2))


def gray(image: Plane, max_side: int, stretch: Stretch | None = None) -> Gray:
    """Draw a plane in inverted grey: sky light, sources dark.

    Parameters
    ----------
    image
        (height, width), at least one pixel.
    max_side
        The longer side of the drawing is at most that long.
    stretch
        Chosen from the image when omitted.

    Returns
    -------
    uint8
        (rows, columns), the top row, which is the last of the image, first.
    """
    stretch = stretch or Stretch.of(image)
    shown = stretch.apply(block_means(image, block_width(image.shape, max_side)))
    low, high = stretch.limits
    level = 255.0 * (1.0 - np.clip((shown - low) / (high - low), 0.0, 1.0))
    return np.ascontiguousarray(np.where(np.isfinite(level), level, MISSING)[::-1].round().astype(np.uint8))


def png(pixels: Gray) -> bytes:
    """Encode grey pixels, the top row first, as a PNG file (ISO/IEC 15948)."""
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = pixels
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def _block_sums(plane: NDArray[Any], width: int) -> NDArray[np.float64]:
    rows, columns = (np.arange(0, length, width) for length in plane.shape)
    partial = np.add.reduceat(plane, rows, axis=0, dtype=np.float64)
    return np.asarray(np.add.reduceat(partial, columns, axis=1))
