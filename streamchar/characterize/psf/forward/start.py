"""The first model of a pixel-basis PSF: the mean of the brightest stars, on a grid as fine as the sharpest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.stars import sigmas
from streamchar.characterize.psf.forward.state import State
from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM
from streamchar.characterize.psf.pixel_fit import Grid
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.characterize.psf.quintic_splines import SPLINE, coefficients
from streamchar.characterize.psf.samples import Samples
from streamchar.robust import MAD_TO_SIGMA, median

Array = NDArray[np.float64]

STARS_FOR_START = 64
"""So many of the brightest stars make the first model."""
FIRST_ACCURACY = 0.1
"""Relative error of the constant model: the PSF varies over the field."""
_MIN_STEP = 0.25
"""Smallest super-pixel in pixels."""


def grid_of(catalog: SourceCatalog, samples: Samples, config: PixelBasisConfig) -> Grid:
    """Choose the super-sampled grid."""
    sigma = sigmas(catalog, samples.index)
    # The sharpest part of the field sets the step; one tenth may be outliers.
    fwhm = SIGMA_TO_FWHM * _lowest_tenth(sigma) if len(sigma) else config.samples_per_fwhm
    step = max(fwhm / config.samples_per_fwhm, _MIN_STEP)
    return Grid.covering(samples.size, step, SPLINE)


def _lowest_tenth(values: Array) -> float:
    """Value that a tenth of the others are below, as ``np.quantile``, which imports masked arrays."""
    return float(np.interp(0.1 * (len(values) - 1), np.arange(len(values)), np.sort(values)))


def constant_model(grid: Grid, samples: Samples, config: PixelBasisConfig) -> State:
    """Average the brightest stars interpolated onto the grid, outliers of each super-pixel left out."""
    constant = SpatialBasis.constant(PositionPolynomial.over(samples.x, samples.y, 0))
    brightest = np.argsort(samples.flux / np.sqrt(samples.sky_variance))[-STARS_FOR_START:]
    bright = samples.take(brightest)
    images = grid.resample(bright.pixels / bright.flux[:, None, None], bright.dx, bright.dy)
    clean = grid.resample(bright.usable.astype(np.float64), bright.dx, bright.dy) > 0.999
    ratio = bright.flux / np.sqrt(bright.sky_variance)
    accuracy = max(config.accuracy, FIRST_ACCURACY)
    weight = 1.0 / (1.0 / ratio[:, None, None] ** 2 + (accuracy * images) ** 2)
    mean = _clipped_mean(images, np.where(clean, weight, 0.0))
    return State(samples, coefficients(mean)[None], constant)


def _clipped_mean(images: Array, weight: Array) -> Array:
    middle = median(images)
    deviation = np.abs(images - middle)
    weight = np.where(deviation <= 4.0 * MAD_TO_SIGMA * median(deviation), weight, 0.0)
    total = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (weight * images).sum(axis=0) / total
    return np.ascontiguousarray(np.where(total > 0, mean, middle))
