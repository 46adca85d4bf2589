"""The analytic rung: one elliptical Moffat profile fitted to the pixels of a few stars."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.moffat import MoffatPsf
from streamchar.characterize.psf.samples import Samples

Array = NDArray[np.float64]

_ACCURACY = 0.03
"""Relative error of the profile: it bounds the weight of the brightest pixels."""
_BETA_RANGE = (1.5, 12.0)
_BETA_START = 3.5
_WIDTH_RANGE = (0.3, 20.0)


def fit_moffat(samples: Samples, sigma: float) -> MoffatPsf | None:
    """Fit one elliptical Moffat profile to all stars together, with a flux and an offset each.

    Parameters
    ----------
    samples
        At least one star.
    sigma
        Width to start from, pixels.

    Returns
    -------
    The profile, or ``None`` when the fit does not converge to a positive-definite one.
    """
    from scipy.optimize import least_squares

    count = len(samples)
    position = float(samples.x.mean()), float(samples.y.mean())
    noise = samples.variance(samples.pixels, _ACCURACY)
    root = np.where(samples.usable, 1.0 / np.sqrt(noise), 0.0)

    def profile(parameters: Array) -> MoffatPsf:
        width, stretch, shear, beta = parameters[:4].tolist()
        # A core of this FWHM whatever beta is: the two are then nearly independent.
        scale = width**2 * 2.0 * math.log(2.0) / (2.0 ** (1.0 / beta) - 1.0)
        norm = float(1.0 / np.sqrt(max(1.0 - stretch**2 - shear**2, 1e-3)))
        return MoffatPsf(
            scale * (1 + stretch) * norm,
            scale * (1 - stretch) * norm,
            scale * shear * norm,
            float(beta),
            samples.size,
            position,
        )

    def residuals(parameters: Array) -> Any:
        offset = parameters[4:].reshape(2, count)
        model = profile(parameters).draw(samples.dx + offset[0], samples.dy + offset[1]) * root
        data = samples.pixels * root
        flux = (model * data).sum(axis=(1, 2)) / (model * model).sum(axis=(1, 2))
        return (data - flux[:, None, None] * model).ravel()

    start = np.concatenate([[sigma, 0.0, 0.0, _BETA_START], np.zeros(2 * count)])
    lower = np.concatenate([[_WIDTH_RANGE[0], -0.6, -0.6, _BETA_RANGE[0]], np.full(2 * count, -1.0)])
    upper = np.concatenate([[_WIDTH_RANGE[1], 0.6, 0.6, _BETA_RANGE[1]], np.full(2 * count, 1.0)])
    result = least_squares(
        residuals, np.clip(start, lower, upper), bounds=(lower, upper), x_scale="jac", max_nfev=60
    )
    if not (result.success and np.isfinite(result.x).all()):
        return None
    return profile(result.x)
