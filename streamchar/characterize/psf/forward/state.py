"""The fit of a pixel-basis PSF between its rounds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar import kernels
from streamchar.characterize.psf.pixel_fit import Grid
from streamchar.characterize.psf.polynomial import SpatialBasis
from streamchar.characterize.psf.samples import Samples
from streamchar.frozen import frozen

Array = NDArray[np.float64]


@frozen(eq=False)
class State:
    """The stars and pixels still in, and the model.

    Attributes
    ----------
    samples
        The stars.
    components
        float64 (K, S, S): coefficients on the grid.
    spatial
        The K functions of the position that they are multiplied with.
    degree
        Spatial degree.
    """

    samples: Samples
    components: Array
    spatial: SpatialBasis
    degree: int = 0

    def draw(self, grid: Grid) -> Array:
        """Model of every star at its place on its stamp, of unit flux: float64 (n, V, V)."""
        samples = self.samples
        return grid.draw(self.components, self.spatial(samples.x, samples.y), samples.dx, samples.dy)


def inverse_variance(samples: Samples, model: Array, accuracy: float) -> Array:
    """Weights of the pixels given the model of unit flux, zero where not usable: float64 (n, V, V)."""
    return kernels.inverse_variance(
        model, samples.usable, samples.flux, samples.sky_variance, samples.signal_variance, accuracy
    )
