"""The spatial degree stars ask for: leave-one-out cross-validation of polynomials through their parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.chebyshev import terms
from streamchar.characterize.psf.polynomial import PositionPolynomial
from streamchar.frozen import frozen
from streamchar.robust import median

Array = NDArray[np.float64]

MAX_DEGREE = 8
"""No field needs more, and monomials of higher degree lose precision."""
_LOO_LIMIT = 16.0
"""Largest squared normalised residual a star contributes to the score: one galaxy must not choose the degree."""
_SCATTER_LIMIT = 9.0
_SCATTER_TRIALS = np.concatenate([[0.0], np.geomspace(1e-4, 3.0, 24)])
"""Variances beyond the errors that are tried, in units of the median error's."""
_RANK_TOLERANCE = 1e-9


@frozen(eq=False)
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
    leaves. The fits of all degrees come from one orthogonal decomposition for each parameter.

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
    polynomial = PositionPolynomial.over(x, y, max_degree)
    basis = polynomial.basis(x, y)[:, polynomial.by_degree]
    residuals = _left_out(basis, values, variance)
    if len(residuals) == 0:
        return DegreeChoice(0, (0.0,), variance, np.zeros(len(x)))
    variance = variance + _scatter(residuals[-1], variance)
    residuals = _left_out(basis[:, : terms(len(residuals) - 1)], values, variance)
    losses = np.minimum(residuals, _LOO_LIMIT).sum(axis=2)
    scores = losses.sum(axis=1)
    degree = _simplest(losses)
    outlyingness = np.sqrt((residuals[degree] * variance / (variance + margin)).max(axis=1))
    return DegreeChoice(degree, tuple(scores.tolist()), variance, outlyingness)


def _simplest(losses: Array) -> int:
    """Lowest degree that predicts no worse than the best one within a standard error of their difference.

    The rule of one standard error (Breiman et al. 1984, section 3.4.3): a higher degree must pay beyond the chance of
    a few stars.

    Parameters
    ----------
    losses
        float64 (degrees, n): loss of each star.
    """
    best = int(np.argmin(losses.sum(axis=1)))
    excess = losses[: best + 1] - losses[best]
    total = excess.sum(axis=1)
    square = np.square(excess).sum(axis=1) - total**2 / excess.shape[1]
    return int(np.argmax(total <= np.sqrt(np.maximum(square, 0.0))))


def _left_out(basis: Array, values: Array, variance: Array) -> Array:
    """Squared residual of each star from the fits without it, over its variance: float64 (degrees, n, parameters).

    Of all degrees that the stars determine: their polynomials are leading columns of one matrix.
    """
    root = 1.0 / np.sqrt(variance.T)
    weighted = basis * root[:, :, None]
    q, r = np.linalg.qr(weighted)
    counts = _determined(r, weighted)
    value = (values.T * root)[:, :, None]
    # Which columns belong to each degree.
    leading = (np.arange(q.shape[2])[:, None] < counts).astype(np.float64)
    predicted = q @ (q.transpose(0, 2, 1) @ value * leading)
    free = np.maximum(1.0 - q * q @ leading, 1e-6)
    return np.ascontiguousarray((((value - predicted) / free) ** 2).transpose(2, 1, 0))


def _determined(triangles: Array, weighted: Array) -> list[int]:
    """Numbers of terms of the degrees that the stars determine, from the QR decompositions of the weighted polynomials."""
    stars, columns = weighted.shape[1:]
    diagonal = np.abs(np.diagonal(triangles, axis1=1, axis2=2))
    scale = np.sqrt(np.square(weighted).sum(axis=1))[:, : diagonal.shape[1]]
    dependent = np.flatnonzero((diagonal <= _RANK_TOLERANCE * scale).any(axis=0))
    independent = dependent[0] if len(dependent) else diagonal.shape[1]
    counts, degree = [], 0
    while (count := terms(degree)) <= columns and count < stars and count <= independent:
        counts.append(count)
        degree += 1
    return counts


def _scatter(residuals: Array, variance: Array) -> Array:
    """Variance of each parameter beyond the stars' errors: the most likely one, outliers limited.

    Bright stars, whose own errors are small, tell it; an excess of the residuals of faint ones says little about it
    and must not take the bright ones' weight.

    Parameters
    ----------
    residuals
        float64 (n, parameters): squared residuals over their variance.
    """
    square = residuals * variance
    added = _SCATTER_TRIALS[:, None] * median(variance)
    total = variance + added[:, None]
    loss = (np.minimum(square / total, _SCATTER_LIMIT) + np.log(total)).sum(axis=1)
    return np.asarray(added[np.argmin(loss, axis=0), np.arange(added.shape[1])])


def max_degree_for(count: int, stars_per_term: float) -> int:
    """Return the largest degree with at least ``stars_per_term`` stars for each of its terms; 0 at least."""
    degree = 0
    while degree < MAX_DEGREE and count >= stars_per_term * terms(degree + 1):
        degree += 1
    return degree
