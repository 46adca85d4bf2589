"""The comparison as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.science.truth.targets import INFORMATIVE, TARGETS, Target

Figures = dict[str, float]


@dataclass(frozen=True)
class Run:
    """Figures of one exposure under one preset."""

    scene: str
    seed: int
    preset: str
    figures: Figures


@dataclass(frozen=True)
class Verdict:
    """Whether preset ``best`` meets a target in a scene, averaged over seeds."""

    scene: str
    target: Target
    found: float
    limit: str
    met: bool


def average(runs: Iterable[Run]) -> Figures:
    """Mean over the seeds that have a figure, or root mean square of root mean squares; ratios and differences of them."""
    every = [run.figures for run in runs]
    names = dict.fromkeys(name for figures in every for name in figures)
    result = {}
    for name in names:
        values = np.array([figures[name] for figures in every if name in figures])
        result[name] = float(np.sqrt(np.mean(values**2)) if "_rms" in name else values.mean())
    for kind in ("flux", "centroid"):
        if f"{kind}_pull_width" in result:
            result[f"{kind}_pull_width_error"] = result[f"{kind}_pull_width"] - 1.0
    if "flux_scatter_300_1000" in result:
        result["flux_over_floor_300_1000"] = result["flux_scatter_300_1000"] / result["flux_floor_300_1000"]
    return result


def verdicts(runs: Sequence[Run]) -> list[Verdict]:
    result = []
    for scene in dict.fromkeys(run.scene for run in runs):
        figures = average(run for run in runs if run.scene == scene and run.preset == "best")
        result += [
            Verdict(scene, target, figures[target.figure], target.text(figures), target.met(figures))
            for target in TARGETS
            if target.applies(scene, figures)
        ]
    return result


def table(scene: str, runs: Sequence[Run]) -> Table:
    """Every figure of a scene: target, best, reference, verdict."""
    found = {
        preset: average(run for run in runs if run.scene == scene and run.preset == preset)
        for preset in dict.fromkeys(run.preset for run in runs)
    }
    seeds = sorted({run.seed for run in runs if run.scene == scene})
    result = Table(title=f"{scene} (seeds {', '.join(map(str, seeds))})", title_justify="left")
    result.add_column("figure")
    result.add_column("target", justify="right")
    for preset in found:
        result.add_column(preset, justify="right")
    result.add_column("")
    best = found.get("best", {})
    for target in TARGETS:
        if not target.applies(scene, best):
            continue
        values = [_number(figures.get(target.figure)) for figures in found.values()]
        verdict = "[green]pass[/]" if target.met(best) else "[bold red]MISS[/]"
        result.add_row(target.label, target.text(best), *values, verdict)
    result.add_section()
    for name, label in INFORMATIVE:
        if any(name in figures for figures in found.values()):
            result.add_row(label, "", *(_number(figures.get(name)) for figures in found.values()), "")
    return result


def overview(runs: Sequence[Run]) -> Table:
    """Targets down, scenes across, the figures of preset ``best``; misses in red."""
    scenes = list(dict.fromkeys(run.scene for run in runs))
    found = {
        scene: average(run for run in runs if run.scene == scene and run.preset == "best") for scene in scenes
    }
    result = Table(title="preset best against its targets", title_justify="left")
    result.add_column("figure")
    for scene in scenes:
        result.add_column(scene, justify="right")
    for target in TARGETS:
        cells = []
        for scene in scenes:
            figures = found[scene]
            if not target.applies(scene, figures):
                cells.append("")
                continue
            value = f"{_number(figures[target.figure])} ({target.text(figures)})"
            cells.append(value if target.met(figures) else f"[bold red]{value} ![/]")
        if any(cells):
            result.add_row(target.label, *cells)
    return result


def show(runs: Sequence[Run], console: Console | None = None) -> None:
    """Print the overview, every scene's table and the number of misses."""
    console = console or Console(width=200)
    for scene in dict.fromkeys(run.scene for run in runs):
        console.print(table(scene, runs))
    console.print(overview(runs))
    judged = verdicts(runs)
    missed = [verdict for verdict in judged if not verdict.met]
    console.print(f"{len(judged) - len(missed)} of {len(judged)} targets met, {len(missed)} missed:")
    for verdict in missed:
        console.print(
            f"  {verdict.scene}: {verdict.target.label}: {verdict.found:.3g} (target {verdict.limit})",
            markup=False,
        )


def write(runs: Sequence[Run], path: Path) -> None:
    document = {
        "runs": [
            {"scene": run.scene, "seed": run.seed, "preset": run.preset, "figures": run.figures}
            for run in runs
        ],
        "targets": [
            {
                "scene": verdict.scene,
                "figure": verdict.target.figure,
                "label": verdict.target.label,
                "found": verdict.found,
                "limit": verdict.limit,
                "met": verdict.met,
            }
            for verdict in verdicts(runs)
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
