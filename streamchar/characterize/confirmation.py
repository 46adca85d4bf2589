"""Confirming sources: what remains of a peak without the pixels that cannot be trusted.

Cosmic rays stay in the image while sources are detected, and so do defects; a peak that they alone make is no source. The
matched filter is evaluated again without them and what it then misses is made up for, as if the source had the PSF's shape.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.footprints import Footprints
from streamchar.frozen import frozen
from streamchar.image import Exposure
from streamchar.kernels import trusted_sums, window_bits

Array = NDArray[np.float64]

CORE = 2
"""Peaks with a doubtful pixel within this many pixels, along x and y, are looked at again."""

MAX_RISE = 1.5
"""Largest ratio of the response around a peak to that at it."""

AROUND = np.array([(0, *np.cos(np.arange(8) * np.pi / 4)), (0, *np.sin(np.arange(8) * np.pi / 4))])
"""A place, x and y, and eight others around it at a distance of 1."""


def first_peaks(footprints: Footprints) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pixels (x, y) of the first peak of each footprint."""
    first = footprints.peak_start[:-1]
    return footprints.peak_x[first], footprints.peak_y[first]


def on_rim(footprints: Footprints, border: int) -> NDArray[np.bool_]:
    """Whether first peaks lie on the outermost of the pixels at least ``border`` from the edges, or beyond: bool (n).

    The summit of such a peak is where nothing was searched.
    """
    x, y = first_peaks(footprints)
    height, width = footprints.shape
    return (np.minimum(x, width - 1 - x) <= border) | (np.minimum(y, height - 1 - y) <= border)


def doubtful_peaks(exposure: Exposure, footprints: Footprints, bits: int) -> NDArray[np.int64]:
    """Return the footprints with a pixel of ``bits`` close to their first peak."""
    x, y = first_peaks(footprints)
    near, _ = window_bits(exposure.mask, x.astype(np.int64), y.astype(np.int64), CORE)
    return np.flatnonzero((near & bits) != 0)


@frozen
class Response:
    """The matched filter at single pixels, from trusted pixels alone; NaN without any.

    With g the filter, d the image, v its variance and sums over the trusted pixels:

    Attributes
    ----------
    amplitude
        Σ g d / Σ g², float64 (n).
    significance
        Σ g d / √(f Σ g² v) with f = Σ g² / Σ_all g², float64 (n): about what a source of the filter's shape would have were
        all pixels trusted.
    """

    amplitude: Array
    significance: Array


def trusted_response(
    exposure: Exposure, x: NDArray[np.int32], y: NDArray[np.int32], taps: Array, bits: int
) -> Response:
    """Evaluate the matched filter without untrusted pixels.

    Parameters
    ----------
    exposure
        Pixels not finite, without positive variance, with one of ``bits`` or outside are not trusted.
    x, y
        int32 (n): pixels.
    taps
        The filter's right half along either axis, from its centre.
    bits
        Mask bits.
    """
    signal, noise, weight = trusted_sums(exposure.image, exposure.variance, exposure.mask, bits, x, y, taps)
    all_weight = (taps[0] ** 2 + 2.0 * np.sum(taps[1:] ** 2)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return Response(signal / weight, signal / np.sqrt(noise * weight / all_weight))


def confirmed(
    exposure: Exposure,
    x: NDArray[np.int32],
    y: NDArray[np.int32],
    taps: Array,
    bits: int,
    least: float,
    sigma: float,
) -> NDArray[np.bool_]:
    """Whether trusted pixels alone show a source at each peak: bool (n).

    Its significance must reach ``least``, and the response must not rise by half towards any side within 1.5 ``sigma``, the
    width of the PSF in pixels: then it is the wing of something else.
    """
    dx, dy = np.round(1.5 * sigma * AROUND).astype(np.int32)
    columns, rows = x + dx[:, None], y + dy[:, None]
    response = trusted_response(exposure, columns.ravel(), rows.ravel(), taps, bits)
    amplitude = response.amplitude.reshape(columns.shape)
    rises = (amplitude[1:] > MAX_RISE * amplitude[0]).any(axis=0)
    return np.asarray((response.significance[: len(x)] >= least) & ~rises)
