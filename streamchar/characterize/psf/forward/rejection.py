"""Pixels and stars that a pixel-basis PSF does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.state import State, inverse_variance
from streamchar.characterize.psf.parts import parts
from streamchar.characterize.psf.samples import Samples
from streamchar.robust import median, scatter

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

CLIP_ACCURACY = 0.05
"""Relative error of the model allowed for when single pixels are judged."""
_MIN_CHI2_SPREAD = 0.05


def without_misfits(state: State, model: Array, config: PixelBasisConfig) -> tuple[State, Array]:
    """Leave out pixels far from the model, as drawn, and stars of excessive chi-square; also of what was drawn.

    Both are judged with room for errors of the model, or the brightest stars would go before it has converged on
    them.
    """
    samples = state.samples
    square = normalised_square(samples, model, max(config.accuracy, CLIP_ACCURACY))
    samples = without_far_pixels(samples, square, config)
    chi2 = reduced_chi2(samples, square)
    excess = chi2 - median(chi2)
    spread = np.maximum(scatter(excess, about=0.0), _MIN_CHI2_SPREAD)
    kept = excess < config.n_sigma_chi2 * spread
    if np.count_nonzero(kept) >= config.min_stars:
        samples, model = samples.take(kept), model[kept]
    return replace(state, samples=samples), model


def without_far_pixels(samples: Samples, square: Array, config: PixelBasisConfig) -> Samples:
    """Leave out pixels far from the model, given their :func:`normalised_square`, and those beside them."""
    far = square > config.n_sigma_pixel**2
    # A cosmic ray or neighbour reaches beyond its brightest pixel.
    return replace(samples, usable=samples.usable & ~grown(far)) if far.any() else samples


def normalised_square(samples: Samples, model: Array, accuracy: float) -> Array:
    """Squared residual of each pixel from the model of unit flux over its variance, zero where not usable: float64 (n, V, V)."""
    result = inverse_variance(samples, model, accuracy)
    for part in parts(len(result)):
        residual = samples.flux[part, None, None] * model[part]
        residual -= samples.pixels[part]
        residual *= residual
        result[part] *= residual
    return result


def reduced_chi2(samples: Samples, square: Array) -> Array:
    """Reduced chi-square of each star: float64 (n)."""
    freedom = np.maximum(np.count_nonzero(samples.usable, axis=(1, 2)) - 3, 1)
    return np.asarray(np.where(samples.usable, square, 0.0).sum(axis=(1, 2)) / freedom)


def grown(pixels: Flags) -> Flags:
    """Pixels and their neighbours along rows and columns: bool (n, V, V)."""
    crowded = np.flatnonzero(pixels.any(axis=(1, 2)))
    some, result = pixels[crowded], pixels.copy()
    around = some.copy()
    around[:, 1:] |= some[:, :-1]
    around[:, :-1] |= some[:, 1:]
    around[:, :, 1:] |= some[:, :, :-1]
    around[:, :, :-1] |= some[:, :, 1:]
    result[crowded] = around
    return result
