"""The spatial degree stars ask for: leave-one-out cross-validation of polynomials through their parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.chebyshev import terms
from streamchar.characterize.psf.polynomial import PositionPolynomial

Array = NDArray[np.float64]

MAX_DEGREE = 8
"""No field needs more, and monomials of higher degree lose precision."""
_LOO_LIMIT = 16.0
"""Largest squared normalised residual a star contributes to the score: one galaxy must not choose the degree."""


@dataclass(frozen=True, slots=True, eq=False)
class DegreeChoice:
    """The spatial degree cross-validation prefers.

    Attributes
    ----------
    degree
        Chosen degree.
    scores
        Sum of squared normalised leave-one-out residuals by degree.
    variance
        float64 (n, parameters): the given variances and the scatter of each parameter beyond them.
    outlyingness
        float64 (n): largest normalised leave-one-out residual of each star at the chosen degree.
    """

    degree: int
    scores: tuple[float, ...]
    variance: Array
    outlyingness: Array


def choose_degree(
    x: Array, y: Array, values: Array, variance: Array, max_degree: int, margin: float = 0.0
) -> DegreeChoice:
    """Choose the degree whose polynomials predict the parameters of stars left out best.

    For every parameter and degree a weighted polynomial is fitted; residuals of each star from the fit without it
    follow from the hat matrix, r/(1 − h). Weights hold the measurement error and the scatter the highest degree
    leaves.

    Parameters
    ----------
    x, y
        float64 (n): positions.
    values, variance
        float64 (n, parameters).
    max_degree
        Largest degree tried; degrees that the stars do not determine are not.
    margin
        Variance added when outlyingness is judged.
    """
    bases = [PositionPolynomial.over(x, y, degree).basis(x, y) for degree in range(max_degree + 1)]
    bases = [
        basis for basis in bases if len(x) > basis.shape[1] and np.linalg.matrix_rank(basis) == basis.shape[1]
    ]
    if not bases:
        return DegreeChoice(0, (0.0,), variance, np.zeros(len(x)))
    variance = variance + _scatter(bases[-1], values, variance) ** 2
    residuals = np.array([_left_out(basis, values, variance) for basis in bases])
    scores = np.minimum(residuals, _LOO_LIMIT).sum(axis=(1, 2))
    degree = int(np.argmin(scores))
    outlyingness = np.sqrt((residuals[degree] * variance / (variance + margin)).max(axis=1))
    return DegreeChoice(degree, tuple(float(score) for score in scores), variance, outlyingness)


def _scatter(basis: Array, values: Array, variance: Array) -> Array:
    """Scatter of each parameter beyond its errors, robustly."""
    spread = 1.4826 * np.median(np.sqrt(_left_out(basis, values, variance)), axis=0)
    return np.asarray(np.sqrt(np.maximum(spread**2 - 1.0, 0.0) * np.median(variance, axis=0)))


def _left_out(basis: Array, values: Array, variance: Array) -> Array:
    """Squared residual of each star from the fit without it, over its variance: float64 (n, modes)."""
    result = np.empty_like(values)
    for mode in range(values.shape[1]):
        root = 1.0 / np.sqrt(variance[:, mode])
        q, _ = np.linalg.qr(basis * root[:, None])
        value = values[:, mode] * root
        residual = value - q @ (q.T @ value)
        result[:, mode] = (residual / np.maximum(1.0 - np.einsum("nk,nk->n", q, q), 1e-6)) ** 2
    return result


def max_degree_for(count: int, stars_per_term: float) -> int:
    """Return the largest degree with at least ``stars_per_term`` stars for each of its terms; 0 at least."""
    degree = 0
    while degree < MAX_DEGREE and count >= stars_per_term * terms(degree + 1):
        degree += 1
    return degree
