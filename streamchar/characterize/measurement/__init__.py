"""Source measurement: plugins, their registry, and the driver that runs them on an exposure."""

from streamchar.characterize.measurement.config import MeasurementConfig
from streamchar.characterize.measurement.context import Centres, MeasurementContext, Shapes
from streamchar.characterize.measurement.neighbours import NoiseReplacerConfig
from streamchar.characterize.measurement.plugin import Plugin, PluginConfig
from streamchar.characterize.measurement.registry import PLUGINS, find_plugin
from streamchar.characterize.measurement.single_frame import SingleFrameMeasurement
from streamchar.characterize.measurement.slots import Slots

__all__ = [
    "PLUGINS",
    "Centres",
    "MeasurementConfig",
    "MeasurementContext",
    "NoiseReplacerConfig",
    "Plugin",
    "PluginConfig",
    "Shapes",
    "SingleFrameMeasurement",
    "Slots",
    "find_plugin",
]
