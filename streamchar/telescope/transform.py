"""Images from Fourier transforms that are known analytically: exact sub-pixel shifts, exact pixel response."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Real = NDArray[np.float32]
Complex = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class FrequencyGrid:
    """Angular frequencies of a square image, radians per pixel, the half plane kx >= 0.

    Frequencies beyond Nyquist are kept: they fold back into the samples as they do on a real detector.

    Attributes
    ----------
    size
        Width and height of the image in pixels, even.
    reach
        Index of the highest frequency; frequency index i is 2 pi i / size.
    """

    size: int
    reach: int

    @classmethod
    def covering(cls, size: int, limit: float) -> FrequencyGrid:
        """Grid of an image of ``size`` pixels with all frequencies up to ``limit`` radians per pixel."""
        return cls(size, int(np.ceil(limit * size / (2.0 * np.pi))))

    @property
    def kx(self) -> Real:
        """float32 (reach + 1), from zero."""
        return (2.0 * np.pi / self.size * np.arange(self.reach + 1)).astype(np.float32)

    @property
    def ky(self) -> Real:
        """float32 (2 reach + 1), from the most negative."""
        return (2.0 * np.pi / self.size * np.arange(-self.reach, self.reach + 1)).astype(np.float32)

    @property
    def points(self) -> int:
        """Number of frequencies."""
        return (2 * self.reach + 1) * (self.reach + 1)

    def coarser(self, factor: int) -> tuple[FrequencyGrid, tuple[slice, slice]]:
        """Grid of an image ``factor`` times smaller and where its frequencies are in this one."""
        grid = FrequencyGrid(self.size // factor, self.reach // factor)
        start = self.reach - grid.reach * factor
        return grid, (
            slice(start, start + 2 * grid.reach * factor + 1, factor),
            slice(0, grid.reach * factor + 1, factor),
        )


def images(transform: Complex, grid: FrequencyGrid, dx: Real, dy: Real) -> Real:
    """Sample images from their transforms, each shifted by less than a pixel.

    Parameters
    ----------
    transform
        complex64 (n, 2 reach + 1, reach + 1); overwritten.
    grid
        Its frequencies.
    dx, dy
        float32 (n): position of the origin relative to the centre of pixel (size/2, size/2), pixels.

    Returns
    -------
    ndarray
        float32 (n, size, size). Structure larger than the image wraps around.
    """
    size, reach = grid.size, grid.reach
    transform *= np.exp(-1j * grid.ky * (0.5 * size + dy[:, None])).astype(np.complex64)[:, :, None]
    transform *= np.exp(-1j * grid.kx * (0.5 * size + dx[:, None])).astype(np.complex64)[:, None, :]
    folded = np.zeros((len(transform), size, reach + 1), np.complex64)
    for turn in range(-reach // size, reach // size + 1):
        first, last = max(-reach, turn * size), min(reach, turn * size + size - 1)
        if first <= last:
            folded[:, first - turn * size : last - turn * size + 1] += transform[
                :, first + reach : last + reach + 1
            ]
    columns = fft.ifft(folded, axis=1, overwrite_x=True)
    oversampling = reach // (size // 2) + 1
    rows = fft.irfft(columns, n=size * oversampling, axis=2)
    return np.asarray(rows[:, :, ::oversampling] * np.float32(oversampling))


def sampled(transform: Complex, grid: FrequencyGrid, x: NDArray[np.float64], y: NDArray[np.float64]) -> Real:
    """Evaluate images on an arbitrary rectangle of points, which may be finer than the pixels.

    Parameters
    ----------
    transform
        complex64 (n, 2 reach + 1, reach + 1).
    grid
        Its frequencies.
    x, y
        float64 (width), (height): coordinates relative to the origin, pixels.

    Returns
    -------
    ndarray
        float32 (n, height, width).
    """
    along_y = np.exp(1j * np.outer(y, grid.ky)).astype(np.complex64)
    weight = np.where(grid.kx == 0, 1.0, 2.0) / grid.size**2
    along_x = (weight[:, None] * np.exp(1j * np.outer(grid.kx, x))).astype(np.complex64)
    return np.asarray((along_y @ transform @ along_x).real)
