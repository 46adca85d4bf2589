"""base_Variance: the typical variance of the pixels around a source (reference: measurement.md section 11)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import MeasurementContext, Shapes
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.configuration import Configuration


class VarianceConfig(Configuration):
    """Settings of base_Variance."""

    scale: float = Field(default=5.0, gt=0)
    """Size of the ellipse over that of the shape slot."""
    mask: tuple[str, ...] = ("DETECTED", "DETECTED_NEGATIVE", "BAD", "SAT")
    """Pixels with one of these planes are left out."""


class Variance(Plugin[VarianceConfig]):
    """Median of the variance plane within the source's ellipse, scaled, without detected pixels."""

    name = "base_Variance"
    config_class = VarianceConfig
    centroid_alias = True
    shape_alias = True

    @property
    def columns(self) -> tuple[Column, ...]:
        """Variance and flags."""
        return (
            Column(f"{self.name}_value", "<f8", "count^2", "median variance of a pixel around the source"),
            flag(f"{self.name}_flag", "the variance failed or is doubtful"),
            flag(f"{self.name}_flag_emptyFootprint", "no usable pixel in the ellipse"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill variance and flags."""
        centres, shapes = context.centres(), context.shapes()
        values = np.full(len(context), np.nan)
        for i in np.flatnonzero(shapes.usable):
            values[i] = self._median(context, float(centres.x[i]), float(centres.y[i]), shapes, int(i))
        empty = shapes.usable & np.isnan(values)
        context.catalog[f"{self.name}_value"] = values
        context.catalog[f"{self.name}_flag"] |= centres.flagged | shapes.flagged | empty
        context.catalog[f"{self.name}_flag_emptyFootprint"] |= empty

    def _median(self, context: MeasurementContext, x: float, y: float, shapes: Shapes, i: int) -> float:
        exposure, scale = context.exposure, self.config.scale
        xx, yy, xy = shapes.xx[i], shapes.yy[i], shapes.xy[i]
        height, width = exposure.shape
        reach_x, reach_y = scale * np.sqrt(xx), scale * np.sqrt(yy)
        rows = slice(*(int(np.clip(v, 0, height)) for v in (np.ceil(y - reach_y), np.floor(y + reach_y) + 1)))
        columns = slice(
            *(int(np.clip(v, 0, width)) for v in (np.ceil(x - reach_x), np.floor(x + reach_x) + 1))
        )
        dy, dx = np.ogrid[rows, columns]
        dx, dy = dx - x, dy - y
        inside = yy * dx * dx - 2.0 * xy * dx * dy + xx * dy * dy <= scale**2 * (xx * yy - xy * xy)
        bad = exposure.bits(*self.config.mask)
        pixels = exposure.variance[rows, columns][inside & ((exposure.mask[rows, columns] & bad) == 0)]
        pixels = pixels[np.isfinite(pixels)]
        return float(np.median(pixels)) if len(pixels) else np.nan
