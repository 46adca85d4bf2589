"""The sky left around PSF stars: light of sources that nobody detected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.chebyshev import least_squares
from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.rejection import grown
from streamchar.characterize.psf.forward.state import State
from streamchar.characterize.psf.neighbours import point_significance
from streamchar.characterize.psf.pixel_fit import Grid
from streamchar.characterize.psf.samples import Samples
from streamchar.robust import median, scatter

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_SKY_RADIUS = 0.375
"""Inner radius of the pixels that tell the sky, in stamp widths."""
_SKY_CLIP = 3.0
_SKY_PIXELS = 50
_SKY_LIGHT = 1.0
"""Mean light of the star in those pixels, in standard deviations of the sky, above which they do not tell it."""
_SLOPE_STARS = 50
"""Stars it takes to tell light that follows a star's flux from light that does not."""
_SLOPE_ROUNDS = 10
_SLOPE_HUBER = 1.0
"""Residual in standard deviations from which a star counts less for the slope: sources only ever add light."""
_WING_VARIATION = 0.15
"""Relative change of the wings over the field, at most: brightness there goes as FWHM^(5/3)."""


def without_sky(grid: Grid, wide: State, model: Array, config: PixelBasisConfig) -> State:
    """Subtract from each star the sky left around it, and from the model, as drawn, what it holds of that sky.

    The residuals in the outer part of a star's stamp tell both. Light of sources nobody detected lifts the sky
    whatever the star's flux; the first model, a mean of bright stars, holds as much of it as lies around those. What
    of the residuals is proportional to the stars' fluxes is therefore the model's error.

    The rest is the sky, of which the neighbours that are left out or subtracted in the fit are left out here too:
    counted as sky as well, they would be taken away twice, and the wings become too faint.

    Few stars tell no slope. Then neighbours stay in the sky as well: what is taken away twice makes up for most of
    what the model holds (3 mmag of the fluxes of fields with 38 stars).
    """
    samples = wide.samples
    light = samples.flux[:, None, None] * model
    offset = np.arange(grid.stamp) - grid.stamp // 2
    outer = samples.usable & (np.hypot(offset[:, None], offset) > _SKY_RADIUS * grid.stamp)
    residual = samples.pixels - light
    noise = np.sqrt(samples.sky_variance)
    # Noise alone would not exceed this; sources do. That does not depend on the star, whereas what shows as a
    # neighbour does as long as the model is in error.
    quiet = outer & (np.abs(residual) < _SKY_CLIP * noise[:, None, None])
    sky, count = _mean(residual, quiet)
    wings, _ = _mean(light, quiet)
    # Where the light itself is brighter than the sky's noise the model's wings are not known well enough.
    known = (count >= _SKY_PIXELS) & (wings < _SKY_LIGHT * noise)
    slope = 0.0
    if np.count_nonzero(known) < _SLOPE_STARS:
        sky = np.where(known, sky, 0.0)
    else:
        slope = _slope(samples.flux[known], sky[known], wings[known])
        residual -= sky[:, None, None]
        sky -= slope * samples.flux
        sky += _without_neighbours(residual, outer, samples, config.samples_per_fwhm * grid.step, config)
        sky = np.where(known, sky, np.mean(sky[known]))
    pixels = np.where(samples.usable, samples.pixels - sky[:, None, None], 0.0)
    # A constant on the grid draws that constant on the stamp.
    return replace(wide, samples=replace(samples, pixels=pixels), components=wide.components + slope)


def _without_neighbours(
    residual: Array, outer: Flags, samples: Samples, fwhm: float, config: PixelBasisConfig
) -> Array:
    """Mean residual of each star beside its neighbours; zero where too few pixels are left: float64 (n).

    Neighbours are looked for above the sky with their light in it. Below it more would show, but the fit subtracts
    only the most significant ones.
    """
    significance = point_significance(residual, outer / samples.sky_variance[:, None, None], fwhm)
    neighbours = grown(grown(outer & (significance > config.n_sigma_neighbour)))
    mean, count = _mean(residual, outer & ~neighbours)
    return np.where(count >= _SKY_PIXELS, mean, 0.0)


def _mean(values: Array, which: Flags) -> tuple[Array, NDArray[np.int64]]:
    """Mean over some pixels of each stamp, and their number."""
    count = np.count_nonzero(which, axis=(1, 2))
    return np.where(which, values, 0.0).sum(axis=(1, 2)) / np.maximum(count, 1), count


def _slope(flux: Array, sky: Array, wings: Array) -> float:
    """Sky per flux by a robust straight line: iteratively reweighted (Huber 1964)."""
    deviation = np.hypot(scatter(sky), _WING_VARIATION * wings)
    if not np.all(deviation > 0.0):
        return 0.0
    unit = float(median(flux))
    design = np.stack([np.ones_like(flux), flux / unit], axis=1) / deviation[:, None]
    values = sky / deviation
    weight = np.ones_like(flux)
    slope = 0.0
    for _ in range(_SLOPE_ROUNDS):
        line, _ = least_squares(design, values, weight)
        slope = float(line[1]) / unit
        pull = np.abs(values - design @ line)
        limit = max(_SLOPE_HUBER * float(scatter(pull, 0.0)), np.finfo(float).tiny)
        weight = limit / np.maximum(pull, limit)
    return slope
