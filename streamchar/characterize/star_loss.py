"""How many star cores the cosmic-ray finder took: its self-check in good seeing.

A star sharper than the point-spread function the finder was given looks like a cosmic ray to it. Stars
betray themselves: they are round, follow one profile, and agree in width; of real cosmic rays few per cent
do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.bright_peaks import REACH, SIDE, BrightPeaks
from streamchar.frozen import frozen
from streamchar.image.psf import cut_middle
from streamchar.kernels import window_bits
from streamchar.robust import median_of_sorted

_NEIGHBOUR_SIGNIFICANCE = 3.0
"""Every neighbour of a star's peak is at least this bright in sky standard deviations."""

_ROUNDNESS = 0.35
"""Largest relative difference of the curvatures along x and y, and of the diagonals from a Gaussian's."""

_WIDTH_WINDOW = 1.15 / 0.85
"""Widest over narrowest of stars of one width: they agree to within 15 per cent, either way."""

_SIGMA_RANGE = (0.4, 1.5)
"""Widths considered, as fractions of the given point-spread function's."""

_NEIGHBOURS = np.delete(
    np.arange(SIDE**2).reshape(SIDE, SIDE)[REACH - 1 : REACH + 2, REACH - 1 : REACH + 2], 4
)
"""Which of the pixels around a peak touch it, row by row."""

_CROSS = np.array([[0, 0, 0, -1, 1], [0, -1, 1, 0, 0]])[..., None]
"""Steps along y and x to a pixel itself and to those at its sides."""


@frozen
class StarLoss:
    """Point-like peaks and how many of them carry a cosmic-ray pixel.

    Attributes
    ----------
    peaks
        Bright round local maxima of the most common width.
    touched
        Those with a cosmic-ray pixel at the peak or beside it.
    sigma
        Their width, as the sigma of a Gaussian in pixels; NaN without peaks.
    """

    peaks: int = 0
    touched: int = 0
    sigma: float = float("nan")

    @property
    def fraction(self) -> float:
        """Touched peaks per peak, 0 without peaks."""
        return self.touched / self.peaks if self.peaks else 0.0


@frozen(eq=False)
class PointLikePeaks:
    """Bright round local maxima of one width, the most common.

    Attributes
    ----------
    y, x
        int32 (n): pixel of each.
    sigma
        Their width as the sigma of a Gaussian, in pixels, with the pixel's own width; NaN without peaks.
    """

    y: NDArray[np.int32]
    x: NDArray[np.int32]
    sigma: float

    @property
    def count(self) -> int:
        """Number of peaks."""
        return len(self.y)

    def loss(self, mask: NDArray[np.int32], cosmic_bit: int) -> StarLoss:
        """Count those that carry ``cosmic_bit``."""
        dy, dx = _CROSS
        touched = (mask[self.y + dy, self.x + dx] & cosmic_bit).any(axis=0)
        return StarLoss(self.count, int(np.count_nonzero(touched)), self.sigma)


@frozen(eq=False)
class RoundPeaks:
    """Bright local maxima as wide along x as along y, the narrowest first.

    Attributes
    ----------
    y, x
        int32 (n): pixel of each.
    sigma
        float64 (n), ascending: width as the sigma of a Gaussian, in pixels, with the pixel's own width.
    """

    y: NDArray[np.int32]
    x: NDArray[np.int32]
    sigma: NDArray[np.float64]

    def point_like(self, psf_sigma: float) -> PointLikePeaks:
        """Choose those in the fullest window of widths near the PSF's, ``psf_sigma`` pixels; the narrowest in a tie."""
        low, high = _SIGMA_RANGE
        first = int(np.searchsorted(self.sigma, low * psf_sigma, side="right"))
        near = self.sigma[first : np.searchsorted(self.sigma, high * psf_sigma)]
        if len(near) == 0:
            return PointLikePeaks(self.y[:0], self.x[:0], float("nan"))
        inside = np.searchsorted(near, near * _WIDTH_WINDOW, side="right") - np.arange(len(near))
        narrowest = int(np.argmax(inside))
        chosen = slice(first + narrowest, first + narrowest + int(inside[narrowest]))
        return PointLikePeaks(self.y[chosen], self.x[chosen], float(median_of_sorted(self.sigma[chosen])))


def find_round_peaks(
    bright: BrightPeaks, mask: NDArray[np.int32], *, background: float, bad_bits: int
) -> RoundPeaks:
    """Choose the bright local maxima that look like stars of any width.

    On a sampled Gaussian ln(p₀²/(p₋₁ p₊₁)) = 1/σ² along any line of pixels through the peak, wherever the
    centre lies within the peak's pixel. Curvatures along x and y must agree, and those along the diagonals
    must be their sum.

    Parameters
    ----------
    bright
        Bright peaks of an exposure.
    mask
        Of that exposure; not modified.
    background
        Sky level.
    bad_bits
        Peaks whose 3 × 3 pixels have any of these bits are left out.
    """
    y, x, peak = bright.y, bright.x, bright.height
    around = bright.around[:, _NEIGHBOURS].T.astype(np.float64) - background
    planes, _ = window_bits(mask, x.astype(np.int64), y.astype(np.int64), 1)
    good = (around > _NEIGHBOUR_SIGNIFICANCE * bright.noise).all(axis=0) & ((planes & bad_bits) == 0)
    y, x, peak, around = y[good], x[good], peak[good], around[:, good]
    # Opposite neighbours stand at opposite ends of the list; one may be infinite.
    with np.errstate(invalid="ignore"):
        swne, ns, nwse, we = (np.log(peak**2 / (around[k] * around[-1 - k])) for k in range(4))
        mean = 0.5 * (ns + we)
        round_ = (np.abs(ns - we) < _ROUNDNESS * mean) & (
            np.abs(swne + nwse - 4.0 * mean) < _ROUNDNESS * 4.0 * mean
        )
    narrowest_first = np.flatnonzero(round_)[np.argsort(-mean[round_], kind="stable")]
    return RoundPeaks(y[narrowest_first], x[narrowest_first], 1.0 / np.sqrt(mean[narrowest_first]))


def core(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 3 x 3 pixels about the middle of a PSF's image, 0 outside of it, in units of the middle one."""
    middle = cut_middle(kernel, 1)
    return np.asarray(middle / middle[1, 1])


def core_width(kernel: NDArray[np.float64]) -> float:
    """Measure the width of the PSF's image as that of peaks, about its middle pixel; NaN without light beside it."""
    beside = core(kernel)[[0, 2, 1, 1], [1, 1, 0, 2]]
    if not (beside > 0).all():
        return float("nan")
    return float(1.0 / np.sqrt(-0.5 * np.log(beside).sum()))
