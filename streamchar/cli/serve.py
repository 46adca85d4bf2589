"""``streamchar serve``: run the service until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from streamchar.dashboard.beside import keep_page
from streamchar.errors import StreamcharError
from streamchar.stream.errors import FatalError
from streamchar.stream.events import NO_DIGEST
from streamchar.stream.service import Service
from streamchar.stream.service import serve as serve_until_told
from streamchar.stream.settings import ServiceSettings, WorkerSettings, load_settings

CONFIGURATION_EXIT = 2
_LOG_FIELDS = (
    "event",
    "event_id",
    "instrument",
    "exposure",
    "detector",
    "outcome",
    "reason",
    "step",
    "latency",
)


def serve(
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("-c", help="Override one setting, as name=value; may be repeated.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Characterize every exposure that is announced, until SIGTERM or Ctrl-C.

    The first signal drains: what is in work is finished and published. The second ends at once. Exit codes: 0 after
    draining, 2 for a mistake in the settings, 3 when the surroundings are not as the settings say, 4 when the
    service cannot go on and should be restarted.

    Example: streamchar serve --config night.toml -c workers.count=4 -c fetch.roots='["/data/night"]'
    """
    configure_logging(log_level)
    try:
        settings = load_settings(config, override or [])
        digest, tree = prepare_characterization(settings)
    except StreamcharError as error:
        _complain(error)
        raise typer.Exit(CONFIGURATION_EXIT) from error
    try:
        asyncio.run(
            _serve(settings.model_copy(update={"characterize": tree}), digest, _given(config, override))
        )
    except FatalError as error:
        _complain(error)
        raise typer.Exit(error.exit_code) from error
    except StreamcharError as error:
        _complain(error)
        raise typer.Exit(CONFIGURATION_EXIT) from error


def _given(config: Path | None, override: list[str] | None) -> list[str]:
    """Return the arguments that lead another command to the same settings."""
    words = [] if config is None else ["--config", str(config)]
    return words + [word for text in override or [] for word in ("-c", text)]


async def _serve(settings: ServiceSettings, digest: str, arguments: list[str]) -> None:
    service = Service(settings, digest)
    async with AsyncExitStack() as stack:
        if settings.dashboard.enabled:
            page = asyncio.create_task(keep_page(arguments, partial(_metrics_address, service)))
            stack.push_async_callback(_cancelled, page)
        await serve_until_told(service)


async def _metrics_address(service: Service) -> str:
    """Wait until the service's metrics can be read, and say where."""
    http = service.settings.http
    if not http.enabled:
        return ""
    while not service.health.port:  # noqa: ASYNC110 - the server finds a free one when it starts
        await asyncio.sleep(0.1)
    host = "127.0.0.1" if http.host in {"0.0.0.0", "::", ""} else http.host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{service.health.port}/metrics"


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def prepare_characterization(settings: ServiceSettings) -> tuple[str, dict[str, object]]:
    """Validate the characterization's settings before any worker starts; return their digest and full tree."""
    if settings.workers.job != WorkerSettings().job:
        return NO_DIGEST, settings.characterize
    from streamchar.stream.characterize_job import digest_of, load_config

    loaded = load_config(settings.characterize)
    return digest_of(loaded), loaded.model_dump(mode="json")


def configure_logging(level: str) -> None:
    """Log to standard error: lines for people on a terminal, one JSON object per line otherwise."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise typer.BadParameter(f"'{level}' is none of debug, info, warning, error")
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonFormatter())
    handler.addFilter(RepetitionFilter())
    logging.basicConfig(level=number, handlers=[handler], force=True)
    # The client reports each lost connection and rebalance at length; we report what follows from them.
    logging.getLogger("aiokafka").setLevel(max(number, logging.WARNING))


class RepetitionFilter(logging.Filter):
    """Lets a message of the Kafka client through once in a while: without brokers it repeats them many times a second.

    Parameters
    ----------
    interval
        Seconds between two equal messages.
    """

    def __init__(self, interval: float = 30.0) -> None:
        super().__init__()
        self._interval = interval
        self._seen: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is to be written."""
        if not record.name.startswith("aiokafka"):
            return True
        text = record.getMessage()
        if record.created - self._seen.get(text, 0.0) < self._interval:
            return False
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[text] = record.created
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object for each record, with the ids of the event it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in _LOG_FIELDS:
            if name in record.__dict__:
                line[name] = record.__dict__[name]
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _complain(error: StreamcharError) -> None:
    logging.getLogger("streamchar").error("%s", error, extra={"reason": error.code})
