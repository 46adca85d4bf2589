"""ext_pointSource_Broadening: how much wider than the PSF a source is, a companion beside it being allowed for."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import Flags, MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.characterize.measurement.psf_fit import UNUSABLE_PLANES
from streamchar.configuration import Configuration
from streamchar.kernels import psf_broadening

BROADENING = "ext_pointSource_Broadening"

LAPLACIAN, COMPANION, LIGHT = 0, 1, 4
"""Columns of the kernel."""


class BroadeningConfig(Configuration):
    """Settings of ext_pointSource_Broadening."""

    bad_mask_planes: tuple[str, ...] = UNUSABLE_PLANES
    """Pixels with one of these planes are left out."""
    min_flux_ratio: float = Field(default=1.0, ge=0)
    """Sources are fitted whose model flux reaches this many times their PSF flux, both before aperture corrections. Below 1
    they are points: a Gaussian misses the wings of a star that its PSF has. Without slots for both fluxes all are fitted."""
    min_significance: float = Field(default=20.0, ge=0)
    """Sources are fitted whose PSF flux is this many times its error. The broadening's error is at best the inverse of that
    (for a Gaussian PSF in flat noise, without a companion): of fainter sources it reaches what galaxies are told by."""
    reach: float = Field(default=3.5, gt=0)
    """Half width of the fitted square, over the PSF's width: beyond it the broadening is within the noise."""
    nearest: float = Field(default=1.4, gt=0)
    """Smallest distance of a companion, over the PSF's width. Two stars nearer than 0.6 FWHM cannot be told from a broad one."""
    farthest: float = Field(default=3.75, gt=0)
    """Largest distance of a companion, over the PSF's width: 1.6 FWHM, from where on stars make peaks of their own."""
    step: float = Field(default=0.6, gt=0)
    """Distance between the places where a companion is tried, over the PSF's width, rounded to whole pixels."""
    min_light: float = Field(default=0.5, ge=0, le=1)
    """With less of the PSF on usable pixels the broadening is flagged."""


class Broadening(Plugin[BroadeningConfig]):
    """Amplitude of the PSF's Laplacian in a fit of flux, place, width and one companion, as a fraction of the flux.

    To first order a source whose squared width exceeds the PSF's by a fraction e is the PSF plus e / 2 times its Laplacian
    times the squared width, so the value is e / 2 for small e: the flux that an adaptive Gaussian finds above that of the
    PSF, too. It is 0 for a star and approaches 1/2 for wide sources. The light of an unresolved neighbour broadens a star
    as much as a galaxy is broad, but on one side only: a second star in the fit takes it away (Stetson 1987 fits such
    groups together), where from a galaxy it takes little. Compared with SPREAD_MODEL (Desai et al. 2012), which compares a source with the
    PSF and one broadened PSF, the broadening's amount is free and the companion is new.

    All pixels weigh the same, so that errors of the PSF in a bright star's core do not decide.
    """

    name = BROADENING
    order = 3.0
    config_class = BroadeningConfig

    @property
    def columns(self) -> tuple[Column, ...]:
        """Broadening, companion and flag."""
        name = self.name
        return (
            Column(
                f"{name}_value",
                "<f4",
                "",
                "half the relative excess of the squared width over the PSF's, to first order; NaN where the fluxes tell a point, or too little",
            ),
            Column(f"{name}_companion", "<f4", "", "flux of a companion over the source's, 0 for none"),
            flag(f"{name}_flag", "the broadening could not be measured"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the columns of the sources whose fluxes suggest that they are extended, and are known well enough."""
        stamps, centres = context.psf_stamps, context.centres()
        rows = np.flatnonzero(
            self._may_be_extended(context) & np.isfinite(centres.x) & np.isfinite(centres.y)
        )
        width = np.asarray(context.psf_shapes.determinant_radius, np.float64)[rows]
        found = psf_broadening(
            context.scene,
            context.exposure.mask,
            context.exposure.present_bits(*self.config.bad_mask_planes),
            rows,
            np.ascontiguousarray(stamps.images[rows]),
            stamps.x0[rows],
            stamps.y0[rows],
            width,
            self.config.reach,
            self.config.nearest,
            self.config.farthest,
            self.config.step,
        )
        measured = np.isfinite(found[:, LAPLACIAN]) & (found[:, LIGHT] >= self.config.min_light)
        for suffix, column in (("value", found[:, LAPLACIAN] / width**2), ("companion", found[:, COMPANION])):
            values = np.full(len(context), np.nan)
            values[rows] = np.where(measured, column, np.nan)
            context.catalog[f"{self.name}_{suffix}"] = values
        failed = np.zeros(len(context), np.bool_)
        failed[rows] = ~measured
        context.catalog[f"{self.name}_flag"] |= failed

    def _may_be_extended(self, context: MeasurementContext) -> Flags:
        slots = (self.slots.model_flux, self.slots.psf_flux)
        if not all(slots):
            return np.ones(len(context), np.bool_)
        model, point = (context.catalog[f"{slot}_instFlux"] for slot in slots)
        faint = point < self.config.min_significance * context.catalog[f"{self.slots.psf_flux}_instFluxErr"]
        # Fluxes that are not finite tell nothing, so these sources are fitted too.
        return np.asarray(~(faint | (model < self.config.min_flux_ratio * point)), np.bool_)
