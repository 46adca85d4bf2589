"""Robust statistics of pixels: quartiles and clipped moments (reference: background.md section 4).

Unusable pixels never count: those that are not finite, and those with one of ``bits`` in an optional mask.
The portable rule of the reference, "drop non-finite pixels", holds everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.errors import EmptyStatisticsError
from streamchar.frozen import frozen
from streamchar.kernels import bin_statistics, sample_statistics, segment_statistics

CLIP_SIGMAS = 3.0
"""Half width of the clipping in standard deviations."""

CLIP_ROUNDS = 3
"""Rounds of clipping: always all of them, there is no test of convergence."""

_NO_CLIPPING, _NO_MOMENTS = 0, -1
_UNUSED_MASK = 0
_Row = NDArray[np.float64]


@frozen
class ClippedStatistics:
    """Moments of the kept values; NaN when there are too few.

    Attributes
    ----------
    mean
        Of the kept values, in their unit.
    standard_deviation
        Square root of the variance.
    variance
        With n − 1 in the denominator: NaN for one value.
    error
        Standard error of the mean, √(variance/count).
    count
        Number of kept values.
    """

    mean: float
    standard_deviation: float
    variance: float
    error: float
    count: int


@frozen
class Quartiles:
    """Quartiles by linear interpolation of the sorted values at f (n − 1); NaN without usable values.

    Attributes
    ----------
    lower, median, upper
        f = 0.25, 0.5, 0.75.
    count
        Number of usable values.
    """

    lower: float
    median: float
    upper: float
    count: int

    @property
    def interquartile_range(self) -> float:
        """Upper minus lower quartile; times 0.7413 the standard deviation of a Gaussian."""
        return self.upper - self.lower


def clipped(
    values: NDArray[Any],
    mask: NDArray[np.int32] | None = None,
    bits: int = _UNUSED_MASK,
    *,
    sigmas: float = CLIP_SIGMAS,
    iterations: int = CLIP_ROUNDS,
) -> ClippedStatistics:
    """Mean and variance of the values that survive clipping.

    The first round keeps what lies within ``sigmas`` of the median, sigma taken from the interquartile
    range; each further round selects anew from all values, about the mean and standard deviation of the
    previous selection. Limits are inclusive.

    Parameters
    ----------
    values
        Any shape, real; float32 is used without a copy.
    mask
        int32 of the same shape, or ``None``.
    bits
        Pixels with any of these bits in ``mask`` are left out.
    sigmas
        Half width in standard deviations, positive.
    iterations
        Rounds of clipping, at least 1.

    Raises
    ------
    EmptyStatisticsError
        When ``values`` has no element. Without a usable element everything is NaN and the count 0.
    """
    if iterations < 1:
        raise ValueError(f"at least one round of clipping is needed, not {iterations}")
    return _moments(_describe(values, mask, bits, quartiles=True, rounds=iterations, sigmas=sigmas))


def moments(
    values: NDArray[Any], mask: NDArray[np.int32] | None = None, bits: int = _UNUSED_MASK
) -> ClippedStatistics:
    """Mean and variance of all usable values; parameters and errors as in :func:`clipped`."""
    return _moments(_describe(values, mask, bits, quartiles=False, rounds=_NO_CLIPPING))


def quartiles(
    values: NDArray[Any], mask: NDArray[np.int32] | None = None, bits: int = _UNUSED_MASK
) -> Quartiles:
    """Exact quartiles, by selection; parameters and errors as in :func:`clipped`."""
    row = _describe(values, mask, bits, quartiles=True, rounds=_NO_MOMENTS)
    return Quartiles(float(row[1]), float(row[2]), float(row[3]), int(row[0]))


def median(values: NDArray[Any], mask: NDArray[np.int32] | None = None, bits: int = _UNUSED_MASK) -> float:
    """Exact median, by selection; parameters and errors as in :func:`clipped`."""
    return quartiles(values, mask, bits).median


@frozen
class BinStatistics:
    """Statistics of every bin of a grid, float64 (ny, nx); NaN where no pixel is usable.

    Attributes
    ----------
    usable
        Number of usable pixels.
    lower_quartile, median
        NaN unless asked for or needed to clip.
    mean, variance, kept
        Moments, clipped or not, and the number of pixels in them.
    """

    usable: _Row
    lower_quartile: _Row
    median: _Row
    mean: _Row
    variance: _Row
    kept: _Row


def bins(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    bits: int,
    y_edges: NDArray[np.int64],
    x_edges: NDArray[np.int64],
    *,
    clip: bool,
    with_median: bool = False,
    with_moments: bool = True,
) -> BinStatistics:
    """Statistics of the bins between the edges, clipped as in :func:`clipped` or of all usable pixels.

    Parameters
    ----------
    image, mask
        float32 and int32 (height, width), C-contiguous.
    bits
        Pixels with any of these bits are left out.
    y_edges, x_edges
        int64 (ny + 1), (nx + 1): first row and column of each bin, and the end of the last one.
    clip
        Whether the moments are clipped.
    with_median
        Whether the median and the lower quartile are needed.
    with_moments
        Whether the moments are; NaN and 0 pixels without.
    """
    rounds = CLIP_ROUNDS if clip else _NO_CLIPPING if with_moments else _NO_MOMENTS
    table = bin_statistics(image, mask, bits, y_edges, x_edges, with_median, rounds, CLIP_SIGMAS)
    return BinStatistics(
        table[..., 0], table[..., 1], table[..., 2], table[..., 4], table[..., 5], table[..., 6]
    )


@frozen
class SegmentStatistics:
    """Clipped moments of n segments; NaN where too few values are left.

    Attributes
    ----------
    mean, variance
        float64 (n), of the kept values.
    kept
        float64 (n): how many these are.
    """

    mean: _Row
    variance: _Row
    kept: _Row


def clipped_segments(
    values: NDArray[np.float32],
    start: NDArray[np.int64],
    *,
    sigmas: float = CLIP_SIGMAS,
    iterations: int = CLIP_ROUNDS,
) -> SegmentStatistics:
    """Mean and variance as in :func:`clipped` of ``values[start[i]:start[i + 1]]`` for each i; segments may be empty."""
    table = segment_statistics(values, start, True, iterations, sigmas)
    # Rounding can leave the variance of equal values a little below zero.
    variance = np.where(table[:, 5] < 0, 0.0, table[:, 5])
    return SegmentStatistics(table[:, 4].copy(), variance, table[:, 6].copy())


def medians_of_segments(values: NDArray[np.float32], start: NDArray[np.int64]) -> _Row:
    """Exact medians of the finite values of ``values[start[i]:start[i + 1]]`` for each i: float64 (n), NaN for none."""
    return segment_statistics(values, start, True, _NO_MOMENTS, CLIP_SIGMAS)[:, 2].copy()


def _describe(
    values: NDArray[Any],
    mask: NDArray[np.int32] | None,
    bits: int,
    *,
    quartiles: bool,
    rounds: int,
    sigmas: float = CLIP_SIGMAS,
) -> _Row:
    if values.size == 0:
        raise EmptyStatisticsError
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(values, np.float32).reshape(-1)
    bad = None if mask is None or bits == 0 else np.ascontiguousarray(mask, np.int32).reshape(-1)
    return sample_statistics(pixels, bad, bits, quartiles, rounds, sigmas)


def _moments(row: _Row) -> ClippedStatistics:
    mean, variance, count = float(row[4]), float(row[5]), int(row[6])
    if count == 0:
        return ClippedStatistics(np.nan, np.nan, np.nan, np.nan, 0)
    # Rounding can leave the variance of equal values a little below zero.
    floored = max(variance, 0.0) if variance == variance else variance
    return ClippedStatistics(mean, floored**0.5, variance, (floored / count) ** 0.5, count)
