"""``streamchar plan``: how many cores, partitions and bytes a survey needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from streamchar.errors import ConfigurationError

if TYPE_CHECKING:
    from streamchar.planning import Plan, ServiceProfile, Survey


def plan(
    survey: Annotated[
        str | None, typer.Option(help="Start from a known survey: rubin, decam, ztf or lco.")
    ] = None,
    detectors: Annotated[int | None, typer.Option(min=1, help="Detectors of a camera.")] = None,
    cameras: Annotated[int | None, typer.Option(min=1, help="Cameras that observe independently.")] = None,
    cadence: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds from one exposure to the next.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds from the shutter's closing to the products.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Pixels of a detector, for example 4096x4096.")
    ] = None,
    announce_delay: Annotated[
        float | None, typer.Option(min=0, help="Seconds from the shutter's closing to the announcement.")
    ] = None,
    night: Annotated[float | None, typer.Option(min=0.1, help="Hours of observing.")] = None,
    profile: Annotated[
        Path | None, typer.Option(help="Report of `make bench` with the times of your machine.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.001, help="Seconds of a worker for an exposure, in place of a profile."),
    ] = None,
    scatter: Annotated[
        float | None, typer.Option(min=0, max=2, help="Scatter of the logarithm of that time.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Simulate so many workers instead of searching the fewest.")
    ] = None,
    cores_per_replica: Annotated[
        int, typer.Option(min=2, help="Cores of one service, its coordinator's included.")
    ] = 16,
    min_replicas: Annotated[
        int, typer.Option(min=1, help="Fewest services; with two, one goes on when a machine is lost.")
    ] = 2,
    max_utilisation: Annotated[
        float, typer.Option(min=0.05, max=1, help="Largest fraction of the workers' time in use.")
    ] = 0.8,
    percentile: Annotated[
        float, typer.Option(min=1, max=99.99, help="Per cent of the exposures that must be in time.")
    ] = 99.0,
    kills: Annotated[float, typer.Option(min=0, help="Workers killed per worker and hour.")] = 0.01,
    replication: Annotated[int, typer.Option(min=1, help="Copies that the brokers keep.")] = 3,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the distribution of the latency into this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Plan the service for a survey: partitions, replicas, cores, memory, broker bandwidth and storage.

    A night is simulated event by event: whole focal planes arrive at once, keys are hashed to partitions, services deal
    events to their free workers, workers are killed now and then. The fewest workers that meet the deadline are searched.
    Times are those of `make bench`; run it on your machines and give its report by --profile.

    Example: streamchar plan --detectors 189 --cadence 34 --deadline 60

    Example: streamchar plan --survey ztf --profile .cache/bench/report.json --plot ztf.png
    """
    from streamchar.planning import Faults, make_plan

    asked = _survey(survey, detectors, cameras, cadence, deadline, shape, announce_delay, night)
    found = make_plan(
        asked,
        _profile(profile, seconds, scatter),
        cores_per_replica=cores_per_replica,
        min_replicas=min_replicas,
        max_utilisation=max_utilisation,
        percentile=percentile,
        replication=replication,
        faults=Faults(kills),
        workers=workers,
    )
    if plot is not None:
        from streamchar.planning.drawing import draw_latencies

        draw_latencies(found, plot)
    if as_json:
        typer.echo(json.dumps(found.figures(), indent=2))
    else:
        Console().print(_table(found))
        if plot is not None:
            Console().print(f"latencies drawn in {plot}")


def _survey(
    name: str | None,
    detectors: int | None,
    cameras: int | None,
    cadence: float | None,
    deadline: float | None,
    shape: str | None,
    announce_delay: float | None,
    night: float | None,
) -> Survey:
    from dataclasses import replace

    from streamchar.planning import SURVEYS, Survey

    if name is not None and name not in SURVEYS:
        raise ConfigurationError.at("--survey", f"'{name}' is not known; known are {', '.join(SURVEYS)}")
    base = SURVEYS[name] if name else Survey("your survey", 1, 1, 60.0, 60.0, 4096, 4096)
    changes: dict[str, Any] = {
        "detectors": detectors,
        "cameras": cameras,
        "cadence": cadence,
        "deadline": deadline,
        "announce_delay": announce_delay,
        "night": night,
    }
    if shape is not None:
        lengths = shape.lower().split("x")
        if len(lengths) != 2 or not all(length.isdecimal() and int(length) > 0 for length in lengths):
            raise ConfigurationError.at("--shape", f"'{shape}' should read like 4096x4096")
        changes |= {"height": int(lengths[0]), "width": int(lengths[1])}
    return replace(base, **{key: value for key, value in changes.items() if value is not None})


def _profile(path: Path | None, seconds: float | None, scatter: float | None) -> ServiceProfile:
    from dataclasses import replace

    from streamchar.planning import ServiceProfile, read_profile

    if path is not None and seconds is not None:
        raise ConfigurationError.at("--seconds", "is told by --profile already; give one of the two")
    found = ServiceProfile() if path is None else read_profile(path)
    if seconds is not None:
        found = replace(found, fixed=seconds, per_megapixel=0.0, origin="--seconds")
    return found if scatter is None else replace(found, scatter=scatter)


def _table(plan: Plan) -> Table:
    survey, fleet = plan.survey, plan.fleet
    table = Table(title=survey.title, show_header=False, title_justify="left", title_style="bold")
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    seconds = plan.profile.seconds(survey.megapixels)
    rows = (
        (
            "arrivals",
            f"{survey.rate:.2f}/s",
            f"{survey.cameras * survey.detectors} x {survey.height} x {survey.width} px every {survey.cadence:g} s",
        ),
        ("a worker's time", f"{seconds:.2f} s", f"scatter {plan.profile.scatter:.0%}; {plan.profile.origin}"),
        None,
        ("workers", str(fleet.replicas * fleet.workers), f"busy {plan.utilisation:.0%} of the time"),
        (
            "replicas",
            str(fleet.replicas),
            f"with {fleet.workers} {'worker' if fleet.workers == 1 else 'workers'} each",
        ),
        ("partitions", str(fleet.partitions), "of the input topic"),
        ("cores", str(plan.cores), "one for each worker and coordinator"),
        ("memory", f"{plan.memory / 1e9:.1f} GB", f"{plan.memory / fleet.replicas / 1e9:.1f} GB a replica"),
        None,
        (
            "to the brokers",
            f"{plan.bandwidth / 1e6:.1f} MB/s",
            f"{plan.burst_bandwidth / 1e6:.0f} MB/s in a burst, before copies",
        ),
        (
            "storage",
            f"{plan.night_bytes / 1e9:.0f} GB",
            f"a night of {survey.night:g} h with {plan.replication} copies",
        ),
        None,
        *(
            (
                f"latency, {percentile:g} %",
                f"{plan.latency(percentile):.1f} s",
                f"deadline {survey.deadline:g} s" if percentile == plan.percentile else "",
            )
            for percentile in sorted({50.0, 95.0, 99.0, 99.9, plan.percentile})
        ),
        ("latency, slowest", f"{plan.latency(100):.1f} s", f"{len(plan.latencies)} exposures of a detector"),
        ("too late", f"{plan.late:.3%}", ""),
    )
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*row)
    return table
