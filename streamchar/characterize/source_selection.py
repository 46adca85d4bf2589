"""Choosing sources by flags, signal-to-noise and other columns (reference: defaults.md, selector ``science``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.configuration import Configuration

Selected = NDArray[np.bool_]


class Limits(Configuration):
    """An open interval; an absent limit does not cut."""

    minimum: float | None = None
    """Values must exceed it."""
    maximum: float | None = None
    """Values must be below it."""

    def contain(self, values: NDArray[np.float64]) -> Selected:
        """Where values lie strictly between the limits; NaN never does when there is a limit."""
        inside = np.ones(len(values), np.bool_)
        if self.minimum is not None:
            inside &= values > self.minimum
        if self.maximum is not None:
            inside &= values < self.maximum
        return inside


class FluxLimits(Limits):
    """Limits of a flux."""

    flux_field: str = "slot_CalibFlux_instFlux"
    """Flux column."""


class SignalToNoiseLimits(Limits):
    """Limits of a flux over its error."""

    minimum: float | None = 200.0
    """Values must exceed it."""
    flux_field: str = "base_PsfFlux_instFlux"
    """Flux column."""
    err_field: str = "base_PsfFlux_instFluxErr"
    """Column of its error."""


class UnresolvedLimits(Limits):
    """Limits of a star/galaxy classification."""

    maximum: float | None = 0.1
    """Values must be below it."""
    name: str = "base_ClassificationSizeExtendedness_value"
    """Classification column."""


class CentroidErrorLimits(Limits):
    """Limits of the centroid's error along both axes, in pixels."""

    maximum: float | None = 3.0
    """Values must be below it."""
    centroid_field: str = "slot_Centroid"
    """Prefix of the columns."""


class RequiredFlags(Configuration):
    """Flags that must and must not be raised."""

    good: tuple[str, ...] = ("calib_psf_used",)
    """Flags that must be raised."""
    bad: tuple[str, ...] = ()
    """Flags that must not be raised."""


class SourceSelectorConfig(Configuration):
    """Which cuts choose sources; all that are switched on must hold."""

    do_flags: bool = True
    """Apply ``flags``."""
    do_signal_to_noise: bool = True
    """Apply ``signal_to_noise``."""
    do_flux_limit: bool = False
    """Apply ``flux_limit``."""
    do_unresolved: bool = False
    """Apply ``unresolved``."""
    do_isolated: bool = False
    """Require a source without parent and children."""
    do_require_finite_ra_dec: bool = False
    """Require a finite sky position."""
    do_centroid_error_limit: bool = False
    """Apply ``centroid_error_limit``."""
    flags: RequiredFlags = RequiredFlags()
    """Flags that must and must not be raised."""
    signal_to_noise: SignalToNoiseLimits = SignalToNoiseLimits()
    """Signal-to-noise ratio."""
    flux_limit: FluxLimits = FluxLimits()
    """Flux."""
    unresolved: UnresolvedLimits = UnresolvedLimits()
    """Star/galaxy classification."""
    centroid_error_limit: CentroidErrorLimits = CentroidErrorLimits()
    """Centroid error."""


def select_sources(catalog: SourceCatalog, config: SourceSelectorConfig) -> Selected:
    """Choose sources.

    Parameters
    ----------
    catalog
        With the columns that the cuts name.
    config
        The cuts.

    Returns
    -------
    selected
        bool (n). A ratio that is NaN (no error, no flux) never passes a limit; an infinite one passes a minimum.
    """
    selected = np.ones(len(catalog), np.bool_)
    if config.do_flags:
        for name in config.flags.good:
            selected &= catalog[name]
        for name in config.flags.bad:
            selected &= ~catalog[name]
    if config.do_signal_to_noise:
        limits = config.signal_to_noise
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = catalog[limits.flux_field] / catalog[limits.err_field]
        selected &= limits.contain(ratio)
    if config.do_flux_limit:
        selected &= config.flux_limit.contain(catalog[config.flux_limit.flux_field])
    if config.do_unresolved:
        selected &= config.unresolved.contain(catalog[config.unresolved.name])
    if config.do_isolated:
        selected &= catalog["parent"] == 0
        if "deblend_nChild" in catalog:
            selected &= catalog["deblend_nChild"] == 0
    if config.do_require_finite_ra_dec:
        selected &= np.isfinite(catalog["coord_ra"]) & np.isfinite(catalog["coord_dec"])
    if config.do_centroid_error_limit:
        limit = config.centroid_error_limit
        for suffix in ("xErr", "yErr"):
            selected &= limit.contain(catalog[f"{limit.centroid_field}_{suffix}"])
    return selected
