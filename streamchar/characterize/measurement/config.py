"""Which plugins run, with which settings, and what stands for centroid, shape and fluxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, model_validator

from streamchar.characterize.measurement.neighbours import NoiseReplacerConfig
from streamchar.characterize.measurement.plugin import Plugin
from streamchar.characterize.measurement.registry import find_plugin
from streamchar.characterize.measurement.slots import Slots
from streamchar.characterize.measurement.templates import Interpolation
from streamchar.configuration import Configuration, validate
from streamchar.errors import ConfigurationError

DEFAULT_PLUGINS = (
    "base_PixelFlags",
    "base_SdssCentroid",
    "ext_shapeHSM_HsmSourceMoments",
    "base_GaussianFlux",
    "base_PsfFlux",
    "base_CircularApertureFlux",
    "base_CompensatedTophatFlux",
)
"""Plugins the reference runs by default."""

BEST_PLUGINS = (*DEFAULT_PLUGINS, "ext_pointSource_Broadening")
"""With what classification needs beside them."""


class MeasurementConfig(Configuration):
    """What is measured on every source."""

    names: tuple[str, ...] = BEST_PLUGINS
    """Plugins to run: registered names, or import paths ``package.module:PluginClass``."""
    plugins: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings by plugin name; what is not given has the plugin's default."""
    undeblended: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Plugins, with their settings, that run once more with all neighbours in place; their columns begin with ``undeblended_``."""
    slots: Slots = Slots()
    """Which plugins stand for centroid, shape and the standard fluxes."""
    psf_interpolation: Interpolation = "spline"
    """How a PSF of pixels is drawn on sources: ``spline``, made point-symmetric for positions; or ``lanczos`` as it is
    published, whose sub-pixel shifts are wrong by up to 0.007 pixels."""
    do_replace_with_noise: bool = True
    """Replace the footprints of all other sources by noise while one is measured, by zero in the rounds that find the PSF."""
    noise_replacer: NoiseReplacerConfig = NoiseReplacerConfig()
    """The noise that replaces them."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        classes = [find_plugin(name) for name in self.names]
        names = [kind.name for kind in classes]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigurationError.at("measurement.names", f"listed twice: {', '.join(repeated)}")
        running = dict(zip(names, classes, strict=True))
        for name, settings in self.plugins.items():
            kind = running.get(name) or find_plugin(name, "measurement.plugins")
            validate(kind.config_class, settings, f"measurement.plugins.{name}")
        self.make_undeblended()
        self._check_slots(names)
        return self

    def _check_slots(self, names: list[str]) -> None:
        for field, value in self.slots.exact():
            if value not in names:
                raise ConfigurationError.at(
                    f"measurement.slots.{field}",
                    f"'{value}' is not a plugin that is run ({', '.join(names)})",
                )
        for field, value in self.slots.fluxes():
            if not any(value == name or value.startswith(f"{name}_") for name in names):
                raise ConfigurationError.at(
                    f"measurement.slots.{field}",
                    f"'{value}' does not start with the name of a plugin that is run ({', '.join(names)}); an empty name leaves the slot unused",
                )

    def make_plugins(self) -> tuple[Plugin[Any], ...]:
        """Build the plugins in the order they run: the centroid's first, then by order and name."""
        return tuple(
            sorted(
                self._build(),
                key=lambda plugin: (plugin.name != self.slots.centroid, plugin.order, plugin.name),
            )
        )

    def make_undeblended(self) -> tuple[Plugin[Any], ...]:
        """Build the plugins that run with all neighbours in place, by order and name."""
        made = []
        for name, settings in self.undeblended.items():
            kind = find_plugin(name, "measurement.undeblended")
            config = validate(kind.config_class, settings, f"measurement.undeblended.{name}")
            made.append(kind(config, self.slots, f"undeblended_{kind.name}"))
        return tuple(sorted(made, key=lambda plugin: (plugin.order, plugin.name)))

    def _build(self) -> Iterator[Plugin[Any]]:
        for name in self.names:
            kind = find_plugin(name)
            settings = self.plugins.get(kind.name, {})
            yield kind(validate(kind.config_class, settings, f"measurement.plugins.{kind.name}"), self.slots)
