"""How each star departs from the PSF model: flux, position and shape, with their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.parts import parts

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

SHAPE_MODES = 3
"""Stretches along x, along both diagonals, and along y."""
_DIFFERENCES = (
    (0.5,),
    (2 / 3, -1 / 12),
    (3 / 4, -3 / 20, 1 / 60),
    (4 / 5, -1 / 5, 4 / 105, -1 / 280),
    (5 / 6, -5 / 21, 5 / 84, -5 / 504, 1 / 1260),
)
"""Central differences of second to tenth order: a PSF of 2 pixels FWHM needs the highest."""
_SMALLEST_PIVOT = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class StarModes:
    """Linear fit of a model and its derivatives to n stars.

    Attributes
    ----------
    flux
        float64 (n): amplitude of the model, from the fit of flux and position only.
    dx, dy
        float64 (n): offset of the star from the model in pixels, from the same fit.
    shape
        float64 (n, 3): by how much x, the mixed direction and y are stretched, relative: a, c, b of the map
        x + a x + c y, y + c x + b y.
    variance
        float64 (n, 3): their variances.
    chi2
        float64 (n): reduced chi-square of the fit of flux and position.
    residual
        float64 (n, V, V): pixels minus the fit of flux, position and shape.
    """

    flux: Array
    dx: Array
    dy: Array
    shape: Array
    variance: Array
    chi2: Array
    residual: Array

    def replaced(self, which: NDArray[np.int64], by: Self) -> Self:
        """Results with those of some stars replaced."""
        columns = {name: getattr(self, name).copy() for name in self.__slots__}
        for name, column in columns.items():
            column[which] = getattr(by, name)
        return type(self)(**columns)

    def take(self, which: NDArray[np.generic]) -> Self:
        """Results of some of the stars."""
        return type(self)(*(getattr(self, name)[which] for name in self.__slots__))


def fit_star_modes(pixels: Array, model: Array, weights: Array, dx: Array, dy: Array) -> StarModes:
    """Fit the model, shifted, stretched and sheared, to first order, to each star.

    What the PSF varies by is for the most part a stretch; it is told by the wings as well as by the core, which second
    derivatives, the same for a Gaussian, are not: their errors are larger by half.

    Parameters
    ----------
    pixels
        float64 (n, V, V): image.
    model
        float64 (n, V, V): unit-flux model at the star's assumed position.
    weights
        float64 (n, V, V): inverse variances, zero for pixels to be left out.
    dx, dy
        float64 (n): the assumed position relative to the centre of the middle pixel, in pixels.

    Notes
    -----
    A star without enough weight gives NaN.
    """
    fits = [
        _fit_part(*(values[part] for values in (pixels, model, weights, dx, dy)))
        for part in parts(len(pixels))
    ]
    if not fits:
        none, shapes = np.empty(0), np.empty((0, SHAPE_MODES))
        return StarModes(none, none, none, shapes, shapes, none, np.empty(pixels.shape))
    return StarModes(*(np.concatenate([getattr(fit, name) for fit in fits]) for name in StarModes.__slots__))


def _fit_part(pixels: Array, model: Array, weights: Array, dx: Array, dy: Array) -> StarModes:
    count = len(pixels)
    templates = _templates(model, dx, dy).reshape(count, -1, pixels[0].size)
    weight, data = weights.reshape(count, 1, -1), pixels.reshape(count, 1, -1)
    normal = (templates * weight) @ np.concatenate([templates, data], axis=1).transpose(0, 2, 1)
    normal, right = normal[:, :, :-1], normal[:, :, -1:]
    first = _solve(normal[:, :3, :3], right[:, :3])
    flux = first[:, 0]
    residual = data[:, 0] - (first[:, None, :] @ templates[:, :3])[:, 0]
    residual *= residual
    freedom = np.count_nonzero(weight[:, 0], axis=1) - 3
    with np.errstate(invalid="ignore", divide="ignore"):
        chi2 = np.einsum("np,np->n", residual, weight[:, 0]) / freedom
        every = _solve(normal, right)
        covariance = _inverse_diagonal(normal)
        # A shift of the star by d changes the image by −d · ∂model.
        return StarModes(
            flux,
            -first[:, 1] / flux,
            -first[:, 2] / flux,
            every[:, 3:] / flux[:, None],
            covariance[:, 3:] / (flux * flux)[:, None],
            chi2,
            (data[:, 0] - (every[:, None, :] @ templates)[:, 0]).reshape(pixels.shape),
        )


def _templates(model: Array, dx: Array, dy: Array) -> Array:
    """Return the model, its slopes along x and y, and what stretches change: float64 (n, 6, V, V)."""
    size = model.shape[1]
    derivative = _derivative(size)
    offset = np.arange(size, dtype=np.float64) - size // 2
    x, y = (offset - dx[:, None])[:, None, :], (offset - dy[:, None])[:, :, None]
    result = np.empty((len(model), 3 + SHAPE_MODES, size, size))
    result[:, 0] = model
    result[:, 1] = model @ derivative.T
    result[:, 2] = derivative @ model
    along_x, along_y = result[:, 1], result[:, 2]
    result[:, 3] = -x * along_x
    result[:, 4] = -y * along_x - x * along_y
    result[:, 5] = -y * along_y
    return result


def _derivative(size: int) -> Array:
    """Matrix (size, size) that differentiates; of lower order towards the ends, zero at them."""
    result = np.zeros((size, size))
    for i in range(size):
        reach = min(i, size - 1 - i, len(_DIFFERENCES))
        for k, weight in enumerate(_DIFFERENCES[reach - 1] if reach else (), start=1):
            result[i, i + k], result[i, i - k] = weight, -weight
    return result


def _solve(normal: Array, right: Array) -> Array:
    usable = _regular(normal)
    result = np.full(right.shape[:2], np.nan)
    result[usable] = np.linalg.solve(normal[usable], right[usable])[:, :, 0]
    return result


def _inverse_diagonal(normal: Array) -> Array:
    usable = _regular(normal)
    result = np.full(normal.shape[:2], np.nan)
    result[usable] = np.linalg.inv(normal[usable]).diagonal(axis1=1, axis2=2)
    return result


def _regular(normal: Array) -> Flags:
    """Matrices whose elimination, after scaling to a unit diagonal, leaves no pivot near zero."""
    diagonal = normal.diagonal(axis1=1, axis2=2)
    usable = np.asarray(np.isfinite(normal).all(axis=(1, 2)) & (diagonal > 0).all(axis=1))
    root = np.sqrt(diagonal[usable])
    rest = normal[usable] / (root[:, :, None] * root[:, None, :])
    regular = np.ones(len(rest), np.bool_)
    for _ in range(normal.shape[1]):
        pivot = rest[:, 0, 0]
        regular &= pivot > _SMALLEST_PIVOT
        column = rest[:, 1:, 0]
        safe = np.where(regular, pivot, 1.0)[:, None, None]
        rest = rest[:, 1:, 1:] - column[:, :, None] * column[:, None, :] / safe
    usable[usable] = regular
    return usable
