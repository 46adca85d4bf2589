"""Polynomials of up to third degree over the focal plane."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

Array = NDArray[np.float64]

POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3))
"""Powers (of u, of v) of the terms in their order: 1, u, v, u², uv, v², u³, u²v, uv², v³."""


def _complete(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    if len(coefficients) not in (0, 1, 3, 6, 10):
        raise ValueError(
            "a polynomial has 0, 1, 3, 6 or 10 coefficients, in the order 1, u, v, u2, uv, v2, u3, u2v, uv2, v3"
        )
    return coefficients


Coefficients = Annotated[tuple[float, ...], AfterValidator(_complete)]
"""Coefficients in the order of :data:`POWERS`; none means zero everywhere."""


def evaluate(coefficients: tuple[float, ...], u: Array, v: Array) -> Array:
    """Values of a polynomial, float64 of the shape of ``u`` and ``v``."""
    result = np.zeros(np.broadcast(u, v).shape)
    for value, (i, j) in zip(coefficients, POWERS, strict=False):
        if value:
            result += value * u**i * v**j
    return result


def outer(coefficients: tuple[float, ...], u: Array, v: Array) -> NDArray[np.float32]:
    """Values on a rectangle: float32 (len(v), len(u)) for the coordinates of its columns and rows."""
    matrix = np.zeros((4, 4))
    for value, (i, j) in zip(coefficients, POWERS, strict=False):
        matrix[j, i] = value
    powers = np.arange(4)[:, None]
    left = ((v**powers).T @ matrix).astype(np.float32)
    return np.asarray(left @ (u**powers).astype(np.float32))
