"""How size and ellipticity of the PSF vary over the field: smooth polynomials through the shapes of the stars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.chebyshev import least_squares
from streamchar.image.psf import Moments

Array = NDArray[np.float64]

PARAMETERS = 3
"""Relative size and the two ellipticity components."""


def shape_parameters(moments: Moments, size: float) -> Array:
    """Return √(T/T₀) − 1, e₁ and e₂ of each shape: float64 (n, 3); T = xx + yy and T₀ = ``size``²."""
    with np.errstate(invalid="ignore"):
        trace = moments.xx + moments.yy
        return np.stack([np.sqrt(trace) / size - 1.0, moments.e1, moments.e2], axis=1)


def stretched(stretch: Array, variance: Array) -> tuple[Array, Array]:
    """Change of the parameters of a nearly round shape by a map x + a x + c y, y + c x + b y.

    Parameters
    ----------
    stretch, variance
        float64 (n, 3): a, c and b, and their variances.

    Returns
    -------
    changes, variances
        float64 (n, 3) of relative size, e₁ and e₂.
    """
    a, c, b = stretch.T
    along = variance[:, 0] + variance[:, 2]
    changes = np.stack([0.5 * (a + b), a - b, 2.0 * c], axis=1)
    return changes, np.stack([0.25 * along, along, 4.0 * variance[:, 1]], axis=1)


def fit_fields(monomials: Array, values: Array, variance: Array) -> Array:
    """Coefficients of weighted least-squares polynomials through the parameters: float64 (terms, 3).

    Parameters
    ----------
    monomials
        float64 (n, terms), at the stars.
    values, variance
        float64 (n, 3).
    """
    weights = 1.0 / variance.T
    fits = [
        least_squares(monomials, value, weight)[0] for value, weight in zip(values.T, weights, strict=True)
    ]
    return np.stack(fits, axis=1)
