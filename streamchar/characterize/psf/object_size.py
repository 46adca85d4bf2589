"""Star selector objectSize: the compact cluster in the widths of bright, clean sources (psf.md section 2.1)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.chebyshev import least_squares, terms
from streamchar.characterize.errors import NoGoodSourcesError, NoSourcesError
from streamchar.characterize.psf.polynomial import PositionPolynomial
from streamchar.configuration import Configuration
from streamchar.robust import median, median_of_sorted, scatter

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

CLUSTERS = 4
"""Clusters of width: stars and three of ever wider sources."""
_LOCUS_ROUNDS = 10
_MIN_LOCUS_SCATTER = 0.01
_MIN_LOCUS_STARS = 8
_MAX_LOCUS_DEGREE = 3


class ObjectSizeConfig(Configuration):
    """Which sources may be stars, and how wide the stellar locus is."""

    do_flux_limit: bool = False
    """Apply ``flux_min`` and ``flux_max``."""
    flux_min: float = 12500.0
    """Smallest flux in image units."""
    flux_max: float = 0.0
    """Largest flux in image units; 0 for none."""
    do_signal_to_noise_limit: bool = True
    """Apply ``signal_to_noise_min`` and ``signal_to_noise_max``."""
    signal_to_noise_min: float = 50.0
    """Smallest signal to noise."""
    signal_to_noise_max: float = 0.0
    """Largest signal to noise; 0 for none."""
    width_min: float = Field(default=0.9, ge=0)
    """Smallest width in pixels."""
    width_max: float = Field(default=10.0, gt=0)
    """Largest width in pixels."""
    source_flux_field: str = "base_PsfFlux_instFlux"
    """Flux column; its error column has the suffix ``Err``."""
    width_std_allowed: float = Field(default=0.15, gt=0, lt=1)
    """Relative spread of width accepted as stellar; also the spacing of the starting clusters."""
    n_sigma_clip: float = Field(default=2.0, gt=0)
    """Clip of the stellar cluster in standard deviations."""
    bad_flags: tuple[str, ...] = (
        "base_PixelFlags_flag_edge",
        "base_PixelFlags_flag_nodata",
        "base_PixelFlags_flag_interpolatedCenter",
        "base_PixelFlags_flag_saturatedCenter",
        "base_PixelFlags_flag_crCenter",
        "base_PixelFlags_flag_bad",
        "base_PixelFlags_flag_interpolated",
        "slot_Centroid_flag",
    )
    """Flag columns that exclude a source; columns the catalogue does not have are ignored."""
    follow_locus: bool = True
    """After clustering, follow the stellar width over the field, so that stars are not lost where the PSF is wider
    and galaxies are not taken where it is narrower. Off in the reference."""
    locus_sigma_clip: float = Field(default=3.0, gt=0)
    """Half width of the followed locus, in standard deviations of its scatter and the width's own error."""


def select_by_size(catalog: SourceCatalog, config: ObjectSizeConfig) -> Flags:
    """Select the compact cluster of widths √((Ixx + Iyy)/2).

    Returns
    -------
    bool, one per source.

    Raises
    ------
    NoSourcesError
        The catalogue is empty.
    NoGoodSourcesError
        No source passes the cuts on flags, flux and width.
    """
    if len(catalog) == 0:
        raise NoSourcesError
    with np.errstate(invalid="ignore", divide="ignore"):
        width = np.sqrt(0.5 * (catalog["slot_Shape_xx"] + catalog["slot_Shape_yy"]))
        flux = catalog[config.source_flux_field]
        ratio = flux / catalog[config.source_flux_field + "Err"]
    good = np.flatnonzero(_passes(catalog, width, flux, ratio, config))
    if len(good) == 0:
        raise NoGoodSourcesError(sources=len(catalog))
    chosen = stellar_cluster(width[good], config.width_std_allowed, config.n_sigma_clip)
    if config.follow_locus:
        x, y = catalog["slot_Centroid_x"][good], catalog["slot_Centroid_y"][good]
        chosen = _follow_locus(x, y, np.log(width[good]), 1.0 / ratio[good], chosen, config)
    selected = np.zeros(len(catalog), np.bool_)
    selected[good[chosen]] = True
    return selected


