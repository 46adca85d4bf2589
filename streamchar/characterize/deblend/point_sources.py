"""Which peaks of a blend are point sources (reference: deblend-and-streaks.md section 1.2 step 1)."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.errors import MissingPsfError
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.measurement.templates import kernel_images
from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM
from streamchar.characterize.psf.width import average_sigma
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure, Psf, PsfStamps
from streamchar.kernels import fit_point_sources

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

INNER, OUTER = 1.0, 1.5
"""Radii of the fitted disk in FWHM, rounded up to pixels: full weight up to the first, none from the second on."""
MAX_SHIFT = 1.0
"""Pixels along an axis; the fit is linear in the shift, and another pixel would have been the peak."""
DRAWN = 512
"""Peaks at which the PSF is drawn at a time."""
AMPLITUDE, CHI2, FREEDOM = range(3)
HERE, MOVING, SHIFT = slice(0, 3), slice(3, 6), slice(6, 8)
"""Columns of the kernel: of a fit, and of those at a place, with a shift from it, and of that shift."""


class PointSourceConfig(Configuration):
    """When the template of a peak is the PSF."""

    psf_chisq1: float = Field(default=1.5, ge=0)
    """Largest chi-squared per degree of freedom of the PSF at the peak; 0 for never."""
    psf_chisq2: float = Field(default=1.5, ge=0)
    """Largest chi-squared per degree of freedom of the PSF that may move; 0 for never."""
    psf_chisq2b: float = Field(default=1.5, ge=0)
    """Largest chi-squared per degree of freedom of the PSF drawn anew where it moved to."""
    tiny_footprint_size: int = Field(default=2, ge=2)
    """Peaks with a narrower box of pixels to fit are not tested."""
    mask_planes: tuple[str, ...] = ("SAT", "INTRP", "NO_DATA")
    """Pixels with one of these planes are left out of the fits."""

    @property
    def is_on(self) -> bool:
        """Whether any peak can become a point source."""
        return self.psf_chisq1 > 0 or self.psf_chisq2 > 0


@frozen
class PointSources:
    """Fits of n peaks as point sources.

    Attributes
    ----------
    good
        bool (n): the peak is one.
    x, y, flux
        float64 (n): position in pixels and flux in image units; NaN where it is not.
    """

    good: Flags
    x: Array
    y: Array
    flux: Array


def psf_of(exposure: Exposure) -> Psf:
    """Return the exposure's PSF.

    Raises
    ------
    MissingPsfError
        When it has none.
    """
    if exposure.psf is None:
        raise MissingPsfError
    return exposure.psf


def find_point_sources(exposure: Exposure, blends: Footprints, config: PointSourceConfig) -> PointSources:
    """Fit the PSF to every peak, with the PSFs of the other peaks of its footprint and a sky that slopes.

    A peak is a point source when the PSF fits at the peak's pixel; or when it fits after a shift to first order, and again
    when drawn there. Of two that fit the better one is taken.

    Parameters
    ----------
    exposure
        With a PSF.
    blends
        Footprints and their peaks.
    config
        Limits of chi-squared.

    Raises
    ------
    MissingPsfError
        When the exposure has no PSF.
    """
    psf, n = psf_of(exposure), len(blends.peak_x)
    if not n or not config.is_on:
        unknown = np.full(n, np.nan)
        return PointSources(np.zeros(n, np.bool_), unknown, unknown, unknown)
    fits = _Fits(exposure, psf, blends, exposure.present_bits(*config.mask_planes))
    at_peaks = fits.at_peaks(fits.are_wide_enough(config.tiny_footprint_size))
    here, shift = at_peaks[:, HERE], at_peaks[:, SHIFT].T
    movable = (_reduced(at_peaks[:, MOVING]) < config.psf_chisq2) & (np.abs(shift) < MAX_SHIFT).all(axis=0)
    places = fits.peaks + np.where(movable, shift, 0.0)
    there = fits.at_places(movable, places)
    misfit_here, misfit_there = _reduced(here), _reduced(there)
    first = (misfit_here < config.psf_chisq1) & (here[:, AMPLITUDE] > 0)
    second = (misfit_there < config.psf_chisq2b) & (there[:, AMPLITUDE] > 0)
    second &= ~first | (misfit_there < misfit_here)
    good = first | second
    x, y = np.where(good, np.where(second, places, fits.peaks), np.nan)
    flux = np.where(good, np.where(second, there[:, AMPLITUDE], here[:, AMPLITUDE]), np.nan)
    return PointSources(good, x, y, flux)


class _Fits:
    """Fits of the peaks of blends, the PSFs of their neighbours being held at the neighbours' pixels."""

    def __init__(self, exposure: Exposure, psf: Psf, blends: Footprints, bad: int) -> None:
        self.exposure, self.psf, self.blends, self.bad = exposure, psf, blends, bad
        self.peaks = np.stack([blends.peak_x, blends.peak_y]).astype(np.float64)
        fwhm = SIGMA_TO_FWHM * average_sigma(psf)
        self.radii = ceil(INNER * fwhm), ceil(OUTER * fwhm)
        height, width = self.psf.size
        corners = (blends.peak_x.astype(np.int64) - width // 2, blends.peak_y.astype(np.int64) - height // 2)
        self.stamps = PsfStamps(kernel_images(psf, *self.peaks), *corners)

    def are_wide_enough(self, smallest: int) -> Flags:
        """Whether the part of the fitted disk's box within the footprint's box is as wide and high as that."""
        blends, outer = self.blends, self.radii[1]
        x0, y0, x1, y1 = np.repeat(blends.boxes, blends.peak_count, axis=0).T
        width = np.minimum(x1, blends.peak_x + outer) - np.maximum(x0, blends.peak_x - outer) + 1
        height = np.minimum(y1, blends.peak_y + outer) - np.maximum(y0, blends.peak_y - outer) + 1
        return np.asarray((width >= smallest) & (height >= smallest))

    def at_peaks(self, wanted: Flags) -> Array:
        """Columns of the kernel for the wanted peaks, each at its pixel: without a shift and with one."""
        images = self.stamps.images
        own = PsfStamps(
            images if len(images) == 1 else images[wanted], self.stamps.x0[wanted], self.stamps.y0[wanted]
        )
        return self._fit(wanted, self.peaks, own, shift=True)

    def at_places(self, wanted: Flags, places: Array) -> Array:
        """The same at positions of their own, the PSF being drawn for some peaks at a time."""
        result = np.full((len(wanted), FREEDOM + 1), np.nan)
        rows = np.flatnonzero(wanted)
        for first in range(0, len(rows), DRAWN):
            some, chosen = rows[first : first + DRAWN], np.zeros(len(wanted), np.bool_)
            chosen[some] = True
            result[some] = self._fit(chosen, places, self.psf.images(*places[:, some]), shift=False)[some]
        return result

    def _fit(self, wanted: Flags, places: Array, own: PsfStamps, *, shift: bool) -> Array:
        exposure, blends = self.exposure, self.blends
        return fit_point_sources(
            exposure.image,
            exposure.variance,
            exposure.mask,
            self.bad,
            blends.span_y,
            blends.span_x0,
            blends.span_x1,
            blends.span_start,
            blends.peak_start,
            wanted,
            places[0],
            places[1],
            own.images,
            own.x0,
            own.y0,
            self.stamps.images,
            self.stamps.x0,
            self.stamps.y0,
            *self.radii,
            shift,
        )


def _reduced(fits: Array) -> Array:
    """Chi-squared per degree of freedom; NaN, which is below no limit, where there was no fit."""
    with np.errstate(invalid="ignore"):
        return np.asarray(fits[:, CHI2] / fits[:, FREEDOM])
