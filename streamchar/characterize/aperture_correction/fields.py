"""Correction fields over the detector beside plain polynomials: bounded ones, and their errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.characterize.chebyshev import ChebyshevField, design_matrix
from streamchar.frozen import frozen

Array = NDArray[np.float64]


@frozen(eq=False)
class BoundedField:
    """A field that keeps, beyond the stars, the value at the nearest position between them.

    Attributes
    ----------
    field
        What is evaluated.
    x_range, y_range
        Least and largest position of the stars, pixels.
    """

    field: ChebyshevField
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Values at pixel positions; NaN positions give NaN."""
        return self.field.evaluate(np.clip(x, *self.x_range), np.clip(y, *self.y_range))


@frozen(eq=False)
class StandardError:
    """Standard error of a fitted field as a function of position: that of the polynomial, growing away from the stars.

    Attributes
    ----------
    covariance
        float64 (terms, terms): of the coefficients, in the order of :func:`chebyshev.design_matrix`.
    order
        Largest total degree.
    width, height
        The box in pixels.
    """

    covariance: Array
    order: int
    width: int
    height: int

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Values at pixel positions; NaN positions give NaN."""
        design = design_matrix(x, y, order=self.order, width=self.width, height=self.height)
        variance = np.einsum("...i,...i->...", design @ self.covariance, design)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))
