"""What commands that subscribe have in common: options, warnings on standard error, a clean end."""

from __future__ import annotations

import asyncio
import logging
import select
import signal
import sys
import warnings
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TextIO

import typer

from streamchar.printable import printable
from streamchar.stream.settings import ServiceSettings, load_settings

BootstrapOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="Kafka broker; short for -c kafka.bootstrap=... [default: 127.0.0.1:9092]"
    ),
]
PrefixOption = Annotated[
    str | None, typer.Option(help="First part of the topic names; short for -c topics.prefix=...")
]
InstrumentsOption = Annotated[
    list[str] | None, typer.Option("--instrument", help="Only of this camera; may be repeated.")
]
BandsOption = Annotated[
    list[str] | None, typer.Option("--band", help="Only of this filter band; may be repeated.")
]
DetectorsOption = Annotated[
    list[int] | None, typer.Option("--detector", min=0, help="Only of this detector; may be repeated.")
]

_LOOK_SECONDS = 0.5


def settings_for(
    config: Any, override: list[str] | None, bootstrap: str | None, prefix: str | None
) -> ServiceSettings:
    """Load the settings of the service, with the short options on top.

    Raises
    ------
    ConfigurationError
        A setting is wrong.
    """
    short = {"kafka.bootstrap": bootstrap, "topics.prefix": prefix}
    named = [f"{name}={value!r}" for name, value in short.items() if value is not None]
    return load_settings(config, [*(override or []), *named])


def consumer_options(settings: ServiceSettings) -> dict[str, Any]:
    """Return how to reach secured brokers, for :func:`streamchar.subscribe`."""
    connection = settings.kafka.connection()
    return {name: value for name, value in connection.items() if name != "bootstrap_servers"}


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Write warnings as single lines to standard error, and leave the Kafka client's log out: errors say it better."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {printable(str(message))}", file=sys.stderr, flush=True)

    logger = logging.getLogger("aiokafka")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        try:
            yield
        finally:
            logger.setLevel(before)


def run_until_told(work: Awaitable[None], output: TextIO | None = None) -> bool:
    """Run a coroutine until it ends, a signal comes, or nobody reads the output any more.

    Parameters
    ----------
    work
        Cancelled by SIGINT and SIGTERM.
    output
        A pipe to watch: the end of its reader is noticed also when there is nothing to write.

    Returns
    -------
    bool
        Whether it ended by itself.
    """

    async def run() -> bool:
        working = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, working.cancel)
        descriptor = _descriptor(output)
        watching = asyncio.ensure_future(_until_closed(descriptor)) if descriptor is not None else None
        if watching is not None:
            watching.add_done_callback(lambda _: working.cancel())
        try:
            await working
        except asyncio.CancelledError:
            return False
        finally:
            if watching is not None:
                watching.cancel()
        return True

    return asyncio.run(run())


def _descriptor(output: TextIO | None) -> int | None:
    """The file descriptor of an output that has one."""
    try:
        return None if output is None else output.fileno()
    except OSError:
        return None


async def _until_closed(descriptor: int) -> None:
    """Return when the reader of a pipe has gone."""
    poll = select.poll()
    poll.register(descriptor, 0)
    while True:
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            return
        await asyncio.sleep(_LOOK_SECONDS)
