"""Least-squares fit of a pixel-basis PSF to the pixels of stars, by conjugate gradients on the model itself."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf import quintic_splines
from streamchar.characterize.psf.quintic_splines import SPLINE
from streamchar.characterize.psf.samples import Samples
from streamchar.frozen import frozen
from streamchar.kernels import lanczos_resample, psf_draw, psf_draw_transposed, psf_solve

Array = NDArray[np.float64]
_Pixel = TypeVar("_Pixel", bound=np.generic)


_OVERLAP_FLOOR = 0.03
"""Bounds the preconditioner where pixels hardly tell anything about the finest structure."""


@frozen
class Grid:
    """The super-sampled grid and how it is drawn on stamps.

    Attributes
    ----------
    size
        Width in super-pixels, odd.
    step
        Width of a super-pixel in pixels.
    stamp
        Width of the stamps in pixels, odd.
    lanczos
        Order of the interpolation, or ``SPLINE`` for quintic B-splines: the values of the grid are then
        coefficients.
    """

    size: int
    step: float
    stamp: int
    lanczos: int

    @classmethod
    def covering(cls, stamp: int, step: float, lanczos: int) -> Grid:
        """Return the grid that covers a stamp: 2 floor(stamp/(2 step)) + 1 super-pixels (psf.md section 4.1)."""
        return cls(2 * int(0.5 * stamp / step) + 1, step, stamp, lanczos)

    def cropped(self, stamp: int) -> Grid:
        """Return the central part of the grid that a smaller stamp can touch."""
        half = math.ceil(0.5 * (stamp + 1) / self.step) + 3
        return replace(self, size=min(self.size, 2 * half + 1), stamp=stamp)

    @property
    def scale(self) -> float:
        """Super-pixels per pixel."""
        return 1.0 / self.step

    def radius(self) -> Array:
        """Distance of each super-pixel from the central one, in super-pixels: float64 (size, size)."""
        offset = np.arange(self.size) - self.size // 2
        return np.asarray(np.hypot(offset[:, None], offset))

    def draw(self, components: Array, basis: Array, dx: Array, dy: Array) -> Array:
        """Model stamps (n, stamp, stamp), not normalised."""
        return psf_draw(components, np.ascontiguousarray(basis), dx, dy, self.stamp, self.scale, self.lanczos)

    def resample(self, stamps: Array, dx: Array, dy: Array) -> Array:
        """Stamps interpolated onto the grid, centred: (n, size, size)."""
        first = self.stamp // 2 - (self.size // 2) * self.step
        return lanczos_resample(stamps, first + dx, first + dy, self.step, self.size, self.lanczos or 4)


def centre_of(images: NDArray[_Pixel], size: int) -> NDArray[_Pixel]:
    """Return a view of the central size x size part of images (n, S, S), S and size odd."""
    first = (images.shape[1] - size) // 2
    part = slice(first, first + size)
    return images[:, part, part]


def fit_components(
    grid: Grid,
    samples: Samples,
    weights: Array,
    basis: Array,
    start: Array,
    ridge: Array,
    *,
    iterations: int,
    converged: float,
    expected: Array | None = None,
) -> Array:
    """Minimise Σ w (d − F Σ_c b_c R(component c))² + the ridge, for a grid of spline coefficients.

    R draws the grid on the stamp at the star's sub-pixel position. Conjugate gradients on the normal equations,
    started from ``start``. With functions of the position that are orthonormal over the stars the terms decouple,
    and each is preconditioned by D^½ (K ⊗ K) D^½, where D is the diagonal and K the overlap of the interpolation's
    basis functions: what RᵀR is for sub-pixel positions of all phases. A handful of steps then suffices. The products
    are summed in single precision, 10⁻⁷ of what the stars tell.

    Parameters
    ----------
    weights
        float64 (n, V, V): inverse variances, zero for pixels to be left out.
    basis
        float64 (n, terms).
    start
        float64 (terms, size, size).
    ridge
        float64 (terms, size, size), of the units of Σ F²/variance: the penalty is Σ ridge · component², of the
        interpolated values.
    iterations
        At most this many.
    converged
        Stop when the sum above is expected to lie no more than this above its minimum.
    expected
        float64 (terms, size, size): components the ridge draws to instead of zero.
    """
    flux = samples.flux[:, None, None]
    basis = np.ascontiguousarray(basis)
    misfit = samples.pixels - flux * grid.draw(start, basis, samples.dx, samples.dy)
    weighted = weights * flux
    misfit *= weighted
    weighted *= flux
    change = psf_solve(
        misfit,
        weighted,
        basis,
        samples.dx,
        samples.dy,
        np.sqrt(ridge),
        -start if expected is None else expected - start,
        1.0 / np.sqrt(_diagonal(grid, samples, weighted) + ridge),
        *_overlap(grid.size),
        grid.scale,
        SPLINE,
        iterations,
        converged,
    )
    return np.asarray(start + change)


@lru_cache(maxsize=32)
def _overlap(size: int) -> tuple[Array, Array]:
    """Overlap integrals of a grid's splines, the diagonal being 1, and their inverse, bounded: (size, size)."""
    overlap = quintic_splines.overlaps(size)
    inverse = np.asarray(np.linalg.inv(overlap + _OVERLAP_FLOOR * np.eye(size)), np.float64)
    overlap.flags.writeable = inverse.flags.writeable = False
    return overlap, inverse


def _diagonal(grid: Grid, samples: Samples, normal_weights: Array) -> Array:
    """Weight each super-pixel receives from all stars.

    Bright stars weigh in the wings many times more than in the core, where the accuracy of the model limits them.
    """
    one = np.ones((len(samples), 1))
    diagonal = psf_draw_transposed(normal_weights, one, samples.dx, samples.dy, grid.size, grid.scale, SPLINE)
    # The transpose sums weights once; a normal matrix holds them times the square of the spline.
    diagonal *= quintic_splines.SQUARE**2
    return np.asarray(np.maximum(diagonal, 1e-3 * diagonal.max(initial=0.0)))
