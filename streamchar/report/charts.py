"""Panels as SVG inside the page: text that can be selected, lines that stay sharp, colours that follow the theme."""

from __future__ import annotations

import io
import re
from typing import Any

from streamchar.characterize import CharacterizationResult, drawing
from streamchar.characterize.errors import MissingPlotsError
from streamchar.characterize.panels import DRAWINGS, Panel
from streamchar.report.html import Html, element

_INK, _PAPER = "#0a0b0c", "#fcfcfb"
_THEME = {
    _INK: "var(--ink)",
    _PAPER: "var(--panel)",
    "#595959": "var(--muted)",
    "#e6e6e6": "var(--line)",
    "#0072b2": "var(--blue)",
}
"""What the colours of the drawings become: those of text and paper follow the theme, and blue is light on dark."""

_SETTINGS: Any = {
    "axes.edgecolor": "0.35",
    "axes.facecolor": "none",
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.facecolor": _PAPER,
    "legend.edgecolor": "0.9",
    "svg.fonttype": "none",
    "svg.hashsalt": "streamchar",
    # A unit from a header may hold a dollar sign.
    "text.parse_math": False,
    "text.color": _INK,
    "xtick.color": "0.35",
    "ytick.color": "0.35",
}
_SIZES: dict[Panel, tuple[float, float]] = {"stamps": (5.0, 3.6), "timings": (5.0, 4.2)}
_SIZE = (5.0, 4.0)
_DPI = 110


def chart(panel: Panel, result: CharacterizationResult, description: str) -> Html:
    """Draw one panel as an ``svg`` element; when there is nothing to draw, say so in words.

    Parameters
    ----------
    panel
        Which.
    result
        Also of a failed run.
    description
        What it shows, for those who do not see it.

    Raises
    ------
    MissingPlotsError
        When matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise MissingPlotsError from error
    buffer = io.StringIO()
    with rc_context(_SETTINGS):
        figure = drawing.new_figure(*_SIZES.get(panel, _SIZE), dpi=_DPI)
        axes = figure.subplots()
        DRAWINGS[panel](axes, result)
        if not axes.has_data() and axes.texts:
            return element("p", axes.texts[0].get_text(), class_="muted")
        figure.savefig(
            buffer, format="svg", transparent=True, dpi=_DPI, metadata={"Date": None, "Creator": None}
        )
    return element(
        "div", _inlined(buffer.getvalue(), panel), class_="chart", role="img", aria_label=description
    )


def _inlined(svg: str, prefix: str) -> Html:
    """Turn a stand-alone SVG into a part of the page: no prologue, no style for all elements, identifiers of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", svg)
    return Html(re.sub(r'style="[^"]*"', _themed, svg))


def _themed(style: re.Match[str]) -> str:
    return re.sub(r"#[0-9a-f]{6}\b", lambda color: _THEME.get(color[0], color[0]), style[0])
