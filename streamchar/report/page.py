"""The report of one exposure: a page of HTML that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamchar import __version__
from streamchar.characterize import CharacterizationResult
from streamchar.characterize.debug_pictures import fullest
from streamchar.characterize.panels import Panel
from streamchar.image import Exposure
from streamchar.image.fits import replacing
from streamchar.image.preview import Stretch
from streamchar.report import pictures, tables
from streamchar.report.charts import chart
from streamchar.report.html import Html, element, join
from streamchar.report.subject import Entry, Subject
from streamchar.report.views import MANY_STARS, Layer, image_layer, star_layer, view

OUTCOME_MARKS = {"succeeded": "✓", "degraded": "▲", "failed": "✕"}

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_CLOSE = 128
"""Width of the enlarged part of the exposure, in pixels."""
_LAYERS = {"outlines": "footprints", "stars": "PSF stars", "rays": "cosmic rays"}


def write_report(path: Path, subject: Subject) -> Entry:
    """Write the report of one exposure; the file appears whole or not at all.

    Parameters
    ----------
    path
        In an existing directory; an existing file is replaced.
    subject
        Also a failed one: the report shows the error and what there was.

    Returns
    -------
    Entry
        The report's line in an index beside it.

    Raises
    ------
    MissingPlotsError
        When matplotlib is not installed.
    """
    page = report(subject)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return entry(subject, path.name)


def report(subject: Subject) -> str:
    """Return the report of one exposure as HTML, see :func:`write_report`."""
    sections = list(_sections(subject))
    links = [element("li", element("a", title, href=f"#{name}")) for name, title, _ in sections]
    body = join(
        element("a", "Skip to the content", href="#content", class_="skip"),
        _header(subject),
        element("nav", element("ul", *links), aria_label="Sections"),
        element(
            "main",
            _notices(subject),
            tables.tiles(subject),
            *(
                element("section", element("h2", title), content, id=name)
                for name, title, content in sections
            ),
            id="content",
        ),
        footer(),
    )
    return document(f"{subject.title}: {subject.outcome}", body)


def entry(subject: Subject, href: str) -> Entry:
    """Return the line about a report in the index."""
    result, picture = subject.result, ""
    image = subject.exposure.image if subject.exposure is not None else None
    if image is not None and image.ndim == 2 and image.size:
        picture = pictures.picture(image, Stretch.of(image), pictures.THUMBNAIL_SIDE)
    return Entry(
        subject.name,
        subject.title,
        subject.outcome,
        href,
        "unknown" if subject.assessment is None else subject.assessment.grade,
        subject.unit,
        subject.seconds,
        "" if subject.error is None else str(subject.error),
        () if result is None else tuple(reason.code for reason in result.reasons),
        None if result is None else result.summary,
        picture,
    )


def document(title: str, body: Html, *, script: str = "") -> str:
    """Return a whole page with the style sheet in it.

    Parameters
    ----------
    title
        Of the window.
    body
        Content.
    script
        JavaScript to run at the end.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · streamchar"),
        element("style", Html(asset("style.css"))),
    )
    run = element("script", Html(script)) if script else None
    return f"<!DOCTYPE html>\n{element('html', head, element('body', body, run), lang='en')}\n"


@cache
def asset(name: str) -> str:
    """Return a file of this package as text."""
    return files("streamchar.report").joinpath(name).read_text(encoding="utf-8")


def badge(kind: str, text: str, mark: str = "") -> Html:
    """Build a small coloured label; the mark says the same as the colour."""
    sign = element("span", mark, aria_hidden="true") if mark else None
    return element("span", join(sign, " ", text) if sign else text, class_=f"badge {kind}")


def theme_switch() -> Html:
    """Build the choice between the reader's theme, light and dark; it works without scripts."""
    options = []
    for value, label in (("auto", "Auto"), ("light", "Light"), ("dark", "Dark")):
        choice = element(
            "input", type="radio", name="theme", id=f"theme-{value}", value=value, checked=value == "auto"
        )
        options.append(element("label", choice, element("span", label)))
    return element("fieldset", element("legend", "Theme", class_="hidden"), *options, class_="themes")


def footer() -> Html:
    """Build the end of a page: what made it, and when."""
    now = datetime.now(UTC)
    return element(
        "footer",
        f"streamchar {__version__}, ",
        element("time", f"{now:%Y-%m-%d %H:%M} UTC", datetime=now.isoformat(timespec="seconds")),
    )


def _header(subject: Subject) -> Html:
    grade = "unknown" if subject.assessment is None else subject.assessment.grade
    graded = None if grade == "unknown" else badge(f"grade-{grade}", f"grade {grade}")
    return element(
        "header",
        element(
            "div",
            element("h1", subject.title),
            element("p", subject.name, class_="muted path") if subject.name != subject.title else None,
        ),
        element(
            "div",
            badge(subject.outcome, subject.outcome, OUTCOME_MARKS[subject.outcome]),
            graded,
            theme_switch(),
            class_="badges",
        ),
    )


