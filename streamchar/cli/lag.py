"""``streamchar lag``: how many events wait, partition by partition."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from streamchar.cli.connection import ConfigOption, JsonOption, OverrideOption, connect
from streamchar.cli.lines import Column, Lines, fitted

if TYPE_CHECKING:
    from streamchar.stream.hidden import OpenTransaction
    from streamchar.stream.progress import PartitionProgress
    from streamchar.stream.settings import ServiceSettings


_COLUMNS: list[Column] = [
    ("topic", 0),
    ("partition", -1),
    ("committed", -1),
    ("finished above", -1),
    ("end", -1),
    ("lag", -1),
]


def lag(config: ConfigOption = None, override: OverrideOption = None, as_json: JsonOption = False) -> None:
    """Show how many events of each input partition are not finished.

    Unlike the lag that Kafka's own tools print, this counts what was finished out of order as finished: the service
    keeps it in the metadata of its commits. In the retry topic the marks of transactions count as well. A lag that grows needs more workers; a lag that stands still with idle
    workers is a slow exposure or a stopped service.

    A transaction that hangs hides what was written after it from every reader: it is told on standard error, with the
    command that ends it.

    Example: streamchar lag -c kafka.bootstrap=broker:9092
    """
    from streamchar.stream.hidden import explain

    settings = connect(config, override)
    found, hanging = asyncio.run(_look(settings))
    if hanging:
        typer.echo(explain(hanging, settings.kafka.bootstrap), err=True)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(partition) for partition in found], indent=2))
        return
    rows = [_cells(partition) for partition in found]
    rows.append(["all", "", "", "", "", str(sum(partition.lag for partition in found))])
    lines = Lines(Console(markup=False, highlight=False), fitted(_COLUMNS, rows))
    for row in rows:
        lines.show(map(Text, row))


def _cells(partition: PartitionProgress) -> list[str]:
    return [
        partition.topic,
        str(partition.partition),
        "never" if partition.committed is None else str(partition.committed),
        str(partition.finished_above),
        str(partition.end),
        str(partition.lag),
    ]


async def _look(settings: ServiceSettings) -> tuple[list[PartitionProgress], list[OpenTransaction]]:
    from streamchar.stream.hidden import hanging_transactions
    from streamchar.stream.progress import read_progress

    return await read_progress(settings), await hanging_transactions(settings)
