"""Draws stars and galaxies on an image through the true point-spread function."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma, gammaincinv

from streamchar.telescope import profiles
from streamchar.telescope.interpolation import ChebyshevNodes
from streamchar.telescope.population import Sources
from streamchar.telescope.psf import BATCH_POINTS, TruePsf
from streamchar.telescope.transform import FrequencyGrid, images
from streamchar.telescope.wings import FarLight, within_stamp

Array = NDArray[np.float64]
Real = NDArray[np.float32]
Complex = NDArray[np.complex64]

SMALLEST_STAMP = 32
"""Width of the smallest stamp in pixels: it holds all light within the usual apertures of 12 pixels."""

LARGEST_STAMP = 1024
"""Width of the largest stamp in pixels."""

INTERPOLATED_TIERS = 3
"""Stamp widths (each twice the one before) whose point-spread function is interpolated between nodes."""

NODE_COUNTS = (1, 4, 6, 8, 11, 15)
"""Nodes per axis to try until the interpolation is good enough."""

NODE_MARGIN = 60.0
"""Pixels outside the detector that are covered too: wings of stars there reach in."""

INTERPOLATION_TOLERANCE = 2e-5
"""Largest error of an interpolated image, in units of its peak."""


class Painter:
    """Draws sources of one detector.

    Each source gets a square stamp, just large enough that less than ``threshold`` electrons per pixel are left
    outside. The stamp is the Fourier inverse of profile times point-spread function times shift, so positions, pixel
    response and aliasing are exact. The transform of the point-spread function is interpolated between Chebyshev
    nodes over the detector; their number is raised until the images are exact to 2e-5 of the peak at test positions.

    A stamp holds none of the light from beyond its edges, which a Fourier inverse would fold back; that light is
    drawn where it belongs, by :class:`streamchar.telescope.wings.FarLight`. Only stamps as wide as the transforms
    that are interpolated, or wider, do fold: of the light of their bright stars they add less than 0.1 mmag within
    12 pixels.

    Parameters
    ----------
    psf
        True point-spread function.
    threshold
        Electrons per pixel that may be lost at the edge of a stamp.
    """

    def __init__(self, psf: TruePsf, threshold: float) -> None:
        self.psf = psf
        self.threshold = threshold
        smallest = max(SMALLEST_STAMP, 1 << int(np.ceil(np.log2(6.0 * psf.fwhm))))
        tiers = int(np.log2(max(LARGEST_STAMP // smallest, 1))) + 1
        self.widths = [smallest << tier for tier in range(tiers)]
        self._finest = psf.grid(self.widths[min(INTERPOLATED_TIERS, tiers) - 1])

    def paint(self, image: Real, sources: Sources) -> None:
        """Add the sources to an image in electrons, float32 (height, width); parts outside are cut off."""
        tier = self._tiers(sources)
        self._paint_far_light(image, sources, tier)
        for number, width in enumerate(self.widths):
            chosen = np.flatnonzero(tier == number)
            interpolated = width <= self._finest.size
            grid = (
                self._finest.coarser(self._finest.size // width)[0] if interpolated else self.psf.grid(width)
            )
            step = max(1, BATCH_POINTS // max(grid.points, width * width))
            for start in range(0, len(chosen), step):
                self._paint_batch(image, sources.take(chosen[start : start + step]), grid, interpolated)

    def transform(self, x: Array, y: Array, grid: FrequencyGrid) -> Complex:
        """Interpolated transforms of the point-spread function at n positions: (n, 2 reach + 1, reach + 1)."""
        nodes, values = self._nodes
        chosen = values[grid.size].reshape(len(values[grid.size]), -1)
        result = nodes.weights(x, y).astype(np.complex64) @ chosen
        return np.asarray(result.reshape(len(x), 2 * grid.reach + 1, grid.reach + 1))

    @cached_property
    def _nodes(self) -> tuple[ChebyshevNodes, dict[int, Complex]]:
        geometry = self.psf.geometry
        counts = NODE_COUNTS if self.psf.varies else NODE_COUNTS[:1]
        smallest = self._finest.coarser(self._finest.size // self.widths[0])[0]
        random = np.random.default_rng(0)
        x = random.uniform(0, geometry.width - 1, 6)
        y = random.uniform(0, geometry.height - 1, 6)
        x_range = (-NODE_MARGIN, geometry.width - 1 + NODE_MARGIN)
        y_range = (-NODE_MARGIN, geometry.height - 1 + NODE_MARGIN)
        exact = self.psf.transform(self.psf.parameters(x, y), smallest)
        for count in counts:
            nodes = ChebyshevNodes(count, x_range, y_range)
            values = self.psf.transform(self.psf.parameters(*nodes.positions()), smallest)
            difference = nodes.weights(x, y).astype(np.complex64) @ values.reshape(len(values), -1)
            difference -= exact.reshape(len(exact), -1)
            # Frequencies add up to the value at the peak: a bound of the error in the image.
            if (
                np.abs(difference).sum(axis=1).max()
                < INTERPOLATION_TOLERANCE * np.abs(exact).sum(axis=(1, 2)).min()
            ):
                break
        finest = self.psf.transform(self.psf.parameters(*nodes.positions()), self._finest)
        held = {
            width: within_stamp(finest, self._finest, self._finest.size // width) for width in self._windowed
        }
        return nodes, held | {self._finest.size: finest}

    @property
    def _windowed(self) -> list[int]:
        """Widths of the stamps that hold no folded light."""
        return [width for width in self.widths if width < self._finest.size]

    def _paint_far_light(self, image: Real, sources: Sources, tier: NDArray[np.intp]) -> None:
        if not self._windowed:
            return
        height, width = image.shape
        far = FarLight((height, width), self._windowed, self.psf.radial_brightness)
        flux = sources.flux * self.psf.wing_strength(sources.x, sources.y)
        for number in range(len(self._windowed)):
            chosen = tier == number
            far.gather(number, sources.x[chosen], sources.y[chosen], flux[chosen])
        far.add_to(image)

    def _tiers(self, sources: Sources) -> NDArray[np.intp]:
        result = np.zeros(len(sources), np.intp)
        for tier, width in enumerate(self.widths[:-1]):
            radius = 0.5 * width
            brightness = np.full(len(sources), self.psf.radial_brightness(radius))
            extended = sources.galaxy
            brightness[extended] += _sersic_brightness(sources.take(extended), radius)
            result[sources.flux * brightness > self.threshold] = tier + 1
        return result

    def _paint_batch(self, image: Real, sources: Sources, grid: FrequencyGrid, interpolated: bool) -> None:
        column, row = np.floor(sources.x + 0.5), np.floor(sources.y + 0.5)
        if interpolated:
            transform = self.transform(sources.x, sources.y, grid)
        else:
            transform = self.psf.transform(self.psf.parameters(sources.x, sources.y), grid)
        transform *= sources.flux.astype(np.float32)[:, None, None]
        for index in np.unique(sources.index[sources.galaxy]):
            which = np.flatnonzero(sources.index == index)
            transform[which] *= _sersic_transform(sources.take(which), float(index), grid)
        stamps = images(
            transform, grid, (sources.x - column).astype(np.float32), (sources.y - row).astype(np.float32)
        )
        half = grid.size // 2
        for stamp, x0, y0 in zip(stamps, column.astype(int) - half, row.astype(int) - half, strict=True):
            _add(image, stamp, int(x0), int(y0))


def _add(image: Real, stamp: Real, x0: int, y0: int) -> None:
    height, width = image.shape
    size = len(stamp)
    left, right = max(x0, 0), min(x0 + size, width)
    low, high = max(y0, 0), min(y0 + size, height)
    if left < right and low < high:
        image[low:high, left:right] += stamp[low - y0 : high - y0, left - x0 : right - x0]


def _sersic_transform(sources: Sources, index: float, grid: FrequencyGrid) -> Real:
    major, minor = sources.radius**2, (sources.radius * sources.axis_ratio) ** 2
    cosine, sine = np.cos(sources.angle), np.sin(sources.angle)

    def column(values: Array) -> Real:
        return values.astype(np.float32)[:, None, None]

    kx, ky = grid.kx, grid.ky[:, None]
    square = column(major * cosine**2 + minor * sine**2) * kx**2 + (
        column(major * sine**2 + minor * cosine**2) * ky**2
    )
    square += column(2.0 * (major - minor) * cosine * sine) * (kx * ky)
    np.maximum(square, 0.0, out=square)
    return profiles.sersic(index).at_square(square)


def _sersic_brightness(sources: Sources, radius: float) -> Array:
    """Surface brightness on the major axis, per unit flux (Graham & Driver 2005, equations 1 and 4)."""
    n = sources.index
    b = gammaincinv(2.0 * n, 0.5)
    norm = (
        2.0
        * np.pi
        * n
        * np.exp(b)
        * b ** (-2.0 * n)
        * gamma(2.0 * n)
        * sources.axis_ratio
        * sources.radius**2
    )
    return np.asarray(np.exp(-b * ((radius / sources.radius) ** (1.0 / n) - 1.0)) / norm)
