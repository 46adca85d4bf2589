"""The fitted PSF in the form that others read: PSFEx's recipe."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.fine_structure import without_fine_noise
from streamchar.characterize.psf.forward.state import State
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.pixel_fit import Grid
from streamchar.kernels import psf_draw


def published(grid: Grid, state: State, config: PixelBasisConfig) -> PixelBasisPsf:
    """Interpolate the model onto the published grid and taper it to zero at the edge (psf.md section 4.3, clip)."""
    fwhm = config.samples_per_fwhm * grid.step
    step = 1.0 / max(1, round(config.published_samples_per_fwhm / fwhm))
    published = Grid.covering(grid.stamp, step, config.lanczos)
    fine = published.step / grid.step
    first = np.zeros(len(state.components))
    components = without_fine_noise(grid, state.components, fwhm)
    components = psf_draw(components, np.eye(len(first)), first, first, published.size, fine, grid.lanczos)
    samples = state.samples
    position = float(samples.x.mean()), float(samples.y.mean())
    return PixelBasisPsf(
        components * _taper(published), state.spatial, published.step, grid.stamp, position, config.lanczos
    )


@lru_cache(maxsize=8)
def _taper(grid: Grid) -> NDArray[np.float64]:
    radius, edge = grid.radius(), 0.5 * grid.size
    inner = edge - max(1.0, 0.1 * edge)
    taper: NDArray[np.float64] = np.clip((edge**2 - radius**2) / (edge**2 - inner**2), 0.0, 1.0)
    taper.flags.writeable = False
    return taper
