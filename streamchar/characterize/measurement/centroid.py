"""base_SdssCentroid: the peak of the PSF-smoothed image (reference: measurement.md section 3)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import Array, Flags, MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.characterize.measurement.psf_fit import PsfFitConfig, fit_positions
from streamchar.configuration import Configuration
from streamchar.kernels import footprints_contain, sdss_centroid

EDGE, NO_SECOND_DERIVATIVE, NOT_AT_MAXIMUM, NEAR_EDGE = 1, 2, 4, 8
"""Bits of the kernel."""


class SdssCentroidConfig(Configuration):
    """Settings of base_SdssCentroid."""

    binmax: int = Field(default=16, ge=1)
    """Largest binning of extended sources."""
    peak_min: float = -1.0
    """Bin at least once when the smoothed peak is below; negative never forces it."""
    wfac: float = Field(default=1.5, gt=0)
    """Bin when the source is wider than this many times the PSF's width."""
    do_footprint_check: bool = True
    """Reset centroids outside the footprint to the peak."""
    max_dist_to_peak: float = 1.0
    """Reset centroids farther than this from the peak, in pixels; negative allows any distance."""
    do_subtract_sky_variance: bool = True
    """Count the sky's noise once in the errors. The reference counts it a second time as noise of the source, which makes
    errors of faint sources a fifth too large."""
    refine: Literal["none", "psf_fit"] = "psf_fit"
    """``psf_fit``: start a maximum-likelihood fit of the PSF at the centroid, which reaches the Cramer-Rao bound where the
    smoothed peak's error is up to 2.4 times as large (S/N 900); ``none``: the smoothed peak."""
    psf_fit: PsfFitConfig = PsfFitConfig()
    """Settings of that fit. Sources that it does not suit (extended, blended) keep the smoothed peak."""


class SdssCentroid(Plugin[SdssCentroidConfig]):
    """Smooth with the PSF, fit the peak along both axes, bin and repeat while the source is wider than the PSF.

    The search starts at the centroid of an earlier pass, else at the first peak. Sources whose search fails keep the
    start position with NaN errors. NaN pixels inside the PSF's box make the position NaN: it is then reset to the peak.
    """

    name = "base_SdssCentroid"
    order = 0.0
    config_class = SdssCentroidConfig

    @property
    def columns(self) -> tuple[Column, ...]:
        """Position, errors and flags."""
        name = self.name
        return (
            Column(f"{name}_x", "<f8", "pixel", "x of the centroid"),
            Column(f"{name}_y", "<f8", "pixel", "y of the centroid"),
            Column(f"{name}_xErr", "<f4", "pixel", "standard error of x"),
            Column(f"{name}_yErr", "<f4", "pixel", "standard error of y"),
            flag(f"{name}_flag", "the centroid failed or is doubtful"),
            flag(f"{name}_flag_edge", "too close to the edge; the start position is kept"),
            flag(f"{name}_flag_noSecondDerivative", "the smoothed peak has no curvature"),
            flag(f"{name}_flag_almostNoSecondDerivative", "never set, kept for compatibility"),
            flag(f"{name}_flag_notAtMaximum", "the smoothed image has no maximum at the start position"),
            flag(
                f"{name}_flag_near_edge",
                "close to the edge: smoothed with a small kernel (doubtful unless a fit of the PSF refined it)",
            ),
            flag(f"{name}_flag_resetToPeak", "moved back to the first peak"),
            flag(f"{name}_flag_badError", "the errors are not finite"),
        )

    def roughly(self) -> SdssCentroid:
        """Return it without the refinement, which moves positions by less than widths feel."""
        return SdssCentroid(self.config.model_copy(update={"refine": "none"}), self.slots, self.name)

    def measure(self, context: MeasurementContext) -> None:
        """Fill position, errors and flags."""
        sigma = np.asarray(context.psf_shapes.determinant_radius, np.float64)
        values, bits = sdss_centroid(
            context.scene,
            context.exposure.variance,
            *context.start,
            context.negative(),
            context.centred_kernels,
            sigma,
            self.config.binmax,
            self.config.peak_min,
            self.config.wfac,
            self.config.do_subtract_sky_variance,
        )
        invalid_psf = ~np.isfinite(sigma)
        context.invalid_psf |= invalid_psf
        done = (bits & (EDGE | NO_SECOND_DERIVATIVE | NOT_AT_MAXIMUM)) == 0
        bad_error = done & ~np.isfinite(values[:, 2:]).all(axis=1)
        reset = done & self._astray(context, values[:, 0], values[:, 1])
        x, y = (np.where(reset, peak, value) for peak, value in zip(context.peaks, values.T[:2], strict=True))
        refined = np.zeros(len(context), np.bool_)
        if self.config.refine == "psf_fit":
            fits = fit_positions(context, x, y, done & ~bad_error, self.config.psf_fit)
            refined = fits.good
            x, y = np.where(refined, fits.x, x), np.where(refined, fits.y, y)
            values[refined, 2], values[refined, 3] = fits.x_error[refined], fits.y_error[refined]
        self._store(context, x, y, values)
        near_edge = (bits & NEAR_EDGE) != 0
        raised = {
            # The fit needs no whole kernel on the image, so being near the edge does not harm it.
            "": ((bits & ~NEAR_EDGE) != 0) | (near_edge & ~refined) | bad_error | reset | invalid_psf,
            "_edge": (bits & EDGE) != 0,
            "_noSecondDerivative": (bits & NO_SECOND_DERIVATIVE) != 0,
            "_notAtMaximum": (bits & NOT_AT_MAXIMUM) != 0,
            "_near_edge": near_edge,
            "_resetToPeak": reset,
            "_badError": bad_error,
        }
        for suffix, flags in raised.items():
            context.catalog[f"{self.name}_flag{suffix}"] |= flags

    def _store(self, context: MeasurementContext, x: Array, y: Array, values: Array) -> None:
        columns = {"x": x, "y": y, "xErr": values[:, 2], "yErr": values[:, 3]}
        for suffix, column in columns.items():
            context.catalog[f"{self.name}_{suffix}"] = column

    def _astray(self, context: MeasurementContext, x: Array, y: Array) -> Flags:
        peak_x, peak_y = context.peaks
        astray = ~(np.isfinite(x) & np.isfinite(y))
        if self.config.do_footprint_check:
            f = context.footprints
            astray |= ~footprints_contain(f.span_y, f.span_x0, f.span_x1, f.span_start, x, y)
        if self.config.max_dist_to_peak > 0:
            astray |= np.hypot(x - peak_x, y - peak_y) > self.config.max_dist_to_peak
        return astray
