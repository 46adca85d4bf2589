"""base_LocalBackground: the sky in an annulus around each source (reference: measurement.md section 11)."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.characterize.statistics import ClippedStatistics, clipped
from streamchar.configuration import Configuration


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
        centres, sigma = context.centres(), context.psf_shapes.determinant_radius
        found = [self._measure(context, i, centres.x[i], centres.y[i], sigma[i]) for i in range(len(context))]
        empty = np.array([statistics is None for statistics in found])
        values = [(np.nan, np.nan) if s is None else (s.mean, s.standard_deviation) for s in found]
        level, deviation = np.array(values).T
        context.catalog[f"{self.name}_instFlux"] = level
        context.catalog[f"{self.name}_instFluxErr"] = deviation
        context.catalog[f"{self.name}_flag"] |= empty | centres.flagged
        context.catalog[f"{self.name}_flag_noGoodPixels"] |= empty

    def _measure(
        self, context: MeasurementContext, i: int, x: float, y: float, sigma: float
    ) -> ClippedStatistics | None:
        outer, inner = self.config.annulus_outer * sigma, self.config.annulus_inner * sigma
        if not (np.isfinite(outer) and np.isfinite(x) and np.isfinite(y)):
            return None
        height, width = context.exposure.shape
        rows = slice(*(int(np.clip(v, 0, height)) for v in (np.ceil(y - outer), np.floor(y + outer) + 1)))
        columns = slice(*(int(np.clip(v, 0, width)) for v in (np.ceil(x - outer), np.floor(x + outer) + 1)))
        dy, dx = np.ogrid[rows, columns]
        square = (dx - x) ** 2 + (dy - y) ** 2
        bad = context.exposure.bits(*self.config.bad_mask_planes)
        used = (
            (square <= outer**2) & (square > inner**2) & ((context.exposure.mask[rows, columns] & bad) == 0)
        )
        with context.shown(i) as image:
            pixels = image[rows, columns][used]
        if len(pixels) == 0:
            return None
        statistics = clipped(pixels, sigmas=self.config.bg_rej, iterations=self.config.bg_iter)
        return statistics if statistics.count else None
