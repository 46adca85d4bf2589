"""Sources beside a PSF star that were not detected: found in its residuals, one at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar import kernels
from streamchar.frozen import frozen

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

NEAREST = 0.5
"""Distance from the star in FWHM within which a neighbour cannot be told from the star's own shape."""


@frozen(eq=False)
class Neighbours:
    """The most significant neighbour of each of some stars.

    Attributes
    ----------
    star
        int64 (m): numbers of the stars, ascending.
    dx, dy
        float64 (m): places relative to the centre of the stamp's middle pixel, in pixels.
    """

    star: Rows
    dx: Array
    dy: Array

    def __len__(self) -> int:
        return len(self.star)


def point_significance(residual: Array, weights: Array, fwhm: float) -> NDArray[np.float32]:
    """Signal to noise of a point source at each pixel: the residual in the matched filter.

    The filter is a Gaussian g of the PSF's width, as far as twice that width along either axis, and the result
    Σ g w r / √(Σ g² w) (Stetson 1987, PASP 99, 191; Zackay & Ofek 2017, ApJ 836, 187): masked pixels and the star's own
    photons are weighed; 0 where all is masked.

    Parameters
    ----------
    residual
        float64 (n, V, V): pixels minus the star.
    weights
        float64 (n, V, V): inverse variances, zero for pixels to be left out.
    fwhm
        Of the PSF, in pixels.
    """
    return kernels.point_significance(residual, weights, fwhm)


def find_neighbours(
    residual: Array, weights: Array, dx: Array, dy: Array, stars: Rows, *, fwhm: float, threshold: float
) -> Neighbours:
    """Find the most significant peak of the residuals of some stars in the matched filter.

    Parameters
    ----------
    residual, weights
        As for :func:`point_significance`.
    dx, dy
        float64 (n): the stars' offsets from the middle pixel.
    stars
        int64: numbers of the stars to look at, ascending.
    fwhm
        Of the PSF, in pixels.
    threshold
        Smallest signal to noise.
    """
    found = kernels.brightest_points(residual, weights, dx, dy, stars, fwhm, NEAREST * fwhm)
    clear = found[:, 0] > threshold
    return Neighbours(stars[clear], found[clear, 1], found[clear, 2])
