"""``streamchar lag``: how many events wait, partition by partition."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from streamchar.cli.connection import ConfigOption, JsonOption, OverrideOption, connect

if TYPE_CHECKING:
    from streamchar.stream.hidden import OpenTransaction
    from streamchar.stream.progress import PartitionProgress
    from streamchar.stream.settings import ServiceSettings


def lag(config: ConfigOption = None, override: OverrideOption = None, as_json: JsonOption = False) -> None:
    """Show how many events of each input partition are not finished.

    Unlike the lag that Kafka's own tools print, this counts what was finished out of order as finished: the service
    keeps it in the metadata of its commits. A lag that grows needs more workers; a lag that stands still with idle
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
    table = Table(header_style="bold")
    table.add_column("topic", overflow="fold")
    for heading in ("partition", "committed", "finished above", "end", "lag"):
        table.add_column(heading, justify="right")
    for partition in found:
        committed = "never" if partition.committed is None else str(partition.committed)
        table.add_row(
            partition.topic,
            str(partition.partition),
            committed,
            str(partition.finished_above),
            str(partition.end),
            str(partition.lag),
        )
    table.add_section()
    table.add_row("all", "", "", "", "", str(sum(partition.lag for partition in found)))
    Console().print(table)


async def _look(settings: ServiceSettings) -> tuple[list[PartitionProgress], list[OpenTransaction]]:
    from streamchar.stream.hidden import hanging_transactions
    from streamchar.stream.progress import read_progress

    return await read_progress(settings), await hanging_transactions(settings)
