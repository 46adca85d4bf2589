"""Spare workers: processes started ahead, so that a lost worker is replaced at once and not after its imports."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from streamchar.stream.errors import StartError
from streamchar.stream.process import WorkerProcess

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Reserve:
    """Keeps some workers ready that have nothing to do.

    A spare that ends by itself is replaced. Failures to start one are logged and tried again later: whether the pool
    can go on is decided where a worker is needed.

    Parameters
    ----------
    start
        Starts a worker and returns it when it is ready.
    count
        Number of spares to keep.
    """

    def __init__(self, start: Callable[[], Awaitable[WorkerProcess]], count: int) -> None:
        self._start = start
        self._count = count
        self._ready: deque[WorkerProcess] = deque()
        self._wake = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def ready(self) -> int:
        """Number of spares that are ready."""
        return len(self._ready)

    def open(self) -> None:
        """Begin to keep spares."""
        if self._count > 0:
            self._wake.set()
            self._keeper = asyncio.ensure_future(self._keep())

    def take(self) -> WorkerProcess | None:
        """Return a spare, to be replaced soon, or None when none is ready."""
        while self._ready:
            process = self._ready.popleft()
            process.on_exit = None
            if process.exit is None:
                self._wake.set()
                return process
        return None

    async def close(self, grace: float) -> None:
        """Stop all spares within ``grace`` seconds."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        spares = list(self._ready)
        self._ready.clear()
        await asyncio.gather(*(process.stop(grace) for process in spares))

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._wake.wait()
            self._wake.clear()
            while len(self._ready) < self._count:
                try:
                    process = await self._start()
                except StartError as error:
                    log.warning("a spare worker could not be started: %s", error)
                    await asyncio.sleep(pause)
                    pause = min(_LONGEST_PAUSE, 2 * pause)
                    continue
                pause = _FIRST_PAUSE
                process.on_exit = self._lost
                self._ready.append(process)
                if process.exit is not None:
                    self._lost()

    def _lost(self) -> None:
        """Remove the spares that have ended; :meth:`_keep` replaces them."""
        self._ready = deque(process for process in self._ready if process.exit is None)
        self._wake.set()
