"""``streamchar watch``: the night as a live table in the terminal."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from streamchar.dashboard.follow import follow
from streamchar.dashboard.night import Night
from streamchar.dashboard.terminal import render
from streamchar.kafka.contact import leave_logging_to_the_application
from streamchar.messages import TopicNames
from streamchar.messages.topics import PREFIX

_REMEMBERED = 10_000
"""Events whose rows the medians are taken over: the topics hold millions, and the table is drawn again all the time."""


def watch(
    bootstrap: Annotated[str, typer.Option(metavar="HOST:PORT", help="Kafka broker.")] = "127.0.0.1:9092",
    prefix: Annotated[str, typer.Option(help="First part of the topic names.")] = PREFIX,
    rows: Annotated[int, typer.Option(min=1, help="Rows shown, the latest ones.")] = 20,
    hours: Annotated[float, typer.Option(min=0, help="Hours to read back at the start.")] = 24.0,
) -> None:
    """Show exposures as they are announced and finished; Ctrl-C ends it.

    First come those of the last hours.

    Example: streamchar watch --bootstrap broker:9092
    """
    leave_logging_to_the_application()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(bootstrap, TopicNames(prefix), rows, 3600.0 * hours))


async def _watch(bootstrap: str, topics: TopicNames, rows: int, span: float) -> None:
    night = Night(remembered=max(rows, _REMEMBERED))
    shown = True
    with Live(render(night, rows=rows), console=Console(), refresh_per_second=4) as live:
        async for message in follow(bootstrap, topics, span=span):
            if message is not None:
                night.add(message)
                shown = False
            elif not shown:
                live.update(render(night, rows=rows))
                shown = True
