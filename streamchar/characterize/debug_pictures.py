"""Debug pictures: what the exposure looks like at the points where the reference task displays it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize import drawing
from streamchar.characterize.display import REPEATED, Point
from streamchar.image import Exposure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from streamchar.characterize.task import CharacterizationResult

CUTOUT = 256
"""Width of the enlarged part of the exposure, in pixels."""


class PictureDisplay:
    """A display that writes ``<stem>.debug.<point>[.iteration<N>].png`` for one exposure.

    Parameters
    ----------
    directory
        Existing directory.
    points
        Points to draw; the others cost nothing.
    stem
        First part of the file names.

    Raises
    ------
    MissingPlotsError
        When matplotlib is not installed.
    """

    def __init__(self, directory: Path, points: Iterable[Point], stem: str) -> None:
        drawing.new_figure(1, 1)
        self.directory = directory
        self.points = frozenset(points)
        self.stem = stem
        self.paths: list[Path] = []
        self._reached: Counter[Point] = Counter()

    def __call__(self, point: Point, result: CharacterizationResult) -> None:
        """Draw ``result`` when ``point`` was asked for."""
        if point not in self.points:
            return
        from streamchar.image.fits import replacing

        self._reached[point] += 1
        iteration = f" {self._reached[point]}" if point in REPEATED else ""
        figure = _PICTURES[point](result)
        figure.suptitle(f"{result.exposure.identity}: {point}{iteration}", fontsize=10)
        name = f"{self.stem}.debug.{point}{iteration.replace(' ', '.iteration')}.png"
        with replacing(self.directory / name) as temporary:
            figure.savefig(temporary, format="png")
        self.paths.append(self.directory / name)


def picture_of_repair(result: CharacterizationResult) -> Figure:
    """Draw the exposure with its cosmic rays, and the part with most of them enlarged."""
    exposure = result.exposure
    figure = drawing.new_figure(13, 6.6)
    whole, part = figure.subplots(1, 2)
    mask = _plane(exposure, "CR")
    _draw_exposure(whole, exposure)
    drawing.draw_cosmic_rays(whole, mask)
    count = "not found" if result.cosmic_rays is None else f"{result.cosmic_rays.count} found"
    whole.set_title(f"cosmic rays: {count}", loc="left", fontsize=9)
    cutout = fullest(mask)
    _draw_cutout(part, exposure, cutout)
    drawing.draw_outline(part, mask[cutout], origin=_first(cutout))
    return figure


def picture_of_background(result: CharacterizationResult) -> Figure:
    """Draw the exposure with its footprints masked, and the sum of the backgrounds subtracted so far."""
    exposure = result.exposure
    figure = drawing.new_figure(13, 6)
    left, right = figure.subplots(1, 2)
    _draw_exposure(left, exposure, np.where(_plane(exposure, "DETECTED"), np.float32(np.nan), exposure.image))
    left.set_title("pixels that the background is measured on", loc="left", fontsize=9)
    if len(result.background):
        drawing.draw_background(right, result.background.image(), unit=exposure.observation.unit)
        right.set_title(f"sum of {len(result.background)} models", loc="left", fontsize=9)
    return figure


def picture_of_sources(result: CharacterizationResult) -> Figure:
    """Draw the exposure with footprints and centroids, and the part with most of them enlarged."""
    figure = drawing.new_figure(13, 6.6)
    whole, part = figure.subplots(1, 2)
    _draw_sources(whole, part, result)
    return figure


def picture_of_measurement(result: CharacterizationResult) -> Figure:
    """Draw the sources, their sizes and the aperture correction of the PSF flux."""
    figure = drawing.new_figure(13, 12)
    (whole, part), (sizes, correction) = figure.subplots(2, 2)
    _draw_sources(whole, part, result)
    if result.catalog is not None:
        drawing.draw_size_magnitude(sizes, drawing.SizeMagnitude.of(result.catalog))
    field = (result.aperture_corrections or {}).get("base_PsfFlux_instFlux")
    if field is None:
        correction.set_axis_off()
    else:
        drawing.draw_field(
            correction, field, result.exposure.shape, label="aperture correction of the PSF flux"
        )
    return figure


def picture_of_psf(result: CharacterizationResult) -> Figure:
    """Draw the PSF stars, the model, and how they differ."""
    exposure, catalog, measurement = result.exposure, result.catalog, result.psf_measurement
    figure = drawing.new_figure(18, 11)
    (image, sizes, whiskers), (grid, stamps, residuals) = figure.subplots(2, 3)
    _draw_exposure(image, exposure)
    if exposure.psf is not None:
        drawing.draw_psf_grid(grid, exposure.psf, exposure.shape)
    if catalog is None or measurement is None:
        return figure
    drawing.draw_psf_stars(image, measurement.stars)
    drawing.draw_size_magnitude(sizes, drawing.SizeMagnitude.of(catalog))
    drawing.draw_star_stamps(stamps, drawing.star_stamps(exposure, measurement))
    found = drawing.PsfWhiskers.of(exposure, catalog, measurement)
    drawing.draw_whiskers(whiskers, found.stars, label="star", model=found.model)
    drawing.draw_whiskers(residuals, found.residual, label="star − model", color=drawing.VERMILLION)
    return figure


_PICTURES: dict[Point, Callable[[CharacterizationResult], Figure]] = {
    "repair_iter": picture_of_repair,
    "background_iter": picture_of_background,
    "measure_iter": picture_of_sources,
    "psf": picture_of_psf,
    "repair": picture_of_repair,
    "measure": picture_of_measurement,
}

Cutout = tuple[slice, slice]


def _draw_exposure(axes: Axes, exposure: Exposure, image: NDArray[np.float32] | None = None) -> None:
    drawing.draw_image(
        axes,
        exposure.image if image is None else image,
        pixel_scale=exposure.pixel_scale,
        unit=exposure.observation.unit,
    )


def _draw_cutout(axes: Axes, exposure: Exposure, cutout: Cutout) -> None:
    drawing.draw_image(
        axes,
        exposure.image[cutout],
        origin=_first(cutout),
        pixel_scale=exposure.pixel_scale,
        unit=exposure.observation.unit,
    )


def _draw_sources(whole: Axes, part: Axes, result: CharacterizationResult) -> None:
    exposure, catalog = result.exposure, result.catalog
    _draw_exposure(whole, exposure)
    cutout = fullest(_plane(exposure, "DETECTED"))
    _draw_cutout(part, exposure, cutout)
    if catalog is None:
        return
    x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
    whole.set_title(f"{len(catalog)} sources", loc="left", fontsize=9)
    for axes in (whole, part):
        if catalog.footprints is not None:
            drawing.draw_footprints(axes, catalog.footprints)
    drawing.draw_sources(part, x, y, color=drawing.VERMILLION)


def _plane(exposure: Exposure, name: str) -> NDArray[np.bool_]:
    if name not in exposure.planes:
        return np.zeros(exposure.shape, np.bool_)
    return np.asarray((exposure.mask & exposure.bits(name)) != 0)


def fullest(mask: NDArray[np.bool_], side: int = CUTOUT) -> Cutout:
    """Return the square of ``side`` pixels with most true pixels, of those on a grid of half its width."""
    step = side // 2
    rows, columns = (np.arange(0, length, step) for length in mask.shape)
    counts = np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.int64), columns, axis=1)
    padded = np.pad(counts, ((0, 1), (0, 1)))
    squares = padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]
    row, column = np.unravel_index(int(squares.argmax()), squares.shape)
    height, width = mask.shape
    y, x = max(0, min(int(row) * step, height - side)), max(0, min(int(column) * step, width - side))
    return slice(y, min(y + side, height)), slice(x, min(x + side, width))


def _first(cutout: Cutout) -> tuple[int, int]:
    rows, columns = cutout
    return int(columns.start), int(rows.start)
