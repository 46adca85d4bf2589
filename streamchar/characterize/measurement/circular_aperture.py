"""base_CircularApertureFlux: fluxes within circles (reference: measurement.md section 8)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import Array, Flags, MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.characterize.measurement.sinc import sinc_coefficients
from streamchar.configuration import Configuration
from streamchar.kernels import sinc_aperture

TRUNCATED_WEIGHTS, TRUNCATED_APERTURE = 1, 2
"""Bits of the sinc kernel."""


class CircularApertureFluxConfig(Configuration):
    """Settings of base_CircularApertureFlux."""

    radii: tuple[Annotated[float, Field(gt=0, le=1000)], ...] = (3, 4.5, 6, 9, 12, 17, 25, 35, 50, 70)
    """Radii in pixels."""
    max_sinc_radius: float = 10.0
    """Largest radius measured with sub-pixel precision (sinc weights); larger circles add up whole pixels."""
    sinc_half_width: Literal[8, 16, 32] = 16
    """Least half width of the sinc weights in pixels. The reference's 8 makes fluxes within 3 pixels up to 1 % too large;
    16 leaves 0.05 %."""

    @field_validator("radii")
    @classmethod
    def _distinct(cls, radii: tuple[float, ...]) -> tuple[float, ...]:
        names = [radius_name(radius) for radius in radii]
        if len(set(names)) < len(names):
            raise ValueError(f"radii must differ in the first decimal, got {radii}")
        return radii


def radius_name(radius: float) -> str:
    """Write a radius as in column names: 4.5 as ``4_5``."""
    return f"{radius:.1f}".replace(".", "_")


class CircularApertureFlux(Plugin[CircularApertureFluxConfig]):
    """Sums of pixels within circles around the centroid: no sky is subtracted, masks are ignored, NaN propagates.

    A circle whose box leaves the image has no flux and is flagged.
    """

    name = "base_CircularApertureFlux"
    config_class = CircularApertureFluxConfig
    centroid_alias = True

    @property
    def columns(self) -> tuple[Column, ...]:
        """Flux, error and flags of each radius."""
        return tuple(column for radius in self.config.radii for column in self._columns(radius))

    @property
    def metadata(self) -> dict[str, Any]:
        """The radii."""
        return {"BASE_CIRCULARAPERTUREFLUX_RADII": list(self.config.radii)}

    @property
    def radii(self) -> tuple[float, ...]:
        """Those of the circles that add up whole pixels."""
        return tuple(radius for radius in self.config.radii if not self._is_sinc(radius))

    def measure(self, context: MeasurementContext) -> None:
        """Fill fluxes, errors and flags of all radii."""
        centres = context.centres()
        for radius in self.radii:
            circle = context.circle(radius)
            self._store(context, radius, circle.flux, circle.variance, circle.pixels < 0, centres.flagged)
        for radius in filter(self._is_sinc, self.config.radii):
            coefficients = sinc_coefficients(radius, self.config.sinc_half_width)
            values, bits = sinc_aperture(
                context.scene, context.exposure.variance, centres.x, centres.y, coefficients, radius
            )
            truncated = (bits & TRUNCATED_APERTURE) != 0
            self._store(context, radius, values[:, 0], values[:, 1], truncated, centres.flagged)
            weights_truncated = (bits & TRUNCATED_WEIGHTS) != 0
            context.catalog[f"{self._prefix(radius)}_flag_sincCoeffsTruncated"] |= weights_truncated

    def _store(
        self,
        context: MeasurementContext,
        radius: float,
        flux: Array,
        variance: Array,
        truncated: Flags,
        flagged: Flags,
    ) -> None:
        catalog, prefix = context.catalog, self._prefix(radius)
        catalog[f"{prefix}_instFlux"] = flux
        catalog[f"{prefix}_instFluxErr"] = np.sqrt(variance)
        catalog[f"{prefix}_flag"] |= truncated | flagged
        catalog[f"{prefix}_flag_apertureTruncated"] |= truncated

    def _is_sinc(self, radius: float) -> bool:
        return radius <= self.config.max_sinc_radius

    def _prefix(self, radius: float) -> str:
        return f"{self.name}_{radius_name(radius)}"

    def _columns(self, radius: float) -> tuple[Column, ...]:
        prefix, circle = self._prefix(radius), f"circle of radius {radius:g} pixels"
        columns = (
            Column(f"{prefix}_instFlux", "<f8", "count", f"flux within a {circle}"),
            Column(f"{prefix}_instFluxErr", "<f8", "count", f"standard error of the flux within a {circle}"),
            flag(f"{prefix}_flag", f"the flux within a {circle} failed or is doubtful"),
            flag(f"{prefix}_flag_apertureTruncated", f"the {circle} leaves the image"),
        )
        if not self._is_sinc(radius):
            return columns
        return (
            *columns,
            flag(f"{prefix}_flag_sincCoeffsTruncated", f"the weights of the {circle} leave the image"),
        )
