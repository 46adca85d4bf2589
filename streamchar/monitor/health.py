"""The port for probes and metrics: /livez, /readyz, /startupz, /metrics, /version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from streamchar.errors import StreamcharError
from streamchar.monitor.listener import Listener

Checks = Callable[[], Mapping[str, str]]
"""Returns what is wrong by name of the check; nothing wrong is the empty string."""


class ListenError(StreamcharError):
    """The port for probes and metrics cannot be opened."""

    code = "listen"
    template = "cannot listen on {host}:{port}: {detail} (http.host, http.port)"


@dataclass(frozen=True)
class Probes:
    """What the endpoints answer with.

    Attributes
    ----------
    live, ready, started
        Checks by probe.
    metrics
        Given the ``Accept`` header, returns the metrics and their content type.
    version
        Facts about the software and its settings.
    """

    live: Checks
    ready: Checks
    started: Checks
    metrics: Callable[[str], tuple[bytes, str]]
    version: Callable[[], Mapping[str, Any]]


class HealthServer(Listener):
    """Serves the probes.

    Parameters
    ----------
    probes
        What to answer.
    host, port
        Where to listen; port 0 for any free one.
    """

    refused = ListenError

    def __init__(self, probes: Probes, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host, port)
        self._probes = probes

    async def start(self) -> None:
        """Begin to listen.

        Raises
        ------
        ListenError
            The address is in use or may not be used.
        """
        application = web.Application()
        application.add_routes(
            [
                web.get("/livez", _checker(self._probes.live)),
                web.get("/readyz", _checker(self._probes.ready)),
                web.get("/startupz", _checker(self._probes.started)),
                web.get("/metrics", self._metrics),
                web.get("/version", self._version),
            ]
        )
        await self.listen(application)

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._probes.metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response(dict(self._probes.version()))


def _checker(checks: Checks) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.Response:
        found = checks()
        healthy = not any(found.values())
        body = {
            "status": "ok" if healthy else "failing",
            "checks": {name: problem or "ok" for name, problem in found.items()},
        }
        return web.json_response(body, status=200 if healthy else 503)

    return answer
