"""The functions of position a PSF model may depend on, orthonormal over its stars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.characterize.psf.shape_fields import PARAMETERS, fit_fields
from streamchar.frozen import frozen

Array = NDArray[np.float64]

_SMALLEST_CURVATURE = 3e-5
"""Terms of second order in size and ellipticity with a smaller rms are left out."""
_DEPENDENT = 1e-6
_REPEATED = 1e-4
"""Monomials are of order one; what is left of them after those that the fields are made of is this small."""
_CONSTANT, _LINEAR, _CURVED, _OTHER = range(4)
_SHARES = np.array([1.0, 0.125, 0.125])
"""What squares of relative size and of the two ellipticities count: ellipticity e stretches one axis by e/2."""


@frozen(eq=False)
class SpatialFunctions:
    """K functions of the position.

    Attributes
    ----------
    basis
        The functions: the first is 1, the others have zero mean and unit mean square over the stars and are
        uncorrelated.
    values
        float64 (n, K): the functions at the stars.
    changes
        float64 (K - 1, 3): by how much relative size, e₁ and e₂ change with each function after the first.
    linear, curvature, other
        float64 (K - 1): by how much size and ellipticity, squares of them, or anything else vary with each function
        after the first, rms; two of the three are zero. What varies neither as size nor as ellipticity is expected to
        vary as much as these.
    """

    basis: SpatialBasis
    values: Array
    changes: Array
    linear: Array
    curvature: Array
    other: Array


def spatial_functions(
    x: Array, y: Array, weights: Array, shapes: Array, variance: Array, degree: int, *, curved: bool
) -> SpatialFunctions:
    """Fields of size and ellipticity, what a PSF of such shapes needs beyond them, and the monomials left.

    Most of how a PSF varies is a change of size and ellipticity. With their fields as functions of their own, the
    images that belong to them are determined by all stars together, and only what remains is spread over the
    monomials: a third of the noise in size that monomials alone give a field of third degree.
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
        Degree of the fields and of the monomials.
    curved
        Whether to add the second-order terms.
    """
    polynomial = PositionPolynomial.over(x, y, degree)
    if degree == 0:
        one, none = np.ones((len(x), 1)), np.zeros(0)
        return SpatialFunctions(
            SpatialBasis.constant(polynomial), one, np.zeros((0, PARAMETERS)), none, none, none
        )
    share = weights / weights.sum()
    monomials = polynomial.basis(x, y)
    fields = fit_fields(monomials, shapes, variance)
    values = monomials @ fields
    mean = share @ values
    fields[0] -= mean
    spread = float(np.sqrt(share @ (values - mean) ** 2 @ _SHARES))
    functions, kinds = _joined(SpatialBasis(polynomial, fields), degree, curved=curved)
    every = functions(x, y)
    kept = _independent(every, share, np.choose(kinds, [0.0, _DEPENDENT, _SMALLEST_CURVATURE, _REPEATED]))
    functions, kinds = functions.some(kept), kinds[kept]
    triangle, rms = _triangle(every[:, kept], share)
    transform = np.asarray(np.linalg.inv(triangle), np.float64)
    values = every[:, kept] @ transform
    changes = (values[:, 1:] * share[:, None]).T @ every[:, 1 : 1 + PARAMETERS]
    linear, curvature = (np.where(kinds == kind, rms, 0.0)[1:] for kind in (_LINEAR, _CURVED))
    other = np.where(kinds == _OTHER, spread, 0.0)[1:]
    return SpatialFunctions(functions.combined(transform), values, changes, linear, curvature, other)


def _joined(fields: SpatialBasis, degree: int, *, curved: bool) -> tuple[SpatialBasis, NDArray[np.int64]]:
    """Return 1, the fields, the second-order terms and the monomials from low to high degree, and their kinds."""
    every = fields.with_products(0, PARAMETERS if curved else 0, degree)
    first = 1 + PARAMETERS
    by_degree = fields.polynomial.by_degree[1:]
    monomials = len(every) - len(by_degree) - 1 + by_degree
    parts = [every.mixing[:, :first], every.mixing[:, monomials]]
    if curved:
        # Products of pairs follow the fields.
        ss, se1, se2, e1e1, _, e2e2 = every.mixing[:, first : first + 6].T
        parts.insert(1, np.stack([ss + _SHARES[1] * e1e1 + _SHARES[2] * e2e2, se1, se2], axis=1))
    kinds = np.repeat(
        [_CONSTANT, _LINEAR, _CURVED, _OTHER], [1, PARAMETERS, 3 if curved else 0, len(monomials)]
    )
    return SpatialBasis(every.polynomial, np.hstack(parts)), kinds


def _independent(values: Array, share: Array, least: Array) -> NDArray[np.bool_]:
    """Return which columns add more than ``least``, rms, to those kept before them, by Gaussian elimination."""
    products = (values * share[:, None]).T @ values
    kept = np.zeros(len(least), np.bool_)
    for number, limit in enumerate(least):
        pivot = products[number, number]
        kept[number] = pivot > limit**2
        if kept[number]:
            products -= np.outer(products[number], products[number] / pivot)
    return kept


def _triangle(values: Array, share: Array) -> tuple[Array, Array]:
    """Upper triangle whose inverse orthonormalises the columns in turn, and what each added before scaling."""
    r = np.asarray(np.linalg.qr(values * np.sqrt(share)[:, None], mode="r"), np.float64)
    sign = np.sign(np.diagonal(r))
    r = r * np.where(sign == 0, 1.0, sign)[:, None]
    rms = np.diagonal(r).copy()
    return r + np.diag(np.where(rms > 0, 0.0, 1.0)), rms
