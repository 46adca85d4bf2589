"""The comparison as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tests.science.truth.pooling import Estimate, Sample, pooled
from tests.science.truth.targets import INFORMATIVE, TARGETS, Target

Array = NDArray[np.float64]
Figures = dict[str, float]
Estimates = dict[str, Estimate]


@dataclass(frozen=True)
class Run:
    """Figures of one exposure under one preset, and the samples that some of them are statistics of."""

    scene: str
    seed: int
    preset: str
    figures: Figures
    samples: dict[str, Sample] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether preset ``best`` meets a target in a scene, all seeds together."""

    scene: str
    target: Target
    found: Estimate
    limit: str
    met: bool


def summarize(runs: Iterable[Run]) -> Estimates:
    """Statistics of the samples of all seeds together; means over the seeds, or root mean squares of root mean squares, of
    what is one figure for an exposure."""
    every = list(runs)
    names = dict.fromkeys(name for run in every for name in (*run.figures, *run.samples))
    result = {}
    for name in names:
        samples = [run.samples[name] for run in every if name in run.samples]
        if samples:
            estimate = pooled(samples)
            # Of too few there is no statistic.
            if np.isfinite(estimate.value):
                result[name] = estimate
            continue
        result[name] = _mean(name, np.array([run.figures[name] for run in every if name in run.figures]))
    for kind in ("flux", "centroid"):
        if f"{kind}_pull_width" in result:
            width = result[f"{kind}_pull_width"]
            result[f"{kind}_pull_width_error"] = Estimate(width.value - 1.0, width.error)
    return result


def _mean(name: str, values: Array) -> Estimate:
    mean = float(np.sqrt(np.mean(values**2)) if "_rms" in name else values.mean())
    return Estimate(mean, float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else np.nan)


def verdicts(runs: Sequence[Run]) -> list[Verdict]:
    result = []
    for scene in dict.fromkeys(run.scene for run in runs):
        found = summarize(run for run in runs if run.scene == scene and run.preset == "best")
        figures = _values(found)
        result += [
            Verdict(scene, target, found[target.figure], target.text(figures), target.met(figures))
            for target in TARGETS
            if target.applies(scene, figures)
        ]
    return result


def table(scene: str, runs: Sequence[Run]) -> Table:
    """Every figure of a scene: target, best, reference, verdict."""
    found = {
        preset: summarize(run for run in runs if run.scene == scene and run.preset == preset)
        for preset in dict.fromkeys(run.preset for run in runs)
    }
    result = Table(title=f"{scene} ({_seeds(scene, runs)})", title_justify="left")
    result.add_column("figure")
    result.add_column("target", justify="right")
    for preset in found:
        result.add_column(preset, justify="right")
    result.add_column("")
    best = _values(found.get("best", {}))
    for target in TARGETS:
        if not target.applies(scene, best):
            continue
        values = [_text(estimates.get(target.figure)) for estimates in found.values()]
        verdict = "[green]pass[/]" if target.met(best) else "[bold red]MISS[/]"
        result.add_row(target.label, target.text(best), *values, verdict)
    result.add_section()
    for name, label in INFORMATIVE:
        if any(name in estimates for estimates in found.values()):
            result.add_row(label, "", *(_text(estimates.get(name)) for estimates in found.values()), "")
    return result


def overview(runs: Sequence[Run]) -> Table:
    """Targets down, scenes across, the figures of preset ``best``; misses in red."""
    scenes = list(dict.fromkeys(run.scene for run in runs))
    found = {
        scene: summarize(run for run in runs if run.scene == scene and run.preset == "best")
        for scene in scenes
    }
    result = Table(title="preset best against its targets", title_justify="left")
    result.add_column("figure")
    for scene in scenes:
        result.add_column(scene, justify="right")
    for target in TARGETS:
        cells = []
        for scene in scenes:
            figures = _values(found[scene])
            if not target.applies(scene, figures):
                cells.append("")
                continue
            value = f"{_text(found[scene][target.figure])} ({target.text(figures)})"
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
            f"  {verdict.scene}: {verdict.target.label}: {_text(verdict.found)} (target {verdict.limit})",
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
                "found": verdict.found.value,
                "error": verdict.found.error if np.isfinite(verdict.found.error) else None,
                "limit": verdict.limit,
                "met": verdict.met,
            }
            for verdict in verdicts(runs)
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _values(estimates: Estimates) -> Figures:
    return {name: estimate.value for name, estimate in estimates.items()}


def _seeds(scene: str, runs: Sequence[Run]) -> str:
    seeds = {
        preset: sorted(run.seed for run in runs if run.scene == scene and run.preset == preset)
        for preset in dict.fromkeys(run.preset for run in runs)
    }
    return ", ".join(f"{preset}: {len(found)} exposures" for preset, found in seeds.items())


def _text(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    error = f" ± {estimate.error:.2g}" if np.isfinite(estimate.error) else ""
    return _number(estimate.value) + error


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
