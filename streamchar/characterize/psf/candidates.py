"""PSF candidates: stamps around stars, pixels of neighbours masked, some stars held back from the fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.psf.sizes import OddSize
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure
from streamchar.kernels import cut_windows, largest_in_windows

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]


class MakePsfCandidatesConfig(Configuration):
    """Which stars have a usable stamp."""

    kernel_size: OddSize = Field(default=27, ge=3)
    """Width of the stamp that must lie on the exposure, in pixels, odd."""
    border_width: int = Field(default=0, ge=0)
    """Further pixels on each side of the stamp."""


class ReserveConfig(Configuration):
    """Stars held back from the fit, on which its quality is judged."""

    fraction: float = Field(default=0.2, ge=0, lt=1)
    """Fraction of the candidates held back."""
    seed: int = 1
    """Added to the exposure's identifier to seed the choice."""
    min_candidates: int = Field(default=100, ge=0)
    """With fewer candidates none is held back: every star is needed for the fit."""


@frozen
class Candidates:
    """Stars with a stamp on the exposure, n of them.

    Attributes
    ----------
    index
        int64 (n): rows of the catalogue, ascending.
    x, y
        float64 (n): centroids in pixels.
    maximum
        float64 (n): largest finite pixel of the stamp.
    reserved
        bool (n): held back from the fit.
    """

    index: NDArray[np.int64]
    x: Array
    y: Array
    maximum: Array
    reserved: Flags

    def __len__(self) -> int:
        return len(self.index)


def make_candidates(
    exposure: Exposure,
    catalog: SourceCatalog,
    stars: Flags,
    config: MakePsfCandidatesConfig,
    reserve: ReserveConfig,
    exposure_id: int,
) -> Candidates:
    """Keep the stars whose stamp lies on the exposure and holds a finite pixel; hold some of them back.

    Parameters
    ----------
    stars
        bool, one per source: the selector's choice.
    exposure_id
        Seeds the choice of held-back stars together with ``reserve.seed``.
    """
    index = np.flatnonzero(stars)
    x, y = catalog["slot_Centroid_x"][index], catalog["slot_Centroid_y"][index]
    size = config.kernel_size + 2 * config.border_width
    column, row, inside = middle_pixels(exposure.shape, x, y, size)
    maximum = largest_in_windows(exposure.image, column, row, size // 2)
    kept = inside & np.isfinite(maximum)
    chosen = index[kept].astype(np.int64)
    return Candidates(
        chosen,
        x[kept].astype(np.float64),
        y[kept].astype(np.float64),
        maximum[kept].astype(np.float64),
        choose_reserved(len(chosen), reserve, exposure_id),
    )


def choose_reserved(count: int, config: ReserveConfig, exposure_id: int) -> Flags:
    """Hold back round(count · fraction) of ``count`` candidates, the same ones in every run (psf.md section 1)."""
    reserved = np.zeros(count, np.bool_)
    if count < config.min_candidates:
        return reserved
    reserved[: round(count * config.fraction)] = True
    np.random.RandomState((config.seed + exposure_id) % 2**32).shuffle(reserved)
    return reserved


def middle_pixels(shape: tuple[int, ...], x: Array, y: Array, size: int) -> tuple[Rows, Rows, Flags]:
    """Column and row of the pixel that holds each position, and whether size x size pixels around it are in the plane."""
    height, width = shape
    half = size // 2
    with np.errstate(invalid="ignore"):
        column, row = np.floor(x + 0.5), np.floor(y + 0.5)
        inside = (column >= half) & (column < width - half) & (row >= half) & (row < height - half)
    column, row = (np.where(inside, axis, 0.0).astype(np.int64) for axis in (column, row))
    return column, row, np.asarray(inside)


def cut_stamps(
    plane: NDArray[np.float32], x: Array, y: Array, size: int
) -> tuple[NDArray[np.float32], Flags]:
    """Cut size x size pixels, size odd, around the pixel that holds each position.

    Returns
    -------
    stamps
        float32 (n, size, size), copies; zero for a position whose stamp leaves the plane or is NaN.
    inside
        bool (n): whether the stamp lies on the plane.
    """
    column, row, inside = middle_pixels(plane.shape, x, y, size)
    stamps = cut_windows(plane, column, row, size // 2)
    stamps[~inside] = 0
    return stamps.reshape(len(x), size, size), inside


def blended_pixels(
    footprints: Footprints | None, index: NDArray[np.int64], x: Array, y: Array, size: int
) -> Flags:
    """Pixels of each star's own footprint that are nearer to another of its peaks than to the star's.

    Parameters
    ----------
    footprints
        Those of the catalogue; ``None`` masks nothing.
    index, x, y
        Rows of the catalogue and centroids of n stars.
    size
        Width of the stamps.

    Returns
    -------
    bool (n, size, size)
        Only footprint pixels are judged; ties belong to the star.
    """
    result = np.zeros((len(index), size, size), np.bool_)
    if footprints is None:
        return result
    half = size // 2
    for row in np.flatnonzero(footprints.peak_count[index] > 1):
        number, x0, y0 = index[row], int(np.floor(x[row] + 0.5)) - half, int(np.floor(y[row] + 0.5)) - half
        peaks = slice(footprints.peak_start[number], footprints.peak_start[number + 1])
        peak_x, peak_y = footprints.peak_x[peaks].astype(float), footprints.peak_y[peaks].astype(float)
        central = int(np.argmin((peak_x - x[row]) ** 2 + (peak_y - y[row]) ** 2))
        grid_y, grid_x = np.mgrid[y0 : y0 + size, x0 : x0 + size]
        distance = (grid_x - peak_x[:, None, None]) ** 2 + (grid_y - peak_y[:, None, None]) ** 2
        result[row] = (distance < distance[central]).any(axis=0) & _painted(footprints, number, x0, y0, size)
    return result


def _painted(footprints: Footprints, number: np.int64, x0: int, y0: int, size: int) -> Flags:
    spans = slice(footprints.span_start[number], footprints.span_start[number + 1])
    row = footprints.span_y[spans] - y0
    inside = (row >= 0) & (row < size)
    columns = np.arange(size) + x0
    result = np.zeros((size, size), np.bool_)
    first, last = footprints.span_x0[spans][inside, None], footprints.span_x1[spans][inside, None]
    np.logical_or.at(result, row[inside], (columns >= first) & (columns <= last))
    return result
