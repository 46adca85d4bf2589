"""The sky between the sources, from block means: what stands out is masked before the background is fitted.

A deviation from the reference, which fits its background to pixels that hold the wings of its sources and all sources
below 50 sigma. Here the image is reduced to the means of small blocks, blocks that exceed the model by a little more than
their noise are masked together with what surrounds them, and the model is fitted to the others, until it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize import statistics
from streamchar.characterize.binning import BinCentres, Grid, bin_edges, bins_of
from streamchar.characterize.chebyshev import ChebyshevField, Lattice, terms
from streamchar.characterize.growth import structuring_element
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.kernels import block_means, stand_out
from streamchar.robust import median

Plane = NDArray[np.float32]
Flags = NDArray[np.bool_]
FitField = Callable[[Grid, Grid, int], ChebyshevField]
"""Makes a field over the exposure's pixels from values and errors of bins, float64 (ny, nx), and the polynomial's order; NaN
takes no part."""

MIN_USABLE = 0.5
"""Fraction of a block's pixels that must be usable."""

WILD = 1000.0
"""Pixels are limited to this many interquartile ranges beyond the quartiles: no infinity enters a mean."""

PIT = 5.0
"""Blocks this many standard deviations below the model are masked, too: defects that nobody marked."""

SAMPLED = 64
"""Rows from which the noise of the blocks is guessed at the start, and rows and columns from which the spread of the pixels is."""

KERNEL_HALF = 2
"""Half width in blocks of the kernel that smooths them."""

START_ROUNDS = 4
"""Rounds of weighting bins by how far they are from the model, before sources are masked."""

MIN_CORRELATION = 0.2
"""Correlation of the residuals of neighbouring bins from which on higher orders are tried."""

MIN_GAIN = 0.8
"""A higher order must lower the validation score to this fraction."""

NOISE_ORDER = 2
"""Degree to which the variance of the blocks may change over the exposure."""

MIN_NOISE = 0.3
"""Least standard deviation of a block in units of the median one, where that polynomial runs low."""

GAUSSIAN_IQR = 0.741301109252802
"""Standard deviation of a Gaussian over its interquartile range."""

GAUSSIAN_MAD = 2.0 * GAUSSIAN_IQR
"""Standard deviation of a Gaussian over its median absolute deviation."""


class SkyConfig(Configuration):
    """What is not sky.

    The threshold balances two biases: sources that stay below it raise the background, and masking the noise's own
    upward fluctuations lowers it by 0.003 of the noise of a pixel.
    """

    block_size: int = Field(default=4, ge=1, le=64)
    """Side of a block in pixels."""
    smoothing: float = Field(default=0.7, gt=0, le=2)
    """Width of the Gaussian that the block means are smoothed with, in blocks."""
    threshold: float = Field(default=2.75, gt=0)
    """Blocks this many of their standard deviations above the model are sources."""
    growth: int = Field(default=2, ge=0, le=16)
    """Radius of the disk of blocks that is masked around each."""
    min_fraction: float = Field(default=0.02, ge=0, le=1)
    """Fraction of a bin's blocks that must be left; bins with fewer take no part."""
    order_step: int = Field(default=3, ge=0, le=12)
    """The polynomial's order is raised by this, or by twice as much, where the sky has more structure; 0 for never."""
    max_rounds: int = Field(default=6, ge=1)
    """Most rounds of masking and fitting."""
    tolerance: float = Field(default=0.003, ge=0)
    """The last round is the one that changes the model by no more, rms, in standard deviations of a pixel."""


@frozen(eq=False)
class Sky:
    """What was found between the sources.

    Attributes
    ----------
    field
        The model over the exposure's pixels.
    values, errors
        float64 (ny, nx): sky of every bin and its standard error; NaN where too few blocks are left.
    """

    field: ChebyshevField
    values: Grid
    errors: Grid


