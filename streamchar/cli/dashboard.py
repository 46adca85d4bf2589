"""``streamchar dashboard``: the live page of the night."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import webbrowser
from contextlib import suppress
from typing import Annotated

import typer

from streamchar.cli.connection import ConfigOption, OverrideOption
from streamchar.configuration import validate
from streamchar.monitor.page_settings import DashboardSettings
from streamchar.stream.settings import ServiceSettings, load_settings


def dashboard(
    bootstrap: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Kafka broker; -c kafka.bootstrap=... for short.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the page, 0 for any free one; 8751 unless set."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 unless set.")] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Address of a service's metrics, for workers and lag; may be repeated."
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    config: ConfigOption = None,
    override: OverrideOption = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", hidden=True, help="End when standard input is closed.")
    ] = False,
) -> None:
    """Serve the live page of the night: seeing, focal plane, exposures, failures, latency, workers.

    It reads the topics like any other subscriber, first what was published in the last hours, then everything that
    comes. It needs no service beside it and disturbs none. Ctrl-C ends it.

    Example: streamchar dashboard --bootstrap broker:9092 --metrics http://127.0.0.1:8750/metrics
    """
    from streamchar.cli.serve import configure_logging

    configure_logging("warning")
    chosen = {"kafka.bootstrap": bootstrap, "dashboard.port": port, "dashboard.host": host}
    settings = load_settings(
        config,
        [
            *(override or []),
            *(f"{name}={value!r}" for name, value in chosen.items() if value is not None),
        ],
    )
    if metrics:
        page = settings.dashboard.model_dump() | {"metrics": (*settings.dashboard.metrics, *metrics)}
        settings = settings.model_copy(update={"dashboard": validate(DashboardSettings, page, "--metrics")})
    raise typer.Exit(asyncio.run(_serve(settings, open_page=open_page, with_parent=with_parent)))


async def _serve(settings: ServiceSettings, *, open_page: bool, with_parent: bool) -> int:
    from streamchar.dashboard.page import LivePage

    page = LivePage(settings.dashboard, settings.kafka, settings.topics.names)

    def ready(address: str) -> None:
        typer.echo(f"live page on {address}")
        sys.stdout.flush()
        if open_page:
            webbrowser.open(address)

    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(page.run(ready))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), _end_at_close, serving)
    with suppress(asyncio.CancelledError):
        await serving
    return 0


def _end_at_close(serving: asyncio.Future[None]) -> None:
    """Read what came on standard input; nothing means that the parent closed it or is gone."""
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        serving.cancel()
