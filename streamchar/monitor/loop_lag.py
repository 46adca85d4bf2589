"""How late the event loop is: a heavy step on the loop shows here before it costs a heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LoopLag:
    """Sleeps and measures by how much the wake-up was late.

    Parameters
    ----------
    observe
        Called with each lag in seconds.
    interval
        Seconds between two measurements.

    Attributes
    ----------
    last_tick
        Loop time of the last measurement: the loop lives if this is recent.
    """

    def __init__(self, observe: Callable[[float], None], interval: float = 0.1) -> None:
        self._observe = observe
        self._interval = interval
        self.last_tick = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Measure for ever."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(self._interval)
            self.last_tick = loop.time()
            self._observe(max(0.0, self.last_tick - began - self._interval))