def _notices(subject: Subject) -> Html:
    notices = []
    if subject.error is not None:
        notices.append(
            element(
                "li", element("strong", "Failed: "), f"{subject.error} ", element("code", subject.error.code)
            )
        )
    reasons = subject.result.reasons if subject.result is not None else ()
    notices += [element("li", f"{reason.detail} ", element("code", reason.code)) for reason in reasons]
    if not notices:
        return Html("")
    kind = "failed" if subject.error is not None else "degraded"
    return element("ul", *notices, class_=f"notices {kind}", aria_label="What was not as it should be")


def _sections(subject: Subject) -> Iterator[tuple[str, str, Html]]:
    exposure, result = subject.exposure, subject.result
    if exposure is not None and exposure.image.ndim == 2 and exposure.image.size:
        yield "image", "Image", _images(subject, exposure)
    if exposure is not None and result is not None:
        yield "cosmic-rays", "Cosmic rays and mask", _masks(subject, exposure)
    if result is not None:
        if exposure is not None and exposure.psf is not None:
            yield "psf", "Point-spread function", _psf(result)
        if result.catalog is not None or len(result.background):
            yield "photometry", "Background and photometry", _photometry(result)
        if result.timings:
            yield "time", "Time", _time(result)
    yield "details", "Details", _details(subject)


def _images(subject: Subject, exposure: Exposure) -> Html:
    result, before = subject.result, subject.before
    measured = result is not None and bool(len(result.background))
    level = Stretch.of(exposure.image) if before is None else Stretch.of(before)
    flat = Stretch.of(exposure.image)
    # The same contrast before and after.
    flat = Stretch(flat.middle, level.sigma, flat.middle + level.high - level.middle)
    layers = tuple(_overlays(exposure, result)) if result is not None else ()
    views = []
    if before is not None and (measured or result is None):
        views.append(
            view(
                pictures.picture(before, level),
                exposure.shape,
                heading="As it was read",
                description="The exposure before characterization, sources dark on a light sky",
                caption=_stretch_words(level, subject.unit),
                exposure=exposure,
            )
        )
    if measured or before is None:
        views.append(
            view(
                pictures.picture(exposure.image, flat),
                exposure.shape,
                heading="Background subtracted, cosmic rays repaired",
                description="The exposure after characterization with footprints of sources and PSF stars marked",
                caption=join(_stretch_words(flat, subject.unit), _star_words(result)),
                layers=layers,
                exposure=exposure,
            )
        )
    return element("div", _toggles(layers), element("div", *views, class_="grid"), class_="viewer")


def _overlays(exposure: Exposure, result: CharacterizationResult) -> Iterator[Layer]:
    if result.catalog is not None and result.catalog.footprints is not None and len(result.catalog):
        yield image_layer("outlines", pictures.outlines(result.catalog.footprints.label_image()))
    rays = _plane(exposure, "CR")
    if rays.any():
        yield image_layer("rays", pictures.marks(rays))
    if result.psf_measurement is not None and len(result.psf_measurement.stars):
        yield star_layer(result.psf_measurement.stars, exposure.shape)


def _toggles(layers: tuple[Layer, ...]) -> Html:
    choices = [
        element(
            "label",
            element("input", type="checkbox", class_=f"show-{layer.kind}", checked=True),
            element("span", class_=f"key {layer.kind}"),
            _LAYERS[layer.kind],
        )
        for layer in layers
    ]
    choices.append(
        element("label", element("input", type="checkbox", class_="enlarge"), "one below the other")
    )
    legend = element("legend", "Show", class_="hidden")
    return element("fieldset", legend, *choices, class_="toggles")


def _stretch_words(stretch: Stretch, unit: str) -> str:
    depth = (stretch.high - stretch.middle) / stretch.sigma
    return f"asinh stretch about {stretch.middle:.5g} {unit}, σ = {stretch.sigma:.3g} {unit}, black at {depth:.0f} σ"


def _star_words(result: CharacterizationResult | None) -> str | None:
    if result is None or result.psf_measurement is None or not len(result.psf_measurement.stars):
        return None
    stars = result.psf_measurement.stars
    other = int((~stars.used & ~stars.reserved).sum())
    words = ". PSF stars: circles were used, squares reserved"
    if not other:
        return f"{words}."
    return (
        f"{words}, {f'{other} other candidates are not marked' if other > MANY_STARS else 'crosses neither'}."
    )


