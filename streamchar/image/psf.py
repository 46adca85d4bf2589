"""What every point-spread-function model can do: be drawn anywhere on the exposure."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.frozen import frozen


@frozen
class Moments:
    """Second moments in pixel²; scalars or equal-length arrays.

    Attributes
    ----------
    xx, yy, xy
        Moments about the centroid.
    """

    xx: NDArray[np.float64]
    yy: NDArray[np.float64]
    xy: NDArray[np.float64]

    @property
    def determinant_radius(self) -> NDArray[np.float64]:
        """(xx·yy − xy²)^¼, the sigma of the Gaussian of equal area, in pixels."""
        with np.errstate(invalid="ignore"):
            return np.asarray((self.xx * self.yy - self.xy * self.xy) ** 0.25)

    @property
    def trace_radius(self) -> NDArray[np.float64]:
        """√((xx + yy)/2) in pixels."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sqrt(0.5 * (self.xx + self.yy)))

    @property
    def e1(self) -> NDArray[np.float64]:
        """(xx − yy)/(xx + yy), elongation along x (positive) or y (negative)."""
        return np.asarray((self.xx - self.yy) / (self.xx + self.yy))

    @property
    def e2(self) -> NDArray[np.float64]:
        """2 xy/(xx + yy), elongation along the diagonals."""
        return np.asarray(2.0 * self.xy / (self.xx + self.yy))


@frozen
class PsfStamps:
    """PSF images placed on the exposure's pixel grid.

    Attributes
    ----------
    images
        float64 (n, height, width), each of unit sum.
    x0, y0
        int64 (n): exposure pixel of each stamp's first pixel.
    """

    images: NDArray[np.float64]
    x0: NDArray[np.int64]
    y0: NDArray[np.int64]


@runtime_checkable
class Psf(Protocol):
    """A point-spread function over the exposure. Positions are pixels, (0, 0) the centre of the first pixel.

    All methods take one position or arrays of positions and return arrays with a leading axis of their length.
    """

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels, both odd."""
        ...

    @property
    def average_position(self) -> tuple[float, float]:
        """Mean position (x, y) of the stars it was made from, or the centre of its validity."""
        ...

    def kernel_images(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Images centred on the middle pixel, unit sum: float64 (n, height, width)."""
        ...

    def images(self, x: ArrayLike, y: ArrayLike) -> PsfStamps:
        """Images shifted to the sub-pixel position of each (x, y), unit sum."""
        ...

    def shapes(self, x: ArrayLike, y: ArrayLike) -> Moments:
        """Adaptive moments of the kernel images: arrays of length n."""
        ...


def cut_middle(images: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Cut the pixels within ``half`` of the middle one out of images (..., height, width) with odd sides; 0 beyond them."""
    height, width = images.shape[-2:]
    lacking = half - min(height, width) // 2
    if lacking > 0:
        images = np.pad(images, [(0, 0)] * (images.ndim - 2) + [(lacking, lacking)] * 2)
    y, x = images.shape[-2] // 2, images.shape[-1] // 2
    return images[..., y - half : y + half + 1, x - half : x + half + 1]
