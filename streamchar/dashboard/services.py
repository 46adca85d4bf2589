"""What services say about themselves in their metrics: workers, queues, lag."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from streamchar.frozen import frozen

INTERVAL = 2.0
TIMEOUT = 4.0
MAX_BYTES = 8 << 20

GAUGES = {
    "streamchar_workers_ready": "ready",
    "streamchar_workers_busy": "busy",
    "streamchar_workers_spare": "spare",
    "streamchar_events_in_flight": "in_flight",
    "streamchar_events_backlog": "backlog",
    "streamchar_events_delayed": "delayed",
    "streamchar_breaker_open": "breaker",
    "streamchar_publication_blocked": "blocked",
    "streamchar_oldest_unfinished_seconds": "oldest",
    "streamchar_consumer_lag": "lag",
}
"""Metrics of which the sum over all labels is shown."""

ENDS = "streamchar_worker_ends_total"
INFO = "streamchar_build_info"


@frozen
class ServiceState:
    """A service as its metrics describe it.

    Attributes
    ----------
    address
        Of the metrics.
    at
        When they were last read, seconds since 1970; 0 before the first time.
    problem
        Why they could not be read the last time.
    version
        Of the service.
    figures
        See the values of :data:`GAUGES`.
    ends
        Ended worker processes by cause.
    """

    address: str
    at: float = 0.0
    problem: str = ""
    version: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)


class ServiceWatch:
    """Reads the metrics of services again and again.

    Parameters
    ----------
    addresses
        Where they are.
    changed
        Called when something is different.

    Attributes
    ----------
    states
        The services in the order of their addresses.
    """

    def __init__(self, addresses: Iterable[str], changed: Callable[[], None]) -> None:
        self.states = [ServiceState(address) for address in dict.fromkeys(addresses)]
        self._changed = changed

    async def run(self) -> None:
        """Read for ever."""
        if not self.states:
            return
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                states = await asyncio.gather(*(self._read(session, state) for state in self.states))
                different = [self._essence(state) for state in states] != [
                    self._essence(state) for state in self.states
                ]
                self.states = list(states)
                if different:
                    self._changed()
                await asyncio.sleep(INTERVAL)

    async def _read(self, session: aiohttp.ClientSession, state: ServiceState) -> ServiceState:
        try:
            async with session.get(
                state.address, headers={"Accept": "text/plain"}, allow_redirects=False
            ) as response:
                response.raise_for_status()
                body = bytearray()
                async for chunk in response.content.iter_chunked(1 << 16):
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise ValueError(f"more than {MAX_BYTES} bytes")
            return read_metrics(state.address, body.decode("utf-8", "replace"))
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            problem = str(error)[:200] or "no answer"
            return ServiceState(state.address, state.at, problem, state.version, state.figures, state.ends)

    @staticmethod
    def _essence(state: ServiceState) -> Any:
        return state.problem, state.version, state.figures, state.ends


def read_metrics(address: str, text: str) -> ServiceState:
    """Read metrics in the Prometheus text format; what is not known is left out.

    Raises
    ------
    ValueError
        The text is no such thing.
    """
    figures: dict[str, float] = {}
    ends: dict[str, int] = {}
    version = ""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in GAUGES:
                name = GAUGES[sample.name]
                figures[name] = figures.get(name, 0.0) + sample.value
            elif sample.name == ENDS:
                ends[sample.labels.get("cause", "")] = int(sample.value)
            elif sample.name == INFO:
                version = sample.labels.get("version", "")
    return ServiceState(address, time.time(), "", version, figures, ends)
