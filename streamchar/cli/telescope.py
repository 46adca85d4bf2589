"""``streamchar telescope``: take a night of exposures with the simulated camera."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streamchar.configuration import merge, parse_override, read_toml, validate
from streamchar.errors import ConfigurationError
from streamchar.messages.topics import EXPOSURE_READY
from streamchar.telescope.announce import Announcer, JsonLinesAnnouncer, KafkaAnnouncer
from streamchar.telescope.config import NightConfig
from streamchar.telescope.operate import NightReport, run_night
from streamchar.telescope.scenes import SCENES, named_scene
from streamchar.telescope.store import StoredExposure

Tree = dict[str, Any]

EVENTS_FILE = "events.jsonl"


def telescope(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Directory for the exposures and their truth; made when missing."
        ),
    ],
    bootstrap: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Kafka broker to announce the exposures to; without it they are listed in OUTPUT/events.jsonl.",
        ),
    ] = None,
    topic: Annotated[str, typer.Option(help="Topic of the announcements.")] = EXPOSURE_READY,
    detectors: Annotated[
        int | None, typer.Option(min=1, help="Number of detectors. [dim]default: 4, with --scene 1[/]")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=32, help="Width and height of a detector, pixels. [dim]default: 1024, with --scene 4096[/]"
        ),
    ] = None,
    cadence: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds between two exposures; 0: as fast as possible. [dim]default: 3[/]"),
    ] = None,
    exposures: Annotated[
        int | None, typer.Option(min=1, help="Number of exposures (of all detectors). [dim]default: 20[/]")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0, help="Length of the night in seconds, instead of --exposures.")
    ] = None,
    seeing: Annotated[
        float | None,
        typer.Option(
            help="Median atmospheric FWHM, arcsec; with --scene that of every exposure. [dim]default: 0.7[/]"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same night. [dim]default: 1[/]")
    ] = None,
    scene: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"Unchanging conditions of a test scene: {', '.join(SCENES)}."),
    ] = None,
    fault_rate: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Fraction of files truncated, missing or full of NaN. [dim]default: 0[/]"
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with settings of the night; its \\[telescope] table is used."),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "-c", metavar="NAME=VALUE", help="Override one setting, for example scene.stars.density=40."
        ),
    ] = None,
) -> None:
    r"""Take a night of simulated exposures, write each with its truth, announce it when it is ready.

    NAME.fits holds image, mask and variance as they come from instrument signature removal.
    NAME.truth.fits holds what is really in it: sources, PSF, cosmic rays, streaks, background.
    The same settings give the same pixels. Needs GalSim: pip install 'streamchar\[demo]'.

    Example: nine detectors for half an hour, one file in fifty broken, for a service that listens:

        streamchar telescope -o night --bootstrap 127.0.0.1:9092 --detectors 9 --duration 1800 --fault-rate 0.02

    Example: three sharp 4096 x 4096 exposures to test with:

        streamchar telescope -o truth --scene sharp --exposures 3 --cadence 0 --seed 7
    """
    options: Tree = {
        "cadence": cadence,
        "exposures": exposures,
        "seed": seed,
        "fault_rate": fault_rate,
    }
    tree = _scene_tree(scene, size, seeing) if scene else _night_tree(size, seeing)
    if config is not None:
        merge(tree, read_toml(config).get("telescope", {}))
    merge(tree, {name: value for name, value in options.items() if value is not None})
    if detectors is not None:
        merge(tree, {"scene": {"camera": _layout(detectors)}})
    for text in override or ():
        merge(tree, parse_override(text, NightConfig))
    night = validate(NightConfig, tree, "telescope")
    if duration is not None:
        night = _lasting(night, duration, exposures)
    try:
        output.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(_operate(night, output, bootstrap, topic))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except OSError as error:
        raise ConfigurationError.at(str(output), f"cannot be written: {error.strerror}") from error
    _summarize(report, output, bootstrap, topic)


def _night_tree(size: int | None, seeing: float | None) -> Tree:
    tree: Tree = {}
    if size is not None:
        merge(tree, {"scene": {"camera": {"height": size, "width": size}}})
    if seeing is not None:
        merge(tree, {"conditions": {"seeing": seeing}})
    return tree


def _scene_tree(name: str, size: int | None, seeing: float | None) -> Tree:
    scene = named_scene(name) if size is None else named_scene(name, size=size)
    tree: Tree = {"scene": scene.model_dump(), "vary": False, "name": name}
    if seeing is not None:
        merge(tree, {"scene": {"psf": {"seeing": seeing}}})
    return tree


def _layout(detectors: int) -> Tree:
    """Rows and columns of the squarest rectangle of exactly that many detectors."""
    rows = next(rows for rows in range(math.isqrt(detectors), 0, -1) if detectors % rows == 0)
    return {"rows": rows, "columns": detectors // rows}


def _lasting(night: NightConfig, duration: float, exposures: int | None) -> NightConfig:
    if exposures is not None:
        raise ConfigurationError.at("--duration", "cannot be combined with --exposures; leave one out")
    if not night.cadence:
        raise ConfigurationError.at("--duration", "needs a --cadence above 0")
    return night.with_overrides(f"exposures={max(1, round(duration / night.cadence))}")


async def _operate(night: NightConfig, output: Path, bootstrap: str | None, topic: str) -> NightReport:
    async with AsyncExitStack() as stack:
        announcer: Announcer
        if bootstrap is None:
            announcer = JsonLinesAnnouncer(output / EVENTS_FILE)
        else:
            announcer = await stack.enter_async_context(KafkaAnnouncer(bootstrap, topic))
        detectors = night.scene.camera.detectors
        progress = stack.enter_context(
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )
        )
        task = progress.add_task("first exposure", total=night.exposures * detectors)

        def stored(exposure: StoredExposure) -> None:
            plan = exposure.plan
            fault = f", {plan.fault}" if plan.fault else ""
            progress.update(
                task,
                advance=1,
                description=f"exposure {plan.exposure} {plan.scene.band}, FWHM {exposure.fwhm:.2f} arcsec{fault}",
            )

        return await run_night(night, output, announcer, on_stored=stored)


def _summarize(report: NightReport, output: Path, bootstrap: str | None, topic: str) -> None:
    where = f"on {topic} at {bootstrap}" if bootstrap else f"in {output / EVENTS_FILE}"
    seeing = sorted(stored.fwhm for stored in report.exposures)
    Console().print(
        f"{report.announced} exposures announced {where}, {report.faults} of them with a fault; "
        f"FWHM {seeing[0]:.2f} to {seeing[-1]:.2f} arcsec, median {seeing[len(seeing) // 2]:.2f}; "
        f"{report.cpu:.2f} CPU s each; latest announcement {max(report.longest_delay, 0.0):.1f} s behind its time",
        highlight=False,
    )
