"""The figures of a report: the most telling ones large, all of them in tables with units and meanings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from streamchar.characterize.base import Timing
from streamchar.characterize.summary import Summary
from streamchar.frozen import frozen
from streamchar.image import Exposure
from streamchar.monitor.grades import Assessment
from streamchar.report.html import Html, element, join
from streamchar.report.pictures import PLANE_COLORS
from streamchar.report.subject import Subject

_MARKS = {"green": "✓", "yellow": "▲", "orange": "▲", "red": "✕"}
UNKNOWN = "–"
_SMALLEST = 1e-5
_NUMBERS = frozenset({"pixels", "fraction", "runs", "CPU (s)", "elapsed (s)", "limit reached"})


@frozen
class Tile:
    """A figure in large print.

    Attributes
    ----------
    label, value, note
        What it is, the figure with its unit, and one remark.
    quantities
        Graded quantities that it shows.
    """

    label: str
    value: str
    note: str = ""
    quantities: tuple[str, ...] = ()


def figure(value: float, digits: int = 4) -> str:
    """Write a figure with some significant digits, a dash when it is not known."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.{digits}g}" if math.isfinite(value) else UNKNOWN


def fixed(value: float, decimals: int, unit: str = "") -> str:
    """Write a figure with some decimals and its unit, a dash when it is not known."""
    return f"{value:.{decimals}f}{unit}" if math.isfinite(value) else UNKNOWN


def percent(fraction: float) -> str:
    """Write a fraction in percent with two significant digits."""
    if 0 < fraction < _SMALLEST:
        return f"< {100 * _SMALLEST:g} %"
    return f"{100 * fraction:.2g} %" if fraction < 0.1 else f"{100 * fraction:.1f} %"


def seeing(summary: Summary) -> str:
    """FWHM on the sky, in pixels without coordinates."""
    if math.isfinite(summary.psf_fwhm_arcsec):
        return f"{summary.psf_fwhm_arcsec:.2f}″"
    return fixed(summary.psf_fwhm, 2, " px")


def tiles(subject: Subject) -> Html:
    """Build the most telling figures."""
    result = subject.result
    if result is None:
        return Html("")
    summary, unit = result.summary, subject.unit
    ellipticity = math.hypot(summary.psf_e1, summary.psf_e2)
    noise = f"noise {figure(summary.sky_noise, 3)} {unit}"
    rays = (
        f"{percent(summary.cosmic_ray_pixel_fraction)} of the pixels"
        if math.isfinite(summary.cosmic_ray_pixel_fraction)
        else ""
    )
    shown = (
        Tile(
            "Seeing (FWHM)",
            seeing(summary),
            fixed(summary.psf_fwhm, 2, " pixels")
            if math.isfinite(summary.psf_fwhm_arcsec)
            else "no sky coordinates",
            ("seeing", "psf_fwhm"),
        ),
        Tile(
            "PSF ellipticity",
            fixed(ellipticity, 3),
            f"e₁ {fixed(summary.psf_e1, 3)}, e₂ {fixed(summary.psf_e2, 3)}",
            ("psf_e1", "psf_e2", "star_e_median"),
        ),
        Tile(
            "PSF stars",
            str(summary.n_psf_star),
            f"and {summary.n_psf_reserved} reserved, of {summary.n_psf_candidate}",
            ("n_psf_used", "n_psf_star", "n_psf_reserved"),
        ),
        Tile("Sources", str(summary.source_count), _density(subject), ("n_sources", "source_count")),
        Tile(
            "Cosmic rays",
            UNKNOWN if result.cosmic_rays is None else str(result.cosmic_rays.count),
            rays,
            ("n_cosmic_rays", "cosmic_ray_fraction", "cosmic_ray_count", "cosmic_ray_pixel_fraction"),
        ),
        Tile("Sky", f"{figure(summary.sky_bg)} {unit}".strip(), noise, ("sky_bg", "sky_noise")),
        Tile("Time", f"{subject.seconds:.1f} s", "from reading to products"),
    )
    return element("ul", *(_tile(tile, subject.assessment) for tile in shown), class_="tiles")


def _density(subject: Subject) -> str:
    scale = subject.exposure.pixel_scale if subject.exposure is not None else None
    if not scale or not math.isfinite(scale) or subject.result is None or subject.exposure is None:
        return ""
    area = subject.exposure.image.size * (scale / 60) ** 2
    return f"{figure(subject.result.summary.source_count / area, 2)} per arcmin²"


