"""The functions of position a PSF model may depend on, orthonormal over its stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.characterize.psf.shape_fields import PARAMETERS, fit_fields

Array = NDArray[np.float64]

_SMALLEST_CURVATURE = 3e-5
"""Terms of second order in size and ellipticity with a smaller rms are left out."""
_DEPENDENT = 1e-6
_SHARES = np.array([1.0, 0.125, 0.125])
"""What squares of relative size and of the two ellipticities count: ellipticity e stretches one axis by e/2."""


@dataclass(frozen=True, slots=True, eq=False)
class SpatialFunctions:
    """K functions of the position.

    Attributes
    ----------
    basis
        The functions: the first is 1, the others have zero mean and unit mean square over the stars and are
        uncorrelated.
    linear, curvature
        float64 (K - 1): by how much size and ellipticity, or squares of them, vary with each function after the
        first, rms; one of the two is zero.
    """

    basis: SpatialBasis
    linear: Array
    curvature: Array


def spatial_functions(
    x: Array, y: Array, weights: Array, shapes: Array, variance: Array, degree: int, *, curved: bool
) -> SpatialFunctions:
    """Monomials up to a degree, and what a PSF of such size and ellipticity needs beyond them.

    A PSF whose size s and ellipticities e₁, e₂ follow polynomials is not itself one: to second order it also contains
    s² + (e₁² + e₂²)/8, s e₁ and s e₂ (a Gaussian of covariance C + δ, expanded in δ; terms of four-fold symmetry,
    which change neither size nor ellipticity, left out).

    Parameters
    ----------
    x, y
        float64 (n): positions of the stars.
    weights
        float64 (n): weight of each star, positive.
    shapes, variance
        float64 (n, 3): relative size, e₁, e₂ of the stars, and their variances.
    degree
        Degree of the monomials.
    curved
        Whether to add the second-order terms.
    """
    polynomial = PositionPolynomial.over(x, y, degree)
    if degree == 0:
        return SpatialFunctions(SpatialBasis.constant(polynomial), np.zeros(0), np.zeros(0))
    share = weights / weights.sum()
    fields = fit_fields(x, y, shapes, variance, polynomial)
    values = fields(x, y)
    mean = share @ values
    fields.mixing[0] -= mean
    spread = float(np.sqrt(share @ (values - mean) ** 2 @ _SHARES))
    count = polynomial.terms
    functions = _joined(fields, degree, curved=curved)
    transform, rms = _orthonormal(functions(x, y), share)
    kept = rms > np.where(np.arange(len(rms)) < count, _DEPENDENT, _SMALLEST_CURVATURE)
    if not kept.all():
        functions = functions.combined(np.eye(len(functions))[:, kept])
        transform, rms = _orthonormal(functions(x, y), share)
    monomial = np.arange(len(rms)) < np.count_nonzero(kept[:count])
    return SpatialFunctions(
        functions.combined(transform), np.where(monomial, spread, 0.0)[1:], np.where(monomial, 0.0, rms)[1:]
    )


def _joined(fields: SpatialBasis, degree: int, *, curved: bool) -> SpatialBasis:
    """Return the monomials, and the second-order terms of the fields."""
    every = fields.with_products(0, PARAMETERS if curved else 0, degree)
    monomials = [0, *range(len(every) - fields.polynomial.terms + 1, len(every))]
    picks = np.eye(len(every))[:, monomials]
    if curved:
        # Products of pairs follow the fields: ss, s e1, s e2, e1 e1, e1 e2, e2 e2.
        terms = np.zeros((len(every), 3))
        first = 1 + PARAMETERS
        terms[first, 0], terms[first + 3, 0], terms[first + 5, 0] = 1.0, _SHARES[1], _SHARES[2]
        terms[first + 1, 1] = terms[first + 2, 2] = 1.0
        picks = np.hstack([picks, terms])
    return every.combined(picks)


def _orthonormal(values: Array, share: Array) -> tuple[Array, Array]:
    """Upper triangular transform that orthonormalises the columns in turn, and what each added before scaling."""
    r = np.asarray(np.linalg.qr(values * np.sqrt(share)[:, None], mode="r"), np.float64)
    sign = np.sign(np.diagonal(r))
    r = r * np.where(sign == 0, 1.0, sign)[:, None]
    rms = np.diagonal(r).copy()
    return np.linalg.inv(r + np.diag(np.where(rms > 0, 0.0, 1.0))), rms
