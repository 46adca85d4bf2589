"""``streamchar run``: characterize exposures at a desk, without Kafka."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from pydantic import Field
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from streamchar.characterize.config import CharacterizeImageConfig, Preset
from streamchar.configuration import Configuration, merge, parse_override, read_toml, validate
from streamchar.errors import ConfigurationError
from streamchar.monitor.grades import GradeLimits
from streamchar.printable import as_markup
from streamchar.stream.heap import made_to_stay, prepare_heap
from streamchar.tables import DescribedTable, FileFormat

if TYPE_CHECKING:
    from streamchar.characterize.summary import Summary
    from streamchar.cli.run_inputs import Input
    from streamchar.cli.run_work import Attempt, Outputs, Plan

FAILED = 10
"""Exit code less the number of exposures that failed: 1 and 2 mean other things everywhere."""
MOST_FAILED = 90
"""From this number of failed exposures on the exit code stays the same."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""

_SMALLEST, _LARGEST = 1e-3, 1e6
_STYLES = {"succeeded": "green", "degraded": "yellow", "failed": "red"}


class GradeSettings(Configuration):
    """The part of the settings that grades quality."""

    grades: dict[str, dict[str, GradeLimits]] = Field(default_factory=dict)
    """Limits by ``default``, instrument or ``instrument/band``, then by quantity."""


def run(
    files: Annotated[
        list[str],
        typer.Argument(
            help="FITS files, patterns in quotes ('night/*.fits.fz'), https:// and s3:// addresses; "
            "file.fits#N4 names an extension.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Directory for the products: catalogue, background, PSF, summary."
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Write an HTML report of each exposure, and an index of many.")
    ] = False,
    table_format: Annotated[
        str, typer.Option("--format", help="Kind of file of the catalogue: fits, parquet, ecsv or votable.")
    ] = "fits",
    regions: Annotated[
        bool, typer.Option("--regions", help="Write sources, PSF stars and cosmic rays as DS9 regions.")
    ] = False,
    save_exposure: Annotated[
        bool, typer.Option("--save-exposure", help="Write the characterized exposure (three planes).")
    ] = False,
    processes: Annotated[
        int, typer.Option("--processes", "-j", min=0, help="Worker processes; 0 means one per processor.")
    ] = 1,
    profile: Annotated[
        str | None,
        typer.Option(help="Instrument profile: a name or a TOML file; recognised from the header otherwise."),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="'best' (default), or 'reference': what the reference task does by default.")
    ] = "best",
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with settings; its \\[characterize] and \\[grades] tables are used."),
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("-c", help="Override one setting, as name=value; may be repeated.")
    ] = None,
    gain: Annotated[
        float | None, typer.Option(help="Electrons per image unit, where the header has none.")
    ] = None,
    rdnoise: Annotated[
        float | None, typer.Option(help="Read noise in electrons, where the header has none.")
    ] = None,
    debug: Annotated[
        str,
        typer.Option(
            help="Points at which to write pictures to the output directory, separated by commas: repair_iter, "
            "background_iter, measure_iter, psf, repair, measure, or all."
        ),
    ] = "",
) -> None:
    """Characterize exposures and print what was found.

    Exit code: 0 when all were characterized;
    10 and the number of those that failed, 100 at most (11 for one, 13 for three);
    2 when the command itself is wrong; 130 after Ctrl-C.

    For example:
    streamchar run night/*.fits -o results --report --processes 4
    streamchar run exposure.fits.fz#N4 -c detection.threshold_value=6
    """
    from streamchar.cli.run_inputs import find_inputs
    from streamchar.cli.run_work import Plan
    from streamchar.image.access import Access
    from streamchar.image.fits import ReadOptions

    tree = {} if config is None else read_toml(config)
    plan = Plan(
        _configuration(preset, tree, str(config or "settings"), override or []),
        validate(ReadOptions, {"gain": gain, "read_noise": rdnoise, "profile": profile}, "command line"),
        Access(plain_http=True),
        _outputs(output, table_format, debug, regions=regions, exposure=save_exposure, report=report),
        validate(GradeSettings, {"grades": tree.get("grades", {})}, str(config)).grades,
    )
    inputs = find_inputs(files, plan.access)
    if output is not None:
        _make_directory(output)
    workers = min(processes or len(os.sched_getaffinity(0)), len(inputs))
    console, errors = Console(), Console(stderr=True)
    start = time.perf_counter()
    attempts, interrupted = _characterize(plan, inputs, workers, errors)
    if report and len(inputs) > 1:
        _write_index(plan.outputs, attempts)
    console.print(_table(attempts))
    for attempt in attempts:
        _explain(attempt, errors)
    _conclude(attempts, inputs, plan.outputs, time.perf_counter() - start, errors)
    number = sum(attempt.outcome == "failed" for attempt in attempts)
    code = INTERRUPTED if interrupted else exit_code(number)
    raise typer.Exit(code=code)


