"""How each star departs from the PSF model: flux, position and shape, with their errors."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen
from streamchar.kernels import star_modes

Array = NDArray[np.float64]


@frozen(eq=False)
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
    """

    flux: Array
    dx: Array
    dy: Array
    shape: Array
    variance: Array

    def put(self, which: NDArray[np.int64], by: Self) -> None:
        """Replace the results of some stars."""
        for name in self.__match_args__:
            getattr(self, name)[which] = getattr(by, name)

    def take(self, which: NDArray[np.generic]) -> Self:
        """Results of some of the stars."""
        return type(self)(*(getattr(self, name)[which] for name in self.__match_args__))


def fit_star_modes(
    pixels: Array, model: Array, weights: Array, dx: Array, dy: Array
) -> tuple[StarModes, Array]:
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

    Returns
    -------
    modes
        NaN for a star without enough weight.
    residual
        float64 (n, V, V): pixels minus the fit of flux, position and shape; NaN likewise.
    """
    found, residual = star_modes(pixels, model, weights, dx, dy)
    flux, dx, dy = found[:, :3].T
    return StarModes(flux, dx, dy, found[:, 3:6], found[:, 6:]), residual.reshape(pixels.shape)
