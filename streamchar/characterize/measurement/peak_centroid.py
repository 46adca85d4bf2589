"""base_PeakCentroid: the first peak of the footprint."""

from __future__ import annotations

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.measurement.context import MeasurementContext
from streamchar.characterize.measurement.plugin import Plugin, PluginConfig


class PeakCentroid(Plugin[PluginConfig]):
    """The pixel of the brightest peak, without refinement; never fails."""

    name = "base_PeakCentroid"
    order = 0.0

    @property
    def columns(self) -> tuple[Column, ...]:
        """Position and a flag that is never raised."""
        return (
            Column(f"{self.name}_x", "<f8", "pixel", "x of the first peak"),
            Column(f"{self.name}_y", "<f8", "pixel", "y of the first peak"),
            flag(f"{self.name}_flag", "never set: a footprint always has a peak"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the position."""
        context.catalog[f"{self.name}_x"], context.catalog[f"{self.name}_y"] = context.peaks
