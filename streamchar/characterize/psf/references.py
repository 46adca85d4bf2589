"""Star selector references: sources that coincide with stars of a given list (after psf.md section 2.3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.errors import MissingWcsError, ReferenceStarsError
from streamchar.configuration import Configuration
from streamchar.image import Exposure

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


class ReferencesConfig(Configuration):
    """A list of stars and how near a source must be to one."""

    path: Path | None = None
    """FITS or ECSV table of stars."""
    ra_column: str = "ra"
    """Right ascension in degrees, ICRS."""
    dec_column: str = "dec"
    """Declination in degrees, ICRS."""
    match_radius: float = Field(default=2.0, gt=0)
    """Largest distance of a source from its star, in pixels."""
    mag_column: str = ""
    """Magnitude column for the limits below; empty for none."""
    mag_min: float | None = None
    """Stars must be fainter."""
    mag_max: float | None = None
    """Stars must be brighter."""


def select_references(exposure: Exposure, catalog: SourceCatalog, config: ReferencesConfig) -> Flags:
    """Select the nearest source to each star of the list within the match radius.

    Stars without a finite position are left out (``do_require_finite_ra_dec`` of the reference).

    Returns
    -------
    bool, one per source.

    Raises
    ------
    MissingWcsError
        The exposure has no celestial coordinates.
    ReferenceStarsError
        No list is configured, or it cannot be read, or lacks a column.
    """
    if exposure.wcs is None:
        raise MissingWcsError(step="the references star selector")
    ra, dec = _read(config)
    star_x, star_y = exposure.wcs.all_world2pix(ra, dec, 0, quiet=True)
    return nearest_sources(
        catalog["slot_Centroid_x"], catalog["slot_Centroid_y"], star_x, star_y, config.match_radius
    )


def nearest_sources(x: Array, y: Array, star_x: Array, star_y: Array, radius: float) -> Flags:
    """Mark the source nearest to each star, when it is within ``radius`` pixels; NaN positions match nothing."""
    from scipy.spatial import cKDTree

    selected = np.zeros(len(x), np.bool_)
    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    stars = np.isfinite(star_x) & np.isfinite(star_y)
    if len(finite) == 0 or not stars.any():
        return selected
    tree = cKDTree(np.stack([x[finite], y[finite]], axis=1))
    positions = np.stack([star_x[stars], star_y[stars]], axis=1)
    distance, nearest = tree.query(positions, distance_upper_bound=radius)
    selected[finite[nearest[np.isfinite(distance)]]] = True
    return selected


def _read(config: ReferencesConfig) -> tuple[Array, Array]:
    from astropy.table import Table

    if config.path is None:
        raise ReferenceStarsError(path="", detail="no list of stars is configured (references.path)")
    try:
        table = Table.read(config.path)
    except (OSError, ValueError) as error:
        raise ReferenceStarsError(path=str(config.path), detail=str(error)) from error
    needed = [name for name in (config.ra_column, config.dec_column, config.mag_column) if name]
    missing = [name for name in needed if name not in table.colnames]
    if missing:
        raise ReferenceStarsError(path=str(config.path), detail=f"columns {', '.join(missing)} are missing")
    kept = np.ones(len(table), np.bool_)
    if config.mag_column:
        magnitude = np.asarray(table[config.mag_column], np.float64)
        with np.errstate(invalid="ignore"):
            if config.mag_min is not None:
                kept &= magnitude > config.mag_min
            if config.mag_max is not None:
                kept &= magnitude < config.mag_max
    ra, dec = (np.asarray(table[name], np.float64)[kept] for name in (config.ra_column, config.dec_column))
    return ra, dec
