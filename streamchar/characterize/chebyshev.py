"""Chebyshev polynomials of the first kind over an exposure's pixel box."""

from __future__ import annotations

from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.frozen import frozen
from streamchar.kernels import add_separable, solve_least_squares

Array = NDArray[np.float64]


def terms(order: int) -> int:
    """Number of terms of a triangular polynomial: (order + 1)(order + 2)/2."""
    return (order + 1) * (order + 2) // 2


def design_matrix(x: ArrayLike, y: ArrayLike, *, order: int, width: int, height: int) -> Array:
    """Terms of a triangular polynomial at positions, sorted by degree: those of a lower order come first.

    Parameters
    ----------
    x, y
        Positions in pixels; NaN gives NaN.
    order
        Largest total degree.
    width, height
        The box in pixels.

    Returns
    -------
    design
        float64 (..., terms(order)).
    """
    rows, columns = _by_degree(order)
    return np.moveaxis(_values(x, width, order)[columns] * _values(y, height, order)[rows], 0, -1)


def least_squares(design: Array, values: Array, weights: Array | None = None) -> tuple[Array, int]:
    """Coefficients that make the weighted squares of ``values - design @ coefficients`` least, and how many are determined.

    Parameters
    ----------
    design, values
        float64 (n, m) and (n), all finite.
    weights
        float64 (n): factors of the squared residuals, none negative; equal when omitted.

    Returns
    -------
    coefficients, rank
        float64 (m), those of the least norm when the rank is below m.
    """
    solution = solve_least_squares(design, values, weights)
    if len(solution) == design.shape[1]:
        return solution, len(solution)
    if weights is not None:
        root = np.sqrt(weights)
        design, values = design * root[:, None], values * root
    least, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    return np.asarray(least, np.float64), int(rank)


