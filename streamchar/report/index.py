"""The index of many reports: one line each, with the run of the most telling figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from streamchar.characterize.summary import Summary
from streamchar.image.fits import replacing
from streamchar.report.html import Html, element, join
from streamchar.report.page import OUTCOME_MARKS, asset, badge, document, footer, theme_switch
from streamchar.report.subject import Entry
from streamchar.report.tables import UNKNOWN, figure, fixed, seeing

_COLUMNS = (
    "",
    "exposure",
    "outcome",
    "FWHM",
    "ellipticity",
    "PSF stars",
    "sources",
    "cosmic rays",
    "sky",
    "noise",
    "time",
)
_SORTED_FROM = 1
_TREND_WIDTH, _TREND_HEIGHT = 300.0, 90.0

_Trend = tuple[str, Callable[[Summary], float], str]
_TRENDS: tuple[_Trend, ...] = (
    ("PSF FWHM (pixels)", lambda summary: summary.psf_fwhm, ".2f"),
    ("PSF ellipticity", lambda summary: math.hypot(summary.psf_e1, summary.psf_e2), ".3f"),
    ("Sky noise", lambda summary: summary.sky_noise, ".3g"),
)


def write_index(path: Path, entries: Sequence[Entry], *, title: str = "Characterized exposures") -> None:
    """Write the index; the file appears whole or not at all.

    Parameters
    ----------
    path
        In the directory of the reports; an existing file is replaced.
    entries
        In the order of the lines.
    title
        Of the page.
    """
    page = index(entries, title)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def index(entries: Sequence[Entry], title: str) -> str:
    """Return the index as HTML, see :func:`write_index`."""
    outcomes = Counter(entry.outcome for entry in entries)
    counts = [
        badge(outcome, f"{count} {outcome}", OUTCOME_MARKS[outcome])
        for outcome, count in outcomes.most_common()
    ]
    header = element(
        "header",
        element("div", element("h1", title), element("p", f"{len(entries)} exposures", class_="muted path")),
        element("div", *counts, theme_switch(), class_="badges"),
    )
    trends = [trend for words in _TRENDS if (trend := _trend(entries, *words)) is not None]
    main = element(
        "main",
        element("div", *trends, class_="trends") if trends else None,
        _table(entries),
        id="content",
    )
    return document(title, join(header, main, footer()), script=asset("index.js"))


def _table(entries: Sequence[Entry]) -> Html:
    headings = []
    for number, name in enumerate(_COLUMNS):
        inside = (
            element("button", name, type="button")
            if number >= _SORTED_FROM
            else element("span", "picture", class_="hidden")
        )
        headings.append(element("th", inside, scope="col", class_="number" if number > 2 else None))
    return element(
        "div",
        element(
            "table",
            element("caption", "Exposures"),
            element("thead", element("tr", *headings)),
            element("tbody", *(_row(entry) for entry in entries)),
            class_="index",
        ),
        class_="scroll",
    )


def _row(entry: Entry) -> Html:
    picture = (
        element("img", src=entry.thumbnail, alt=f"pixels of {entry.title}", class_="pixels")
        if entry.thumbnail
        else None
    )
    words = [
        element("a", entry.title, href=quote(entry.href)),
        element("div", entry.name.rpartition("/")[2], class_="muted path", title=entry.name)
        if entry.name != entry.title
        else None,
    ]
    if entry.error:
        words.append(element("div", entry.error, class_="error"))
    elif entry.reasons:
        words.append(element("div", ", ".join(entry.reasons), class_="muted path"))
    grade = None if entry.grade == "unknown" else badge(f"grade-{entry.grade}", f"grade {entry.grade}")
    return element(
        "tr",
        element("td", picture, class_="thumbnail"),
        element("th", *words, scope="row"),
        element("td", badge(entry.outcome, entry.outcome, OUTCOME_MARKS[entry.outcome]), " ", grade),
        *_figures(entry),
    )


def _figures(entry: Entry) -> list[Html]:
    summary = entry.summary or Summary()
    known = entry.summary is not None
    ellipticity = math.hypot(summary.psf_e1, summary.psf_e2)
    unit = f" {entry.unit}" if entry.unit else ""
    cells: list[tuple[str, float]] = [
        (seeing(summary), summary.psf_fwhm),
        (fixed(ellipticity, 3), ellipticity),
        (str(summary.n_psf_star) if known else UNKNOWN, float(summary.n_psf_star)),
        (str(summary.source_count) if known else UNKNOWN, float(summary.source_count)),
        (str(summary.cosmic_ray_count) if known else UNKNOWN, float(summary.cosmic_ray_count)),
        (figure(summary.sky_bg) + (unit if math.isfinite(summary.sky_bg) else ""), summary.sky_bg),
        (
            figure(summary.sky_noise, 3) + (unit if math.isfinite(summary.sky_noise) else ""),
            summary.sky_noise,
        ),
        (f"{entry.seconds:.1f} s", entry.seconds),
    ]
    return [
        element(
            "td",
            shown,
            class_="number empty" if shown == UNKNOWN else "number",
            data_label=label,
            data_value=f"{value:.9g}" if math.isfinite(value) and shown != UNKNOWN else None,
        )
        for label, (shown, value) in zip(_COLUMNS[3:], cells, strict=True)
    ]


def _trend(
    entries: Sequence[Entry], label: str, value: Callable[[Summary], float], style: str
) -> Html | None:
    known = [
        (number, entry, level)
        for number, entry in enumerate(entries)
        if entry.summary is not None and math.isfinite(level := value(entry.summary))
    ]
    if len(known) < 2:
        return None
    low, high = min(level for *_, level in known), max(level for *_, level in known)
    span = high - low or 1.0
    dots = [
        element(
            "circle",
            element("title", f"{entry.title}: {level:{style}}"),
            cx=f"{_TREND_WIDTH * (number + 0.5) / len(entries):.1f}",
            cy=f"{_TREND_HEIGHT * (1 - 0.86 * (level - low) / span - 0.07):.1f}",
            r="4",
            class_=entry.outcome,
        )
        for number, entry, level in known
    ]
    plot = element(
        "svg",
        *dots,
        viewBox=f"0 0 {_TREND_WIDTH:g} {_TREND_HEIGHT:g}",
        role="img",
        aria_label=f"{label} of the exposures in order, from {low:{style}} to {high:{style}}",
    )
    ends = element(
        "div",
        element("span", f"{low:{style}} to {high:{style}}"),
        element("span", "in order →"),
        class_="range",
    )
    return element("figure", element("h2", label), plot, ends, class_="trend")
