"""Recovery: after an outage of the brokers, join the group anew in the same process and go on with what is finished.

Joining anew is all it takes: on assignment each partition gets a new producer, which fences the old one and ends the
transaction it left in doubt; the committed offset then tells whether that transaction counts; and finished results of
partitions that come back are published without being made again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from streamchar.stream.errors import FatalError, GroupError, OutageError
from streamchar.stream.pulse import Pulse
from streamchar.stream.settings import ServiceSettings

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0
_REMINDER = 30.0
_TICK = 0.5


class Membership(Protocol):
    """The service's place in the group."""

    @property
    def is_whole(self) -> bool:
        """Whether partitions are assigned and every one of them can publish."""

    async def rejoin(self) -> None:
        """Join the group anew; return when taking over ended, well or not."""


class Recovery:
    """Decides which errors end the service, and mends what the others broke.

    Parameters
    ----------
    settings
        Of the service.
    pulse
        Tells whether the brokers answer.
    fail
        Called with an error that must end the service.

    Attributes
    ----------
    membership
        What is joined anew.
    last_problem
        Loop time when something was last wrong.
    """

    def __init__(self, settings: ServiceSettings, pulse: Pulse, fail: Callable[[Exception], None]) -> None:
        self._settings = settings
        self._pulse = pulse
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._cause = ""
        self._began: float | None = None
        self._reminded = self._loop.time()
        self._defects = 0
        self._counted = False
        self._closed = False
        self.membership: Membership | None = None
        self.last_problem = self._loop.time()

    @property
    def is_active(self) -> bool:
        """Whether something is being mended."""
        return self._task is not None

    @property
    def seconds(self) -> float:
        """Seconds since something is wrong; 0 when all is well."""
        return 0.0 if self._began is None else self._loop.time() - self._began

    @property
    def problem(self) -> str:
        """What is wrong, for the readiness probe; empty when all is well."""
        if self._pulse.is_silent:
            silence = self._loop.time() - self._pulse.last_answer
            return f"no answer for {silence:.0f} s: {self._pulse.problem}"
        return f"joining the group anew for {self.seconds:.0f} s: {self._cause}" if self.is_active else ""

    def report(self, error: Exception) -> None:
        """Mend what an error broke, or end the service with it."""
        mending = error.mending if isinstance(error, FatalError) else "never"
        if mending == "seldom" and not self._counted:
            self._defects += 1
            self._counted = True  # what befalls all partitions at once is one defect
        if self._closed or mending == "never" or self._defects > self._settings.lifecycle.recoveries:
            self._fail(error)
            return
        self._cause = str(error)
        if self._task is None:
            log.warning("not ready: %s", error)
            self._task = asyncio.ensure_future(self._mend())
            self._task.add_done_callback(self._check)

    def progress(self) -> None:
        """Note that something was published: what failed before was no lasting defect."""
        self._defects = 0

    async def watch(self) -> None:
        """Remind of an outage once in a while, and end the service when it lasts longer than is allowed."""
        allowed = self._settings.lifecycle.outage
        while True:
            problem, now = self.problem, self._loop.time()
            if problem:
                self.last_problem = now
            if not problem:
                self._began, self._reminded = None, now
            elif self._began is None:
                self._began = now
            elif now - self._reminded >= _REMINDER:
                self._reminded = now
                log.warning("still not ready after %.0f s: %s", self.seconds, problem)
            if 0 < allowed < self.seconds:
                self._fail(OutageError(seconds=self.seconds, detail=problem))
            await asyncio.sleep(_TICK)

    async def close(self) -> None:
        """Mend nothing any more: from now on every error ends the service."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _mend(self) -> None:
        assert self.membership is not None
        pause, begin = _FIRST_PAUSE, self._loop.time()
        while not self.membership.is_whole:
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 2 * pause)
            await self._pulse.answering()
            self._counted = False
            try:
                async with asyncio.timeout(self._patience):
                    await self.membership.rejoin()
            except TimeoutError:
                self._cause = f"the group was not joined within {self._patience:g} s"
        self._task, self._counted = None, False
        log.warning("at work again after %.1f s", self._loop.time() - begin)

    @property
    def _patience(self) -> float:
        """Seconds in which a join must be over: all members give back, and partitions are taken over."""
        kafka = self._settings.kafka
        return kafka.session_timeout + kafka.rebalance_timeout + 3 * kafka.start_timeout

    def _check(self, task: asyncio.Task[None]) -> None:
        """Turn a defect in the mending into the end of the service rather than into silence."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._task = None
            detail = f"joining anew failed: {type(error).__name__} {error}"
            self._fail(GroupError(group=self._settings.kafka.group, detail=detail))
