"""A port on which an aiohttp application answers."""

from __future__ import annotations

from typing import ClassVar

from aiohttp import web

from streamchar.errors import StreamcharError, listening_problem


class Listener:
    """Opens a port for an application, and closes it.

    Parameters
    ----------
    host, port
        Where to listen; port 0 for any free one.

    Attributes
    ----------
    port
        The port that is listened on, after the start.
    """

    refused: ClassVar[type[StreamcharError]]
    """Raised, with host, port and detail, when the address is in use or may not be used."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._runner: web.AppRunner | None = None

    async def listen(self, application: web.Application) -> None:
        """Begin to answer.

        Raises
        ------
        StreamcharError
            Of the class ``refused``.
        """
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError as error:
            await runner.cleanup()
            detail = listening_problem(error)
            raise self.refused(host=self.host, port=self.port, detail=detail) from error
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port and the connections to it."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
