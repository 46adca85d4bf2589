"""The part of a PSF's light inside a circle, as a field over the detector."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.chebyshev import ChebyshevField, design_matrix
from streamchar.image.psf import Psf

Array = NDArray[np.float64]

SIDE = 9
"""The PSF is drawn at so many positions along each axis."""
ORDER = 4
"""Degree of the field: what a PSF follows, or more."""
STRIPS = 64
"""Strips of a pixel in which its part inside the circle is added up: exact to 1e-4 of a small circle."""


def light_within(psf: Psf, radius: float, shape: tuple[int, int]) -> ChebyshevField:
    """Fraction of the PSF's light inside a circle around the star, pixels counted by the part that lies inside.

    A PSF flux is the light of the whole image of the PSF; times this fraction it is that of an aperture.

    Parameters
    ----------
    psf
        The model.
    radius
        Pixels.
    shape
        Height and width of the exposure.
    """
    height, width = shape
    x, y, projection = _places(height, width)
    images = psf.kernel_images(x, y)
    inside = circle((images.shape[1], images.shape[2]), radius)
    fraction = images.reshape(len(images), -1) @ inside.ravel()
    return ChebyshevField.of(projection @ fraction, ORDER, width, height)


@lru_cache(maxsize=8)
def _places(height: int, width: int) -> tuple[Array, Array, Array]:
    """Positions where the PSF is drawn, and the matrix that turns values there into the field's coefficients; read-only."""
    x, y = (
        axis.ravel()
        for axis in np.meshgrid(*(np.linspace(0.0, length - 1.0, SIDE) for length in (width, height)))
    )
    projection = np.asarray(np.linalg.pinv(design_matrix(x, y, order=ORDER, width=width, height=height)))
    x.flags.writeable = y.flags.writeable = projection.flags.writeable = False
    return x, y, projection


@lru_cache(maxsize=8)
def circle(shape: tuple[int, int], radius: float) -> Array:
    """Part of each pixel inside a circle around the centre of the middle pixel: float64 (height, width), read-only."""
    rows, columns = (np.arange(length) - length // 2 for length in shape)
    strips = (columns[:, None] + (np.arange(STRIPS) + 0.5) / STRIPS - 0.5)[None]
    half = np.sqrt(np.maximum(radius**2 - strips**2, 0.0))
    row = rows[:, None, None]
    inside = np.minimum(half, row + 0.5) - np.maximum(-half, row - 0.5)
    parts = np.asarray(np.maximum(inside, 0.0).mean(axis=2))
    parts.flags.writeable = False
    return parts
