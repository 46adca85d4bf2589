"""Least-squares fit of a pixel-basis PSF to the pixels of stars, by conjugate gradients on the model itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf.samples import Samples
from streamchar.kernels import lanczos_resample, psf_draw, psf_draw_transposed, psf_normal_product

Array = NDArray[np.float64]


SPLINE = 0
"""Interpolation by quintic B-splines. Lanczos interpolation of short order changes the size of the PSF with the
sub-pixel shift, by up to 0.5 % at four super-pixels per FWHM; the splines need six taps for 0.01 %."""


@dataclass(frozen=True, slots=True)
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

    @property
    def scale(self) -> float:
        """Super-pixels per pixel."""
        return 1.0 / self.step

    def coefficients(self, values: Array) -> Array:
        """Grid values (size, size) turned into what the interpolation takes: itself, or spline coefficients."""
        if self.lanczos != SPLINE:
            return values
        weights = (66.0 / 120.0, 26.0 / 120.0, 1.0 / 120.0)
        matrix = sum(
            weight * (np.eye(self.size, k=k) + (np.eye(self.size, k=-k) if k else 0.0))
            for k, weight in enumerate(weights)
        )
        half = np.linalg.solve(matrix, values)
        return np.ascontiguousarray(np.linalg.solve(matrix, half.T).T)

    def radius(self) -> Array:
        """Distance of each super-pixel from the central one, in super-pixels: float64 (size, size)."""
        offset = np.arange(self.size) - self.size // 2
        return np.asarray(np.hypot(offset[:, None], offset))

    def stamp_radius(self, dx: Array, dy: Array) -> Array:
        """Distance of each stamp pixel from the centre moved by (dx, dy), in pixels: float64 (n, stamp, stamp)."""
        offset = np.arange(self.stamp) - self.stamp // 2
        return np.asarray(np.hypot((offset - dy[:, None])[:, :, None], (offset - dx[:, None])[:, None, :]))

    def draw(self, components: Array, basis: Array, dx: Array, dy: Array) -> Array:
        """Model stamps (n, stamp, stamp), not normalised."""
        return psf_draw(components, np.ascontiguousarray(basis), dx, dy, self.stamp, self.scale, self.lanczos)

    def resample(self, stamps: Array, dx: Array, dy: Array) -> Array:
        """Stamps interpolated onto the grid, centred: (n, size, size)."""
        first = self.stamp // 2 - (self.size // 2) * self.step
        return lanczos_resample(stamps, first + dx, first + dy, self.step, self.size, self.lanczos or 4)


def whiten(basis: Array, weights: Array, smallest: float) -> tuple[Array, Array]:
    """Turn functions of the position, the first of them 1, into orthonormal ones.

    The constant is kept; from the others their mean is taken out and what remains is rotated to its principal
    directions. Directions that hardly vary over the stars, or repeat others, are left out.

    Parameters
    ----------
    basis
        float64 (n, K), the first column 1.
    weights
        float64 (n): weight of each star.
    smallest
        Directions with a smaller rms are left out.

    Returns
    -------
    transform
        float64 (K, L), L <= K: ``basis @ transform`` is 1 and L − 1 functions of zero mean and unit mean square
        under ``weights``.
    rms
        float64 (L − 1): rms of each direction before scaling, descending.
    """
    share = weights / weights.sum()
    mean = share @ basis
    _, rms, rotation = np.linalg.svd((basis - mean) * np.sqrt(share)[:, None], full_matrices=False)
    kept = rms > smallest
    directions = rotation[kept].T / rms[kept]
    first = np.zeros((basis.shape[1], 1))
    first[0] = 1.0
    directions[0] -= mean @ directions
    return np.hstack([first, directions]), rms[kept]


def transform_components(transform: Array, components: Array) -> Array:
    """Apply a change of spatial basis to components (terms, size, size)."""
    return np.ascontiguousarray(np.tensordot(transform, components, axes=1))


def fit_components(
    grid: Grid,
    samples: Samples,
    weights: Array,
    basis: Array,
    start: Array,
    ridge: Array,
    *,
    iterations: int,
    tolerance: float = 1e-7,
) -> Array:
    """Minimise Σ w (d − F Σ_c b_c R(component c))² + Σ ridge · component².

    R draws the grid on the stamp at the star's sub-pixel position. Conjugate gradients on the normal equations with a diagonal
    preconditioner, started from ``start``; with a whitened ``basis`` a handful of iterations suffice, because then the terms
    decouple and R nearly preserves norms.

    Parameters
    ----------
    weights
        float64 (n, V, V): inverse variances, zero for pixels to be left out.
    basis
        float64 (n, terms).
    start
        float64 (terms, size, size).
    ridge
        float64 (terms, size, size), of the units of Σ F²/variance.
    iterations
        At most this many.
    tolerance
        Stop when the gradient has fallen by this factor.
    """
    flux = samples.flux[:, None, None]
    normal_weights = weights * flux * flux
    common = (np.ascontiguousarray(basis), samples.dx, samples.dy)

    def apply(components: Array) -> Array:
        product = psf_normal_product(components, *common, normal_weights, grid.scale, grid.lanczos)
        product += ridge * components
        return product

    target = psf_draw_transposed(
        weights * flux * samples.pixels, *common, grid.size, grid.scale, grid.lanczos
    )
    inverse_diagonal = 1.0 / (_diagonal(grid, samples, normal_weights) + ridge)
    solution = start.copy()
    residual = target - apply(solution)
    scaled = inverse_diagonal * residual
    direction = scaled.copy()
    power = float(np.vdot(residual, scaled))
    limit = tolerance**2 * float(np.vdot(target, inverse_diagonal * target))
    for _ in range(iterations):
        if power <= limit:
            break
        product = apply(direction)
        step = power / float(np.vdot(direction, product))
        solution += step * direction
        residual -= step * product
        scaled = inverse_diagonal * residual
        previous, power = power, float(np.vdot(residual, scaled))
        direction *= power / previous
        direction += scaled
    return solution


def _diagonal(grid: Grid, samples: Samples, normal_weights: Array) -> Array:
    """Weight each super-pixel receives from all stars: the normal matrix' diagonal for a whitened basis, nearly.

    Bright stars weigh in the wings many times more than in the core, where the accuracy of the model limits them;
    without this preconditioner the core converges slowly.
    """
    one = np.ones((len(samples), 1))
    diagonal = psf_draw_transposed(
        normal_weights, one, samples.dx, samples.dy, grid.size, grid.scale, grid.lanczos
    )
    return np.asarray(np.maximum(diagonal, 1e-3 * diagonal.max(initial=0.0)))
