"""base_PsfFlux: the amplitude of the PSF that fits the pixels best (reference: measurement.md section 7)."""

from __future__ import annotations

import numpy as np

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.configuration import Configuration
from streamchar.kernels import psf_flux


class PsfFluxConfig(Configuration):
    """Settings of base_PsfFlux."""

    bad_mask_planes: tuple[str, ...] = ()
    """Pixels with one of these planes are left out of the fit."""


class PsfFlux(Plugin[PsfFluxConfig]):
    """Unweighted least-squares amplitude of the PSF image at the centroid.

    Sources whose PSF image is clipped by the edge are measured and flagged; a flux that is not finite (NaN pixels, no
    pixel left) is flagged and NaN.
    """

    name = "base_PsfFlux"
    config_class = PsfFluxConfig
    centroid_alias = True

    @property
    def columns(self) -> tuple[Column, ...]:
        """Flux, error, quality of the fit, flags."""
        name = self.name
        return (
            Column(f"{name}_instFlux", "<f8", "count", "flux of the fitted PSF"),
            Column(f"{name}_instFluxErr", "<f8", "count", "standard error of the flux"),
            Column(f"{name}_area", "<f4", "pixel", "effective area of the PSF"),
            Column(f"{name}_chi2", "<f4", "", "chi-squared of the fit"),
            Column(f"{name}_npixels", "<i4", "pixel", "pixels in the fit"),
            flag(f"{name}_flag", "the flux failed or is doubtful"),
            flag(f"{name}_flag_noGoodPixels", "no pixel to fit"),
            flag(f"{name}_flag_edge", "the PSF image is clipped by the edge"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill flux, error, quality and flags."""
        exposure, stamps = context.exposure, context.psf_stamps
        values, pixels, clipped = psf_flux(
            context.scene,
            exposure.variance,
            exposure.mask,
            exposure.bits(*self.config.bad_mask_planes),
            stamps.images,
            stamps.x0,
            stamps.y0,
        )
        invalid_psf = ~np.isfinite(stamps.images.sum(axis=(1, 2)))
        context.invalid_psf |= invalid_psf
        failed = ~np.isfinite(values[:, :2]).all(axis=1)
        values[failed, :2] = np.nan
        with np.errstate(over="ignore"):
            for suffix, column in zip(("instFlux", "instFluxErr", "area", "chi2"), values.T, strict=True):
                context.catalog[f"{self.name}_{suffix}"] = column
        context.catalog[f"{self.name}_npixels"] = pixels
        context.catalog[f"{self.name}_flag"] |= failed | clipped | invalid_psf | context.centres().flagged
        context.catalog[f"{self.name}_flag_noGoodPixels"] |= pixels == 0
        context.catalog[f"{self.name}_flag_edge"] |= clipped
