"""Chebyshev polynomials of the first kind over an exposure's pixel box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def terms(order: int) -> int:
    """Number of terms of a triangular polynomial: (order + 1)(order + 2)/2."""
    return (order + 1) * (order + 2) // 2


@dataclass(frozen=True, slots=True, eq=False)
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
        u, v = _scaled(x, width), _scaled(y, height)
        rows, columns = _triangle(order)
        design = chebvander(u, order)[:, columns] * chebvander(v, order)[:, rows]
        root = np.ones(len(values)) if weights is None else np.sqrt(weights)
        solution = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0]
        coefficients = np.zeros((order + 1, order + 1))
        coefficients[rows, columns] = solution
        return cls(coefficients, width, height)

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Values at pixel positions; NaN positions give NaN, positions outside the box extrapolate."""
        u, v = _scaled(np.asarray(x, np.float64), self.width), _scaled(np.asarray(y, np.float64), self.height)
        left, right = chebvander(v, self.order), chebvander(u, self.order)
        return np.asarray(np.einsum("...j,ji,...i->...", left, self.coefficients, right))

    def image(self) -> NDArray[np.float32]:
        """The field on every pixel, float32 (height, width), as two small matrix products."""
        u = chebvander(_scaled(np.arange(self.width, dtype=np.float64), self.width), self.order)
        v = chebvander(_scaled(np.arange(self.height, dtype=np.float64), self.height), self.order)
        return np.asarray((v @ self.coefficients).astype(np.float32) @ u.T.astype(np.float32))

    def shifted(self, amount: float) -> Self:
        """Return the field plus a constant."""
        coefficients = self.coefficients.copy()
        coefficients[0, 0] += amount
        return type(self)(coefficients, self.width, self.height)


def _scaled(position: Array, length: int) -> Array:
    return 2.0 * (position - 0.5 * (length - 1)) / length


def _triangle(order: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = np.indices((order + 1, order + 1)).reshape(2, -1)
    inside = rows + columns <= order
    return rows[inside], columns[inside]
