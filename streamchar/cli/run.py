"""``streamchar run``: characterize local files at a desk, without Kafka."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streamchar.characterize.config import CharacterizeImageConfig, Preset
from streamchar.configuration import merge, parse_override, read_toml, validate
from streamchar.errors import ConfigurationError, StreamcharError

if TYPE_CHECKING:
    from streamchar.characterize import CharacterizationResult, CharacterizeImage
    from streamchar.characterize.display import Display, Point
    from streamchar.characterize.summary import Summary
    from streamchar.image.fits import ReadOptions


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one file."""

    path: Path
    seconds: float
    result: CharacterizationResult | None = None
    error: StreamcharError | None = None

    @property
    def failed(self) -> bool:
        """Whether the file could not be characterized to the end."""
        return self.error is not None


def run(
    files: Annotated[
        list[Path], typer.Argument(help="FITS files: IMAGE/MASK/VARIANCE planes, or a plain image.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory for catalogue, background, PSF and summary files."),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="'best' (default), or 'reference': what the reference task does by default.")
    ] = "best",
    config: Annotated[
        Path | None, typer.Option(help="TOML file with settings; its \\[characterize] table is used.")
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
    save_exposure: Annotated[
        bool, typer.Option("--save-exposure", help="Also write the characterized exposure (three planes).")
    ] = False,
    debug: Annotated[
        str,
        typer.Option(
            help="Points at which to write pictures to the output directory, separated by commas: repair_iter, "
            "background_iter, measure_iter, psf, repair, measure, or all."
        ),
    ] = "",
) -> None:
    """Characterize local files and print what was found.

    Exit code: 0 when all files were characterized, 1 when some failed, 2 when the command itself is wrong.

    Example: streamchar run night/*.fits -o results -c detection.threshold_value=6
    """
    from streamchar.characterize import CharacterizeImage
    from streamchar.image.fits import ReadOptions

    points = _points(debug, output)
    task = CharacterizeImage(_configuration(preset, config, override or []))
    options = validate(ReadOptions, {"gain": gain, "read_noise": rdnoise}, "command line")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    console, errors = Console(), Console(stderr=True)
    attempts = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
    ) as progress:
        bar = progress.add_task("characterizing", total=len(files))
        for path in files:
            progress.update(bar, description=path.name)
            task.display = _display(points, output, path)
            attempts.append(_characterize(task, path, options, output, save_exposure=save_exposure))
            progress.advance(bar)
    console.print(_table(attempts))
    for attempt in attempts:
        _explain(attempt, errors)
    raise typer.Exit(code=int(any(attempt.failed for attempt in attempts)))


def _configuration(preset: str, path: Path | None, overrides: list[str]) -> CharacterizeImageConfig:
    if preset not in Preset.__args__:  # type: ignore[attr-defined]
        raise typer.BadParameter(
            f"'{preset}' is not a preset; known are best, reference", param_hint="--preset"
        )
    tree = CharacterizeImageConfig.preset(preset).model_dump()  # type: ignore[arg-type]
    if path is not None:
        merge(tree, read_toml(path).get("characterize", {}))
    for text in overrides:
        merge(tree, parse_override(text))
    return validate(CharacterizeImageConfig, tree, str(path or "settings"))


def _points(debug: str, output: Path | None) -> frozenset[Point]:
    from streamchar.characterize.display import parse_points

    points = parse_points(debug)
    if points and output is None:
        raise ConfigurationError.at("--debug", "needs a directory: add --output")
    return points


def _display(points: frozenset[Point], output: Path | None, path: Path) -> Display:
    from streamchar.characterize.display import PictureDisplay, no_display

    return PictureDisplay(output, points, _stem(path)) if points and output is not None else no_display


def _stem(path: Path) -> str:
    return path.name.split(".fit")[0]


def _characterize(
    task: CharacterizeImage, path: Path, options: ReadOptions, output: Path | None, *, save_exposure: bool
) -> Attempt:
    from streamchar.image import Exposure
    from streamchar.products import write_products

    start = time.perf_counter()
    try:
        result = task.run(Exposure.read(path, options))
    except StreamcharError as error:
        return Attempt(path, time.perf_counter() - start, error=error)
    if output is not None:
        write_products(result, output, _stem(path), exposure=save_exposure)
    return Attempt(path, time.perf_counter() - start, result, result.error)


def _table(attempts: list[Attempt]) -> Table:
    table = Table(header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("exposure", overflow="fold", min_width=10)
    table.add_column("outcome", no_wrap=True)
    for name in ("FWHM", "ellipt", "stars", "sources", "CRs", "sky", "noise", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    styles = {"succeeded": "green", "degraded": "yellow", "failed": "red"}
    for attempt in attempts:
        result, seconds = attempt.result, f"{attempt.seconds:.1f}"
        if result is None:
            table.add_row(attempt.path.name, "[red]failed[/]", *["–"] * 7, seconds)
            continue
        summary = result.summary
        table.add_row(
            attempt.path.name,
            f"[{styles[result.outcome]}]{result.outcome}[/]",
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
    return "–" if value != value else f"{value:.{digits}f}"


def _explain(attempt: Attempt, console: Console) -> None:
    if attempt.error is not None:
        prefix = "" if attempt.path.name in str(attempt.error) else f"{attempt.path}: "
        console.print(f"[bold red]failed:[/] {prefix}{attempt.error}", highlight=False, soft_wrap=True)
    for reason in attempt.result.reasons if attempt.result else ():
        console.print(
            f"[yellow]{attempt.path.name}:[/] {reason.code}: {reason.detail}", highlight=False, soft_wrap=True
        )
