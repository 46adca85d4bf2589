"""How the image of a PSF changes when it is stretched, as it does with the seeing."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf import quintic_splines

Array = NDArray[np.float64]


def stretches(image: Array) -> Array:
    """Change of an image for each unit of relative size, e₁ and e₂, its light staying the same: float64 (3, S, S).

    To first order the map x + a x + c y, y + c x + b y takes I to I − a (I + x ∂I/∂x) − b (I + y ∂I/∂y) −
    c (y ∂I/∂x + x ∂I/∂y); relative size is (a + b)/2, e₁ = a − b and e₂ = 2 c (shape_fields.stretched).

    Parameters
    ----------
    image
        float64 (S, S): coefficients of quintic B-splines, as the result; nothing is beyond them.
    """
    place, slope, product = _operators(len(image))
    a, b = -(image + image @ product.T), -(image + product @ image)
    c = -(place @ image @ slope.T + slope @ image @ place.T)
    return np.stack([a + b, 0.5 * (a - b), 0.5 * c])


@lru_cache(maxsize=32)
def _operators(size: int) -> tuple[Array, Array, Array]:
    """Matrices that take coefficients along an axis to those of x I, of ∂I/∂x and of x ∂I/∂x: (size, size) each."""
    x = (np.arange(size) - size // 2)[:, None]
    values, slopes = quintic_splines.values(size), quintic_splines.slopes(size)
    operators = np.linalg.solve(values, np.stack([x * values, slopes, x * slopes]))
    operators.flags.writeable = False
    return operators[0], operators[1], operators[2]
