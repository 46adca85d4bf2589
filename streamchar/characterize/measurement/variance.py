"""base_Variance: the typical variance of the pixels around a source (reference: measurement.md section 11)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import MeasurementContext
from streamchar.characterize.measurement.neighbours import undisturbed
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.characterize.statistics import medians_of_segments
from streamchar.configuration import Configuration
from streamchar.kernels import ellipse_pixels


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
        centres, shapes, exposure = context.centres(), context.shapes(), context.exposure
        xx, yy, xy = (np.where(shapes.usable, moment, np.nan) for moment in (shapes.xx, shapes.yy, shapes.xy))
        pixels, start = ellipse_pixels(
            undisturbed(exposure.variance),
            exposure.mask,
            exposure.bits(*self.config.mask),
            np.ascontiguousarray(centres.x),
            np.ascontiguousarray(centres.y),
            xx,
            yy,
            xy,
            0.0,
            self.config.scale,
        )
        values = medians_of_segments(pixels, start)
        empty = shapes.usable & np.isnan(values)
        context.catalog[f"{self.name}_value"] = values
        context.catalog[f"{self.name}_flag"] |= centres.flagged | shapes.flagged | empty
        context.catalog[f"{self.name}_flag_emptyFootprint"] |= empty
