"""The analytic PSF: one circular Gaussian everywhere."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.frozen import frozen
from streamchar.image.psf import Moments, PsfStamps

SIGMA_TO_FWHM = float(np.sqrt(8.0 * np.log(2.0)))
"""FWHM of a Gaussian of unit sigma, 2.3548."""


@frozen
class GaussianPsf:
    """A circular Gaussian, point-sampled on the pixels and normalised to unit sum.

    Attributes
    ----------
    sigma
        Pixels, positive.
    width
        Width and height of its images in pixels, odd.
    average_position
        Position (x, y) reported as typical.
    """

    sigma: float
    width: int
    average_position: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.sigma) and self.sigma > 0):
            raise ValueError(f"sigma must be positive and finite, not {self.sigma}")
        if self.width < 1 or self.width % 2 == 0:
            raise ValueError(f"width must be odd and positive, not {self.width}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.width, self.width

    def kernel_images(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Images centred on the middle pixel, the same at every position: float64 (n, width, width)."""
        return np.broadcast_to(_kernel(self.sigma, self.width), (np.broadcast(x, y).size, *self.size))

    def images(self, x: ArrayLike, y: ArrayLike) -> PsfStamps:
        """Images at the sub-pixel offset of each position from the nearest pixel centre."""
        x, y = np.broadcast_arrays(np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float)))
        column, row = np.floor(x + 0.5), np.floor(y + 0.5)
        half = self.width // 2
        along_y, along_x = (_profiles(shift, self.sigma, self.width) for shift in (y - row, x - column))
        stamps = along_y[:, :, None] * along_x[:, None, :]
        return PsfStamps(stamps, column.astype(np.int64) - half, row.astype(np.int64) - half)

    def shapes(self, x: ArrayLike, y: ArrayLike) -> Moments:
        """The analytic moments, not those of the pixels."""
        square = np.full(np.broadcast(x, y).size, self.sigma**2)
        return Moments(square, square.copy(), np.zeros_like(square))


@lru_cache(maxsize=8)
def _kernel(sigma: float, width: int) -> NDArray[np.float64]:
    """Image centred on the middle pixel: (width, width)."""
    (profile,) = _profiles(np.zeros(1), sigma, width)
    return np.outer(profile, profile)


def _profiles(shift: NDArray[np.float64], sigma: float, width: int) -> NDArray[np.float64]:
    """One axis of images shifted by so many pixels (n), of unit sum: (n, width)."""
    offsets = np.arange(width) - width // 2
    values = np.exp(-0.5 * ((offsets - shift[:, None]) / sigma) ** 2)
    return np.asarray(values / values.sum(axis=1, keepdims=True))
