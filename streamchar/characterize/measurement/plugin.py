"""What a measurement plugin is: declared columns, settings, and one call that measures many sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from streamchar.characterize.catalog import Column
from streamchar.characterize.measurement.context import MeasurementContext
from streamchar.characterize.measurement.slots import Slots
from streamchar.configuration import Configuration

C = TypeVar("C", bound=Configuration)


class PluginConfig(Configuration):
    """Settings of a plugin that has none."""


class Plugin(ABC, Generic[C]):
    """Measures one quantity on every source of an exposure.

    A subclass names itself, declares its columns, and fills them in :meth:`measure`. It may be registered in
    :mod:`streamchar.characterize.measurement.registry` or named by import path in the configuration.

    Flags are only ever raised (``|=``), because the final pass re-uses the records of an earlier one; values that could
    not be measured are set to NaN, so that a flagged source never carries a number of another pass.

    Parameters
    ----------
    config
        Settings of ``config_class``.
    slots
        Which columns stand for centroid and shape.
    name
        Another prefix of the columns than the class's.

    Attributes
    ----------
    name
        Prefix of its columns.
    order
        Plugins run in ascending order, equal ones by name; the plugin of the centroid slot runs before all.
    config_class
        Its settings.
    centroid_alias, shape_alias
        Whether ``<name>_flag_badCentroid`` and ``<name>_flag_badShape`` stand for the flags of those slots.
    """

    name: str
    order: ClassVar[float] = 2.0
    config_class: ClassVar[type[Configuration]] = PluginConfig
    centroid_alias: ClassVar[bool] = False
    shape_alias: ClassVar[bool] = False

    def __init__(self, config: C, slots: Slots, name: str = "") -> None:
        self.config = config
        self.slots = slots
        if name:
            self.name = name

    @property
    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """The columns it fills, in catalogue order."""

    @property
    def aliases(self) -> dict[str, str]:
        """Further names of other plugins' columns."""
        found = {}
        if self.centroid_alias:
            found[f"{self.name}_flag_badCentroid"] = f"{self.slots.centroid}_flag"
        if self.shape_alias:
            found[f"{self.name}_flag_badShape"] = f"{self.slots.shape}_flag"
        return found

    @property
    def metadata(self) -> dict[str, Any]:
        """Values for the catalogue's metadata."""
        return {}

    @property
    def radii(self) -> tuple[float, ...]:
        """Radii in pixels of the circles it asks the context for."""
        return ()

    def roughly(self) -> Plugin[C]:
        """The plugin as it measures where only widths are wanted: itself, unless it can do with less."""
        return self

    @abstractmethod
    def measure(self, context: MeasurementContext) -> None:
        """Fill the columns for all sources of the context (at least one); NumPy warns of no division, overflow or root."""

    def measure_restored(self, context: MeasurementContext) -> None:
        """Fill what needs the neighbours too: called after :meth:`measure` of all plugins, the image being whole again."""
