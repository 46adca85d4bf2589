"""One fit of the components of a pixel-basis PSF, given what was measured of its stars."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.measurement import MeasuredStars
from streamchar.characterize.psf.forward.state import State, inverse_variance
from streamchar.characterize.psf.forward.stretch import stretches
from streamchar.characterize.psf.pixel_fit import Grid, fit_components
from streamchar.characterize.psf.spatial_functions import SpatialFunctions, spatial_functions

Array = NDArray[np.float64]

CONVERGED = 0.3
"""Distance of the sum of squares from its minimum at which a fit ends: no figure of the model is off by a standard
deviation then."""
_STARS_FOR_CURVATURE = 60
"""Stars needed for terms of second order in size and ellipticity."""
_MAX_STEPS = 40
_STAR_STEPS = 2800
_MEAN_VARIATION = 0.5
"""Relative error the first model of the mean PSF may have: keeps what few stars do not determine near it."""
_FAINT = 1e-5
"""Light of the PSF, relative to its peak, below which nothing is expected to vary."""


def fitted(
    grid: Grid, state: State, stars: MeasuredStars, config: PixelBasisConfig, accuracy: float
) -> State:
    """Fit the components to the stars, starting from the present model."""
    samples = stars.samples
    present = state.spatial(samples.x, samples.y)
    model = grid.draw(state.components, present, samples.dx, samples.dy)
    weights = inverse_variance(samples, model, accuracy)
    power = (weights * model * model).sum(axis=(1, 2)) * samples.flux**2
    functions = _functions(stars, power)
    basis = functions.values
    share = power / power.sum()
    # Functions orthonormal over the stars: the present model expands by plain products.
    start = combined((basis * share[:, None]).T @ present, state.components)
    mean = np.abs(combined(np.mean(present, axis=0, keepdims=True), state.components)[0])
    # What the stars do not tell changes as it would in another seeing: the wings, above all.
    varying = combined(functions.changes, stretches(start[0]))
    components = fit_components(
        grid,
        samples,
        weights,
        basis,
        start,
        ridge(mean, _variation(functions, config)),
        # The first fit only has to be good enough to measure the stars by.
        iterations=_steps(len(samples), config) // (2 if accuracy > config.accuracy else 1),
        converged=CONVERGED,
        expected=np.concatenate([start[:1], varying]),
    )
    return State(samples, components, functions.basis, stars.choice.degree)


def combined(factors: Array, images: Array) -> Array:
    """Sums of images (n, S, S) times factors (m, n): float64 (m, S, S)."""
    return np.asarray((factors @ images.reshape(len(images), -1)).reshape(-1, *images.shape[1:]))


def _functions(stars: MeasuredStars, power: Array) -> SpatialFunctions:
    samples, choice = stars.samples, stars.choice
    return spatial_functions(
        samples.x,
        samples.y,
        power,
        stars.shapes,
        choice.variance,
        choice.degree,
        curved=len(samples) >= _STARS_FOR_CURVATURE,
    )


def _variation(functions: SpatialFunctions, config: PixelBasisConfig) -> Array:
    """By how much a super-pixel may depart from its expected change with each function after the first, relative."""
    variation = config.unlike_stretch * functions.linear + 0.5 * config.prior**2 * functions.curvature
    variation += config.departure * functions.other
    return np.asarray(variation)


def _steps(count: int, config: PixelBasisConfig) -> int:
    return max(config.iterations, min(_MAX_STEPS, _STAR_STEPS // count))


def ridge(mean: Array, variation: Array) -> Array:
    """Inverse prior variance of the components: each function changes the PSF in proportion to the PSF itself.

    Parameters
    ----------
    mean
        float64 (S, S): the mean PSF.
    variation
        float64 (K − 1): expected relative change by each function after the first; the mean itself may be in error by half.
    """
    around = _around(len(mean))
    scale = np.maximum(around @ mean @ around.T, _FAINT * mean.max())
    relative = np.concatenate([[_MEAN_VARIATION], variation])
    return np.asarray(1.0 / (relative[:, None, None] * scale) ** 2)


@lru_cache(maxsize=32)
def _around(size: int) -> Array:
    """Matrix that takes values to the means of five each: the value, two before and two after it; the outermost repeat."""
    places = np.clip(np.arange(size)[:, None] + np.arange(-2, 3), 0, size - 1)
    means = np.asarray(np.eye(size)[places].mean(axis=1))
    means.flags.writeable = False
    return means