def exit_code(failed: int) -> int:
    """Return the exit code that says how many exposures failed: 0, or 11 to 100."""
    return FAILED + min(failed, MOST_FAILED) if failed else 0


def _configuration(
    preset: str, settings: dict[str, Any], where: str, overrides: list[str]
) -> CharacterizeImageConfig:
    if preset not in Preset.__args__:  # type: ignore[attr-defined]
        raise typer.BadParameter(
            f"'{preset}' is not a preset; known are best, reference", param_hint="--preset"
        )
    tree = CharacterizeImageConfig.preset(preset).model_dump()  # type: ignore[arg-type]
    merge(tree, settings.get("characterize", {}))
    for text in overrides:
        merge(tree, parse_override(text, CharacterizeImageConfig))
    return validate(CharacterizeImageConfig, tree, where)


def _outputs(
    directory: Path | None, table_format: str, debug: str, *, regions: bool, exposure: bool, report: bool
) -> Outputs:
    """Verify what is asked for before anything is computed."""
    from streamchar.characterize.display import parse_points
    from streamchar.cli.run_work import Outputs

    known: tuple[FileFormat, ...] = get_args(FileFormat)
    chosen = next((name for name in known if name == table_format), None)
    if chosen is None:
        raise ConfigurationError.at(
            "--format", f"'{table_format}' is not a kind of file; known are {', '.join(known)}"
        )
    points = parse_points(debug)
    wanted = {
        "--debug": points,
        "--report": report,
        "--regions": regions,
        "--save-exposure": exposure,
    }
    for option, asked in wanted.items():
        if asked and directory is None:
            raise ConfigurationError.at(option, "needs a directory: add --output")
    if report or points:
        from streamchar.characterize import drawing

        drawing.new_figure(1, 1)
    if chosen == "parquet" and directory is not None:
        # Fails now rather than after the first exposure.
        DescribedTable((), {}).to_arrow()
    return Outputs(directory, chosen, regions, exposure, report, points)


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError.at("--output", f"{directory}: {error.strerror}") from error


def _characterize(
    plan: Plan, inputs: Sequence[Input], workers: int, console: Console
) -> tuple[list[Attempt], bool]:
    """Return what became of the exposures, in the order of the inputs, and whether the user interrupted."""
    attempts: dict[Input, Attempt] = {}
    interrupted = False
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        bar = progress.add_task("characterizing", total=len(inputs))
        try:
            with closing(_attempts(plan, inputs, workers)) as made:
                for attempt in made:
                    attempts[attempt.input] = attempt
                    progress.update(bar, advance=1, description=as_markup(attempt.input.stem[-40:]))
        except KeyboardInterrupt:
            interrupted = True
    return [attempts[chosen] for chosen in inputs if chosen in attempts], interrupted


