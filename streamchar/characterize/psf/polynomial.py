"""Functions of the position on the exposure: monomials in PSFEx's scaling and order, and combinations of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.characterize.chebyshev import terms
from streamchar.frozen import frozen

Array = NDArray[np.float64]


@frozen
class PositionPolynomial:
    """Monomials uⁱvʲ, i + j <= degree, of u = (x − x_offset)/x_scale and v likewise.

    Terms are ordered 1, u, u², …, v, uv, …, v²  (reference: psf.md section 4.1).

    Attributes
    ----------
    degree
        Largest total degree, 0 or more.
    x_offset, y_offset
        Position in pixels at which u and v vanish.
    x_scale, y_scale
        Pixels per unit of u and v, positive.
    """

    degree: int
    x_offset: float = 0.0
    y_offset: float = 0.0
    x_scale: float = 1.0
    y_scale: float = 1.0

    @classmethod
    def over(cls, x: Array, y: Array, degree: int) -> Self:
        """Scale the positions' range to −½ … ½; a range of zero (one star) gets the scale 1."""
        if len(x) == 0:
            return cls(degree)
        ranges = [(float(values.min()), float(values.max())) for values in (x, y)]
        (x0, x1), (y0, y1) = ranges
        return cls(degree, 0.5 * (x0 + x1), 0.5 * (y0 + y1), (x1 - x0) or 1.0, (y1 - y0) or 1.0)

    @property
    def terms(self) -> int:
        """Number of monomials."""
        return terms(self.degree)

    @property
    def powers(self) -> tuple[tuple[int, int], ...]:
        """Exponents (i, j) of u and v of each monomial."""
        return tuple((i, j) for j in range(self.degree + 1) for i in range(self.degree + 1 - j))

    def basis(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Monomials at n positions: float64 (n, terms)."""
        u = (np.atleast_1d(np.asarray(x, np.float64)) - self.x_offset) / self.x_scale
        v = (np.atleast_1d(np.asarray(y, np.float64)) - self.y_offset) / self.y_scale
        along_x, along_y = [np.ones_like(u)], [np.ones_like(v)]
        for _ in range(self.degree):
            along_x.append(along_x[-1] * u)
            along_y.append(along_y[-1] * v)
        result = np.empty((np.broadcast(u, v).size, self.terms))
        for column, (i, j) in zip(result.T, self.powers, strict=True):
            np.multiply(along_x[i], along_y[j], out=column)
        return result


@frozen(eq=False)
class SpatialBasis:
    """K functions of the position, each a combination of the monomials of one polynomial.

    Attributes
    ----------
    polynomial
        The monomials.
    mixing
        float64 (terms, K): coefficients of each function.
    """

    polynomial: PositionPolynomial
    mixing: Array

    @classmethod
    def constant(cls, polynomial: PositionPolynomial) -> Self:
        """Return the single function 1, with the scaling of ``polynomial``."""
        return cls(replace(polynomial, degree=0), np.ones((1, 1)))

    @classmethod
    def monomials(cls, polynomial: PositionPolynomial) -> Self:
        """Return the monomials themselves."""
        return cls(polynomial, np.eye(polynomial.terms))

    def __len__(self) -> int:
        return int(self.mixing.shape[1])

    def __call__(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Values at n positions: float64 (n, K)."""
        return np.ascontiguousarray(self.polynomial.basis(x, y) @ self.mixing)

    def combined(self, transform: Array) -> Self:
        """Return the functions ``self(x, y) @ transform``."""
        return type(self)(self.polynomial, self.mixing @ transform)

    def with_products(self, first: int, second: int, monomial_degree: int) -> Self:
        """Return 1, the functions themselves, products of pairs of some of them, and plain monomials.

        Parameters
        ----------
        first, second
            Products fᵢ fⱼ are formed of functions ``first`` to ``second - 1``, i <= j; none when equal.
        monomial_degree
            Monomials of degree 1 up to this are appended.
        """
        degree = max(self.polynomial.degree * (2 if second > first else 1), monomial_degree)
        target = replace(self.polynomial, degree=degree)
        # The products are polynomials themselves, so a least-squares fit on enough points is exact.
        nodes = np.cos(np.pi * (np.arange(2 * degree + 1) + 0.5) / (2 * degree + 1)) * 0.5
        u, v = (axis.ravel() for axis in np.meshgrid(nodes, nodes))
        x, y = (
            self.polynomial.x_offset + u * self.polynomial.x_scale,
            self.polynomial.y_offset + v * self.polynomial.y_scale,
        )
        values = self(x, y)
        pairs = [values[:, i] * values[:, j] for i in range(first, second) for j in range(i, second)]
        plain = replace(self.polynomial, degree=monomial_degree).basis(x, y)[:, 1:]
        columns = np.column_stack([np.ones(len(x)), values, *pairs, plain])
        return type(self)(
            target, np.asarray(np.linalg.lstsq(target.basis(x, y), columns, rcond=None)[0], np.float64)
        )
