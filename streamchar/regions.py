"""Sources, PSF stars and cosmic rays as regions that DS9 draws over the image.

Coordinates are those of FITS: the centre of the first pixel is (1, 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from streamchar.characterize import CharacterizationResult
from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.cosmic_rays import CosmicRays
from streamchar.characterize.psf.measure import PsfStars
from streamchar.image.fits import replacing

HEADER = """# Region file format: DS9 version 4.1
global color=#009E73 width=1 select=1 edit=1 move=0 delete=1
image
"""

_ORIGIN = 1.0
_SIGMAS = 3.0
_RADIUS = 5.0
_STAR_RADIUS = 12.0
_STARS = (
    ("psf_used", "circle", "#0072B2"),
    ("psf_reserved", "box", "#E69F00"),
    ("psf_rejected", "x", "#D55E00"),
)


def write_regions(path: Path, result: CharacterizationResult) -> Path:
    """Write a region file; it appears whole or not at all.

    Parameters
    ----------
    path
        In an existing directory; an existing file is replaced.
    result
        Also of a failed run: what it did not get to is left out.
    """
    lines: list[str] = []
    if result.catalog is not None:
        lines += source_regions(result.catalog)
    if result.psf_measurement is not None:
        lines += star_regions(result.psf_measurement.stars)
    if result.cosmic_rays is not None:
        lines += cosmic_ray_regions(result.cosmic_rays)
    with replacing(path) as temporary:
        temporary.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return path


def source_regions(catalog: SourceCatalog) -> Iterator[str]:
    """Yield an ellipse of three sigma for each source with a shape, a circle for others; tag ``source``.

    Sources without a position are left out.
    """
    x, y = catalog["slot_Centroid_x"] + _ORIGIN, catalog["slot_Centroid_y"] + _ORIGIN
    xx, yy, xy = (catalog[f"slot_Shape_{name}"] for name in ("xx", "yy", "xy"))
    half, cross = 0.5 * (xx - yy), np.hypot(0.5 * (xx - yy), xy)
    with np.errstate(invalid="ignore"):
        major, minor = np.sqrt(0.5 * (xx + yy) + cross), np.sqrt(0.5 * (xx + yy) - cross)
    angle = np.degrees(0.5 * np.arctan2(xy, half))
    for row in np.flatnonzero(np.isfinite(x) & np.isfinite(y)):
        tag = f"# tag={{source}} tag={{id {catalog['id'][row]}}}"
        place = f"{x[row]:.2f},{y[row]:.2f}"
        if np.isfinite(major[row]) and np.isfinite(minor[row]) and minor[row] > 0:
            size = f"{_SIGMAS * major[row]:.2f},{_SIGMAS * minor[row]:.2f}"
            yield f"ellipse({place},{size},{angle[row]:.1f}) {tag}"
        else:
            yield f"circle({place},{_RADIUS:g}) {tag} dash=1"


def star_regions(stars: PsfStars) -> Iterator[str]:
    """Yield a circle for each star used in the PSF fit, a box for reserved ones, a cross for rejected ones."""
    kinds = np.where(stars.used, 0, np.where(stars.reserved, 1, 2))
    for x, y, kind in zip(stars.x + _ORIGIN, stars.y + _ORIGIN, kinds, strict=True):
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        tag, shape, color = _STARS[kind]
        place, about = f"{x:.2f},{y:.2f}", f"# color={color} tag={{{tag}}}"
        if shape == "circle":
            yield f"circle({place},{_STAR_RADIUS:g}) {about}"
        elif shape == "box":
            yield f"box({place},{2 * _STAR_RADIUS:g},{2 * _STAR_RADIUS:g},0) {about}"
        else:
            yield f"point({place}) {about} point=x {2 * _STAR_RADIUS:.0f}"


def cosmic_ray_regions(rays: CosmicRays) -> Iterator[str]:
    """Yield the box around the pixels of each cosmic ray; tag ``cosmic_ray``."""
    if not rays.count:
        return
    first = rays.start[:-1]
    edges = (
        np.minimum.reduceat(rays.x0, first),
        np.maximum.reduceat(rays.x1, first),
        np.minimum.reduceat(rays.y, first),
        np.maximum.reduceat(rays.y, first),
    )
    for x0, x1, y0, y1 in np.stack(edges, axis=1).tolist():
        centre = f"{0.5 * (x0 + x1) + _ORIGIN:g},{0.5 * (y0 + y1) + _ORIGIN:g}"
        yield f"box({centre},{x1 - x0 + 1},{y1 - y0 + 1},0) # color=#CC79A7 tag={{cosmic_ray}}"
