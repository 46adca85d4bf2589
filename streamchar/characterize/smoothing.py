"""Matched filtering: an exposure and its variance smoothed with a Gaussian of the PSF's width (reference: detection.md section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.errors import CharacterizationError
from streamchar.frozen import frozen
from streamchar.kernels import smooth
from streamchar.kernels import smooth_at as _smooth_at

Plane = NDArray[np.float32]


class SmoothingKernelError(CharacterizationError):
    """The exposure is smaller than the kernel it must be smoothed with."""

    code = "smoothing_kernel"
    template = (
        "the exposure is {width} x {height} pixels and the smoothing kernel {kernel} x {kernel} "
        "(PSF sigma {sigma:.3g} pixels): nothing would be left"
    )


_UNCHANGED = np.ones(1, np.float32)
"""Taps of a kernel that changes nothing."""


@frozen
class Convolution:
    """What the smoothed planes are made from where they are wanted, without ever being planes.

    Attributes
    ----------
    raw_image, raw_variance
        The exposure's planes under the kernels: views, wider than the smoothed ones by len(taps) - 1 on every side.
    image_taps, variance_taps
        The right halves of the kernel and of the squared kernel, from their centres, float32.
    border
        Pixels left out on every side: smoothed pixel [y, x] is exposure pixel [y + border, x + border].
    """

    raw_image: Plane
    raw_variance: Plane
    image_taps: NDArray[np.float32]
    variance_taps: NDArray[np.float32]
    border: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the smoothed planes."""
        around = 2 * (len(self.image_taps) - 1)
        return self.raw_image.shape[0] - around, self.raw_image.shape[1] - around

    @property
    def image(self) -> Plane:
        """The smoothed image, float32 of :attr:`shape`, once it is :meth:`in_memory`."""
        assert len(self.image_taps) == 1
        return self.raw_image

    def in_memory(self, workspace: Workspace | None = None) -> Convolution:
        """The same with the smoothed image made, which then lives in the workspace."""
        if len(self.image_taps) == 1:
            return self
        plane = (workspace or Workspace()).plane("image", self.shape)
        smooth(self.raw_image, self.image_taps, plane)
        return self.of_image(plane)

    def of_image(self, image: Plane) -> Convolution:
        """The same of an image that is smoothed already, float32 of :attr:`shape`."""
        return replace(self, raw_image=image, image_taps=_UNCHANGED)

    def variance_at(self, x: NDArray[np.int32], y: NDArray[np.int32]) -> NDArray[np.float32]:
        """Smoothed variance at single pixels: float32 of the positions' length."""
        return _variance_at(self.raw_variance, self.variance_taps, x, y)


@dataclass(slots=True)
class Workspace:
    """Memory for planes, kept until it is given back.

    The planes handed out stay valid until the next call.
    """

    _memory: dict[str, Plane] = field(default_factory=dict)

    def plane(self, name: str, shape: tuple[int, int]) -> Plane:
        """An uninitialised float32 plane of ``shape``; one per name."""
        size = shape[0] * shape[1]
        memory = self._memory.get(name)
        if memory is None or memory.size < size:
            memory = self._memory[name] = np.empty(size, np.float32)
        return memory[:size].reshape(shape)

    def clear(self) -> None:
        """Give the memory back; planes that are still referred to stay valid."""
        self._memory.clear()


def kernel_width(sigma: float, n_sigma: float) -> int:
    """Full width of the smoothing kernel in pixels, odd: 2⌊⌊n_sigma·sigma + ½⌋/2⌋ + 1."""
    return 2 * (int(np.floor(n_sigma * sigma + 0.5)) // 2) + 1


def gaussian_taps(sigma: float, width: int) -> NDArray[np.float64]:
    """The right half of a Gaussian kernel of unit sum, from its centre: float64 (width // 2 + 1)."""
    half = np.exp(-0.5 * (np.arange(width // 2 + 1) / sigma) ** 2)
    return np.asarray(half / (half[0] + 2.0 * half[1:].sum()))


def convolution(
    image: Plane, variance: Plane, sigma: float, width: int, border: int | None = None
) -> Convolution:
    """Prepare to convolve the image with a Gaussian and the variance with its square.

    No mask is considered. A NaN spreads to every pixel whose kernel covers it, in its own plane.

    Parameters
    ----------
    image, variance
        float32 (height, width).
    sigma
        Of the Gaussian, pixels.
    width
        Full width of the kernel in pixels, odd; 1 takes the planes as they are.
    border
        Pixels to leave out on every side, at least the half width of the kernel, which is the default.

    Raises
    ------
    SmoothingKernelError
        When the kernel fits nowhere.
    """
    height, columns = image.shape
    border = width // 2 if border is None else border
    unused = border - width // 2
    if unused < 0:
        raise ValueError(f"a kernel {width} pixels wide needs a border of {width // 2} pixels, not {border}")
    if min(height, columns) <= 2 * border:
        raise SmoothingKernelError(width=columns, height=height, kernel=width, sigma=sigma)
    taps = gaussian_taps(sigma, width)
    inner = np.s_[unused : height - unused, unused : columns - unused]
    return Convolution(
        image[inner], variance[inner], taps.astype(np.float32), (taps**2).astype(np.float32), border
    )


def smooth_at(
    plane: Plane, x: NDArray[np.int32], y: NDArray[np.int32], taps: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Convolve with a symmetric separable kernel at single pixels: float32 of the positions' length.

    Parameters
    ----------
    plane
        float32 (height, width).
    x, y
        Pixels at which the whole kernel fits.
    taps
        The kernel's right half, from its centre.
    """
    return _smooth_at(plane, taps.astype(np.float32), x, y)


def spread(flagged: NDArray[np.bool_], border: int) -> NDArray[np.bool_]:
    """Whether any flagged pixel lies under the kernel: bool (height - 2 border, width - 2 border)."""
    count = np.zeros((flagged.shape[0] + 1, flagged.shape[1] + 1), np.int32)
    np.cumsum(np.cumsum(flagged, axis=0, dtype=np.int32), axis=1, out=count[1:, 1:])
    width = 2 * border + 1
    inside = count[width:, width:] - count[:-width, width:] - count[width:, :-width] + count[:-width, :-width]
    return np.asarray(inside > 0)


def _variance_at(
    raw: Plane, taps: NDArray[np.float32], x: NDArray[np.int32], y: NDArray[np.int32]
) -> NDArray[np.float32]:
    half = np.int32(len(taps) - 1)
    return _smooth_at(raw, taps, x + half, y + half)
