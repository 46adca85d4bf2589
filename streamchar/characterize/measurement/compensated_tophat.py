"""base_CompensatedTophatFlux: an aperture minus the annulus around it (reference: measurement.md section 9)."""

from __future__ import annotations

from math import ceil
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import Array, Centres, Circle, Flags, MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.configuration import Configuration
from streamchar.kernels import window_bits


class CompensatedTophatFluxConfig(Configuration):
    """Settings of base_CompensatedTophatFlux."""

    apertures: tuple[Annotated[int, Field(gt=0, le=500)], ...] = (12,)
    """Radii in pixels."""
    inner_scale: float = Field(default=1.0, ge=1)
    """Inner edge of the annulus over the radius."""
    outer_scale: float = Field(default=1.7, ge=1, le=10)
    """Outer edge of the annulus over the radius."""
    areas: Literal["pixels", "nominal"] = "pixels"
    """Scale the annulus by the numbers of pixels that were added up, or by the areas that the radii mean (the
    reference's), which differ by up to 20 pixels and leave up to 4 % of a constant background."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.outer_scale <= self.inner_scale:
            raise ValueError(f"outer_scale {self.outer_scale} must exceed inner_scale {self.inner_scale}")
        return self


class CompensatedTophatFlux(Plugin[CompensatedTophatFluxConfig]):
    """Flux within a circle minus the annulus scaled to the circle's area: insensitive to a constant background.

    Circles add up whole pixels. Sources whose annulus comes too close to the edge are flagged and NaN. ``mask_bits``
    holds the mask planes of the exposure within the annulus' box; the reference adds two temporary planes of its own.
    """

    name = "base_CompensatedTophatFlux"
    config_class = CompensatedTophatFluxConfig

    @property
    def columns(self) -> tuple[Column, ...]:
        """Flux, error, mask bits and flags of each aperture."""
        return tuple(column for aperture in self.config.apertures for column in self._columns(aperture))

    @property
    def radii(self) -> tuple[float, ...]:
        """Of each aperture, and of its annulus' edges."""
        return tuple(radius for aperture in self.config.apertures for radius in self._edges(aperture))

    def measure(self, context: MeasurementContext) -> None:
        """Fill all apertures."""
        centres = context.centres()
        for aperture in self.config.apertures:
            self._measure(context, centres, aperture)

    def _edges(self, aperture: int) -> tuple[float, float, float]:
        """Radii of the circle and of the annulus."""
        return float(aperture), aperture * self.config.inner_scale, aperture * self.config.outer_scale

    def _measure(self, context: MeasurementContext, centres: Centres, aperture: int) -> None:
        edges = self._edges(aperture)
        circle, inner, outer = map(context.circle, edges)
        half = ceil(edges[2])
        beyond = _window_outside(context, centres, half)
        share = self._area(circle, edges[0]) / (self._area(outer, edges[2]) - self._area(inner, edges[1]))
        value = circle.flux - share * (outer.flux - inner.flux)
        error = np.sqrt(circle.variance + share**2 * (outer.variance - inner.variance))
        column, row = (
            np.floor(np.where(beyond, 0.0, position)).astype(np.int64) for position in (centres.x, centres.y)
        )
        bits, _ = window_bits(context.exposure.mask, column, row, half)
        prefix = f"{self.name}_{aperture}"
        context.catalog[f"{prefix}_instFlux"] = np.where(beyond, np.nan, value)
        context.catalog[f"{prefix}_instFluxErr"] = np.where(beyond, np.nan, error)
        context.catalog[f"{prefix}_mask_bits"] = np.where(beyond, 0, bits)
        context.catalog[f"{prefix}_flag"] |= beyond
        context.catalog[f"{prefix}_flag_bounds"] |= beyond

    def _area(self, circle: Circle, radius: float) -> Array:
        return circle.pixels.astype(np.float64) if self.config.areas == "pixels" else np.square([radius])

    def _columns(self, aperture: int) -> tuple[Column, ...]:
        prefix = f"{self.name}_{aperture}"
        what = f"compensated top-hat of radius {aperture} pixels"
        return (
            Column(f"{prefix}_instFlux", "<f8", "count", f"flux in a {what}"),
            Column(f"{prefix}_instFluxErr", "<f8", "count", f"standard error of the flux in a {what}"),
            Column(f"{prefix}_mask_bits", "<i4", "", f"mask planes found within the {what}"),
            flag(f"{prefix}_flag", f"the flux in a {what} failed"),
            flag(f"{prefix}_flag_bounds", f"the {what} leaves the image"),
        )


def _window_outside(context: MeasurementContext, centres: Centres, half: int) -> Flags:
    height, width = context.exposure.shape
    outside = np.zeros(len(context), np.bool_)
    for position, size in ((centres.x, width), (centres.y, height)):
        for index in (np.floor(position + 0.5), np.floor(position)):
            outside |= (index < half) | (index >= size - half)
    return outside
