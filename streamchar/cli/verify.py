"""``streamchar verify``: read every topic and say whether anything is missing, duplicated or incomplete."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from streamchar.cli.connection import ConfigOption, JsonOption, OverrideOption, connect
from streamchar.printable import printable

_SHOWN = 50


def verify(
    config: ConfigOption = None,
    override: OverrideOption = None,
    allow_repeats: Annotated[
        bool,
        typer.Option(
            help="Accept messages that come again with the same identifier; implied by delivery.mode=at_least_once."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read all topics, committed records only, and compare them with what the service promises.

    Every announced event that the group has finished must have exactly one status; a success its quality record and
    every part of its catalogue and PSF model; a failure its dead letter. Exit code 0: all is well; 1: something is
    lost, duplicated, incomplete or unexpected. Events that are still in work are counted, not blamed. Records that
    have left the topics by retention cannot be judged: run it within the shortest retention, best after a night.

    Example: streamchar verify --config night.toml
    """
    from streamchar.stream.verify import summarize
    from streamchar.stream.verify import verify as compare

    settings = connect(config, override)
    with _reading() as progress:
        report = asyncio.run(compare(settings, allow_repeats=allow_repeats or None, progress=progress))
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(report), indent=2))
    else:
        console = Console()
        table = Table(header_style="bold", show_header=False)
        table.add_column("figure")
        table.add_column("value", justify="right")
        for name, value in summarize(report):
            table.add_row(name, value)
        console.print(table)
        for finding in report.findings[:_SHOWN]:
            text = Text.assemble((finding.kind, "bold red"), printable(f" {finding.event}: {finding.detail}"))
            console.print(text, soft_wrap=True)
        if len(report.findings) > _SHOWN:
            console.print(f"... and {len(report.findings) - _SHOWN} more (see --json)")
    if not report.is_well:
        raise typer.Exit(1)


@contextmanager
def _reading() -> Iterator[Callable[[int, int], None]]:
    """Show how much has been read, where somebody looks; gone afterwards."""
    console = Console(stderr=True)
    columns = (TextColumn("reading records"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=None)
        yield lambda done, wanted: bars.update(bar, completed=done, total=wanted)
