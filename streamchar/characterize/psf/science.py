"""Star selector science: the intersection of simple criteria on catalogue columns (psf.md section 2.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.configuration import Configuration

Flags = NDArray[np.bool_]


class Limits(Configuration):
    """An open interval; ``None`` leaves a side open."""

    minimum: float | None = None
    """Values must be larger."""
    maximum: float | None = None
    """Values must be smaller."""

    def hold(self, values: NDArray[np.float64]) -> Flags:
        """Whether each value lies inside; NaN does only when there is no limit."""
        inside = np.ones(len(values), np.bool_)
        with np.errstate(invalid="ignore"):
            if self.minimum is not None:
                inside &= values > self.minimum
            if self.maximum is not None:
                inside &= values < self.maximum
        return inside


class FluxLimit(Limits):
    """Limits of a flux column."""

    flux_field: str = "slot_CalibFlux_instFlux"
    """Flux column, in image units."""


class RequireFlags(Configuration):
    """Flags that must be set and flags that must be clear."""

    good: tuple[str, ...] = ()
    """All must be set."""
    bad: tuple[str, ...] = (
        "base_PixelFlags_flag_edge",
        "base_PixelFlags_flag_nodata",
        "base_PixelFlags_flag_saturated",
        "base_PsfFlux_flag",
    )
    """All must be clear."""


class UnresolvedLimit(Limits):
    """Limits of the extendedness."""

    maximum: float | None = 0.1
    """Values must be smaller."""
    name: str = "base_ClassificationSizeExtendedness_value"
    """Extendedness column."""


class SignalToNoiseLimit(Limits):
    """Limits of the signal to noise."""

    flux_field: str = "base_PsfFlux_instFlux"
    """Flux column."""
    err_field: str = "base_PsfFlux_instFluxErr"
    """Error column."""


class RequireIsolated(Configuration):
    """Columns that tell blends."""

    parent_name: str = "parent"
    """Parent identifier, 0 without parent."""
    n_child_name: str = "deblend_nChild"
    """Number of children."""


class RequireFiniteRaDec(Configuration):
    """Columns of the sky position."""

    ra_col_name: str = "coord_ra"
    """Right ascension."""
    dec_col_name: str = "coord_dec"
    """Declination."""


class RequirePrimary(Configuration):
    """Column of primary sources."""

    primary_col_name: str = "detect_isPrimary"
    """Flag column."""


class SkyFlag(Configuration):
    """Flags of sky sources."""

    good: tuple[str, ...] = ("sky_source",)
    """Any of them set makes a sky source."""


class CentroidErrorLimit(Limits):
    """Limits of the centroid's standard error."""

    maximum: float | None = 3.0
    """Pixels."""
    centroid_field: str = "slot_Centroid"
    """Prefix of the centroid columns."""


class ScienceConfig(Configuration):
    """Criteria, each switched on by its ``do_`` field."""

    do_flux_limit: bool = False
    """Apply ``flux_limit``."""
    do_flags: bool = False
    """Apply ``flags``."""
    do_unresolved: bool = False
    """Apply ``unresolved``."""
    do_signal_to_noise: bool = False
    """Apply ``signal_to_noise``."""
    do_isolated: bool = False
    """Require sources that are not part of a blend."""
    do_require_finite_ra_dec: bool = False
    """Require a finite sky position."""
    do_require_primary: bool = False
    """Require primary sources."""
    do_sky_sources: bool = False
    """Also take sky sources."""
    do_centroid_error_limit: bool = False
    """Apply ``centroid_error_limit``."""
    flux_limit: FluxLimit = FluxLimit()
    """Limits of flux."""
    flags: RequireFlags = RequireFlags()
    """Required flags."""
    unresolved: UnresolvedLimit = UnresolvedLimit()
    """Limits of extendedness."""
    signal_to_noise: SignalToNoiseLimit = SignalToNoiseLimit()
    """Limits of signal to noise."""
    isolated: RequireIsolated = RequireIsolated()
    """Columns that tell blends."""
    require_finite_ra_dec: RequireFiniteRaDec = RequireFiniteRaDec()
    """Columns of the sky position."""
    require_primary: RequirePrimary = RequirePrimary()
    """Column of primary sources."""
    sky_flag: SkyFlag = SkyFlag()
    """Flags of sky sources."""
    centroid_error_limit: CentroidErrorLimit = CentroidErrorLimit()
    """Limits of the centroid error."""


def select_by_criteria(catalog: SourceCatalog, config: ScienceConfig) -> Flags:
    """Select the sources that meet all criteria switched on.

    Returns
    -------
    bool, one per source; all true when no criterion is on.

    Raises
    ------
    KeyError
        A criterion names a column the catalogue does not have.
    """
    selected = np.ones(len(catalog), np.bool_)
    if config.do_flux_limit:
        selected &= config.flux_limit.hold(catalog[config.flux_limit.flux_field])
    if config.do_flags:
        selected &= _flags_hold(catalog, config.flags)
    if config.do_unresolved:
        selected &= config.unresolved.hold(catalog[config.unresolved.name])
    if config.do_signal_to_noise:
        limit = config.signal_to_noise
        with np.errstate(divide="ignore", invalid="ignore"):
            selected &= limit.hold(catalog[limit.flux_field] / catalog[limit.err_field])
    selected &= _context_holds(catalog, config)
    if config.do_sky_sources:
        for name in config.sky_flag.good:
            selected |= catalog[name]
    return selected


def _flags_hold(catalog: SourceCatalog, config: RequireFlags) -> Flags:
    held = np.ones(len(catalog), np.bool_)
    for name in config.good:
        held &= catalog[name]
    for name in config.bad:
        held &= ~catalog[name]
    return held


def _context_holds(catalog: SourceCatalog, config: ScienceConfig) -> Flags:
    held = np.ones(len(catalog), np.bool_)
    if config.do_isolated:
        held &= (catalog[config.isolated.parent_name] == 0) & (catalog[config.isolated.n_child_name] == 0)
    if config.do_require_finite_ra_dec:
        names = config.require_finite_ra_dec
        held &= np.isfinite(catalog[names.ra_col_name]) & np.isfinite(catalog[names.dec_col_name])
    if config.do_require_primary:
        held &= catalog[config.require_primary.primary_col_name]
    if config.do_centroid_error_limit:
        limit = config.centroid_error_limit
        for axis in ("x", "y"):
            held &= limit.hold(catalog[f"{limit.centroid_field}_{axis}Err"])
    return held
