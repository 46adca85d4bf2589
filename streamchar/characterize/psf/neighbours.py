"""Sources beside a PSF star that were not detected: found in its residuals, one at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.parts import parts
from streamchar.frozen import frozen

Array = NDArray[np.float64]

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

    star: NDArray[np.int64]
    dx: Array
    dy: Array

    def __len__(self) -> int:
        return len(self.star)


def point_significance(residual: Array, weights: Array, fwhm: float) -> Array:
    """Signal to noise of a point source at each pixel: the residual in the matched filter.

    The filter is a Gaussian g of the PSF's width, and the result Σ g w r / √(Σ g² w) (Stetson 1987, PASP 99, 191;
    Zackay & Ofek 2017, ApJ 836, 187): masked pixels and the star's own photons are weighed; 0 where all is masked.

    Parameters
    ----------
    residual
        float64 (n, V, V): pixels minus the star.
    weights
        float64 (n, V, V): inverse variances, zero for pixels to be left out.
    fwhm
        Of the PSF, in pixels.
    """
    offset = np.arange(residual.shape[1], dtype=np.float64)
    gaussian = np.exp(-4.0 * np.log(2.0) * ((offset[:, None] - offset) / fwhm) ** 2)
    square = gaussian * gaussian
    result = np.zeros(residual.shape)
    for part in parts(len(residual)):
        weight = weights[part]
        signal = gaussian @ (weight * residual[part]) @ gaussian
        noise = square @ weight @ square
        np.divide(signal, np.sqrt(noise), out=result[part], where=noise > 0)
    return result


def find_neighbours(
    residual: Array, weights: Array, dx: Array, dy: Array, *, fwhm: float, threshold: float
) -> Neighbours:
    """Find the most significant peak of each star's residual in the matched filter.

    Parameters
    ----------
    residual, weights
        As for :func:`point_significance`.
    dx, dy
        float64 (n): the stars' offsets from the middle pixel.
    fwhm
        Of the PSF, in pixels.
    threshold
        Smallest signal to noise.
    """
    size = residual.shape[1]
    offset = np.arange(size, dtype=np.float64) - size // 2
    significance = point_significance(residual, weights, fwhm)
    along_x, along_y = np.square(offset - dx[:, None]), np.square(offset - dy[:, None])
    significance *= along_x[:, None, :] + along_y[:, :, None] >= (NEAREST * fwhm) ** 2
    peak = significance.reshape(len(residual), -1).argmax(axis=1) if len(residual) else np.empty(0, np.int64)
    star = np.arange(len(residual))
    row, column = np.divmod(peak, size)
    star = star[significance[star, row, column] > threshold]
    row, column = row[star], column[star]
    inner = np.clip(row, 1, size - 2), np.clip(column, 1, size - 2)
    return Neighbours(
        star,
        offset[column] + np.where(column == inner[1], _vertex(significance, star, *inner, 0, 1), 0.0),
        offset[row] + np.where(row == inner[0], _vertex(significance, star, *inner, 1, 0), 0.0),
    )


def _vertex(
    values: Array,
    star: NDArray[np.int64],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    down: int,
    right: int,
) -> Array:
    """Offset of the parabola's vertex through three pixels from the middle one, at most half a pixel."""
    before, here, after = (values[star, row + k * down, column + k * right] for k in (-1, 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        offset = 0.5 * (before - after) / (before - 2.0 * here + after)
    return np.clip(np.nan_to_num(offset, nan=0.0, posinf=0.0, neginf=0.0), -0.5, 0.5)