def _masks(subject: Subject, exposure: Exposure) -> Html:
    rays = _plane(exposure, "CR")
    mask = view(
        "",
        exposure.shape,
        heading="Mask planes",
        description="The mask planes in colours, cosmic rays on top",
        layers=(image_layer("planes", pictures.mask_picture(exposure)),),
        caption=None,
        exposure=exposure,
    )
    table = element("figure", element("h3", "Masked pixels"), tables.plane_table(exposure))
    parts = [mask, table]
    if rays.any():
        rows, columns = cutout = fullest(rays, _CLOSE)
        hit = rays[cutout]
        outline = image_layer("rays", pictures.outlines(hit.astype(np.int8), "#D55E00"))
        place = f"x {columns.start} to {columns.stop - 1}, y {rows.start} to {rows.stop - 1}"
        pairs = [("repaired", exposure.image)]
        if subject.before is not None:
            pairs.insert(0, ("as read", subject.before))
        parts += [
            view(
                pictures.picture(image[cutout], Stretch.of(image)),
                hit.shape,
                heading=f"Most cosmic rays, {words}",
                description=f"The part of the exposure with most cosmic-ray pixels outlined, {words}",
                caption=place,
                layers=(outline,) if words == "as read" else (),
                class_="close",
            )
            for words, image in pairs
        ]
    return element("div", *parts, class_="grid")


_Chart = tuple[Panel, str, str]

_PSF_CHARTS: tuple[_Chart, ...] = (
    (
        "sizes",
        "Sizes and magnitudes",
        "Size against instrumental magnitude of all sources; PSF stars lie on a horizontal locus",
    ),
    ("psf", "PSF over the detector", "The PSF model drawn on a grid of positions over the detector"),
    (
        "stamps",
        "Stars and what the model leaves of them",
        "The brightest used and reserved PSF stars, each above its residual in standard deviations",
    ),
    ("whiskers", "Ellipticity of stars and model", "Ellipticities of the PSF stars over those of the model"),
    (
        "residuals",
        "Ellipticity, star minus model",
        "Differences of ellipticity between the PSF stars and the model",
    ),
)
_PHOTOMETRY_CHARTS: tuple[_Chart, ...] = (
    ("background", "Background", "The sum of the background models that were subtracted"),
    ("correction", "Aperture correction", "The aperture correction of the PSF flux over the detector"),
)
_TIMINGS: _Chart = ("timings", "CPU time by step", "CPU seconds of each step, the longest on top")


def _psf(result: CharacterizationResult) -> Html:
    measurement = result.psf_measurement
    charts = [_chart_figure(*words, result) for words in _PSF_CHARTS]
    if measurement is not None:
        x, y = measurement.average_position
        charts.append(
            element(
                "figure",
                element("h3", "The fit"),
                tables.facts(
                    {
                        "model": type(measurement.psf).__name__,
                        "spatial degree": str(measurement.order),
                        "stars": f"{measurement.available} available, {measurement.used} used, "
                        f"{measurement.reserved} reserved",
                        "median reduced χ²": tables.figure(measurement.chi2, 3),
                        "mean position": f"({x:.0f}, {y:.0f})",
                        **_residuals(result),
                    }
                ),
            )
        )
    return element("div", *charts, class_="grid")


def _residuals(result: CharacterizationResult) -> dict[str, str]:
    summary = result.summary
    which = "reserved" if summary.n_psf_reserved else "used"
    return {
        f"{name}, star − model ({which})": f"{tables.figure(middle, 2)} ± {tables.figure(scatter, 2)}{unit}"
        for name, middle, scatter, unit in (
            ("e₁", summary.psf_star_delta_e1_median, summary.psf_star_delta_e1_scatter, ""),
            ("e₂", summary.psf_star_delta_e2_median, summary.psf_star_delta_e2_scatter, ""),
            ("size", summary.psf_star_delta_size_median, summary.psf_star_delta_size_scatter, " px"),
        )
        if np.isfinite(middle)
    }


def _photometry(result: CharacterizationResult) -> Html:
    return element("div", *(_chart_figure(*words, result) for words in _PHOTOMETRY_CHARTS), class_="grid")


def _time(result: CharacterizationResult) -> Html:
    table = element("figure", element("h3", "Time by step"), tables.timing_table(result.timings))
    return element("div", _chart_figure(*_TIMINGS, result), table, class_="grid")


def _chart_figure(panel: Panel, heading: str, description: str, result: CharacterizationResult) -> Html:
    return element(
        "figure", element("h3", heading), chart(panel, result, description), class_=f"panel {panel}"
    )


def _details(subject: Subject) -> Html:
    parts: list[Html] = []
    if subject.exposure is not None:
        parts += [element("h3", "Exposure"), tables.facts(subject.exposure.described())]
    if subject.result is not None:
        parts += [
            element("h3", "Grade"),
            tables.grade_table(subject.assessment),
            element("h3", "Summary statistics"),
            tables.summary_table(subject.result.summary),
        ]
    for title, tree in (
        ("Configuration", subject.configuration),
        ("Metadata of the tasks", {} if subject.result is None else subject.result.metadata),
    ):
        if tree:
            parts.append(element("details", element("summary", title), tables.tree_table(tree, title)))
    return join(*parts)


def _plane(exposure: Exposure, name: str) -> NDArray[np.bool_]:
    if name not in exposure.planes:
        return np.zeros(exposure.shape, np.bool_)
    return np.asarray((exposure.mask & exposure.bits(name)) != 0)
