"""Functions of the position on the exposure: monomials in PSFEx's scaling and order, and combinations of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.chebyshev import terms
from streamchar.frozen import frozen
from streamchar.kernels import monomials

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
        return _powers(self.degree)

    @property
    def by_degree(self) -> NDArray[np.int64]:
        """Numbers of the terms sorted by their total degree."""
        return _by_degree(self.degree)

    def place(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the terms uⁱvʲ, i + j <= degree."""
        return j * (2 * self.degree + 3 - j) // 2 + i

    def basis(self, x: Array | float, y: Array | float) -> Array:
        """Monomials at n positions: float64 (n, terms)."""
        scaling = self.x_offset, self.y_offset, self.x_scale, self.y_scale
        return monomials(np.atleast_1d(x), np.atleast_1d(y), self.degree, *scaling)


@cache
def _powers(degree: int) -> tuple[tuple[int, int], ...]:
    return tuple((i, j) for j in range(degree + 1) for i in range(degree + 1 - j))


@cache
def _by_degree(degree: int) -> NDArray[np.int64]:
    order = np.argsort([i + j for i, j in _powers(degree)], kind="stable")
    order.flags.writeable = False
    return order


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

    def __call__(self, x: Array | float, y: Array | float) -> Array:
        """Values at n positions: float64 (n, K)."""
        return np.ascontiguousarray(self.polynomial.basis(x, y) @ self.mixing)

    def some(self, which: NDArray[np.generic]) -> Self:
        """Return some of the functions, by mask or by numbers."""
        return type(self)(self.polynomial, self.mixing[:, which])

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
        i, j = np.array(self.polynomial.powers).T
        functions = np.zeros((target.terms, len(self)))
        functions[target.place(i, j)] = self.mixing
        # Every term times every other, and which one that is.
        product = target.place(i[:, None] + i, j[:, None] + j).ravel()
        pairs = [
            np.bincount(product, np.outer(self.mixing[:, k], self.mixing[:, m]).ravel(), target.terms)
            for k in range(first, second)
            for m in range(k, second)
        ]
        plain = target.place(*np.array(replace(self.polynomial, degree=monomial_degree).powers).T)
        every = np.eye(target.terms)
        return type(self)(target, np.column_stack([every[:, 0], functions, *pairs, every[:, plain[1:]]]))
