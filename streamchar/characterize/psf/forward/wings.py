"""The wings of a pixel-basis PSF, the same everywhere, around the core that varies over the field."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.forward.components import CONVERGED, ridge
from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.rejection import CLIP_ACCURACY, grown
from streamchar.characterize.psf.forward.state import State
from streamchar.characterize.psf.neighbours import point_significance
from streamchar.characterize.psf.pixel_fit import Grid, centre_of, fit_components
from streamchar.characterize.psf.quintic_splines import REACH
from streamchar.characterize.psf.samples import Samples

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_MIN_CORE = 5
_WING_STEPS = 3
_STARS_FOR_WINGS = 300


def cropped_to_core(grid: Grid, wide: State, config: PixelBasisConfig) -> tuple[Grid, State]:
    """Return the part of grid and stamps within which the PSF may vary over the field."""
    fwhm = config.samples_per_fwhm * grid.step
    half = min(grid.stamp // 2, max(_MIN_CORE, math.ceil(config.core_radius * fwhm)))
    core = grid.cropped(2 * half + 1)
    components = np.ascontiguousarray(centre_of(wide.components, core.size))
    return core, replace(wide, samples=wide.samples.cropped(core.stamp), components=components)


def with_wings(grid: Grid, wide: State, core: Grid, state: State, config: PixelBasisConfig) -> State:
    """Put the fitted core into the whole grid and fit the mean wings of the brightest stars in it."""
    samples = _whole_stamps(wide.samples, state.samples)
    components = np.zeros((len(state.components), grid.size, grid.size))
    components[0] = wide.components[0]
    centre_of(components, core.size)[...] = state.components
    light = samples.flux[:, None, None] * _draw_around(
        grid, components[:1], core, replace(state, samples=samples)
    )
    variance = samples.variance(light, config.accuracy)
    residual = samples.pixels - light
    components[0] += fit_components(
        grid,
        replace(samples, pixels=residual),
        _fitting(grid, samples, light, residual, variance, config) / variance,
        np.ones((len(samples), 1)),
        np.zeros((1, grid.size, grid.size)),
        ridge(np.abs(components[0]), np.empty(0)),
        iterations=_WING_STEPS,
        converged=CONVERGED,
    )[0]
    return replace(state, components=components)


def _whole_stamps(wide: Samples, cropped: Samples) -> Samples:
    """Brightest stars that are left, on their whole stamps: the core as fitted, the rest as cut."""
    brightest = np.argsort(cropped.flux / np.sqrt(cropped.sky_variance), kind="stable")
    inner = cropped.take(np.sort(brightest[-_STARS_FOR_WINGS:]))
    present = wide.take(np.searchsorted(wide.index, inner.index))
    samples = replace(inner, pixels=present.pixels, usable=present.usable)
    for whole, part in ((samples.pixels, inner.pixels), (samples.usable, inner.usable)):
        centre_of(whole, inner.size)[...] = part
    return samples


def _fitting(
    grid: Grid, samples: Samples, light: Array, residual: Array, variance: Array, config: PixelBasisConfig
) -> Flags:
    """Pixels near the model and without undetected sources."""
    # Judged with room for errors of the model, as in the rounds before.
    margin = max(config.accuracy, CLIP_ACCURACY) ** 2 - config.accuracy**2
    far = samples.usable & (residual**2 > config.n_sigma_pixel**2 * (variance + margin * light**2))
    looking = (samples.usable & ~far) / (variance + margin * light**2)
    significance = point_significance(residual, looking, config.samples_per_fwhm * grid.step)
    far |= grown(samples.usable & (significance > config.n_sigma_neighbour))
    return samples.usable & ~grown(far)


def _draw_around(grid: Grid, mean: Array, core: Grid, state: State) -> Array:
    """Draw stamps of the whole grid: the mean PSF, and what varies, which the core alone holds."""
    samples = state.samples
    stamps = grid.draw(mean, np.ones((len(samples), 1)), samples.dx, samples.dy)
    if len(state.components) > 1:
        reach = math.ceil((core.size // 2 + REACH) * core.step)
        around = replace(core, stamp=2 * min(reach, grid.stamp // 2) + 1)
        basis = state.spatial(samples.x, samples.y)[:, 1:]
        varying = np.ascontiguousarray(state.components[1:])
        centre_of(stamps, around.stamp)[...] += around.draw(varying, basis, samples.dx, samples.dy)
    return stamps
