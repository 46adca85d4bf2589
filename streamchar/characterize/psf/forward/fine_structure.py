"""What varies of a PSF on scales finer than the pixels, where it does not stand out from noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.pixel_fit import Grid

Array = NDArray[np.float64]

_PIXEL_NYQUIST = 0.5
"""Cycles per pixel. Finer structure is told by stars at different places of the pixel only, and its noise turns up as
size and ellipticity of images drawn on pixels; coarser structure each star tells by itself."""
_DARK = 1.7
"""Cycles per FWHM beyond which only noise is left: diffraction ends at 1.0, seeing and pixels blur the rest away."""


def without_fine_noise(grid: Grid, components: Array, fwhm: float) -> Array:
    """Keep of the fine structure of all components but the first the part that is signal.

    Frequency by frequency that part is 1 − noise/power (Wiener's filter), from the power of the mean PSF on rings of
    frequency. The mean itself is left alone: all stars together determine it, and its fine structure carries 0.1 %
    of its size.

    Parameters
    ----------
    grid
        Their grid.
    components
        float64 (K, S, S).
    fwhm
        Of the PSF in pixels.

    Returns
    -------
    float64 (K, S, S): the same array when the grid holds no finer structure than pixels.
    """
    if len(components) == 1:
        return components
    across, along = np.fft.fftfreq(grid.size, grid.step), np.fft.rfftfreq(grid.size, grid.step)
    frequency = np.hypot(across[:, None], along)
    dark = frequency * fwhm > _DARK
    fine = frequency > _PIXEL_NYQUIST
    if not dark.any() or not fine.any():
        return components
    spectra = np.fft.rfft2(components)
    power = np.abs(spectra[0]) ** 2
    ring = np.rint(frequency * grid.size * grid.step).astype(np.int64)
    mean = np.bincount(ring.ravel(), power.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    noise = float(power[dark].mean())
    signal = np.maximum(mean - noise, 0.0) / np.maximum(mean, noise or 1.0)
    # Beyond a ring of mere noise a bright one is chance.
    response = np.where(fine, np.minimum.accumulate(signal)[ring], 1.0)
    varying = np.fft.irfft2(spectra[1:] * response, s=components.shape[1:])
    return np.concatenate([components[:1], varying])
