"""Asynchronous work for callers without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
_PATIENCE = 10.0


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
        self.run(_end_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, awaitable: Awaitable[T]) -> T:
        """Wait for a coroutine that runs in the thread; when the caller is interrupted it is cancelled and ends first."""
        ended = threading.Event()

        async def wait() -> T:
            try:
                return await awaitable
            finally:
                ended.set()

        waiting = asyncio.run_coroutine_threadsafe(wait(), self._loop)
        try:
            return waiting.result()
        except BaseException:
            if waiting.cancel():
                ended.wait(_PATIENCE)
            raise


async def _end_others() -> None:
    """End what the Kafka client may have left running when it was interrupted."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