def _passes(
    catalog: SourceCatalog, width: Array, flux: Array, ratio: Array, config: ObjectSizeConfig
) -> Flags:
    bad = ~(np.isfinite(width) & np.isfinite(flux))
    for name in config.bad_flags:
        if name in catalog:
            bad |= catalog[name]
    # Comparisons with NaN are false: a source of unknown signal to noise passes, as in the reference.
    with np.errstate(invalid="ignore"):
        bad |= (width < config.width_min) | (width > config.width_max)
        if config.do_flux_limit:
            bad |= (flux < config.flux_min) | ((flux > config.flux_max) & (config.flux_max > 0))
        if config.do_signal_to_noise_limit:
            bad |= ratio < config.signal_to_noise_min
            bad |= (ratio > config.signal_to_noise_max) & (config.signal_to_noise_max > 0)
    return np.asarray(~bad)


def stellar_cluster(width: Array, width_std_allowed: float, n_sigma_clip: float) -> Flags:
    """Cluster widths around four medians and return the clipped narrowest cluster.

    Starting centres are m (1 + 2 a k) with m the width at one tenth of the sorted list, a = ``width_std_allowed``
    and k = 0 … 3. Ties go to the narrower cluster, empty clusters are never joined.

    Parameters
    ----------
    width
        float64 (n), finite and positive; n may be 0.
    """
    if len(width) == 0:
        return np.zeros(0, np.bool_)
    order = np.argsort(width, kind="stable")
    ordered = width[order]
    centres = ordered[len(width) // 10] * (1.0 + 2.0 * width_std_allowed * np.arange(CLUSTERS))
    clusters: list[slice] = []
    while True:
        # Clusters of sorted widths lie one behind the other, and part halfway between their centres.
        halfway = np.searchsorted(ordered, 0.5 * (centres[:-1] + centres[1:]), side="right").tolist()
        ends = [0, *halfway, len(width)]
        now = [slice(first, end) for first, end in pairwise(ends) if end > first]
        if now == clusters:
            break
        clusters = now
        centres = np.array([median_of_sorted(ordered[cluster]) for cluster in clusters])
    narrowest = np.zeros(len(width), np.bool_)
    narrowest[order[clusters[0]]] = True
    return _clipped(width, narrowest, width_std_allowed, n_sigma_clip)


def _clipped(width: Array, member: Flags, width_std_allowed: float, n_sigma_clip: float) -> Flags:
    if np.count_nonzero(member) < 5:
        return member
    for _ in range(10):
        inside = np.sort(width[member])
        count = len(inside)
        if count == 0:
            break
        middle = inside[count // 2]
        deviation = min(inside.std(), 0.741 * (inside[int(0.75 * count)] - inside[int(0.25 * count)]))
        member = member & (np.abs(width - median_of_sorted(inside)) < n_sigma_clip * deviation)
        if np.count_nonzero(member) == count or deviation < width_std_allowed * middle:
            break
    return member


def _follow_locus(
    x: Array, y: Array, size: Array, error: Array, member: Flags, config: ObjectSizeConfig
) -> Flags:
    """Refit ln width of the members as a polynomial of position and take every source within its scatter."""
    error = np.where(np.isfinite(error), np.abs(error), 1.0 / config.signal_to_noise_min)
    excess = config.width_std_allowed / config.locus_sigma_clip
    for _ in range(_LOCUS_ROUNDS):
        count = int(np.count_nonzero(member))
        if count < _MIN_LOCUS_STARS:
            break
        polynomial = PositionPolynomial.over(x[member], y[member], _locus_degree(count))
        weight = 1.0 / (excess**2 + np.square(error[member]))
        basis = polynomial.basis(x, y)
        residual = size - basis @ least_squares(basis[member], size[member], weight)[0]
        square = scatter(residual[member]) ** 2 - median(error[member]) ** 2
        excess = max(np.sqrt(max(float(square), 0.0)), _MIN_LOCUS_SCATTER)
        now = np.abs(residual) < config.locus_sigma_clip * np.hypot(excess, error)
        if np.array_equal(now, member):
            break
        member = now
    return member


def _locus_degree(count: int) -> int:
    degree = 0
    while degree < _MAX_LOCUS_DEGREE and count >= 4 * terms(degree + 1):
        degree += 1
    return degree
