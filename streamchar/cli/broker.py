"""``streamchar broker``: run the embedded broker until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from streamchar.broker.__main__ import allow_many_files, announce
from streamchar.broker.config import BrokerSettings
from streamchar.broker.server import run_until_terminated
from streamchar.configuration import merge, parse_override, validate
from streamchar.errors import StreamcharError


def broker(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", "-d", help="Directory of the log files; created when missing.")
    ] = Path("broker-data"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", help="Port to listen on; 0 chooses a free one.")
    ] = 9092,
    fsync: Annotated[
        str,
        typer.Option(
            help="When records are forced to the disk: 'never' (they survive a crash of the broker, not of the machine), "
            "'always' (before they are acknowledged), or an interval in milliseconds."
        ),
    ] = "never",
    retention_hours: Annotated[
        float,
        typer.Option(min=0, help="How long records are kept; a topic may override it with retention.ms."),
    ] = 168.0,
    auto_create_topics: Annotated[
        bool, typer.Option(help="Create a topic when a client first asks for it.")
    ] = True,
    allow_remote: Annotated[
        bool,
        typer.Option(
            help="Permit an address other than loopback. There is no TLS and no login: trusted networks only."
        ),
    ] = False,
    advertised_host: Annotated[
        str | None,
        typer.Option(help="Name that clients are told to connect to, when it differs from --host."),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other broker setting, for example segment_bytes=67108864.",
        ),
    ] = None,
) -> None:
    """Run a single-node Kafka broker: one process, durable files, nothing else to install.

    It serves one machine well: groups, idempotent producers and transactions behave as on Apache Kafka. It is not a
    cluster: one node, no replication, no TLS, no login, no compaction.

    Example: keep a night's topics in ./night and let the service use them:

        streamchar broker --data-dir night --port 9092 &

        streamchar serve -c kafka.bootstrap=127.0.0.1:9092

    Stop it with Ctrl-C or SIGTERM; a kill loses nothing that was acknowledged.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    tree: dict[str, Any] = {
        "data_dir": data_dir,
        "host": host,
        "port": port,
        "fsync": int(fsync) if fsync.isdigit() else fsync,
        "retention_ms": int(retention_hours * 3_600_000),
        "auto_create_topics": auto_create_topics,
        "allow_remote": allow_remote,
        "advertised_host": advertised_host,
    }
    try:
        for text in override or ():
            merge(tree, parse_override(text, BrokerSettings))
        allow_many_files()
        asyncio.run(run_until_terminated(validate(BrokerSettings, tree, "broker"), announce))
    except StreamcharError as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from error
