"""``streamchar dlq``: look at dead letters, and announce them again when their cause is mended."""

from __future__ import annotations

import asyncio
import json
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamchar.cli.connection import ConfigOption, JsonOption, OverrideOption, connect
from streamchar.cli.lines import Column, Lines, fitted
from streamchar.printable import printable

if TYPE_CHECKING:
    from streamchar.stream.letters import Letter

_COLUMNS: list[Column] = [
    ("letter", 0),
    ("time (UTC)", 0),
    ("exposure", 0),
    ("reason", 0),
    ("tries", -1),
    ("replayed", 0),
]

app = typer.Typer(
    help="Look at dead letters, the events that failed for good, and announce them again.",
    no_args_is_help=True,
)

ReasonOption = Annotated[
    str | None,
    typer.Option("--reason", help="Only letters with this reason code, for example worker_timeout."),
]
InstrumentOption = Annotated[str | None, typer.Option("--instrument", help="Only letters of this camera.")]
ExposureOption = Annotated[int | None, typer.Option("--exposure", min=0, help="Only letters of this visit.")]
DetectorOption = Annotated[
    int | None, typer.Option("--detector", min=0, help="Only letters of this detector.")
]


@app.callback()
def _group() -> None:
    """Look at dead letters, the events that failed for good, and announce them again."""


@app.command("list")
def list_letters(
    reason: ReasonOption = None,
    instrument: InstrumentOption = None,
    exposure: ExposureOption = None,
    detector: DetectorOption = None,
    config: ConfigOption = None,
    override: OverrideOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the dead letters, oldest first: which exposure, why it failed, and whether it was replayed.

    Example: streamchar dlq list --reason worker_timeout --instrument DemoCam
    """
    from streamchar.stream.letters import Selection, read_letters

    selection = Selection(reason, instrument, exposure, detector)
    letters = asyncio.run(read_letters(connect(config, override), selection))
    if not letters and not as_json:
        typer.echo("no dead letters")
    _print(letters, as_json=as_json)


@app.command()
def show(
    letter: Annotated[
        str, typer.Argument(metavar="PARTITION/OFFSET", help="As in the first column of the list.")
    ],
    config: ConfigOption = None,
    override: OverrideOption = None,
) -> None:
    """Show one dead letter with everything that is known: headers, traceback, the original message.

    Example: streamchar dlq show 0/17
    """
    from streamchar.stream.letters import Selection, read_letters

    found = asyncio.run(read_letters(connect(config, override), Selection(names=[letter])))
    if not found:
        typer.echo(f"there is no dead letter {letter}", err=True)
        raise typer.Exit(1)
    console = Console(markup=False)
    table = Table(show_header=False)
    table.add_column("header", style="bold")
    table.add_column("value", overflow="fold")
    table.add_row("letter", found[0].name)
    table.add_row("exposure", printable(found[0].exposure_name))
    table.add_row("replayed", "yes" if found[0].replayed else "no")
    for name, value in found[0].headers:
        table.add_row(name, printable(value.decode("utf-8", "backslashreplace")))
    console.print(table)
    console.print(printable(_readable(found[0].value)), highlight=False)


@app.command()
def replay(
    letters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PARTITION/OFFSET...", help="Single letters, as in the first column of the list."
        ),
    ] = None,
    reason: ReasonOption = None,
    instrument: InstrumentOption = None,
    exposure: ExposureOption = None,
    detector: DetectorOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="All letters; needed when nothing else is said.")
    ] = False,
    again: Annotated[bool, typer.Option(help="Also letters that have been replayed before.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only list what would be announced.")] = False,
    config: ConfigOption = None,
    override: OverrideOption = None,
) -> None:
    """Announce dead letters again: original bytes and headers, in the partition they came from.

    Each event is marked as a replay (header sc-replay-round), begins with a new count of attempts, does not expire
    because of its age, and gets a status of its own. The tense in the message stays as it is. All selected letters
    are announced in one transaction, or none is; letters replayed before are left out unless --again.

    Example: streamchar dlq replay --reason file_missing --dry-run
    """
    from streamchar.stream.letters import Selection, read_letters
    from streamchar.stream.letters import replay as announce

    selection = Selection(reason, instrument, exposure, detector, tuple(letters or ()))
    if selection == Selection() and not every:
        typer.echo(
            "say which letters: PARTITION/OFFSET, --reason, --instrument, --exposure, --detector or --all",
            err=True,
        )
        raise typer.Exit(2)
    settings = connect(config, override)
    if dry_run:
        found = asyncio.run(read_letters(settings, selection))
        chosen = [letter for letter in found if letter.is_whole and (again or not letter.replayed)]
    else:
        chosen = asyncio.run(announce(settings, selection, again=again))
    _print(chosen, as_json=False)
    typer.echo(f"{len(chosen)} {'would be announced' if dry_run else 'announced'} again")


def _print(letters: list[Letter], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_describe(letter) for letter in letters], indent=2))
        return
    rows = [_cells(letter) for letter in letters]
    columns = fitted(_COLUMNS, rows)
    console = Console(markup=False, highlight=False)
    lines = Lines(console, columns)
    for letter, row in zip(letters, rows, strict=True):
        lines.show(map(Text, row))
        indented = indent(printable(letter.told("sc-error-text")), " " * (columns[0][1] + 2))
        console.print(indented, style="dim", soft_wrap=True)


def _cells(letter: Letter) -> list[str]:
    return [
        letter.name,
        f"{letter.time:%Y-%m-%d %H:%M:%S}",
        printable(letter.exposure_name),
        printable(letter.told("sc-error-code")),
        printable(letter.told("sc-retry-attempts")),
        "yes" if letter.replayed else "",
    ]


def _describe(letter: Letter) -> dict[str, object]:
    return {
        "letter": letter.name,
        "time": letter.time.isoformat(),
        "instrument": letter.instrument,
        "exposure": letter.exposure,
        "detector": letter.detector,
        "replayed": letter.replayed,
        "headers": {name: value.decode("utf-8", "backslashreplace") for name, value in letter.headers},
    }


def _readable(value: bytes) -> str:
    """Original message for people: JSON as it is, msgpack as its map, anything else escaped."""
    import msgpack

    try:
        return value.decode("utf-8") if value[:1] in b"{[" else str(msgpack.unpackb(value))
    except (ValueError, msgpack.UnpackException):
        return value.decode("utf-8", "backslashreplace")