def _tile(tile: Tile, assessment: Assessment | None) -> Html:
    worst = next(
        (item for item in (assessment.exceeded if assessment else ()) if item.quantity in tile.quantities),
        None,
    )
    flag = None
    if worst is not None:
        flag = element("span", f"{_MARKS[worst.grade]} {worst.grade}: limit {worst.limit:g}", class_="flag")
    return element(
        "li",
        element("span", tile.label, class_="label"),
        element("strong", tile.value),
        element("span", tile.note, class_="note") if tile.note else None,
        flag,
        class_=None if worst is None else f"grade-{worst.grade}",
    )


def grade_table(assessment: Assessment | None) -> Html:
    """Build the table of quantities beyond their limits, or say that there is none."""
    if assessment is None or assessment.grade == "unknown":
        return element(
            "p",
            "No grade: no limits apply to this exposure. Give them in the ",
            element("code", "[grades]"),
            " table of the settings.",
            class_="muted",
        )
    if not assessment.exceeded:
        return element("p", "Every graded quantity is within its limits.")
    rows = [
        element(
            "tr",
            element("th", item.quantity, scope="row"),
            element("td", figure(item.value), class_="number"),
            element("td", f"{item.limit:g}", class_="number"),
            element("td", f"{_MARKS[item.grade]} {item.grade}", class_=f"grade-{item.grade}"),
        )
        for item in assessment.exceeded
    ]
    return _table(("quantity", "value", "limit reached", "grade"), rows, "Quantities beyond their limits")


def summary_table(summary: Summary) -> Html:
    """Build the table of all summary statistics."""
    rows = []
    for item in fields(Summary):
        value = getattr(summary, item.name)
        if isinstance(value, tuple):
            shown = ", ".join(f"{part:.5f}" if math.isfinite(part) else UNKNOWN for part in value)
        else:
            shown = figure(value)
        rows.append(
            element(
                "tr",
                element("th", element("code", item.name), scope="row"),
                element("td", shown, class_="number wrap" if isinstance(value, tuple) else "number"),
                element("td", item.metadata["unit"]),
                element("td", item.metadata["doc"], class_="muted"),
            )
        )
    return _table(("statistic", "value", "unit", "meaning"), rows, "Summary statistics")


def plane_table(exposure: Exposure) -> Html:
    """Build the table of mask planes: colour in the picture, pixels, fraction."""
    colors = {plane.name: plane.color for plane in PLANE_COLORS}
    rows = []
    for name in exposure.planes:
        count = exposure.count(name)
        if not count:
            continue
        swatch = element("span", class_="swatch", style=f"background:{colors.get(name, 'transparent')}")
        rows.append(
            element(
                "tr",
                element("th", join(swatch, name), scope="row"),
                element("td", str(count), class_="number"),
                element("td", percent(count / exposure.mask.size), class_="number"),
            )
        )
    if not rows:
        return element("p", "No pixel is masked.", class_="muted")
    return _table(("plane", "pixels", "fraction"), rows, "Masked pixels by plane")


def timing_table(timings: Sequence[Timing]) -> Html:
    """Build the table of steps: how often each ran, CPU and elapsed seconds in all."""
    runs: dict[str, list[Timing]] = {}
    for timing in timings:
        runs.setdefault(timing.name, []).append(timing)
    rows = [
        element(
            "tr",
            element("th", element("code", name), scope="row"),
            element("td", str(len(found)), class_="number"),
            element("td", f"{sum(timing.cpu for timing in found):.3f}", class_="number"),
            element("td", f"{sum(timing.wall for timing in found):.3f}", class_="number"),
        )
        for name, found in sorted(runs.items(), key=lambda item: -sum(timing.cpu for timing in item[1]))
    ]
    return _table(("step", "runs", "CPU (s)", "elapsed (s)"), rows, "Time by step")


def facts(values: Mapping[str, str]) -> Html:
    """Build a list of names and values."""
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in values.items()),
        class_="facts",
    )


def tree_table(tree: Mapping[str, Any], caption: str) -> Html:
    """Build the table of a nested tree of plain values, one row for each leaf."""
    rows = [
        element(
            "tr",
            element("th", element("code", name), scope="row"),
            element("td", element("code", value)),
        )
        for name, value in _leaves(tree)
    ]
    return _table(("name", "value"), rows, caption)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value, default=str)


def _table(headings: tuple[str, ...], rows: list[Html], caption: str) -> Html:
    columns = [
        element("th", heading, scope="col", class_="number" if heading in _NUMBERS else None)
        for heading in headings
    ]
    head = element("thead", element("tr", *columns))
    table = element("table", element("caption", caption), head, element("tbody", *rows))
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption)
