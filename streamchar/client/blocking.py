"""Asynchronous work for callers without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread of its own, so that heartbeats go on while the caller works."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="streamchar-subscribe", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, awaitable: Awaitable[T]) -> T:
        """Wait for a coroutine that runs in the thread; when the caller is interrupted it is cancelled."""

        async def wait() -> T:
            return await awaitable

        waiting = asyncio.run_coroutine_threadsafe(wait(), self._loop)
        try:
            return waiting.result()
        except BaseException:
            waiting.cancel()
            raise
