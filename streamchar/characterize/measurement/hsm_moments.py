"""ext_shapeHSM: adaptive moments of sources and of the PSF (reference: measurement.md section 4)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import Array, Centres, Flags, MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.configuration import Configuration
from streamchar.kernels import hsm_moments, hsm_moments_of_stamps

_REASONS = {
    "no_pixels": "no pixel to measure",
    "not_contained": "the centroid is outside the footprint's box",
    "parent_source": "parent of a blend",
    "galsim": "the fit did not converge",
    "invalid_param": "the fitted moments are not valid",
    "edge": "at the edge of the image",
    "no_psf": "the exposure has no PSF",
}


class HsmMomentsConfig(Configuration):
    """Settings of ext_shapeHSM_HsmPsfMoments."""

    round_moments: bool = False
    """Use a circular weight."""
    add_flux: bool = False
    """Store the flux of the fitted Gaussian."""
    subtract_center: bool = False
    """Store offsets from the centroid slot instead of positions."""


class HsmSourceMomentsConfig(HsmMomentsConfig):
    """Settings of ext_shapeHSM_HsmSourceMoments."""

    bad_mask_planes: tuple[str, ...] = ("BAD", "SAT")
    """Pixels with one of these planes are taken as zero."""


class HsmPsfMomentsConfig(HsmMomentsConfig):
    """Settings of ext_shapeHSM_HsmPsfMoments."""

    subtract_center: bool = True
    """Store offsets from the centre of the PSF image instead of positions."""


class _HsmMoments:
    """Columns that both plugins share."""

    name: str
    config: HsmMomentsConfig

    @property
    def columns(self) -> tuple[Column, ...]:
        """Flags, adaptive centroid and moments."""
        name = self.name
        flux = (
            (Column(f"{name}_Flux", "<f8", "count", "flux of the fitted Gaussian"),)
            if self.config.add_flux
            else ()
        )
        return (
            flag(f"{name}_flag", "the moments failed or are doubtful"),
            *(flag(f"{name}_flag_{reason}", doc) for reason, doc in _REASONS.items()),
            Column(f"{name}_x", "<f8", "pixel", "x of the adaptive centroid"),
            Column(f"{name}_y", "<f8", "pixel", "y of the adaptive centroid"),
            Column(f"{name}_xx", "<f8", "pixel^2", "adaptive second moment along x"),
            Column(f"{name}_yy", "<f8", "pixel^2", "adaptive second moment along y"),
            Column(f"{name}_xy", "<f8", "pixel^2", "adaptive mixed second moment"),
            *flux,
        )

    def _store(self, context: MeasurementContext, values: Array, failed: Flags) -> None:
        names = ("x", "y", "xx", "yy", "xy", "Flux") if self.config.add_flux else ("x", "y", "xx", "yy", "xy")
        for suffix, column in zip(names, values.T, strict=False):
            context.catalog[f"{self.name}_{suffix}"] = column
        context.catalog[f"{self.name}_flag"] |= failed


class HsmSourceMoments(_HsmMoments, Plugin[HsmSourceMomentsConfig]):
    """Moments of an elliptical Gaussian weight matched to the source (Hirata & Seljak 2003).

    The fit sees the footprint's bounding box and starts where an earlier pass ended, else at the centroid with 2.5 times the
    width of the PSF. Where it fails the values are NaN and the general flag is raised, with ``not_contained`` or ``galsim``
    as the reason.
    """

    name = "ext_shapeHSM_HsmSourceMoments"
    order = 1.0
    config_class = HsmSourceMomentsConfig
    centroid_alias = True
    config: HsmSourceMomentsConfig

    START_WIDTH: ClassVar[float] = 2.5
    """Times the PSF's trace radius is the first weight's sigma."""

    def measure(self, context: MeasurementContext) -> None:
        """Fill moments and flags."""
        exposure, centres = context.exposure, context.centres()
        boxes = context.footprints.boxes
        values, converged = hsm_moments(
            context.scene,
            exposure.mask,
            exposure.bits(*self.config.bad_mask_planes),
            boxes,
            centres.x,
            centres.y,
            self.START_WIDTH * context.psf_shapes.trace_radius,
            self.config.round_moments,
            self._before(context, centres),
        )
        if self.config.subtract_center:
            values[:, 0] -= centres.x
            values[:, 1] -= centres.y
        self._store(context, values, ~converged | centres.flagged)
        column, row = np.floor(centres.x + 0.5), np.floor(centres.y + 0.5)
        outside = (column < boxes[:, 0]) | (row < boxes[:, 1]) | (column > boxes[:, 2]) | (row > boxes[:, 3])
        context.catalog[f"{self.name}_flag_not_contained"] |= outside
        context.catalog[f"{self.name}_flag_galsim"] |= ~converged & ~outside

    def _before(self, context: MeasurementContext, centres: Centres) -> Array:
        """Position and moments that the catalogue has from an earlier pass, float64 (n, 5)."""
        names = ("x", "y", "xx", "yy", "xy")
        before = np.stack([context.catalog[f"{self.name}_{name}"] for name in names], axis=1)
        if self.config.subtract_center:
            before[:, :2] += np.stack([centres.x, centres.y], axis=1)
        return before


class HsmPsfMoments(_HsmMoments, Plugin[HsmPsfMomentsConfig]):
    """The same moments of the PSF image at the source, without noise or neighbours.

    Positions are those of the source plus the PSF's offset from the centre of its image, or that offset alone with
    ``subtract_center``.
    """

    name = "ext_shapeHSM_HsmPsfMoments"
    order = 1.0
    config_class = HsmPsfMomentsConfig
    centroid_alias = True
    config: HsmPsfMomentsConfig

    def measure(self, context: MeasurementContext) -> None:
        """Fill moments and flags."""
        height, width = context.psf.size
        radius = np.asarray(context.psf_shapes.trace_radius)
        kernels = context.psf_kernels
        values, converged = hsm_moments_of_stamps(kernels, radius[: len(kernels)], self.config.round_moments)
        if len(kernels) < len(context):
            values = np.repeat(values, len(context), axis=0)
            converged = np.repeat(converged, len(context))
        values[:, 0] -= 0.5 * (width - 1)
        values[:, 1] -= 0.5 * (height - 1)
        centres = context.centres()
        if not self.config.subtract_center:
            values[:, 0] += centres.x
            values[:, 1] += centres.y
        context.invalid_psf |= ~np.isfinite(radius)
        self._store(context, values, ~converged | centres.flagged)