def _attempts(plan: Plan, inputs: Sequence[Input], workers: int) -> Generator[Attempt]:
    if len(inputs) > 1:
        from streamchar.cli.run_pool import characterize_all

        yield from characterize_all(plan, inputs, workers)
        return
    with made_to_stay():
        from streamchar.cli.run_work import Desk

        desk = Desk(plan)
    prepare_heap()
    for chosen in inputs:
        yield desk.attempt(chosen)


def _write_index(outputs: Outputs, attempts: Sequence[Attempt]) -> None:
    from streamchar.report.index import write_index

    assert outputs.directory is not None
    entries = [attempt.entry for attempt in attempts if attempt.entry is not None]
    if not entries:
        return
    try:
        write_index(outputs.directory / "index.html", entries)
    except OSError as error:
        raise ConfigurationError.at("--output", f"{outputs.directory}: {error.strerror}") from error


def _table(attempts: Sequence[Attempt]) -> Table:
    table = Table(header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("exposure", overflow="fold", min_width=8)
    table.add_column("outcome", no_wrap=True)
    for name in ("FWHM", "ellipt", "stars", "sources", "CRs", "sky", "noise", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for attempt in attempts:
        summary, seconds = attempt.summary, f"{attempt.seconds:.1f}"
        name, outcome = as_markup(attempt.input.stem), f"[{_STYLES[attempt.outcome]}]{attempt.outcome}[/]"
        if summary is None:
            table.add_row(name, outcome, *["–"] * 7, seconds)
            continue
        table.add_row(
            name,
            outcome,
            _width(summary),
            _figure(math.hypot(summary.psf_e1, summary.psf_e2), 3),
            str(summary.n_psf_star),
            str(summary.source_count),
            str(summary.cosmic_ray_count),
            _figure(summary.sky_bg, 1),
            _figure(summary.sky_noise, 2),
            seconds,
        )
    return table


def _width(summary: Summary) -> str:
    if math.isfinite(summary.psf_fwhm_arcsec):
        return f"{summary.psf_fwhm_arcsec:.2f}″"
    return f"{summary.psf_fwhm:.2f} px" if math.isfinite(summary.psf_fwhm) else "–"


def _figure(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "–"
    usual = value == 0 or _SMALLEST <= abs(value) < _LARGEST
    return f"{value:.{digits}f}" if usual else f"{value:.2g}"


def _explain(attempt: Attempt, console: Console) -> None:
    source = attempt.input.source
    if attempt.error is not None:
        text = str(attempt.error)
        prefix = "" if source.rpartition("/")[2] in text else f"{source}: "
        console.print(f"[bold red]failed:[/] {as_markup(prefix + text)}", highlight=False, soft_wrap=True)
    for reason in attempt.reasons:
        words = as_markup(f"{reason.code}: {reason.detail}")
        console.print(f"[yellow]{as_markup(attempt.input.stem)}:[/] {words}", highlight=False, soft_wrap=True)


def _conclude(
    attempts: Sequence[Attempt], inputs: Sequence[Input], outputs: Outputs, seconds: float, console: Console
) -> None:
    """Print one line about all exposures: it goes where the explanations go, so that the table can be piped."""
    counts: Mapping[str, int] = Counter(attempt.outcome for attempt in attempts)
    parts = [f"{counts[outcome]} {outcome}" for outcome in _STYLES if counts[outcome]]
    left = len(inputs) - len(attempts)
    if left:
        parts.append(f"{left} not done")
    line = f"{len(inputs)} exposure{'s' * (len(inputs) != 1)} in {seconds:.1f} s: {', '.join(parts)}"
    if outputs.directory is not None:
        line += f"; products in {outputs.directory}"
    entries = [attempt.entry for attempt in attempts if attempt.entry is not None]
    if entries and outputs.directory is not None:
        name = "index.html" if len(inputs) > 1 else entries[0].href
        line += f", report: {outputs.directory / name}"
    console.print(as_markup(line), highlight=False, soft_wrap=True)
