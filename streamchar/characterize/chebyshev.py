"""Chebyshev polynomials of the first kind over an exposure's pixel box."""

from __future__ import annotations

from functools import lru_cache
from typing import Self

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from numpy.typing import ArrayLike, NDArray

from streamchar.frozen import frozen
from streamchar.kernels import add_separable

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
    u = chebvander(_scaled(np.asarray(x, np.float64), width), order)
    v = chebvander(_scaled(np.asarray(y, np.float64), height), order)
    return np.asarray(u[..., columns] * v[..., rows], np.float64)


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
    def fit(
        cls,
        x: Array,
        y: Array,
        values: Array,
        *,
        order: int,
        width: int,
        height: int,
        weights: Array | None = None,
    ) -> Self:
        """Least-squares fit of a triangular polynomial; the minimum-norm solution when under-determined.

        Parameters
        ----------
        x, y, values
            float64 (n): positions in pixels and the values there, all finite.
        order
            Largest total degree.
        width, height
            The box in pixels.
        weights
            float64 (n): factors of the squared residuals; equal when omitted.
        """
        return cls.fit_with_rank(x, y, values, order=order, width=width, height=height, weights=weights)[0]

    @classmethod
    def fit_with_rank(
        cls,
        x: Array,
        y: Array,
        values: Array,
        *,
        order: int,
        width: int,
        height: int,
        weights: Array | None = None,
    ) -> tuple[Self, int]:
        """Fit as :meth:`fit`, and say how many of the coefficients the positions determine."""
        rows, columns = _triangle(order)
        u, v = _values(x, width, order), _values(y, height, order)
        design = u[:, columns] * v[:, rows]
        root = np.ones(len(values)) if weights is None else np.sqrt(weights)
        solution, _, rank, _ = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)
        coefficients = np.zeros((order + 1, order + 1))
        coefficients[rows, columns] = solution
        return cls(coefficients, width, height), int(rank)

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Values at pixel positions; NaN positions give NaN, positions outside the box extrapolate."""
        u, v = _scaled(np.asarray(x, np.float64), self.width), _scaled(np.asarray(y, np.float64), self.height)
        left, right = chebvander(v, self.order), chebvander(u, self.order)
        return np.asarray(np.einsum("...j,ji,...i->...", left, self.coefficients, right))

    def image(self) -> NDArray[np.float32]:
        """The field on every pixel, float32 (height, width)."""
        plane = np.zeros((self.height, self.width), np.float32)
        self.add_to(plane)
        return plane

    def add_to(self, plane: NDArray[np.float32], factor: float = 1.0) -> None:
        """Add ``factor`` times the field to a float32 plane (height, width), without a second plane.

        The field is summed in float64 and rounded to float32 before it is added.
        """
        self._add(plane, *self._basis(), factor)

    def on_grid(self, x: Array, y: Array) -> Array:
        """Values at the crossings of the columns ``x`` and rows ``y``, pixels: float64 (len(y), len(x))."""
        left, right = self._basis_at(x, y)
        return np.asarray(left @ self.coefficients @ right.T)

    def add_on_grid(self, plane: NDArray[np.float32], x: Array, y: Array, factor: float = 1.0) -> None:
        """Add ``factor`` times those values to a float32 plane of that shape."""
        self._add(plane, *self._basis_at(x, y), factor)

    def mean_and_variance(self) -> tuple[float, float]:
        """Mean and variance (n − 1) of the field over all pixels, without drawing it."""
        left, right = self._basis()
        pixels = self.width * self.height
        mean = float(left.mean(axis=0) @ self.coefficients @ right.mean(axis=0))
        centred = self.shifted(-mean).coefficients
        square = np.einsum("jk,ji,kl,il->", left.T @ left, centred, centred, right.T @ right)
        return mean, max(float(square), 0.0) / (pixels - 1) if pixels > 1 else float("nan")

    def _basis(self) -> tuple[Array, Array]:
        return _pixel_values(self.height, self.order), _pixel_values(self.width, self.order)

    def _basis_at(self, x: Array, y: Array) -> tuple[Array, Array]:
        return _values(y, self.height, self.order), _values(x, self.width, self.order)

    def _add(self, plane: NDArray[np.float32], left: Array, right: Array, factor: float) -> None:
        add_separable(plane, left @ self.coefficients, np.ascontiguousarray(right.T), factor)

    def shifted(self, amount: float) -> Self:
        """Return the field plus a constant."""
        coefficients = self.coefficients.copy()
        coefficients[0, 0] += amount
        return type(self)(coefficients, self.width, self.height)


def _scaled(position: Array, length: int) -> Array:
    return 2.0 * (position - 0.5 * (length - 1)) / length


def _values(position: Array, length: int, order: int) -> Array:
    """Polynomials of degree 0 to ``order`` at pixel positions: (..., order + 1)."""
    return np.asarray(chebvander(_scaled(position, length), order), np.float64)


@lru_cache(maxsize=8)
def _pixel_values(length: int, order: int) -> Array:
    """Polynomials at every pixel, which all exposures of one size share: (length, order + 1), read-only."""
    values = _values(np.arange(length, dtype=np.float64), length, order)
    values.flags.writeable = False
    return values


@lru_cache(maxsize=32)
def _triangle(order: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = np.indices((order + 1, order + 1)).reshape(2, -1)
    inside = rows + columns <= order
    return _read_only(rows[inside], columns[inside])


@lru_cache(maxsize=32)
def _by_degree(order: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = _triangle(order)
    sequence = np.argsort(rows + columns, kind="stable")
    return _read_only(rows[sequence], columns[sequence])


def _read_only(
    rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows.flags.writeable = columns.flags.writeable = False
    return rows, columns
