"""How wide a PSF is: the sigma of a model at its average position, and the FWHM that an image has to an observer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.image import Psf
from streamchar.kernels import fit_two_gaussians

Array = NDArray[np.float64]

MAX_STEPS = 100
"""Of the fit."""
FIT_RADIUS = 6.0
"""Extent of the fit in units of the starting sigma: beyond it there is more noise than light."""


def average_sigma(psf: Psf) -> float:
    """Determinant radius of a PSF at its average position, in pixels; NaN where its shape has none."""
    return _sigma_of_pixel_basis(psf) if isinstance(psf, PixelBasisPsf) else _measured_sigma(psf)


@lru_cache(maxsize=8)
def _sigma_of_pixel_basis(psf: PixelBasisPsf) -> float:
    """Remember what every stage that uses a model asks for."""
    return _measured_sigma(psf)


def _measured_sigma(psf: Psf) -> float:
    return float(np.ravel(psf.shapes(*psf.average_position).determinant_radius)[0])


def effective_fwhm(image: Array) -> float:
    """FWHM of the Gaussian with the effective area (Σ p)²/Σ p² of two concentric Gaussians fitted to a PSF image.

    The effective area sets the depth of point-source photometry; the fit keeps noise and background errors in the
    faint wings out of it. It is the width that SDSS publishes as ``psf_width``.

    Parameters
    ----------
    image
        float64 (height, width), odd, centred on its middle pixel.

    Returns
    -------
    float
        Pixels; NaN when the image has no positive core.
    """
    rows, columns = (np.arange(length) - length // 2 for length in image.shape)
    square = (rows[:, None] ** 2 + columns**2).astype(np.float64)
    peak = float(image[image.shape[0] // 2, image.shape[1] // 2])
    area = float(image.sum())
    if not (np.isfinite(image).all() and peak > 0 and area > 0):
        return float("nan")
    sigma = np.sqrt(area / (2.0 * np.pi * peak))
    inside = square < (FIT_RADIUS * sigma) ** 2
    squares, values = square[inside], image[inside] / peak

    start = np.log([0.85 * sigma, 2.0 * sigma, 0.9, 0.1])
    # Without limits the second Gaussian would follow a noise peak or flatten into a background.
    limits = np.log([[0.3 * sigma, sigma, 0.1, 1e-4], [2.0 * sigma, 4.0 * sigma, 3.0, 1.0]])
    found = fit_two_gaussians(squares, values, start, limits, MAX_STEPS)
    return SIGMA_TO_FWHM * _equivalent_sigma(np.exp(found[2:]), np.exp(2.0 * found[:2]))


def _equivalent_sigma(amplitudes: Array, variances: Array) -> float:
    """Sigma of the Gaussian whose effective area equals that of a sum of Gaussians, 4π sigma²."""
    total = 2.0 * np.pi * float(amplitudes @ variances)
    harmonic = variances[:, None] * variances / (variances[:, None] + variances)
    square = 2.0 * np.pi * float(amplitudes @ harmonic @ amplitudes)
    return float(total / np.sqrt(4.0 * np.pi * square))
