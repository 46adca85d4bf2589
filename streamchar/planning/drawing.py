"""The distribution of a plan's latencies as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamchar.characterize.drawing.canvas import axis_labels, legend, new_figure
from streamchar.planning.capacity import Plan


def draw_latencies(plan: Plan, path: Path) -> None:
    """Draw which fraction of the exposures takes longer than a time, with the deadline.

    Parameters
    ----------
    path
        Picture file; its extension tells the format.

    Raises
    ------
    MissingPlotsError
        Without matplotlib.
    """
    figure = new_figure(7.0, 4.5)
    axes = figure.subplots()
    latencies = np.sort(plan.latencies)
    later = 1.0 - np.arange(1, len(latencies) + 1) / len(latencies)
    axes.step(latencies, later, where="post", color="#0072b2", label="exposures of a detector")
    axes.axvline(
        plan.survey.deadline, color="#d55e00", linestyle="--", label=f"deadline {plan.survey.deadline:g} s"
    )
    axes.axhline(
        1.0 - plan.percentile / 100.0, color="0.5", linestyle=":", label=f"{plan.percentile:g} % in time"
    )
    axes.set_yscale("log")
    axes.set_ylim(0.5 / len(latencies), 1.0)
    axis_labels(axes, "seconds since the shutter closed", "fraction still waiting")
    workers = plan.fleet.replicas * plan.fleet.workers
    axes.set_title(f"{plan.survey.title}: {workers} workers in {plan.fleet.replicas} services", loc="left")
    legend(axes)
    figure.savefig(path)
