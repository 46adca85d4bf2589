"""Choosing sources by flags, signal-to-noise and other columns (reference: psf.md section 2.2, selector ``science``)."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.catalog import SourceCatalog
from streamchar.configuration import Configuration

Selected = NDArray[np.bool_]


def between(values: NDArray[np.float64], minimum: float | None, maximum: float | None) -> Selected:
    """Where values lie strictly between the limits, an absent one not counting; NaN never does when there is a limit."""
    inside = np.ones(len(values), np.bool_)
    with np.errstate(invalid="ignore"):
        if minimum is not None:
            inside &= values > minimum
        if maximum is not None:
            inside &= values < maximum
    return inside


class Limits(Configuration):
    """An open interval; an absent limit does not cut."""

    minimum: float | None = None
    """Values must exceed it."""
    maximum: float | None = None
    """Values must be below it."""

    def contain(self, values: NDArray[np.float64]) -> Selected:
        """Where values lie strictly between the limits; NaN never does when there is a limit."""
        return between(values, self.minimum, self.maximum)


class FluxLimits(Limits):
    """Limits of a flux."""

    flux_field: str = "slot_CalibFlux_instFlux"
    """Flux column, in image units."""


class SignalToNoiseLimits(Limits):
    """Limits of a flux over its error."""

    relaxed_minimum: float | None = None
    """Lowest value that ``minimum`` may be lowered to when fewer than ``few`` sources exceed it; absent: it is never."""
    few: int = Field(default=10, ge=1)
    """Sources wanted: the minimum is lowered until so many pass. Neighbours bias fainter stars more."""
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

    good: tuple[str, ...] = ()
    """Flags that must be raised."""
    any_good: tuple[str, ...] = ()
    """Flags of which at least one must be raised, unless none is named."""
    bad: tuple[str, ...] = (
        "base_PixelFlags_flag_edge",
        "base_PixelFlags_flag_nodata",
        "base_PixelFlags_flag_saturated",
        "base_PsfFlux_flag",
    )
    """Flags that must not be raised."""


class IsolatedColumns(Configuration):
    """Columns that tell blends."""

    parent_name: str = "parent"
    """Parent identifier, 0 without parent."""
    n_child_name: str = "deblend_nChild"
    """Number of children; a catalogue that was not deblended has none."""


class SkyPositionColumns(Configuration):
    """Columns of the sky position."""

    ra_col_name: str = "coord_ra"
    """Right ascension."""
    dec_col_name: str = "coord_dec"
    """Declination."""


class PrimaryColumn(Configuration):
    """Column of primary sources."""

    primary_col_name: str = "detect_isPrimary"
    """Flag column."""


class SkyFlags(Configuration):
    """Flags of sky sources."""

    good: tuple[str, ...] = ("sky_source",)
    """Any of them raised makes a sky source."""


class SourceCriteria(Configuration):
    """Which cuts choose sources; all that are switched on must hold."""

    do_flags: bool = False
    """Apply ``flags``."""
    do_signal_to_noise: bool = False
    """Apply ``signal_to_noise``."""
    do_flux_limit: bool = False
    """Apply ``flux_limit``."""
    do_unresolved: bool = False
    """Apply ``unresolved``."""
    do_isolated: bool = False
    """Require a source without parent and children."""
    do_require_finite_ra_dec: bool = False
    """Require a finite sky position."""
    do_require_primary: bool = False
    """Require primary sources."""
    do_centroid_error_limit: bool = False
    """Apply ``centroid_error_limit``."""
    do_sky_sources: bool = False
    """Take sky sources beside those that pass."""
    flags: RequiredFlags = RequiredFlags()
    """Flags that must and must not be raised."""
    signal_to_noise: SignalToNoiseLimits = SignalToNoiseLimits()
    """Signal-to-noise ratio."""
    flux_limit: FluxLimits = FluxLimits()
    """Flux."""
    unresolved: UnresolvedLimits = UnresolvedLimits()
    """Star/galaxy classification."""
    isolated: IsolatedColumns = IsolatedColumns()
    """Columns that tell blends."""
    require_finite_ra_dec: SkyPositionColumns = SkyPositionColumns()
    """Columns of the sky position."""
    require_primary: PrimaryColumn = PrimaryColumn()
    """Column of primary sources."""
    centroid_error_limit: CentroidErrorLimits = CentroidErrorLimits()
    """Centroid error."""
    sky_flag: SkyFlags = SkyFlags()
    """Flags of sky sources."""


class CalibrationFlags(RequiredFlags):
    """Flags of calibration stars."""

    any_good: tuple[str, ...] = ("calib_psf_used", "calib_psf_reserved")
    """Flags of which at least one must be raised, unless none is named. Stars withheld from the PSF fit are as good for
    calibration as those in it; the reference takes the latter only."""
    bad: tuple[str, ...] = ()
    """Flags that must not be raised."""


class CalibrationSignalToNoise(SignalToNoiseLimits):
    """Signal-to-noise ratio of calibration stars."""

    minimum: float | None = 200.0
    """Values must exceed it."""
    relaxed_minimum: float | None = 50.0
    """Lowest value that ``minimum`` may be lowered to when fewer than ``few`` sources exceed it; absent: it is never."""


class SourceSelectorConfig(SourceCriteria):
    """Which stars calibrate fluxes."""

    do_flags: bool = True
    """Apply ``flags``."""
    do_signal_to_noise: bool = True
    """Apply ``signal_to_noise``."""
    flags: CalibrationFlags = CalibrationFlags()
    """Flags that must and must not be raised."""
    signal_to_noise: CalibrationSignalToNoise = CalibrationSignalToNoise()
    """Signal-to-noise ratio."""


def select_sources(catalog: SourceCatalog, config: SourceCriteria) -> Selected:
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
        bool (n); all true when no cut is on. The minimum of the signal-to-noise ratio is lowered, when few sources
        exceed it, for those that pass all other cuts. A ratio that is NaN (no error, no flux) never passes a limit; an
        infinite one passes a minimum.

    Raises
    ------
    KeyError
        A cut names a column the catalogue does not have.
    """
    selected = np.ones(len(catalog), np.bool_)
    if config.do_flags:
        selected &= _flagged(catalog, config.flags)
    if config.do_flux_limit:
        selected &= config.flux_limit.contain(catalog[config.flux_limit.flux_field])
    if config.do_unresolved:
        selected &= config.unresolved.contain(catalog[config.unresolved.name])
    selected &= _placed(catalog, config)
    if config.do_signal_to_noise:
        limits = config.signal_to_noise
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = catalog[limits.flux_field] / catalog[limits.err_field]
        selected &= between(ratio, _relaxed_minimum(limits, ratio[selected]), limits.maximum)
    if config.do_sky_sources:
        selected |= np.logical_or.reduce([catalog[name] for name in config.sky_flag.good])
    return selected


