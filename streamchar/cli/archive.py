"""``streamchar archive``: write catalogues to Parquet files as they come."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.status import Status

from streamchar.cli.connection import ConfigOption, OverrideOption
from streamchar.cli.subscriber import (
    BandsOption,
    BootstrapOption,
    DetectorsOption,
    InstrumentsOption,
    PrefixOption,
    consumer_options,
    run_until_told,
    settings_for,
    warnings_as_lines,
)
from streamchar.printable import as_markup, printable

if TYPE_CHECKING:
    from streamchar.archive import Archive
    from streamchar.messages import MessageError
    from streamchar.stream.settings import KafkaSettings

GROUP = "streamchar-archive"


def archive(
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR|s3://...", help="Folder or object store.")
    ],
    once: Annotated[bool, typer.Option(help="Write what there is, then end.")] = False,
    group: Annotated[
        str,
        typer.Option(
            help="Consumer group: keeps the position; several archives of one group share the work."
        ),
    ] = GROUP,
    instrument: InstrumentsOption = None,
    band: BandsOption = None,
    detector: DetectorsOption = None,
    bootstrap: BootstrapOption = None,
    prefix: PrefixOption = None,
    config: ConfigOption = None,
    override: OverrideOption = None,
) -> None:
    """Write every catalogue to a Parquet file: OUTPUT/night=2026-01-30/instrument=DemoCam/EXPOSURE-DETECTOR-ID.parquet.

    Each catalogue is one file that appears whole or not at all; its name follows from the catalogue's identifier, and
    the position is kept only once the file is in place. However often this is killed, and whatever comes again: no
    catalogue is missing, none is there twice. Begins with the oldest catalogue there is. With -c kafka.instance_id=NAME,
    unique for each archive, a restart goes on at once instead of after kafka.session_timeout. Exit code 1 when
    something could not be put together, with --once.

    Read it all with pandas.read_parquet(OUTPUT), pyarrow.dataset, or DuckDB:
    SELECT night, count(*) FROM read_parquet('OUTPUT/**/*.parquet', hive_partitioning = true) GROUP BY night

    Example: streamchar archive -o catalogues --bootstrap broker:9092
    """
    from streamchar.archive import Archive, open_store
    from streamchar.client import subscribe

    settings = settings_for(config, override, bootstrap, prefix)
    archived = Archive(open_store(output))
    problems: list[MessageError] = []

    def tell(problem: MessageError) -> None:
        problems.append(problem)
        print(f"warning: {printable(str(problem))}", file=sys.stderr, flush=True)

    subscription = subscribe(
        settings.kafka.bootstrap,
        products="catalog",
        group=group,
        from_beginning=True,
        stop_at_end=once,
        instrument=instrument,
        band=band,
        detector=detector,
        topics=settings.topics.names,
        on_problem=tell,
        consumer_options={**consumer_options(settings), **membership(settings.kafka)},
    )
    console = Console(stderr=True, highlight=False)

    async def run(status: Status) -> None:
        async with subscription:
            async for catalog in subscription:
                name = await asyncio.to_thread(archived.add, catalog)
                status.update(as_markup(f"{summary(archived)}; last {name} at {time.strftime('%H:%M:%S')}"))

    with warnings_as_lines(), console.status(f"archiving to {as_markup(output)}") as status:
        run_until_told(run(status))
    console.print(f"{summary(archived)} written to {output}", markup=False)
    if once and problems:
        raise typer.Exit(1)


def membership(kafka: KafkaSettings) -> dict[str, Any]:
    """Return what makes a member of a group: with ``kafka.instance_id`` a restarted one goes on at once."""
    times = {
        "session_timeout_ms": round(1000 * kafka.session_timeout),
        "heartbeat_interval_ms": round(1000 * kafka.heartbeat_interval),
    }
    return {**times, "group_instance_id": kafka.instance_id} if kafka.instance_id else times


def summary(archived: Archive) -> str:
    """Say how much was written."""
    return f"{archived.catalogs:,} catalogues, {archived.sources:,} sources, {archived.size / 1e6:,.1f} MB"
