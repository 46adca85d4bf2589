"""base_GaussianFlux: the flux under the source's own adaptive Gaussian (reference: measurement.md section 6)."""

from __future__ import annotations

import numpy as np

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import Array, Flags, MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin, PluginConfig
from streamchar.image import Exposure
from streamchar.kernels import gaussian_flux


class GaussianFlux(Plugin[PluginConfig]):
    """Twice the Gaussian-weighted sum of the pixels, with centre and moments from the slots.

    The general flag is lowered where the flux is measured, whatever the centroid's and the shape's flags say, as in
    the reference; unusable moments, a centre off the image or NaN pixels raise it and leave NaN.
    """

    name = "base_GaussianFlux"
    centroid_alias = True
    shape_alias = True

    @property
    def columns(self) -> tuple[Column, ...]:
        """Flux, error and flag."""
        return (
            Column(f"{self.name}_instFlux", "<f8", "count", "flux under an adaptive Gaussian"),
            Column(f"{self.name}_instFluxErr", "<f8", "count", "standard error of the flux"),
            flag(f"{self.name}_flag", "the flux could not be measured"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill flux, error and flag."""
        centres, shapes = context.centres(), context.shapes()
        variance, on_image = _variance_at(context.exposure, centres.x, centres.y)
        flux = 2.0 * gaussian_flux(context.scene, centres.x, centres.y, shapes.xx, shapes.yy, shapes.xy)
        area = np.pi * np.sqrt(shapes.xx * shapes.yy - shapes.xy * shapes.xy)
        error = 2.0 * np.sqrt(variance * area)
        measured = shapes.usable & on_image & np.isfinite(flux)
        context.catalog[f"{self.name}_instFlux"] = np.where(measured, flux, np.nan)
        context.catalog[f"{self.name}_instFluxErr"] = np.where(measured, error, np.nan)
        context.catalog[f"{self.name}_flag"] = ~measured


def _variance_at(exposure: Exposure, x: Array, y: Array) -> tuple[Array, Flags]:
    # The reference truncates toward zero instead of rounding: the variance of a neighbouring pixel at most.
    height, width = exposure.shape
    column, row = np.trunc(x), np.trunc(y)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    found = np.full(len(x), np.nan)
    found[inside] = exposure.variance[row[inside].astype(np.intp), column[inside].astype(np.intp)]
    return found, inside
