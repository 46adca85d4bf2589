"""Quintic B-splines between the super-pixels of a PSF's grid.

Lanczos interpolation of short order changes the size of a PSF with the sub-pixel shift, by up to 0.5 % at four super-pixels
per FWHM, and its place by up to a hundredth of a super-pixel; the splines need six taps for 0.01 % and a thousandth.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SPLINE = 0
"""Order of the interpolation that stands for quintic B-splines where others are those of Lanczos (:func:`streamchar.kernels.psf_draw`)."""

REACH = 3
"""Super-pixels from its middle in which a spline is not zero."""

_VALUES = (66.0 / 120.0, 26.0 / 120.0, 1.0 / 120.0)
_SLOPES = (0.0, 10.0 / 24.0, 1.0 / 24.0)
_OVERLAPS = (15724248.0, 9738114.0, 2203488.0, 152637.0, 2036.0, 1.0)
"""Times 11!: the Eulerian numbers of order 11, values of the B-spline of degree 11 at its knots."""

SQUARE = _OVERLAPS[0] / 39916800.0
"""Integral of the square of a spline."""


def values(size: int) -> Array:
    """Values of ``size`` splines, row by row, at each other's middle: float64 (size, size), symmetric."""
    return _banded(size, _VALUES)


def slopes(size: int) -> Array:
    """Slopes of the splines likewise, at the row's knot: float64 (size, size), antisymmetric."""
    place = np.arange(size)
    return np.asarray(np.sign(place - place[:, None]) * _banded(size, _SLOPES))


def overlaps(size: int) -> Array:
    """Integrals of the products of splines over that of a square: float64 (size, size), symmetric."""
    return _banded(size, _OVERLAPS) / _OVERLAPS[0]


def coefficients(images: Array) -> Array:
    """Coefficients of the splines that pass through images (..., size, size); nothing is beyond them.

    They solve two systems of five diagonals, one for each axis (Unser 1999, IEEE Signal Processing Magazine 16(6), 22).
    """
    inverse = _inverse(images.shape[-1])
    return np.asarray(inverse @ images @ inverse)


@lru_cache(maxsize=8)
def _inverse(size: int) -> Array:
    found = np.asarray(np.linalg.inv(values(size)), np.float64)
    found.flags.writeable = False
    return found


def _banded(size: int, diagonals: tuple[float, ...]) -> Array:
    """Symmetric matrix (size, size) with constant diagonals, of which the first is the main one."""
    far = np.zeros(max(size, len(diagonals)))
    far[: len(diagonals)] = diagonals
    place = np.arange(size)
    return np.asarray(far[np.abs(place[:, None] - place)])
