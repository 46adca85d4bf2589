"""The one list of measurement plugins: reference name to class, loaded when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from streamchar.characterize.measurement.plugin import Plugin
from streamchar.errors import ConfigurationError

_HERE = "streamchar.characterize.measurement"

PLUGINS: Mapping[str, str] = MappingProxyType(
    {
        "base_SdssCentroid": f"{_HERE}.centroid:SdssCentroid",
        "ext_shapeHSM_HsmSourceMoments": f"{_HERE}.hsm_moments:HsmSourceMoments",
        "ext_shapeHSM_HsmPsfMoments": f"{_HERE}.hsm_moments:HsmPsfMoments",
        "ext_shapeHSM_HigherOrderMomentsSource": f"{_HERE}.higher_moments:HigherOrderMomentsSource",
        "ext_photometryKron_KronFlux": f"{_HERE}.kron:KronFlux",
        "base_Blendedness": f"{_HERE}.blendedness:Blendedness",
        "ext_pointSource_Broadening": f"{_HERE}.broadening:Broadening",
        "base_CircularApertureFlux": f"{_HERE}.circular_aperture:CircularApertureFlux",
        "base_CompensatedTophatFlux": f"{_HERE}.compensated_tophat:CompensatedTophatFlux",
        "base_GaussianFlux": f"{_HERE}.gaussian_flux:GaussianFlux",
        "base_PixelFlags": f"{_HERE}.pixel_flags:PixelFlags",
        "base_PsfFlux": f"{_HERE}.psf_flux:PsfFlux",
        "base_LocalBackground": f"{_HERE}.local_background:LocalBackground",
        "base_PeakCentroid": f"{_HERE}.peak_centroid:PeakCentroid",
        "base_SdssShape": f"{_HERE}.sdss_shape:SdssShape",
        "base_SkyCoord": f"{_HERE}.sky_coord:SkyCoord",
        "base_Variance": f"{_HERE}.variance:Variance",
    }
)
"""Import paths by name. A plugin that is not listed is named by its import path in the configuration."""


def find_plugin(name: str, where: str = "measurement.names") -> type[Plugin[Any]]:
    """Return the plugin class of a registered name or of an import path ``package.module:PluginClass``.

    Raises
    ------
    ConfigurationError
        When there is no such plugin; names the nearest one.
    """
    path = PLUGINS.get(name, name)
    module, separator, attribute = path.partition(":")
    if not separator:
        raise ConfigurationError.at(where, f"'{name}' is not a measurement plugin{_hint(name)}")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError.at(where, f"plugin '{name}' cannot be loaded: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Plugin)):
        raise ConfigurationError.at(where, f"'{name}' is not a subclass of {Plugin.__module__}.Plugin")
    return found


def _hint(name: str) -> str:
    import difflib  # only to explain an error

    nearest = difflib.get_close_matches(name, PLUGINS, n=1, cutoff=0.4)
    return f"; did you mean '{nearest[0]}'?" if nearest else f"; known are {', '.join(PLUGINS)}"
