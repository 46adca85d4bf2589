"""Interpolation of smooth functions of position from few nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChebyshevNodes:
    """A rectangle of Chebyshev nodes over a box of pixels.

    Attributes
    ----------
    count
        Nodes per axis; polynomials of lower degree in each axis are exact.
    x_range, y_range
        First and last pixel position covered.
    """

    count: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def positions(self) -> tuple[Array, Array]:
        """Positions (x, y) of all count² nodes, row by row."""
        x, y = np.meshgrid(
            _unscaled(_nodes(self.count), self.x_range), _unscaled(_nodes(self.count), self.y_range)
        )
        return x.ravel(), y.ravel()

    def weights(self, x: Array, y: Array) -> NDArray[np.float32]:
        """Weights of the nodes' values at n positions: float32 (n, count²)."""
        inverse = np.linalg.inv(chebvander(_nodes(self.count), self.count - 1))
        along_x = chebvander(_scaled(x, self.x_range), self.count - 1) @ inverse
        along_y = chebvander(_scaled(y, self.y_range), self.count - 1) @ inverse
        return np.asarray((along_y[:, :, None] * along_x[:, None, :]).reshape(len(x), -1).astype(np.float32))


def _nodes(count: int) -> Array:
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


def _scaled(position: Array, span: tuple[float, float]) -> Array:
    return np.asarray((2.0 * position - span[0] - span[1]) / (span[1] - span[0]))


def _unscaled(scaled: Array, span: tuple[float, float]) -> Array:
    return np.asarray(0.5 * (span[0] + span[1] + (span[1] - span[0]) * scaled))
