"""base_Blendedness: how much of the light under a source is its own (reference: measurement.md section 11)."""

from __future__ import annotations

import numpy as np

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.measurement.context import Array, MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.configuration import Configuration
from streamchar.image.exposure import Image
from streamchar.kernels import blend_sums

_KINDS = {"raw": "pixels", "abs": "absolute pixels less the noise's share"}
_ROLES = {"child": "the source alone", "parent": "the source with its neighbours"}
_FIGURES = {"instFlux": "count", "xx": "pixel^2", "yy": "pixel^2", "xy": "pixel^2"}


class BlendednessConfig(Configuration):
    """Settings of base_Blendedness."""

    do_old: bool = True
    """Compare the source's own share of its footprint with all light there."""
    do_flux: bool = True
    """Compare Gaussian-weighted fluxes."""
    do_shape: bool = True
    """Store Gaussian-weighted moments."""


class Blendedness(Plugin[BlendednessConfig]):
    """One minus the flux of the source alone over the flux with its neighbours, under the weight of the shape slot.

    ``old`` is the product of the source's pixels and those of its neighbours, summed over its footprint and divided by the
    sum of its own squared: 0 for a source that shares no pixel.
    """

    name = "base_Blendedness"
    config_class = BlendednessConfig

    @property
    def columns(self) -> tuple[Column, ...]:
        """Blendedness, the figures it is made of, and flags."""
        name, found = self.name, []
        if self.config.do_old:
            found.append(Column(f"{name}_old", "<f8", "", "light of neighbours on the source's own pixels"))
        if self.config.do_flux:
            found += [
                Column(f"{name}_{kind}", "<f8", "", f"1 - child/parent flux of {what}")
                for kind, what in _KINDS.items()
            ]
        found += [
            Column(f"{name}_{kind}_{role}_{figure}", "<f8", unit, f"{what} under a Gaussian, {who}")
            for kind, what in _KINDS.items()
            for role, who in _ROLES.items()
            for figure, unit in _FIGURES.items()
            if figure in self._figures
        ]
        return (
            *found,
            flag(f"{name}_flag", "the blendedness could not be measured"),
            flag(f"{name}_flag_noCentroid", "the centroid is doubtful"),
            flag(f"{name}_flag_noShape", "the shape is doubtful"),
        )

    @property
    def _figures(self) -> tuple[str, ...]:
        flux = ("instFlux",) if self.config.do_flux else ()
        return (*flux, "xx", "yy", "xy") if self.config.do_shape else flux

    def measure(self, context: MeasurementContext) -> None:
        """Fill the child's figures and the flags."""
        catalog, centres, shapes = context.catalog, context.centres(), context.shapes()
        self._weigh(context, "child")
        lost = ~(
            np.isfinite(catalog[f"{context.slots.centroid}_x"])
            & np.isfinite(catalog[f"{context.slots.centroid}_y"])
        )
        catalog[f"{self.name}_flag_noCentroid"] |= centres.flagged
        catalog[f"{self.name}_flag_noShape"] |= shapes.flagged
        catalog[f"{self.name}_flag"] |= lost | shapes.flagged

    def measure_restored(self, context: MeasurementContext) -> None:
        """Fill the parent's figures and compare."""
        catalog = context.catalog
        self._weigh(context, "parent")
        if self.config.do_old:
            catalog[f"{self.name}_old"] = shared_light(context.exposure.image, context.footprints)
        if not self.config.do_flux:
            return
        for kind in _KINDS:
            child, parent = (catalog[f"{self.name}_{kind}_{role}_instFlux"] for role in _ROLES)
            catalog[f"{self.name}_{kind}"] = 1.0 - child / np.where(parent == 0, np.nan, parent)

    def _weigh(self, context: MeasurementContext, role: str) -> None:
        centres, shapes = context.centres(), context.shapes()
        sums = blend_sums(
            context.scene, context.exposure.variance, centres.x, centres.y, shapes.xx, shapes.yy, shapes.xy
        )
        sums[:, 4] = np.maximum(sums[:, 4], 0.0)
        values = iter(sums.T)
        for kind in _KINDS:
            for figure in _FIGURES:
                value = next(values)
                if figure in self._figures:
                    context.catalog[f"{self.name}_{kind}_{role}_{figure}"] = value


def shared_light(image: Image, footprints: Footprints) -> Array:
    """Sum of (own light) x (light of others) over each footprint, divided by the sum of own light squared.

    Parameters
    ----------
    image
        float32 (height, width), all sources in place.
    footprints
        With the shares of their pixels; without shares a source owns its pixels and the result is 0.

    Returns
    -------
    ndarray
        float64 (n); 0 where the source has no light.
    """
    if footprints.share is None or not len(footprints):
        return np.zeros(len(footprints))
    pixels = image[footprints.pixels()].astype(np.float64)
    own = pixels * footprints.share
    source = footprints.pixel_footprint
    mixed = np.bincount(source, own * (pixels - own), len(footprints))
    squared = np.bincount(source, own * own, len(footprints))
    return np.divide(mixed, squared, out=np.zeros(len(footprints)), where=squared > 0)
