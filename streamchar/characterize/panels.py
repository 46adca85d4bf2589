"""Panels: one drawing each of a result, for figures, notebooks and reports; what there is nothing of is said so."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from streamchar.characterize import drawing
from streamchar.errors import StreamcharError
from streamchar.image import Exposure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from streamchar.characterize.task import CharacterizationResult

Panel = Literal[
    "image",
    "cosmic_rays",
    "background",
    "sizes",
    "whiskers",
    "residuals",
    "psf",
    "stamps",
    "correction",
    "timings",
]

PANELS: tuple[Panel, ...] = get_args(Panel)
"""Names of all panels."""

DEFAULT_PANELS: tuple[Panel, ...] = ("image", "sizes", "whiskers", "psf", "stamps", "background")
"""What is drawn unless something else is asked for."""

CORRECTED_FLUX = "base_PsfFlux_instFlux"
"""Flux whose aperture correction is drawn."""

_WIDTH, _HEIGHT = 5.6, 4.6
_COLUMNS = 3


class UnknownPanelError(StreamcharError):
    """A panel was named that does not exist."""

    code = "unknown_panel"
    template = "there is no panel '{panel}'; known are {known}{hint}"


def plot(result: CharacterizationResult, panels: Sequence[str] = DEFAULT_PANELS) -> Figure:
    """Draw panels side by side.

    Parameters
    ----------
    result
        Also of a failed run.
    panels
        Of :data:`PANELS`, in order.

    Raises
    ------
    UnknownPanelError
        Says which are known.
    MissingPlotsError
        When matplotlib is not installed.
    """
    chosen = [_known(name) for name in panels] or list(DEFAULT_PANELS)
    columns = min(len(chosen), _COLUMNS)
    rows = math.ceil(len(chosen) / columns)
    figure = drawing.new_figure(_WIDTH * columns, _HEIGHT * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for name, part in zip(chosen, axes, strict=False):
        DRAWINGS[name](part, result)
    for part in axes[len(chosen) :]:
        part.set_axis_off()
    return figure


def draw_image(axes: Axes, result: CharacterizationResult) -> None:
    """Draw the exposure with the footprints of its sources and the PSF stars."""
    _draw_pixels(axes, result.exposure)
    if result.catalog is not None and result.catalog.footprints is not None:
        drawing.draw_footprints(axes, result.catalog.footprints)
    if result.psf_measurement is not None:
        drawing.draw_psf_stars(axes, result.psf_measurement.stars)


def draw_cosmic_rays(axes: Axes, result: CharacterizationResult) -> None:
    """Draw the exposure with the pixels of the cosmic rays that were found."""
    exposure = result.exposure
    _draw_pixels(axes, exposure)
    if "CR" in exposure.planes:
        drawing.draw_cosmic_rays(axes, (exposure.mask & exposure.bits("CR")) != 0)


def draw_background(axes: Axes, result: CharacterizationResult) -> None:
    """Draw the sum of the background models that were subtracted."""
    if len(result.background):
        drawing.draw_background(axes, result.background.image(), unit=result.exposure.observation.unit)
    else:
        drawing.say(axes, "no background was measured")


def draw_sizes(axes: Axes, result: CharacterizationResult) -> None:
    """Draw size against magnitude with the locus of the stars."""
    if result.catalog is None or "slot_Shape_xx" not in result.catalog:
        drawing.say(axes, "no sources were measured")
    else:
        drawing.draw_size_magnitude(axes, drawing.SizeMagnitude.of(result.catalog))


def draw_whiskers(axes: Axes, result: CharacterizationResult) -> None:
    """Draw the ellipticities of the PSF stars over those of the model."""
    found = _whiskers(result)
    if found is None:
        drawing.say(axes, "no PSF was measured")
    else:
        drawing.draw_whiskers(axes, found.stars, label="star", model=found.model)


def draw_residuals(axes: Axes, result: CharacterizationResult) -> None:
    """Draw the ellipticities of the PSF stars minus those of the model."""
    found = _whiskers(result)
    if found is None:
        drawing.say(axes, "no PSF was measured")
    else:
        drawing.draw_whiskers(axes, found.residual, label="star − model", color=drawing.VERMILLION)


def draw_psf(axes: Axes, result: CharacterizationResult) -> None:
    """Draw the PSF on a grid over the exposure."""
    if result.exposure.psf is None:
        drawing.say(axes, "no PSF was measured")
    else:
        drawing.draw_psf_grid(axes, result.exposure.psf, result.exposure.shape)


def draw_stamps(axes: Axes, result: CharacterizationResult) -> None:
    """Draw the brightest PSF stars, used and reserved, and what the model leaves of them."""
    if result.psf_measurement is None:
        drawing.say(axes, "no PSF was measured")
    else:
        drawing.draw_star_stamps(axes, drawing.star_stamps(result.exposure, result.psf_measurement))


def draw_correction(axes: Axes, result: CharacterizationResult) -> None:
    """Draw the aperture correction of the PSF flux over the exposure."""
    field = (result.aperture_corrections or {}).get(CORRECTED_FLUX)
    if field is None:
        drawing.say(axes, "no aperture correction was measured")
    else:
        drawing.draw_field(axes, field, result.exposure.shape, label="aperture correction of the PSF flux")


def draw_timings(axes: Axes, result: CharacterizationResult) -> None:
    """Draw the CPU time of each step."""
    drawing.draw_timings(axes, result.timings)


DRAWINGS: Mapping[Panel, Callable[[Axes, CharacterizationResult], None]] = {
    "image": draw_image,
    "cosmic_rays": draw_cosmic_rays,
    "background": draw_background,
    "sizes": draw_sizes,
    "whiskers": draw_whiskers,
    "residuals": draw_residuals,
    "psf": draw_psf,
    "stamps": draw_stamps,
    "correction": draw_correction,
    "timings": draw_timings,
}
"""The drawing of each panel."""


def _known(name: str) -> Panel:
    for panel in PANELS:
        if panel == name:
            return panel
    nearest = difflib.get_close_matches(name, PANELS, n=1, cutoff=0.5)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    raise UnknownPanelError(panel=name, known=", ".join(PANELS), hint=hint)


def _draw_pixels(axes: Axes, exposure: Exposure) -> None:
    drawing.draw_image(axes, exposure.image, pixel_scale=exposure.pixel_scale, unit=exposure.observation.unit)


def _whiskers(result: CharacterizationResult) -> drawing.PsfWhiskers | None:
    if result.catalog is None or result.psf_measurement is None:
        return None
    return drawing.PsfWhiskers.of(result.exposure, result.catalog, result.psf_measurement)
