"""base_PsfFlux: the amplitude of the PSF that fits the pixels best (reference: measurement.md section 7)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import Array, Flags, MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.characterize.measurement.psf_fit import (
    FLUX_ERROR,
    LIGHT,
    MOVES,
    SPREADING_PLANES,
    UNUSABLE_PLANES,
    OutlierConfig,
)
from streamchar.configuration import Configuration
from streamchar.kernels import psf_fit, psf_flux

Pixels = NDArray[np.int32]


class _FluxOutliers(OutlierConfig):
    tolerance: float = Field(default=0.01, ge=0, le=1)
    """Error of the model as a fraction of itself, added to the noise: less than while sources are not yet in place."""


class PsfFluxConfig(Configuration):
    """Settings of base_PsfFlux."""

    bad_mask_planes: tuple[str, ...] = UNUSABLE_PLANES
    """Pixels with one of these planes are left out of the fit; planes that the exposure does not have are ignored."""
    spreading_mask_planes: tuple[str, ...] = SPREADING_PLANES
    """Those of these planes whose pixels' neighbours are left out as well; not in the plain sum."""
    weighting: Literal["uniform", "inverse_variance"] = "inverse_variance"
    """Weights of the pixels: from the variance that the fitted model implies, or equal (the reference's). Equal weights have
    1.11 to 1.15 times the least noise for bright stars, and an error of the PSF's size enters their fluxes by half as much again:
    what decides on a bright star's flux with the others is how much light there is, not how it is spread."""
    outliers: _FluxOutliers = _FluxOutliers()
    """Further pixels to leave out."""
    min_light: float = Field(default=0.1, ge=0, le=1)
    """With less of the PSF on usable pixels the flux is flagged."""
    min_edge_light: float = Field(default=0.5, ge=0, le=1)
    """Fluxes of PSF images clipped by the edge are doubtful when less of the PSF is on usable pixels."""

    @property
    def is_plain(self) -> bool:
        """Whether the fit is a plain sum: no weights and no outliers."""
        return self.weighting == "uniform" and self.outliers.threshold == 0


class PsfFlux(Plugin[PsfFluxConfig]):
    """Least-squares amplitude of the PSF image at the centroid.

    Weights come from a constant plus a multiple of the PSF fitted to the variance plane: the plane itself follows the noise of
    single pixels, which makes fluxes too small (Humphrey et al. 2009).

    Where pixels are missing the flux depends on the position; the error then includes that of the centroid.

    Sources whose PSF image is clipped by the edge, or
    that have too few usable pixels, are measured and flagged; a flux that is not finite (no pixel left; in the plain sum
    also NaN pixels) is flagged and NaN.
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
            flag(f"{name}_flag_noGoodPixels", "no pixel, or too little of the PSF, to fit"),
            flag(f"{name}_flag_edge", "the PSF image is clipped by the edge"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill flux, error, quality and flags."""
        stamps = context.psf_stamps
        values, light, pixels, clipped = self._plain(context) if self.config.is_plain else self._fit(context)
        # Of images of unit sum all pixels are NaN or none.
        invalid_psf = ~np.isfinite(stamps.images[:, 0, 0])
        context.invalid_psf |= invalid_psf
        failed = ~np.isfinite(values[:, :2]).all(axis=1)
        values[failed, :2] = np.nan
        for suffix, column in zip(("instFlux", "instFluxErr", "area", "chi2"), values.T, strict=True):
            context.catalog[f"{self.name}_{suffix}"] = column
        context.catalog[f"{self.name}_npixels"] = pixels
        cut_off = clipped & (light < max(self.config.min_edge_light, self.config.min_light))
        too_few = (pixels == 0) | (light < self.config.min_light)
        context.catalog[f"{self.name}_flag"] |= (
            failed | cut_off | invalid_psf | too_few | context.centres().flagged
        )
        context.catalog[f"{self.name}_flag_noGoodPixels"] |= too_few
        context.catalog[f"{self.name}_flag_edge"] |= clipped

    def _plain(self, context: MeasurementContext) -> tuple[Array, Array, Pixels, Flags]:
        exposure, stamps = context.exposure, context.psf_stamps
        bits = exposure.present_bits(*self.config.bad_mask_planes)
        values, pixels, clipped = psf_flux(
            context.scene, exposure.variance, exposure.mask, bits, stamps.images, stamps.x0, stamps.y0
        )
        # What is clipped is not told from what is left: the flux at the edge is always doubtful.
        return values, np.where(clipped, self.config.min_light, 1.0), pixels, clipped

    def _fit(self, context: MeasurementContext) -> tuple[Array, Array, Pixels, Flags]:
        exposure, stamps, config = context.exposure, context.psf_stamps, self.config
        values, pixels, clipped = psf_fit(
            context.scene,
            exposure.variance,
            exposure.mask,
            exposure.present_bits(*config.bad_mask_planes),
            np.arange(len(context)),
            stamps.images,
            stamps.x0,
            stamps.y0,
            position=False,
            weighted=config.weighting == "inverse_variance",
            reject=config.outliers.threshold,
            tolerance=config.outliers.tolerance,
            reject_max=config.outliers.max_pixels,
            spread=exposure.present_bits(*config.spreading_mask_planes),
        )
        light, found = values[:, LIGHT], values[:, :4].copy()
        found[:, FLUX_ERROR] = np.hypot(found[:, FLUX_ERROR], _error_of_place(context, values[:, MOVES]))
        return found, light, pixels, clipped


def _error_of_place(context: MeasurementContext, change: Array) -> Array:
    """Error of the flux that comes from the centroid's; zero where the centroid has no error."""
    centroid = context.slots.centroid
    names = [f"{centroid}_{axis}Err" for axis in "xy"]
    if not all(name in context.catalog for name in names):
        return np.zeros(len(context))
    errors = np.stack([context.catalog[name] for name in names], axis=1)
    return np.asarray(np.hypot(*np.where(np.isfinite(errors), errors * change, 0.0).T))
