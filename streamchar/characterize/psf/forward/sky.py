"""The sky left around PSF stars: light of sources that nobody detected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamchar.characterize.psf.forward.state import State
from streamchar.characterize.psf.pixel_fit import Grid
from streamchar.characterize.psf.samples import Samples

_SKY_RADIUS = 0.375
"""Inner radius of the pixels that tell the sky, in stamp widths."""
_SKY_CLIP = 3.0
_SKY_PIXELS = 50
_SKY_LIGHT = 1.0
"""Mean light of the star in those pixels, in standard deviations of the sky, above which they do not tell it."""


def without_sky(grid: Grid, wide: State) -> Samples:
    """Subtract from each star the sky left around it: the mean residual in the outer part of its stamp.

    Light of sources nobody detected lifts the sky under the stars. The model's wings rest on the brightest stars,
    for which it hardly counts, so what faint stars have beyond it is not theirs.
    """
    samples = wide.samples
    light = samples.flux[:, None, None] * wide.draw(grid)
    offset = np.arange(grid.stamp) - grid.stamp // 2
    outer = samples.usable & (np.hypot(offset[:, None], offset) > _SKY_RADIUS * grid.stamp)
    residual = samples.pixels - light
    # Noise alone would not exceed this; sources do.
    outer &= np.abs(residual) < _SKY_CLIP * np.sqrt(samples.sky_variance)[:, None, None]
    count = np.count_nonzero(outer, axis=(1, 2))
    sky = np.where(outer, residual, 0.0).sum(axis=(1, 2)) / np.maximum(count, 1)
    # Where the light itself is brighter than the sky's noise the model's wings are not known well enough.
    noise = np.sqrt(samples.sky_variance)
    faint = np.where(outer, light, 0.0).sum(axis=(1, 2)) < _SKY_LIGHT * noise * count
    sky = np.where((count >= _SKY_PIXELS) & faint, sky, 0.0)
    return replace(samples, pixels=np.where(samples.usable, samples.pixels - sky[:, None, None], 0.0))