@frozen(eq=False)
class ChebyshevField:
    """Σ c[j, i] T_i(u) T_j(v) over the box whose pixel edges map to ±1.

    u = 2 (x − (width − 1)/2)/width, v likewise (reference: aperture-correction.md section 1).

    Attributes
    ----------
    coefficients
        float64 (order + 1, order + 1), row index the order in y; zero where i + j > order.
    width, height
        The box in pixels.
    """

    coefficients: Array
    width: int
    height: int

    @property
    def order(self) -> int:
        """Largest total degree."""
        return len(self.coefficients) - 1

    @classmethod
    def constant(cls, value: float, width: int, height: int) -> Self:
        """Return a field of order 0."""
        return cls(np.array([[value]]), width, height)

    @classmethod
    def of(cls, solution: Array, order: int, width: int, height: int) -> Self:
        """Return the field with these coefficients of the terms of :func:`design_matrix`, float64 (terms(order))."""
        coefficients = np.zeros((order + 1, order + 1))
        coefficients[_by_degree(order)] = solution
        return cls(coefficients, width, height)

    @classmethod
    def fit(cls, x: Array, y: Array, values: Array, *, order: int, width: int, height: int) -> Self:
        """Least-squares fit of a triangular polynomial; the minimum-norm solution when under-determined.

        Parameters
        ----------
        x, y, values
            float64 (n): positions in pixels and the values there, all finite.
        order
            Largest total degree.
        width, height
            The box in pixels.
        """
        design = design_matrix(x, y, order=order, width=width, height=height)
        return cls.of(least_squares(design, values)[0], order, width, height)

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Values at pixel positions; NaN positions give NaN, positions outside the box extrapolate."""
        left, right = _values(y, self.height, self.order), _values(x, self.width, self.order)
        return np.asarray(np.einsum("j...,ji,i...->...", left, self.coefficients, right))

    def image(self) -> NDArray[np.float32]:
        """The field on every pixel, float32 (height, width)."""
        plane = np.zeros((self.height, self.width), np.float32)
        self.add_to(plane)
        return plane

    def add_to(self, plane: NDArray[np.float32], factor: float = 1.0) -> None:
        """Add ``factor`` times the field to a float32 plane (height, width), without a second plane.

        The field is summed in float64 and rounded to float32 before it is added.
        """
        _pixels(self.height, self.width, self.order).add(self, plane, factor)

    def mean_and_variance(self) -> tuple[float, float]:
        """Mean and variance (n − 1) of the field over all pixels, without drawing it."""
        places = _pixels(self.height, self.width, self.order)
        pixels = self.width * self.height
        mean = float(places.rows.mean(axis=1) @ self.coefficients @ places.columns.mean(axis=1))
        centred = self.shifted(-mean).coefficients
        square = np.sum(
            (places.rows @ places.rows.T @ centred) * (centred @ (places.columns @ places.columns.T))
        )
        return mean, max(float(square), 0.0) / (pixels - 1) if pixels > 1 else float("nan")

    def __add__(self, other: Self) -> Self:
        """Sum of two fields over the same box, whatever their orders."""
        total = np.zeros_like(max(self.coefficients, other.coefficients, key=len))
        for field in (self, other):
            total[: field.order + 1, : field.order + 1] += field.coefficients
        return type(self)(total, self.width, self.height)

    def shifted(self, amount: float) -> Self:
        """Return the field plus a constant."""
        coefficients = self.coefficients.copy()
        coefficients[0, 0] += amount
        return type(self)(coefficients, self.width, self.height)


@frozen(eq=False)
class Lattice:
    """Crossings of rows and columns in a box, with the polynomials there: fields of a lower order need no others.

    Attributes
    ----------
    rows, columns
        float64 (order + 1, ny) and (order + 1, nx), read-only: polynomials of each degree at the rows and columns.
    width, height
        The box in pixels.
    """

    rows: Array
    columns: Array
    width: int
    height: int

    @classmethod
    def at(cls, y: Array, x: Array, *, order: int, width: int, height: int) -> Self:
        """Return the crossings of the rows ``y`` and columns ``x``, pixels, for fields of up to that order."""
        rows, columns = _values(y, height, order), _values(x, width, order)
        rows.flags.writeable = columns.flags.writeable = False
        return cls(rows, columns, width, height)

    def design(self) -> Array:
        """What :func:`design_matrix` returns for the crossings, row by row."""
        rows, columns = _by_degree(len(self.rows) - 1)
        products = self.rows[rows, :, None] * self.columns[columns, None, :]
        return np.ascontiguousarray(products.reshape(len(rows), -1).T)

    def evaluate(self, field: ChebyshevField) -> Array:
        """Values of a field, float64 (ny, nx)."""
        degrees = field.order + 1
        return np.asarray(self.rows[:degrees].T @ field.coefficients @ self.columns[:degrees])

    def add(self, field: ChebyshevField, plane: NDArray[np.float32], factor: float = 1.0) -> None:
        """Add ``factor`` times these values to a float32 plane (ny, nx); they are rounded to float32 first."""
        degrees = field.order + 1
        add_separable(plane, self.rows[:degrees].T @ field.coefficients, self.columns[:degrees], factor)


@lru_cache(maxsize=8)
def _pixels(height: int, width: int, order: int) -> Lattice:
    """All pixels of the box, which exposures of one size share."""
    y, x = (np.arange(length, dtype=np.float64) for length in (height, width))
    return Lattice.at(y, x, order=order, width=width, height=height)


def _values(position: ArrayLike, length: int, order: int) -> Array:
    """Polynomials of degree 0 to ``order`` at pixel positions: (order + 1, ...)."""
    scaled = 2.0 * (np.asarray(position, np.float64) - 0.5 * (length - 1)) / length
    values = np.empty((order + 1, *scaled.shape))
    values[0] = 1.0 + 0.0 * scaled  # NaN stays NaN
    values[1:] = scaled
    for degree in range(2, order + 1):
        values[degree] = 2.0 * scaled * values[degree - 1] - values[degree - 2]
    return values


@lru_cache(maxsize=32)
def _by_degree(order: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Orders in y and in x of the terms, read-only."""
    rows, columns = np.indices((order + 1, order + 1)).reshape(2, -1)
    sequence = np.argsort(rows + columns, kind="stable")[: terms(order)]
    rows, columns = rows[sequence], columns[sequence]
    rows.flags.writeable = columns.flags.writeable = False
    return rows, columns