def find_sky(
    image: Plane,
    mask: NDArray[np.int32],
    ignored_bits: int,
    bins: tuple[int, int],
    fit: FitField,
    orders: Sequence[int],
    config: SkyConfig,
) -> Sky | None:
    """Mask sources and fit the sky, in turns.

    It starts from a fit to the medians of the bins, then to the lower quartiles of what that leaves: medians follow
    gradients within bins, lower quartiles are nearer to the sky where sources cover half of it.

    Parameters
    ----------
    image, mask
        float32 and int32 (height, width), C-contiguous.
    ignored_bits
        Pixels that have one of these bits or are not a number are left out.
    bins
        Rows and columns of bins.
    fit
        Makes a model of the bins; what it raises is not caught.
    orders
        Orders to choose from, ascending: the first, unless the bins' medians clearly ask for more.
    config
        What is not sky.

    Returns
    -------
    sky
        ``None`` when no block has enough usable pixels.
    """
    blocks = _Blocks.of(image, mask, ignored_bits, bins, config.block_size, orders[-1])
    if blocks.unusable.all():
        return None
    field, stdev, order, usable = _start(blocks, fit, orders)
    taps = _taps(config.smoothing)
    disk = structuring_element(config.growth, isotropic=True)
    # Noise of a smoothed block in units of that of a block.
    level = np.full_like(blocks.mean, config.threshold * _gain(taps) * stdev)
    least = config.min_fraction * blocks.unusable.size / (bins[0] * bins[1])
    seen = (usable >= max(least, 2.0)) & (stdev > 0.0)
    correction = ChebyshevField.constant(0.0, field.width, field.height)
    for _ in range(config.max_rounds):
        found = blocks.measure(stand_out(blocks.mean, taps, level, PIT / config.threshold, disk))
        enough = (found.kept >= max(least, 2.0)) & (found.variance > 0.0)
        values = np.where(enough, found.mean, np.nan)
        variance = np.where(enough, found.variance, np.nan)
        errors = np.sqrt(variance / np.maximum(found.kept, 1.0))
        if not enough.any() and stdev > 0.0:
            break
        # Where only sources are seen the model may not go far from what it was: a polynomial would.
        covered = seen & ~enough
        correction = fit(np.where(covered, 0.0, values), np.where(covered, stdev, errors), order)
        blocks.subtract(correction)
        field += correction
        stdev = float(np.sqrt(_known_median(variance)))
        change = float(np.sqrt(np.mean(blocks.bins.evaluate(correction) ** 2)))
        if change <= config.tolerance * blocks.size * stdev:
            break
        level = _noise(blocks, variance, found.kept, stdev)
        level *= np.float32(config.threshold * _gain(taps))
    values += blocks.bins.evaluate(field) - blocks.bins.evaluate(correction)
    return Sky(field, values, errors)


