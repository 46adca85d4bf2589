"""An analytic PSF: one elliptical Moffat profile everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.characterize.psf.pixel_basis import adaptive_moments
from streamchar.frozen import frozen
from streamchar.image.psf import Moments, PsfStamps

Array = NDArray[np.float64]


@frozen
class MoffatPsf:
    """A Moffat profile (1 + rᵀ Q⁻¹ r)^(−β), point-sampled on the pixels and normalised to unit sum.

    It describes the image after the pixels have averaged it, so no further averaging is done (Moffat 1969).

    Attributes
    ----------
    qxx, qyy, qxy
        The matrix Q in pixel², positive definite.
    beta
        Slope of the wings, above 1.
    width
        Width and height of its images in pixels, odd.
    average_position
        Mean position (x, y) of the stars.
    """

    qxx: float
    qyy: float
    qxy: float
    beta: float
    width: int
    average_position: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not (self.qxx > 0 and self.qyy > 0 and self.qxx * self.qyy > self.qxy**2):
            raise ValueError(f"Q = ({self.qxx}, {self.qyy}, {self.qxy}) is not positive definite")
        if not self.beta > 1:
            raise ValueError(f"beta must exceed 1, not {self.beta}")
        if self.width < 1 or self.width % 2 == 0:
            raise ValueError(f"width must be odd and positive, not {self.width}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.width, self.width

    def kernel_images(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Images centred on the middle pixel, the same at every position: float64 (n, width, width)."""
        count = np.broadcast(np.atleast_1d(x), np.atleast_1d(y)).size
        zero = np.zeros(1)
        return np.broadcast_to(self.draw(zero, zero), (count, self.width, self.width))

    def images(self, x: ArrayLike, y: ArrayLike) -> PsfStamps:
        """Images at the sub-pixel offset of each position from the nearest pixel centre."""
        x, y = np.broadcast_arrays(np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float)))
        column, row = np.floor(x + 0.5), np.floor(y + 0.5)
        half = self.width // 2
        stamps = self.draw(x - column, y - row)
        return PsfStamps(stamps, column.astype(np.int64) - half, row.astype(np.int64) - half)

    def shapes(self, x: ArrayLike, y: ArrayLike) -> Moments:
        """Adaptive moments of the image, the same at every position."""
        one = adaptive_moments(np.ascontiguousarray(self.kernel_images(0.0, 0.0)))
        count = np.broadcast(np.atleast_1d(x), np.atleast_1d(y)).size
        return Moments(*(np.repeat(values, count) for values in (one.xx, one.yy, one.xy)))

    def draw(self, dx: Array, dy: Array) -> Array:
        """Unit-sum images with the centre moved by (dx, dy) pixels: float64 (n, width, width)."""
        offset = np.arange(self.width) - self.width // 2
        x, y = (offset - dx[:, None])[:, None, :], (offset - dy[:, None])[:, :, None]
        determinant = self.qxx * self.qyy - self.qxy**2
        radius = (self.qyy * x * x - 2.0 * self.qxy * x * y + self.qxx * y * y) / determinant
        values = (1.0 + radius) ** -self.beta
        return np.asarray(values / values.sum(axis=(1, 2), keepdims=True))