def _placed(catalog: SourceCatalog, config: SourceCriteria) -> Selected:
    """Whether blends, positions and their errors are as asked for."""
    selected = np.ones(len(catalog), np.bool_)
    if config.do_isolated:
        selected &= catalog[config.isolated.parent_name] == 0
        if config.isolated.n_child_name in catalog:
            selected &= catalog[config.isolated.n_child_name] == 0
    if config.do_require_finite_ra_dec:
        names = config.require_finite_ra_dec
        selected &= np.isfinite(catalog[names.ra_col_name]) & np.isfinite(catalog[names.dec_col_name])
    if config.do_require_primary:
        selected &= catalog[config.require_primary.primary_col_name]
    if config.do_centroid_error_limit:
        limit = config.centroid_error_limit
        for suffix in ("xErr", "yErr"):
            selected &= limit.contain(catalog[f"{limit.centroid_field}_{suffix}"])
    return selected


def _flagged(catalog: SourceCatalog, flags: RequiredFlags) -> Selected:
    selected = np.ones(len(catalog), np.bool_)
    for name in flags.good:
        selected &= catalog[name]
    for name in flags.bad:
        selected &= ~catalog[name]
    if flags.any_good:
        selected &= np.logical_or.reduce([catalog[name] for name in flags.any_good])
    return selected


def _relaxed_minimum(limits: SignalToNoiseLimits, ratio: NDArray[np.float64]) -> float | None:
    """Lower the minimum as far as allowed and needed for enough sources."""
    minimum, lowest = limits.minimum, limits.relaxed_minimum
    if minimum is None or lowest is None or np.count_nonzero(limits.contain(ratio)) >= limits.few:
        return minimum
    below = np.sort(ratio[between(ratio, lowest, limits.maximum)])[::-1]
    # The limit is open: it lies just below the last source wanted.
    found = np.nextafter(below[limits.few - 1], -np.inf) if len(below) >= limits.few else lowest
    return min(float(found), minimum)
