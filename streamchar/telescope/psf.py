"""The true point-spread function of the simulated camera, at any position, pixel response included."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import j0, j1

from streamchar.image.psf import Moments, PsfStamps
from streamchar.telescope import polynomial, profiles
from streamchar.telescope.config import PsfConfig
from streamchar.telescope.geometry import DetectorGeometry
from streamchar.telescope.moments import AdaptiveMoments, adaptive_moments
from streamchar.telescope.profiles import RadialTable
from streamchar.telescope.transform import FrequencyGrid, images, sampled

Array = NDArray[np.float64]
Real = NDArray[np.float32]
Complex = NDArray[np.complex64]

COMA_RINGS = 4
"""Rings of the pupil that make up a comatic image."""

BATCH_POINTS = 1 << 20
"""Frequencies worked on at a time; bounds the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class PsfParameters:
    """What shapes the point-spread function at n positions; each float64 (n).

    Attributes
    ----------
    fwhm
        FWHM of the atmospheric profile, pixels.
    shear1, shear2
        Its reduced shear.
    defocus, astigmatism1, astigmatism2
        Radius of the geometric image of the pupil, and its differences between the axes and the diagonals, pixels.
    coma1, coma2
        Coma along x and y: distance of the centroid from the tip of the comatic image, pixels.
    """

    fwhm: Array
    shear1: Array
    shear2: Array
    defocus: Array
    astigmatism1: Array
    astigmatism2: Array
    coma1: Array
    coma2: Array

    def __len__(self) -> int:
        return len(self.fwhm)

    def take(self, which: slice | NDArray[np.intp]) -> PsfParameters:
        """Return the parameters of some of the positions."""
        return PsfParameters(*(getattr(self, field.name)[which] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class TruePsf:
    """Atmosphere, optics, guiding and pixel, as the product of their Fourier transforms.

    The atmospheric profile (Kolmogorov or Moffat, from GalSim) is sheared; defocus and astigmatism convolve it with
    the geometric image of the annular pupil, an ellipse of uniform light; coma with the comatic image, circles of
    radius t |c| about 2 t c for the pupil ring of squared radius t; guiding with a Gaussian; the pixel with a square.
    The origin is the centroid (first moment) of the whole. It satisfies the protocol
    :class:`streamchar.image.psf.Psf`.

    Attributes
    ----------
    config
        Settings.
    geometry
        Placement of the detector.
    pixel_scale
        Arcseconds per pixel.
    """

    config: PsfConfig
    geometry: DetectorGeometry
    pixel_scale: float

    def parameters(self, x: ArrayLike, y: ArrayLike) -> PsfParameters:
        """Parameters at pixel positions."""
        u, v = self.geometry.field(*np.broadcast_arrays(np.atleast_1d(x), np.atleast_1d(y)))
        config = self.config

        def pixels(coefficients: tuple[float, ...]) -> Array:
            return polynomial.evaluate(coefficients, u, v) / self.pixel_scale

        return PsfParameters(
            fwhm=config.seeing / self.pixel_scale * (1.0 + polynomial.evaluate(config.size, u, v)),
            shear1=polynomial.evaluate(config.shear1, u, v),
            shear2=polynomial.evaluate(config.shear2, u, v),
            defocus=pixels(config.defocus),
            astigmatism1=pixels(config.astigmatism1),
            astigmatism2=pixels(config.astigmatism2),
            coma1=pixels(config.coma1),
            coma2=pixels(config.coma2),
        )

    @cached_property
    def center(self) -> tuple[float, float]:
        """Middle of the detector (x, y)."""
        return 0.5 * (self.geometry.width - 1), 0.5 * (self.geometry.height - 1)

    @cached_property
    def fwhm(self) -> float:
        """FWHM in the middle of the detector, pixels, everything included."""
        return float(self.fwhms(*self.center)[0])

    @cached_property
    def frequency_limit(self) -> float:
        """Angular frequency above which nothing is left anywhere on the detector, radians per pixel."""
        x = np.linspace(0, self.geometry.width - 1, 9)
        y = np.linspace(0, self.geometry.height - 1, 9)
        parameters = self.parameters(*(points.ravel() for points in np.meshgrid(x, y)))
        shear = np.hypot(parameters.shear1, parameters.shear2)
        narrowest = float(np.min(parameters.fwhm * np.sqrt((1 - shear) / (1 + shear))))
        return self._atmosphere.limit / narrowest

    @cached_property
    def varies(self) -> bool:
        """Whether it depends on position."""
        terms = [
            coefficients[1:]
            for coefficients in self.config.model_dump().values()
            if isinstance(coefficients, tuple)
        ]
        return any(any(term) for term in terms)

    def grid(self, size: int) -> FrequencyGrid:
        """Frequencies needed for images of ``size`` pixels."""
        return FrequencyGrid.covering(size, self.frequency_limit)

    def transform(self, parameters: PsfParameters, grid: FrequencyGrid) -> Complex:
        """Fourier transforms of unit flux: complex64 (n, 2 reach + 1, reach + 1)."""
        shape = (len(parameters), 2 * grid.reach + 1, grid.reach + 1)
        result = np.empty(shape, np.complex64)
        step = max(1, BATCH_POINTS // grid.points)
        for start in range(0, len(parameters), step):
            batch = slice(start, start + step)
            kx, ky = grid.kx[None, None, :], grid.ky[None, :, None]
            result[batch] = self._evaluate(parameters.take(batch), kx, ky)
        return result

    def section(self, angle: float, frequencies: Array) -> Array:
        """Real part of the transform in the detector's middle along a direction: float64 of ``frequencies``' shape.

        Parameters
        ----------
        angle
            Direction, radians from x towards y.
        frequencies
            float64 (n): angular frequencies, radians per pixel.
        """
        kx = (frequencies * np.cos(angle)).astype(np.float32)[None, None, :]
        ky = (frequencies * np.sin(angle)).astype(np.float32)[None, None, :]
        return np.asarray(self._evaluate(self.parameters(*self.center), kx, ky)[0, 0].real, np.float64)

    def radial_brightness(self, radius: ArrayLike) -> Array:
        """Surface brightness of the wings at radii in pixels, per unit flux and pixel: float64 of their shape."""
        fwhm = float(self.parameters(*self.center).fwhm[0])
        brightness = np.vectorize(
            profiles.atmosphere(self.config.profile, self.config.beta)[1], otypes=[float]
        )
        return np.asarray(brightness(np.asarray(radius, np.float64) / fwhm) / fwhm**2)

    def wing_strength(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Brightness of the far wings at pixel positions over that in the middle of the detector: float64 (n).

        At radius r they fall as fwhm^(5/3) r^(-11/3) (Kolmogorov), or as fwhm^(2 beta - 2) r^(-2 beta) (Moffat).
        Beyond the edges of the detector, where the polynomials need not hold, they are those at the edge.
        """
        x = np.clip(x, -0.5, self.geometry.width - 0.5)
        y = np.clip(y, -0.5, self.geometry.height - 0.5)
        power = 5.0 / 3.0 if self.config.profile == "kolmogorov" else 2.0 * self.config.beta - 2.0
        middle = self.parameters(*self.center).fwhm[0]
        return np.asarray((self.parameters(x, y).fwhm / middle) ** power)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images: odd, ten times the FWHM."""
        side = 2 * int(np.ceil(5.0 * self.fwhm)) + 1
        return side, side

    @property
    def average_position(self) -> tuple[float, float]:
        """Middle of the detector."""
        return self.center

    def kernel_images(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Images centred on the middle pixel: float64 (n, height, width), unit sum."""
        parameters = self.parameters(x, y)
        zeros = np.zeros(len(parameters))
        return self._stamps(parameters, zeros, zeros)

    def images(self, x: ArrayLike, y: ArrayLike) -> PsfStamps:
        """Images at the sub-pixel offset of each position from the nearest pixel centre, unit sum."""
        x, y = np.broadcast_arrays(np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float)))
        column, row = np.floor(x + 0.5), np.floor(y + 0.5)
        stamps = self._stamps(self.parameters(x, y), x - column, y - row)
        half = self.size[0] // 2
        return PsfStamps(stamps, column.astype(np.int64) - half, row.astype(np.int64) - half)

    def shapes(self, x: ArrayLike, y: ArrayLike) -> Moments:
        """Adaptive moments, averaged over sub-pixel positions, pixel²."""
        return self.adaptive_moments(x, y).moments

    def adaptive_moments(self, x: ArrayLike, y: ArrayLike) -> AdaptiveMoments:
        """Adaptive moments and centroids relative to the true centroid, from noiseless fine drawings."""
        grid, transform = self._fine_transform(x, y)
        half, step = 2.5 * self.fwhm, 1.0 / self._oversampling
        count = int(np.ceil(half / step))
        points: Array = np.arange(-count, count + 1, dtype=np.float64) * step
        return adaptive_moments(sampled(transform, grid, points, points), points, points)

    def fwhms(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Diameters of the circles whose areas are those above half of the maximum, pixels: float64 (n)."""
        grid, transform = self._fine_transform(x, y)
        step = float(np.mean(self.parameters(x, y).fwhm)) / 24.0
        points: Array = np.arange(-40, 41, dtype=np.float64) * step
        drawings = sampled(transform, grid, points, points)
        # The maximum lies between the points by less than half a step: its parabola error is below 1e-3.
        level = 0.5 * drawings.max(axis=(1, 2), keepdims=True)
        slope = np.hypot(*np.gradient(drawings, axis=(1, 2)))
        coverage = np.clip(0.5 + (drawings - level) / np.maximum(slope, 1e-6 * level), 0.0, 1.0)
        return np.asarray(np.sqrt(4.0 / np.pi * coverage.sum(axis=(1, 2), dtype=np.float64)) * step)

    def aperture_fluxes(self, x: ArrayLike, y: ArrayLike, radius: float) -> Array:
        """Part of a star's flux that a circle around it holds, pixel response included: float64 (n).

        It is the integral of the band-limited image, which sinc-weighted aperture sums give; sums over whole and
        partial pixels differ from it by little where the radius is larger than a few pixels.

        Parameters
        ----------
        x, y
            Positions, pixels.
        radius
            Pixels, positive.
        """
        size = 2 * int(np.ceil(8.0 * self.fwhm + 4.0 * radius))
        grid = self.grid(size)
        k = np.hypot(grid.kx.astype(np.float64), grid.ky[:, None].astype(np.float64))
        with np.errstate(invalid="ignore", divide="ignore"):
            circle = np.where(k == 0, np.pi * radius**2, 2.0 * np.pi * radius * j1(k * radius) / k)
        weight = np.where(grid.kx == 0, 1.0, 2.0) * circle / size**2
        transform = self.transform(self.parameters(x, y), grid)
        return np.asarray(np.einsum("nij,ij->n", transform.real, weight))

    @cached_property
    def _atmosphere(self) -> RadialTable:
        return profiles.atmosphere(self.config.profile, self.config.beta)[0]

    @cached_property
    def _oversampling(self) -> int:
        # Products of the image with a Gaussian of the same width must stay below the sampling frequency.
        return int(np.ceil(1.3 * self.frequency_limit / np.pi))

    def _fine_transform(self, x: ArrayLike, y: ArrayLike) -> tuple[FrequencyGrid, Complex]:
        parameters = self.parameters(x, y)
        size = 2 * int(
            np.ceil(8.0 * float(np.max(parameters.fwhm)) + 4.0 * float(np.max(parameters.defocus)))
        )
        grid = self.grid(size)
        return grid, self.transform(parameters, grid)

    def _stamps(self, parameters: PsfParameters, dx: Array, dy: Array) -> Array:
        side = self.size[0]
        # Wings wrap around: four times the side keeps the sum of the stamp exact to 1e-4.
        grid = self.grid(4 * side)
        transform = self.transform(parameters, grid)
        wide = images(transform, grid, dx.astype(np.float32), dy.astype(np.float32))
        first = 2 * side - side // 2
        stamps = wide[:, first : first + side, first : first + side].astype(np.float64)
        return np.asarray(stamps / stamps.sum(axis=(1, 2), keepdims=True))

    def _evaluate(self, parameters: PsfParameters, kx: Real, ky: Real) -> Real | Complex:
        real = self._atmosphere.at_square(_sheared_square(parameters, kx, ky))
        real *= self._guiding(kx, ky) * np.sinc(kx / (2 * np.pi)) * np.sinc(ky / (2 * np.pi))
        if np.any(parameters.defocus) or np.any(parameters.astigmatism1) or np.any(parameters.astigmatism2):
            real *= self._pupil_image(parameters, kx, ky)
        if np.any(parameters.coma1) or np.any(parameters.coma2):
            return np.asarray(real * self._comatic_image(parameters, kx, ky))
        return real

    def _guiding(self, kx: Real, ky: Real) -> Real:
        config = self.config
        angle = np.radians(config.guiding_angle)
        large = (config.guiding_rms / self.pixel_scale) ** 2
        small = large * config.guiding_ratio**2
        along = kx * np.cos(angle) + ky * np.sin(angle)
        across = ky * np.cos(angle) - kx * np.sin(angle)
        return np.asarray(np.exp(-0.5 * (large * along**2 + small * across**2)), np.float32)

    def _pupil_image(self, parameters: PsfParameters, kx: Real, ky: Real) -> Real:
        d, a1, a2 = parameters.defocus, parameters.astigmatism1, parameters.astigmatism2
        square = _quadratic((d + a1) ** 2 + a2**2, (d - a1) ** 2 + a2**2, 2.0 * d * a2, kx, ky)
        radius = np.sqrt(np.maximum(square, 0.0, out=square), out=square)
        obscuration = self.config.obscuration
        result = _disc(radius)
        if obscuration:
            result -= obscuration**2 * _disc(radius * np.float32(obscuration))
            result /= 1.0 - obscuration**2
        return result

    def _comatic_image(self, parameters: PsfParameters, kx: Real, ky: Real) -> Complex:
        c1, c2 = (value.astype(np.float32)[:, None, None] for value in (parameters.coma1, parameters.coma2))
        along = kx * c1 + ky * c2
        size = np.sqrt(c1**2 + c2**2) * np.sqrt(kx**2 + ky**2)
        inner = self.config.obscuration**2
        nodes, weights = np.polynomial.legendre.leggauss(COMA_RINGS)
        rings = 0.5 * ((1.0 - inner) * nodes + 1.0 + inner)
        real = np.zeros_like(along)
        imaginary = np.zeros_like(along)
        for ring, weight in zip(rings, weights, strict=True):
            # Relative to the centroid, which lies at (1 + inner) c.
            phase = along * np.float32(2.0 * ring - 1.0 - inner)
            amplitude = j0(size * np.float32(ring)) * np.float32(0.5 * weight)
            real += amplitude * np.cos(phase)
            imaginary -= amplitude * np.sin(phase)
        return np.asarray(real + np.complex64(1j) * imaginary)


def _sheared_square(parameters: PsfParameters, kx: Real, ky: Real) -> Real:
    g1, g2 = parameters.shear1, parameters.shear2
    scale = parameters.fwhm**2 / (1.0 - g1**2 - g2**2)
    square = _quadratic(
        scale * ((1 + g1) ** 2 + g2**2), scale * ((1 - g1) ** 2 + g2**2), scale * 2.0 * g2, kx, ky
    )
    return np.maximum(square, 0.0, out=square)


def _quadratic(xx: Array, yy: Array, xy: Array, kx: Real, ky: Real) -> Real:
    def column(values: Array) -> Real:
        return values.astype(np.float32)[:, None, None]

    return np.asarray(column(xx) * kx**2 + column(yy) * ky**2 + column(2.0 * xy) * kx * ky)


def _disc(radius: Real) -> Real:
    with np.errstate(invalid="ignore", divide="ignore"):
        values = 2.0 * j1(radius) / radius
    return np.where(radius < 1e-3, np.float32(1.0), values)