@frozen(eq=False)
class _Blocks:
    """Block means, less the model so far, and their geometry.

    ``size`` is the side of a block in pixels, ``mean`` is float32 and changes, ``unusable`` bool, both (rows, columns);
    ``centres`` are those of the blocks and ``bins`` those of the bins, in pixels; the edges are those of the bins in blocks.
    """

    size: int
    mean: Plane
    unusable: Flags
    centres: Lattice
    bins: BinCentres
    x_edges: NDArray[np.int64]
    y_edges: NDArray[np.int64]

    @classmethod
    def of(
        cls, image: Plane, mask: NDArray[np.int32], bits: int, bins: tuple[int, int], size: int, order: int
    ) -> _Blocks:
        # Small exposures have small blocks: a bin must hold some.
        size = max(1, min(size, min(image.shape[0] // bins[0], image.shape[1] // bins[1]) // 8))
        sample = tuple(np.s_[:: max(1, length // SAMPLED)] for length in image.shape)
        spread = statistics.quartiles(image[sample], mask[sample], bits)
        if spread.count == 0:
            spread = statistics.quartiles(image, mask, bits)
        # Digitized coarser than its noise, an image may have equal quartiles.
        reach = WILD * (spread.interquartile_range or max(1.0, abs(spread.median)))
        low, high = (spread.lower - reach, spread.upper + reach) if spread.count else (0.0, 0.0)
        mean, count = block_means(image, mask, bits, size, low, high)
        shape = (image.shape[0], image.shape[1])
        return cls(
            size,
            mean,
            count < MIN_USABLE * size * size,
            _block_centres(shape, size, order),
            bins_of(shape, bins, order),
            bin_edges(mean.shape[1], bins[1]),
            bin_edges(mean.shape[0], bins[0]),
        )

    def measure(self, masked: Flags | None = None, *, quartiles: bool = False) -> statistics.BinStatistics:
        """Moments, or quartiles, of the blocks in every bin."""
        unusable = self.unusable if masked is None else self.unusable | masked
        return statistics.bins(
            self.mean,
            unusable.astype(np.int32),
            1,
            self.y_edges,
            self.x_edges,
            clip=False,
            with_median=quartiles,
            with_moments=not quartiles,
        )

    def subtract(self, field: ChebyshevField) -> None:
        self.centres.add(field, self.mean, -1.0)
        self.mean[self.unusable] = 0.0


@lru_cache(maxsize=4)
def _block_centres(shape: tuple[int, int], size: int, order: int) -> Lattice:
    """Centres of the blocks of an exposure, for polynomials of up to that order."""
    first = [np.arange(0, length, size, dtype=np.float64) for length in shape]
    y, x = (0.5 * (at + np.minimum(at + size, length) - 1.0) for at, length in zip(first, shape, strict=True))
    return Lattice.at(y, x, order=order, width=shape[1], height=shape[0])


def _start(blocks: _Blocks, fit: FitField, orders: Sequence[int]) -> tuple[ChebyshevField, float, int, Grid]:
    """Fit where sources are not masked yet.

    Returns the field, a guess of the blocks' standard deviation, the order chosen, and the number of usable blocks in every
    bin.
    """
    rows = np.s_[:: max(1, len(blocks.mean) // SAMPLED)]
    both = ~(blocks.unusable[rows, 1:] | blocks.unusable[rows, :-1])
    steps = np.abs(blocks.mean[rows, 1:] - blocks.mean[rows, :-1])[both]
    stdev = float(GAUSSIAN_MAD * median(steps) / np.sqrt(2.0)) if steps.size else 0.0
    found = blocks.measure(quartiles=True)
    order, field = _of_best_order(blocks, found.median, fit, orders)
    blocks.subtract(field)
    lower = blocks.measure(quartiles=True).lower_quartile + 0.5 * stdev / GAUSSIAN_IQR
    correction = _robust(blocks, lower, fit, order)
    blocks.subtract(correction)
    return field + correction, stdev, order, found.usable


def _of_best_order(
    blocks: _Blocks, values: Grid, fit: FitField, orders: Sequence[int]
) -> tuple[int, ChebyshevField]:
    """Fit the first order, or a higher one where neighbours ask for it and generalized cross-validation is clear.

    Craven & Wahba 1979, Numer. Math. 31, 377. The field is of a lower order where ``fit`` finds too few bins.
    """
    order, field = orders[0], _robust(blocks, values, fit, orders[0])
    if len(orders) == 1:
        return order, field
    residual = values - blocks.bins.evaluate(field)
    spread = _spread(residual)
    if _correlation(residual, spread) <= MIN_CORRELATION:
        return order, field
    least = _validation(blocks, values, field, spread)
    for higher in orders[1:]:
        finer = _robust(blocks, values, fit, higher)
        score = _validation(blocks, values, finer, spread)
        if score < MIN_GAIN * least:
            order, field, least = higher, finer, score
    return order, field


def _robust(blocks: _Blocks, values: Grid, fit: FitField, order: int) -> ChebyshevField:
    """Fit with little weight on the bins far from the others, which bright stars cover (Cauchy's weights)."""
    residual = values - _known_median(values)
    for _ in range(START_ROUNDS):
        spread = _spread(residual)
        errors = np.hypot(1.0, residual / (2.0 * spread)) if spread > 0.0 else np.ones_like(values)
        field = fit(values, errors, order)
        residual = values - blocks.bins.evaluate(field)
    return field


def _known_median(values: Grid) -> float:
    return float(median(values[~np.isnan(values)]))


def _spread(residual: Grid) -> float:
    return GAUSSIAN_MAD * _known_median(np.abs(residual))


def _correlation(residual: Grid, spread: float) -> float:
    """Correlation of the residuals of neighbouring bins, outliers limited: what a model of higher order could follow."""
    limited = np.clip(np.nan_to_num(residual), -3.0 * spread, 3.0 * spread)
    pairs = [limited[:, 1:] * limited[:, :-1], limited[1:] * limited[:-1]]
    square = float(np.mean(limited**2))
    products = np.concatenate([pair.ravel() for pair in pairs])
    return float(np.mean(products)) / square if products.size and square > 0.0 else 0.0


def _validation(blocks: _Blocks, values: Grid, field: ChebyshevField, spread: float) -> float:
    """Mean square of the residuals over the square of the free fraction of the bins, outliers counting little."""
    residual = values - blocks.bins.evaluate(field)
    residual = residual[np.isfinite(residual)]
    free = 1.0 - terms(field.order) / len(residual)
    if free <= 0.0 or spread == 0.0:
        return np.inf
    return float(np.mean(np.log1p((residual / (2.0 * spread)) ** 2))) / free**2


def _taps(sigma: float) -> Plane:
    """The right half of a Gaussian kernel of unit sum, from its centre."""
    half = np.exp(-0.5 * (np.arange(KERNEL_HALF + 1) / sigma) ** 2)
    return np.asarray(half / (half[0] + 2.0 * half[1:].sum()), np.float32)


def _gain(taps: Plane) -> float:
    """Standard deviation of white noise smoothed with the kernel along both axes, in units of that before."""
    return float(taps[0] ** 2 + 2.0 * (taps[1:] ** 2).sum())


def _noise(blocks: _Blocks, variance: Grid, kept: Grid, stdev: float) -> Plane:
    """Smooth standard deviation of the blocks, where sources are masked."""
    order = min(NOISE_ORDER, *(n - 1 for n in variance.shape))
    if np.count_nonzero(np.isfinite(variance)) < 2 * terms(order):
        order = 0
    height, width = blocks.mean.shape
    rows, columns = variance.shape
    field, _ = bins_of((height, width), (rows, columns), NOISE_ORDER).fit(variance, kept, order)
    plane = field.image()
    return np.sqrt(np.maximum(plane, np.float32((MIN_NOISE * stdev) ** 2), out=plane), out=plane)
