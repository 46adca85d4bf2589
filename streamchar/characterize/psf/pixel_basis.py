"""A PSF model of super-sampled basis images times functions of the position: PSFEx's recipe."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.characterize.psf.polynomial import SpatialBasis
from streamchar.frozen import frozen
from streamchar.image.psf import Moments, PsfStamps
from streamchar.kernels import psf_draw, sdss_shape

Array = NDArray[np.float64]

_CHUNK = 256
"""Positions drawn at once for shapes: bounds the memory to a few megabytes."""


@frozen(eq=False)
class PixelBasisPsf:
    """Σ b_c(x, y) · component c, on a grid of super-pixels, drawn by Lanczos interpolation.

    The value at an offset of (δx, δy) pixels from the star is that of the combined image at super-pixel
    S//2 + δ/step (reference: psf.md section 4.5; Bertin 2011, PSFEx). Images are normalised to unit sum.
    Positions that are not finite give the PSF of the average position.

    Attributes
    ----------
    components
        float64 (K, S, S), S odd.
    spatial
        The K functions b_c of the position.
    step
        Width of a super-pixel in pixels.
    width
        Width and height of its images in pixels, odd.
    average_position
        Mean position (x, y) of the stars.
    lanczos
        Order of the interpolation (taps on each side).
    """

    components: Array
    spatial: SpatialBasis
    step: float
    width: int
    average_position: tuple[float, float]
    lanczos: int = 4

    def __post_init__(self) -> None:
        count, height, width = self.components.shape
        if count != len(self.spatial) or height != width or width % 2 == 0:
            raise ValueError(
                f"components have shape {self.components.shape}; "
                f"({len(self.spatial)}, S, S) with an odd S is needed"
            )
        if self.width < 1 or self.width % 2 == 0:
            raise ValueError(f"width must be odd and positive, not {self.width}")
        if not self.step > 0:
            raise ValueError(f"step must be positive, not {self.step}")
        self.components.flags.writeable = False

    def __repr__(self) -> str:
        count, grid, _ = self.components.shape
        return (
            f"PixelBasisPsf({count} components of {grid} x {grid} at {self.step:g} px, "
            f"degree {self.spatial.polynomial.degree}, {self.width} px wide)"
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.width, self.width

    def kernel_images(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Images centred on the middle pixel, unit sum: float64 (n, width, width)."""
        return self._kernel_images(*self._positions(x, y))

    def images(self, x: ArrayLike, y: ArrayLike) -> PsfStamps:
        """Images at the sub-pixel offset of each position from the nearest pixel centre, unit sum."""
        x, y = self._positions(x, y)
        column, row = np.floor(x + 0.5), np.floor(y + 0.5)
        half = self.width // 2
        stamps = self.draw(self.spatial(x, y), x - column, y - row)
        stamps /= stamps.sum(axis=(1, 2), keepdims=True)
        return PsfStamps(stamps, column.astype(np.int64) - half, row.astype(np.int64) - half)

    def shapes(self, x: ArrayLike, y: ArrayLike) -> Moments:
        """Adaptive moments of the kernel images; NaN where they do not converge."""
        x, y = self._positions(x, y)
        chunks = (slice(start, start + _CHUNK) for start in range(0, len(x), _CHUNK))
        parts = [adaptive_moments(self._kernel_images(x[chunk], y[chunk])) for chunk in chunks]
        if not parts:
            none = np.empty(0)
            return Moments(none, none, none)
        return Moments(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("xx", "yy", "xy"))
        )

    def _kernel_images(self, x: Array, y: Array) -> Array:
        images = self.spatial(x, y) @ _kernel_components(self)
        images /= images.sum(axis=1, keepdims=True)
        return np.asarray(images.reshape(-1, *self.size))

    def _positions(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        x, y = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
        if x.shape != y.shape:
            x, y = np.broadcast_arrays(x, y)
        finite = np.isfinite(x) & np.isfinite(y)
        if finite.all():
            return x, y
        mean_x, mean_y = self.average_position
        return np.where(finite, x, mean_x), np.where(finite, y, mean_y)

    def draw(self, basis: Array, dx: Array, dy: Array) -> Array:
        """Images with the centre moved by (dx, dy) pixels, not normalised: float64 (n, width, width).

        Parameters
        ----------
        basis
            float64 (n, K): factors of the components.
        dx, dy
            float64 (n).
        """
        return psf_draw(self.components, basis, dx, dy, self.width, 1.0 / self.step, self.lanczos)


@lru_cache(maxsize=8)
def _kernel_components(psf: PixelBasisPsf) -> Array:
    """Kernel images of the components (K, width²), not normalised: as the model is linear in them, each is drawn once."""
    count = len(psf.components)
    zero = np.zeros(count)
    return psf.draw(np.eye(count), zero, zero).reshape(count, -1)


def adaptive_moments(images: Array) -> Moments:
    """SdssShape moments of images centred on their middle pixel, to 1e-6; NaN where they do not converge."""
    centre = np.full(len(images), float(images.shape[1] // 2))
    xx, yy, xy, _, _, _, flags = sdss_shape(images, centre, centre, tol1=1e-7, tol2=1e-6)
    good = flags == 0
    return Moments(np.where(good, xx, np.nan), np.where(good, yy, np.nan), np.where(good, xy, np.nan))
