"""How each star departs from the PSF model: flux, position and shape, with their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

SHAPE_MODES = 7
"""Second derivatives xx, xy, yy, then third derivatives xxx, xxy, xyy, yyy."""
_CHUNK = 64


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
        float64 (n, 7): coefficients of the second and third derivatives, in pixel² and pixel³.
    variance
        float64 (n, 7): their variances.
    chi2
        float64 (n): reduced chi-square of the fit of flux and position.
    """

    flux: Array
    dx: Array
    dy: Array
    shape: Array
    variance: Array
    chi2: Array

    def take(self, which: NDArray[np.generic]) -> Self:
        """Results of some of the stars."""
        return type(self)(*(getattr(self, name)[which] for name in self.__slots__))


def fit_star_modes(pixels: Array, model: Array, weights: Array) -> StarModes:
    """Fit model, first, second and third derivatives (central differences) to each star.

    Parameters
    ----------
    pixels
        float64 (n, V, V): image.
    model
        float64 (n, V, V): unit-flux model at the star's assumed position.
    weights
        float64 (n, V, V): inverse variances, zero for pixels to be left out.

    Notes
    -----
    A star without enough weight gives NaN.
    """
    parts = [
        _fit_chunk(pixels[i : i + _CHUNK], model[i : i + _CHUNK], weights[i : i + _CHUNK])
        for i in range(0, len(pixels), _CHUNK)
    ]
    if not parts:
        none = np.empty(0)
        return StarModes(none, none, none, np.empty((0, SHAPE_MODES)), np.empty((0, SHAPE_MODES)), none)
    return StarModes(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in StarModes.__slots__)
    )


def _fit_chunk(pixels: Array, model: Array, weights: Array) -> StarModes:
    count = len(pixels)
    templates = _templates(model).reshape(count, -1, pixels[0].size)
    weight, data = weights.reshape(count, 1, -1), pixels.reshape(count, -1, 1)
    weighted = templates * weight
    normal, right = weighted @ templates.transpose(0, 2, 1), weighted @ data
    first = _solve(normal[:, :3, :3], right[:, :3])
    flux = first[:, 0]
    residual = data[:, :, 0] - np.einsum("nkp,nk->np", templates[:, :3], first)
    freedom = np.count_nonzero(weight[:, 0], axis=1) - 3
    with np.errstate(invalid="ignore", divide="ignore"):
        chi2 = np.einsum("np,np,np->n", residual, residual, weight[:, 0]) / freedom
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
        )


def _templates(model: Array) -> Array:
    def along_x(image: Array) -> Array:
        result = np.zeros_like(image)
        result[:, :, 1:-1] = 0.5 * (image[:, :, 2:] - image[:, :, :-2])
        return result

    def along_y(image: Array) -> Array:
        result = np.zeros_like(image)
        result[:, 1:-1] = 0.5 * (image[:, 2:] - image[:, :-2])
        return result

    x, y = along_x(model), along_y(model)
    xx, xy, yy = along_x(x), along_y(x), along_y(y)
    return np.stack([model, x, y, xx, xy, yy, along_x(xx), along_y(xx), along_x(yy), along_y(yy)], axis=1)


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
    finite = np.asarray(np.isfinite(normal).all(axis=(1, 2)))
    scale = np.sqrt(np.where(finite[:, None], normal.diagonal(axis1=1, axis2=2), 0.0))
    positive = np.asarray((scale > 0).all(axis=1))
    scaled = normal[positive] / (scale[positive][:, :, None] * scale[positive][:, None, :])
    result = positive.copy()
    result[positive] = np.linalg.cond(scaled) < 1e12 if len(scaled) else False
    return result
