"""The figures as one picture: where the time goes, against the peers, and how cost grows."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from tests.benchmarks.report import Cost, slope

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = colormaps["tab20"]

Found = Mapping[str, Any]


def draw(found: Found, title: str, path: Path) -> None:
    """Draw what was measured; a panel whose section was left out stays empty."""
    figure = Figure(figsize=(14, 9), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    figure.suptitle("\n".join(textwrap.wrap(title, 190)), fontsize=8)
    for axes, section, draw_panel in zip(
        panels,
        ("cases", "peers", "sizes", "counts"),
        (draw_stages, draw_peers, draw_sizes, draw_counts),
        strict=True,
    ):
        if section in found:
            draw_panel(axes, found[section])
        else:
            axes.set_axis_off()
    figure.savefig(path, dpi=110)


def draw_stages(axes: Axes, cases: Found) -> None:
    """Stages of each case as stacked bars."""
    names = dict.fromkeys(
        name
        for case in cases.values()
        for name in case["stages"]
        if "." not in name and name != "characterize"
    )
    left = [0.0] * len(cases)
    for number, name in enumerate(names):
        widths = [min(case["stages"].get(name, [0.0])) for case in cases.values()]
        if max(widths) > 0.01:
            axes.barh(range(len(cases)), widths, left=left, label=name, color=COLORS(number))
            left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(cases)), list(cases), fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("CPU seconds an exposure")
    axes.axvline(1.2, color="black", linewidth=0.8, linestyle="--")
    axes.legend(fontsize=7)


def draw_peers(axes: Axes, peers: Found) -> None:
    """Whole processes."""
    chain = "source-extractor\n+ psfex\n+ source-extractor"
    names = {"chain": chain, "chain with PSF fluxes": f"{chain}\nwith PSF fluxes"}
    labels = [names.get(label, label) for label in peers]
    axes.bar(labels, [median(run["cpu"] for run in runs) for runs in peers.values()], color="C0")
    axes.set_ylabel("CPU seconds of the whole process (median)")


def draw_sizes(axes: Axes, sizes: Found) -> None:
    """Cost against pixels."""
    pixels = [float(size) ** 2 for size in sizes]
    labels = {
        "cpu": "total",
        "pixels": "pixels' stages",
        "sources": "sources' stages",
        "measure_psf": "PSF",
    }
    _draw_costs(axes, pixels, sizes, labels, fitted=("cpu", "pixels"))
    axes.set_xlabel("pixels")


def draw_counts(axes: Axes, counts: Found) -> None:
    """Cost against sources."""
    rows = [float(found["rows"]) for found in counts.values()]
    labels = {"sources": "sources' stages", "measure_psf": "PSF", "cpu": "total"}
    _draw_costs(axes, rows, counts, labels, fitted=("sources",))
    axes.set_xlabel("measured sources")


def _draw_costs(
    axes: Axes, numbers: list[float], found: Found, labels: Mapping[str, str], fitted: tuple[str, ...]
) -> None:
    """Points of each kind of cost; those that are ``fitted`` with a fixed part and a cost for each."""
    smooth = np.geomspace(min(numbers), max(numbers), 100)
    for number, (key, label) in enumerate(labels.items()):
        seconds = [each[key] for each in found.values()]
        text = f"{label}: slope {slope(numbers, seconds):.2f}"
        if key in fitted:
            cost = Cost.of(numbers, seconds)
            text += (
                f"; {1e3 * cost.fixed:.0f} ms + {1e6 * cost.each:.3g} µs each, above that {cost.slope:.2f}"
            )
            axes.plot(smooth, [cost.at(each) for each in smooth], "--", color=f"C{number}", linewidth=0.8)
        axes.loglog(numbers, seconds, "o-" if key not in fitted else "o", color=f"C{number}", label=text)
    axes.set_ylabel("CPU seconds an exposure")
    axes.legend(fontsize=8)
