"""How wide a PSF image is to an observer: its effective full width at half maximum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM

Array = NDArray[np.float64]

MAX_STEPS = 100
"""Of the fit."""
FIT_RADIUS = 6.0
"""Extent of the fit in units of the starting sigma: beyond it there is more noise than light."""


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
    found = _fit_two(squares, values, start, limits)
    return SIGMA_TO_FWHM * _equivalent_sigma(np.exp(found[2:]), np.exp(2.0 * found[:2]))


def _fit_two(squares: Array, values: Array, start: Array, limits: Array) -> Array:
    """Logarithms of the sigmas and amplitudes of two Gaussians, by Levenberg's and Marquardt's method within limits.

    (Importing SciPy for it takes a process longer than all widths it will ever fit.)
    """
    low, high = limits
    place, damping = start, 1e-3
    residual, slopes = _deviations(place, squares, values)
    cost = residual @ residual
    for _ in range(MAX_STEPS):
        gradient = slopes @ residual
        held = (place <= low) & (gradient > 0.0) | (place >= high) & (gradient < 0.0)
        free = np.where(held[:, None], 0.0, slopes)
        normal = free @ free.T
        diagonal = normal.diagonal()
        # Parameters without a slope stay where they are.
        np.fill_diagonal(normal, np.where(diagonal > 0.0, diagonal * (1.0 + damping), 1.0))
        step = np.linalg.solve(normal, -(free @ residual))
        target = np.minimum(np.maximum(place + step, low), high)
        residual_there, slopes_there = _deviations(target, squares, values)
        cost_there = residual_there @ residual_there
        if cost_there > cost:
            damping *= 10.0
            continue
        settled = cost - cost_there <= 1e-10 * cost and damping < 1.0
        place, residual, slopes, cost = target, residual_there, slopes_there, cost_there
        damping = max(damping / 10.0, 1e-12)
        if settled:
            break
    return place


def _deviations(parameters: Array, squares: Array, values: Array) -> tuple[Array, Array]:
    """Sum of the Gaussians minus the values, float64 (n), and its derivatives, float64 (4, n)."""
    relative = squares / np.exp(2.0 * parameters[:2, None])
    parts = np.exp(parameters[2:, None] - 0.5 * relative)
    return parts.sum(axis=0) - values, np.concatenate([parts * relative, parts])


def _equivalent_sigma(amplitudes: Array, variances: Array) -> float:
    """Sigma of the Gaussian whose effective area equals that of a sum of Gaussians, 4π sigma²."""
    total = 2.0 * np.pi * float(amplitudes @ variances)
    harmonic = variances[:, None] * variances / (variances[:, None] + variances)
    square = 2.0 * np.pi * float(amplitudes @ harmonic @ amplitudes)
    return float(total / np.sqrt(4.0 * np.pi * square))
