"""What the diagrams of a characterization show, as plain arrays taken from its products."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.psf.candidates import cut_stamps
from streamchar.characterize.psf.measure import PsfMeasurement
from streamchar.characterize.psf.residuals import psf_residuals
from streamchar.frozen import frozen
from streamchar.image import Exposure, Moments
from streamchar.robust import median, scatter

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@frozen(eq=False)
class SizeMagnitude:
    """Size and brightness of n sources; NaN where one of them is not known.

    Attributes
    ----------
    magnitude
        float64 (n): −2.5 log10 of the PSF flux in image units.
    radius
        float64 (n): trace radius √((xx + yy)/2) in pixels.
    used, reserved
        bool (n): took part in the PSF fit; held back from it.
    """

    magnitude: Array
    radius: Array
    used: Flags
    reserved: Flags

    @classmethod
    def of(cls, catalog: SourceCatalog) -> Self:
        """Take them from a catalogue with the slots PsfFlux and Shape."""
        flux = catalog["slot_PsfFlux_instFlux"]
        with np.errstate(invalid="ignore", divide="ignore"):
            magnitude = np.where(flux > 0, -2.5 * np.log10(flux), np.nan)
        moments = Moments(*(catalog[f"slot_Shape_{name}"] for name in ("xx", "yy", "xy")))
        return cls(
            np.asarray(magnitude, np.float64),
            np.asarray(moments.trace_radius, np.float64),
            catalog["calib_psf_used"],
            catalog["calib_psf_reserved"],
        )

    @property
    def locus(self) -> tuple[float, float]:
        """Median radius of the used stars and its scatter (scaled median absolute deviation); NaN without any."""
        radius = self.radius[self.used & np.isfinite(self.radius)]
        if not len(radius):
            return float("nan"), float("nan")
        middle = float(median(radius))
        return middle, float(scatter(radius, middle))


@frozen(eq=False)
class Whiskers:
    """Ellipticities of n objects on an exposure.

    Attributes
    ----------
    x, y
        float64 (n): positions in pixels.
    e1, e2
        float64 (n): (xx − yy)/(xx + yy) and 2 xy/(xx + yy).
    shape
        Height and width of the exposure in pixels.
    """

    x: Array
    y: Array
    e1: Array
    e2: Array
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.x)

    def finite(self) -> Self:
        """Those of which everything is known."""
        kept = np.isfinite(self.x) & np.isfinite(self.y) & np.isfinite(self.e1) & np.isfinite(self.e2)
        return replace(self, x=self.x[kept], y=self.y[kept], e1=self.e1[kept], e2=self.e2[kept])

    def averaged(self, cells: int) -> Self:
        """Return medians over ``cells`` x ``cells`` equal parts of the exposure, for a legible plot of many objects."""
        known = self.finite()
        height, width = self.shape
        column = np.clip((known.x + 0.5) * cells // width, 0, cells - 1).astype(np.int64)
        row = np.clip((known.y + 0.5) * cells // height, 0, cells - 1).astype(np.int64)
        cell = row * cells + column
        members = [np.flatnonzero(cell == number) for number in np.unique(cell)]
        medians = np.array(
            [[np.median(part[rows]) for part in (known.x, known.y, known.e1, known.e2)] for rows in members]
        ).reshape(-1, 4)
        x, y, e1, e2 = medians.T
        return replace(self, x=x, y=y, e1=e1, e2=e2)

    @property
    def rms(self) -> float:
        """Root mean square of one component, both taken together; NaN without objects."""
        known = self.finite()
        if not len(known):
            return float("nan")
        return float(np.sqrt(0.5 * np.mean(known.e1**2 + known.e2**2)))


@frozen(eq=False)
class PsfWhiskers:
    """Ellipticities of PSF stars, of the model where they stand, and the difference.

    Attributes
    ----------
    stars, model, residual
        Star, model, star minus model, in the same order.
    reserved
        bool (n): held back from the fit.
    """

    stars: Whiskers
    model: Whiskers
    residual: Whiskers
    reserved: Flags

    @classmethod
    def of(cls, exposure: Exposure, catalog: SourceCatalog, measurement: PsfMeasurement) -> Self:
        """Measure them on the pixels of the used and reserved stars."""
        found = psf_residuals(exposure, catalog, measurement.psf, measurement.stars)
        chosen = found.used | found.reserved
        x, y, e1, e2 = (part[chosen] for part in (found.x, found.y, found.e1, found.e2))
        shapes = measurement.psf.shapes(x, y)
        shape = exposure.shape
        return cls(
            Whiskers(x, y, shapes.e1 + e1, shapes.e2 + e2, shape),
            Whiskers(x, y, shapes.e1, shapes.e2, shape),
            Whiskers(x, y, e1, e2, shape),
            found.reserved[chosen],
        )


@frozen(eq=False)
class StarStamps:
    """Images of n PSF stars and what is left of them after subtracting the model.

    Attributes
    ----------
    stars
        float64 (n, size, size): in units of the model's peak.
    residuals
        float64 (n, size, size): star minus model in standard deviations of the pixel.
    reserved
        bool (n): held back from the fit.
    """

    stars: Array
    residuals: Array
    reserved: Flags

    def __len__(self) -> int:
        return len(self.stars)

    @property
    def worst(self) -> Array:
        """Largest absolute residual of each star, in standard deviations: float64 (n); NaN without a finite pixel."""
        size = np.abs(self.residuals)
        worst = np.where(np.isfinite(size), size, -np.inf).max(axis=(1, 2), initial=-np.inf)
        return np.where(np.isfinite(worst), worst, np.nan)


def star_stamps(exposure: Exposure, measurement: PsfMeasurement, count: int = 6) -> StarStamps:
    """Cut the brightest used and the brightest reserved stars and subtract the model, scaled to each star.

    The scale is the least-squares amplitude over the stamp's usable pixels. Stars whose stamp leaves the exposure or
    whose position is not finite are left out.

    Parameters
    ----------
    exposure
        Background subtracted.
    measurement
        Model and stars.
    count
        Stars of either kind at most; twice as many used ones when none is reserved.
    """
    stars = measurement.stars
    flux = np.where(np.isfinite(stars.flux), stars.flux, -np.inf)
    brightest = np.argsort(-flux, kind="stable")
    used = brightest[(stars.used & ~stars.reserved)[brightest]]
    held_back = brightest[stars.reserved[brightest]][:count]
    chosen = np.concatenate([used[: count if len(held_back) else 2 * count], held_back])
    x, y, reserved = stars.x[chosen], stars.y[chosen], stars.reserved[chosen]
    size = _stamp_size(measurement, exposure.shape)
    image, inside = cut_stamps(exposure.image, x, y, size)
    variance, _ = cut_stamps(exposure.variance, x, y, size)
    light, noise = image[inside].astype(np.float64), variance[inside].astype(np.float64)
    if not inside.any():
        none = np.empty((0, size, size))
        return StarStamps(none, none, np.empty(0, np.bool_))
    margin = (measurement.psf.size[0] - size) // 2
    inner = slice(margin, margin + size)
    model = measurement.psf.images(x[inside], y[inside]).images[:, inner, inner]
    with np.errstate(invalid="ignore", divide="ignore"):
        usable = np.isfinite(light) & np.isfinite(noise) & (noise > 0)
        # Weighted by the model alone: weights from the noisy variance plane would favour pixels that fluctuate down.
        amplitude = np.where(usable, light * model, 0.0).sum(axis=(1, 2))
        amplitude /= np.where(usable, model * model, 0.0).sum(axis=(1, 2))
        scaled = amplitude[:, None, None] * model
        stamps = light / scaled.max(axis=(1, 2), keepdims=True)
        residuals = np.where(usable, (light - scaled) / np.sqrt(noise), np.nan)
    return StarStamps(stamps, residuals, reserved[inside])


def _stamp_size(measurement: PsfMeasurement, shape: tuple[int, int]) -> int:
    """Seven sigma of the PSF on either side, odd, not more than the model has."""
    height, width = shape
    sigma = float(measurement.psf.shapes(0.5 * width, 0.5 * height).determinant_radius[0])
    largest = measurement.psf.size[0]
    return min(largest, 2 * int(np.ceil(7 * sigma)) + 1) if np.isfinite(sigma) else largest
