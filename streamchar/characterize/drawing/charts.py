"""Diagrams with axes of their own: sizes, ellipticities, timings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from streamchar.characterize.base import Timing
from streamchar.characterize.drawing.canvas import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    axis_labels,
    legend,
    nice,
    pixel_labels,
    say,
)
from streamchar.characterize.drawing.diagrams import SizeMagnitude, Whiskers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_WHISKERS = 400
"""More objects than that are drawn as medians over a grid of cells."""
MAX_VECTOR_MARKS = 3000
"""More marks than that are drawn as pixels in files of vector graphics, which would grow too large."""


def draw_size_magnitude(axes: Axes, sources: SizeMagnitude) -> None:
    """Draw size against magnitude: stars form a horizontal locus, galaxies lie above, cosmic rays below."""
    known = np.isfinite(sources.magnitude) & np.isfinite(sources.radius)
    if not known.any():
        say(axes, "no sources with a size and a flux")
        return
    other = known & ~sources.used & ~sources.reserved
    for which, marker, color, label, size in (
        (other, ".", GREY, "other sources", 3),
        (known & sources.used, "o", BLUE, "used stars", 4),
        (known & sources.reserved, "s", ORANGE, "reserved stars", 4),
    ):
        if not which.any():
            continue
        axes.plot(
            sources.magnitude[which],
            sources.radius[which],
            marker,
            mfc=color if marker == "." else "none",
            mec=color,
            ms=size,
            mew=0.9,
            rasterized=int(which.sum()) > MAX_VECTOR_MARKS,
            label=f"{int(which.sum())} {label}",
        )
    middle, scatter = sources.locus
    radius = sources.radius[known]
    if np.isfinite(middle):
        axes.axhspan(middle - 3 * scatter, middle + 3 * scatter, color=PURPLE, alpha=0.25, lw=0, zorder=0)
        axes.axhline(middle, color=PURPLE, lw=0.8, zorder=0, label=f"locus {middle:.2f} ± {scatter:.3f} px")
        axes.set_ylim(0, max(2.5 * middle, 1.05 * float(np.quantile(radius, 0.9))))
    else:
        axes.set_ylim(0, 1.05 * float(np.quantile(radius, 0.98)) or 1.0)
    axis_labels(axes, "instrumental magnitude, −2.5 log₁₀(PSF flux)", "size √((Ixx + Iyy)/2) (pixel)")
    axes.grid(visible=True, color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    legend(axes)


def draw_whiskers(
    axes: Axes, objects: Whiskers, *, label: str, model: Whiskers | None = None, color: str = BLUE
) -> None:
    """Draw ellipticities as lines along the major axis, with a key that gives their scale.

    Many objects are drawn as medians over a grid of cells.

    Parameters
    ----------
    objects
        Of stars, or differences of ellipticities.
    label
        Name of the objects in the legend.
    model
        Drawn wider, under the others, at the same scale.
    color
        Of the objects' lines.
    """
    height, width = objects.shape
    axes.set(xlim=(-0.03 * width, 1.03 * width), ylim=(-0.03 * height, 1.03 * height), aspect="equal")
    pixel_labels(axes)
    drawn = [(objects, color, 1.3, label)]
    if model is not None:
        drawn.insert(0, (model, ORANGE, 3.0, "model"))
    drawn = [(part.finite(), stroke, thickness, name) for part, stroke, thickness, name in drawn]
    drawn = [entry for entry in drawn if len(entry[0])]
    if not drawn:
        say(axes, "no stars")
        return
    binned = any(len(part) > MAX_WHISKERS for part, *_ in drawn)
    if binned:
        drawn = [(part.averaged(12), stroke, thickness, name) for part, stroke, thickness, name in drawn]
    strength = np.concatenate([np.hypot(part.e1, part.e2) for part, *_ in drawn])
    key = nice(float(np.quantile(strength, 0.9))) or 0.01
    for part, stroke, thickness, name in drawn:
        quiver = _draw_lines(axes, part, stroke, thickness, 12.0 * key)
        axes.plot([], [], color=stroke, lw=thickness, label=name)
    axes.quiverkey(quiver, 0.84, 1.025, key, f"e = {key:g}", labelpos="E", fontproperties={"size": 8})
    legend(axes)
    caption = f"rms per component {objects.rms:.2g}" + (", medians of cells" if binned else "")
    axes.set_title(caption, loc="left", fontsize=8, color="0.35")


def draw_timings(axes: Axes, timings: Sequence[Timing], *, whole: str = "") -> None:
    """Draw the CPU seconds of each step as bars, longest on top; repeated runs of a step are added up.

    Parameters
    ----------
    timings
        Of a result.
    whole
        Step that contains the others; it is named in the title instead. The first name without a second dot when
        omitted.
    """
    seconds: dict[str, float] = {}
    for timing in timings:
        seconds[timing.name] = seconds.get(timing.name, 0.0) + timing.cpu
    whole = whole or next((name for name in seconds if name.count(".") == 1), "")
    total = seconds.pop(whole, None)
    shown = sorted(_shortened(seconds, whole).items(), key=lambda item: item[1])
    if not shown:
        say(axes, "nothing was timed")
        return
    names, values = [name for name, _ in shown], [value for _, value in shown]
    bars = axes.barh(names, values, color=BLUE, height=0.7)
    axes.bar_label(bars, [f"{value:.3f}" for value in values], padding=3, fontsize=7)
    axes.margins(x=0.12)
    axis_labels(axes, "CPU time (s)", "")
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    if total is not None:
        axes.set_title(f"{total:.2f} s in all", loc="right", fontsize=8, color="0.35")


def _shortened(seconds: Mapping[str, float], whole: str) -> dict[str, float]:
    prefix = whole.rpartition(".")[0] + "."
    return {name.removeprefix(prefix).removesuffix(".run"): value for name, value in seconds.items()}


def _draw_lines(axes: Axes, part: Whiskers, color: str, thickness: float, scale: float) -> Any:
    length, angle = np.hypot(part.e1, part.e2), 0.5 * np.arctan2(part.e2, part.e1)
    return axes.quiver(
        part.x,
        part.y,
        length * np.cos(angle),
        length * np.sin(angle),
        pivot="middle",
        color=color,
        scale=scale,
        scale_units="width",
        units="dots",
        width=thickness * axes.get_figure(root=True).dpi / 72,  # type: ignore[union-attr]
        headwidth=0,
        headlength=0,
        headaxislength=0,
        minlength=0,
    )
