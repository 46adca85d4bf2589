"""``streamchar topics``: create the topics, and check how they are configured."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import typer
from rich.console import Console
from rich.text import Text

from streamchar.cli.connection import ConfigOption, JsonOption, OverrideOption, connect
from streamchar.cli.lines import Column, Lines, fitted

_COLUMNS: list[Column] = [("topic", 0), ("option", 0), ("is", 0), ("recommended", 0)]

app = typer.Typer(help="Create the topics, or check how they are configured.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Create the topics, or check how they are configured."""


@app.command()
def create(config: ConfigOption = None, override: OverrideOption = None) -> None:
    """Create the topics that are missing, with the recommended partitions, replicas and retention.

    Existing topics are never changed. The number of partitions of the input topic is the upper limit of services that
    share the work; say topics.partitions=24 to choose it for all topics, topics.replication=3 for the replicas.

    Example: streamchar topics create -c kafka.bootstrap=broker:9092 -c topics.prefix=site.streamchar
    """
    from streamchar.stream.topics import ensure_topics

    settings = connect(config, override)
    topics = settings.topics.model_copy(update={"create": True})
    created = asyncio.run(ensure_topics(settings.model_copy(update={"topics": topics})))
    for name in created:
        typer.echo(f"created {name}")
    if not created:
        typer.echo("all topics exist")


@app.command()
def check(config: ConfigOption = None, override: OverrideOption = None, as_json: JsonOption = False) -> None:
    """Compare the topics with what is recommended; exit code 1 when something may lose messages.

    A missing topic, and one whose records are compacted away, is such a thing. Fewer replicas, a shorter retention or
    a smaller limit of the message size than recommended are shown and may be what you want.

    Example: streamchar topics check --config night.toml
    """
    from streamchar.stream.topics import check_topics

    found = asyncio.run(check_topics(connect(config, override)))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(difference) for difference in found], indent=2))
    elif not found:
        typer.echo("all topics are as recommended")
    else:
        rows = [[item.topic, item.option, item.actual, item.recommended] for item in found]
        lines = Lines(Console(markup=False, highlight=False), [*fitted(_COLUMNS, rows), ("", 0)])
        for item, row in zip(found, rows, strict=True):
            mark = Text("harmful", "bold red") if item.harmful else Text()
            lines.show([*map(Text, row), mark])
    if any(difference.harmful for difference in found):
        raise typer.Exit(1)
