"""base_LocalBackground: the sky in an annulus around each source (reference: measurement.md section 11)."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.characterize.statistics import clipped_segments
from streamchar.configuration import Configuration
from streamchar.kernels import ellipse_pixels


class LocalBackgroundConfig(Configuration):
    """Settings of base_LocalBackground."""

    annulus_inner: float = Field(default=7.0, gt=0)
    """Inner radius over the PSF's width."""
    annulus_outer: float = Field(default=15.0, gt=0)
    """Outer radius over the PSF's width."""
    bad_mask_planes: tuple[str, ...] = ("BAD", "SAT", "NO_DATA")
    """Pixels with one of these planes are left out."""
    bg_rej: float = Field(default=3.0, gt=0)
    """Clipping in standard deviations."""
    bg_iter: int = Field(default=3, ge=1)
    """Rounds of clipping."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.annulus_outer <= self.annulus_inner:
            raise ValueError(
                f"annulus_outer {self.annulus_outer} must exceed annulus_inner {self.annulus_inner}"
            )
        return self


class LocalBackground(Plugin[LocalBackgroundConfig]):
    """Clipped mean and deviation of the pixels in an annulus, other sources being replaced by noise."""

    name = "base_LocalBackground"
    config_class = LocalBackgroundConfig
    centroid_alias = True

    @property
    def columns(self) -> tuple[Column, ...]:
        """Level, deviation, flags."""
        return (
            Column(f"{self.name}_instFlux", "<f8", "count", "background in the annulus, per pixel"),
            Column(
                f"{self.name}_instFluxErr", "<f8", "count", "standard deviation of a pixel in the annulus"
            ),
            flag(f"{self.name}_flag", "the background failed or is doubtful"),
            flag(f"{self.name}_flag_noGoodPixels", "no usable pixel in the annulus"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill level and flags."""
        centres, config = context.centres(), self.config
        square = np.square(context.psf_shapes.determinant_radius)
        pixels, start = ellipse_pixels(
            context.scene,
            context.exposure.mask,
            context.exposure.bits(*config.bad_mask_planes),
            np.ascontiguousarray(centres.x),
            np.ascontiguousarray(centres.y),
            square,
            square,
            np.zeros(len(context)),
            config.annulus_inner,
            config.annulus_outer,
        )
        statistics = clipped_segments(pixels, start, sigmas=config.bg_rej, iterations=config.bg_iter)
        empty = statistics.kept == 0
        context.catalog[f"{self.name}_instFlux"] = statistics.mean
        context.catalog[f"{self.name}_instFluxErr"] = np.sqrt(statistics.variance)
        context.catalog[f"{self.name}_flag"] |= empty | centres.flagged
        context.catalog[f"{self.name}_flag_noGoodPixels"] |= empty
