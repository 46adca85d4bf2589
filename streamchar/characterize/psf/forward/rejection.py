"""Pixels and stars that a pixel-basis PSF does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.state import State, inverse_variance
from streamchar.characterize.psf.parts import parts
from streamchar.characterize.psf.pixel_fit import Grid
from streamchar.characterize.psf.samples import Samples
from streamchar.robust import median, scatter

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

CLIP_ACCURACY = 0.05
"""Relative error of the model allowed for when single pixels are judged."""
_MIN_CHI2_SPREAD = 0.05


def without_misfits(grid: Grid, state: State, config: PixelBasisConfig) -> State:
    """Leave out pixels far from the model and stars of excessive chi-square.

    Both are judged with room for errors of the model, or the brightest stars would go before it has converged on
    them.
    """
    samples = state.samples
    square = normalised_square(grid, state, max(config.accuracy, CLIP_ACCURACY))
    samples = without_far_pixels(samples, square, config)
    chi2 = reduced_chi2(samples, square)
    excess = chi2 - median(chi2)
    spread = np.maximum(scatter(excess, about=0.0), _MIN_CHI2_SPREAD)
    kept = excess < config.n_sigma_chi2 * spread
    if np.count_nonzero(kept) >= config.min_stars:
        samples = samples.take(kept)
    return replace(state, samples=samples)


def without_far_pixels(samples: Samples, square: Array, config: PixelBasisConfig) -> Samples:
    """Leave out pixels far from the model, given their :func:`normalised_square`, and those beside them."""
    far = square > config.n_sigma_pixel**2
    # A cosmic ray or neighbour reaches beyond its brightest pixel.
    return replace(samples, usable=samples.usable & ~grown(far))


def normalised_square(grid: Grid, state: State, accuracy: float) -> Array:
    """Squared residual of each pixel over its variance, zero where not usable: float64 (n, V, V)."""
    samples, result = state.samples, state.draw(grid)
    weights = inverse_variance(samples, result, accuracy)
    for part in parts(len(result)):
        residual = result[part]
        residual *= samples.flux[part, None, None]
        residual -= samples.pixels[part]
        residual *= residual
        residual *= weights[part]
    return result


def reduced_chi2(samples: Samples, square: Array) -> Array:
    """Reduced chi-square of each star: float64 (n)."""
    freedom = np.maximum(np.count_nonzero(samples.usable, axis=(1, 2)) - 3, 1)
    return np.asarray(np.where(samples.usable, square, 0.0).sum(axis=(1, 2)) / freedom)


def grown(pixels: Flags) -> Flags:
    """Pixels and their neighbours along rows and columns: bool (n, V, V)."""
    result = pixels.copy()
    result[:, 1:] |= pixels[:, :-1]
    result[:, :-1] |= pixels[:, 1:]
    result[:, :, 1:] |= pixels[:, :, :-1]
    result[:, :, :-1] |= pixels[:, :, 1:]
    return result
