"""The worker pool: one process, one socket and one supervisor task per slot, so that one loss costs one event.

A worker may be killed at any moment. Its supervisor classifies the end (exception, timeout, out of memory,
signal, exit status), reports it as the outcome of the event it had, and starts another process.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from streamchar.stream.errors import JobImportError, StartError, WorkerStartError
from streamchar.stream.framing import Frame
from streamchar.stream.job import Assignment, JobFailure, JobResult, assignment_frame, parse_outcome
from streamchar.stream.process import WorkerExit, WorkerGoneError, WorkerProcess
from streamchar.stream.reserve import Reserve

Outcome = JobResult | JobFailure

_CANCELLED = "cancelled"
_KILLED_COUNTS = 0.2
"""Being killed from outside says little about whether the next start will succeed."""


@dataclass(frozen=True)
class PoolOptions:
    """How workers are run.

    Attributes
    ----------
    job
        Import path ``module:function`` of the job factory.
    job_settings
        Plain data given to the factory.
    count
        Number of worker processes.
    spares
        Number of further processes kept ready to take the place of a lost one.
    niceness
        Added to the workers' nice value.
    deadline
        Seconds after which a worker is killed, counted from the start of the attempt.
    memory_limit
        Bytes of private writable memory; 0 means none.
    recycle_after
        Events after which a worker is replaced; bounds what a leak can cost.
    start_timeout
        Seconds a worker may take to become ready.
    start_attempts
        Consecutive failures to start that end the pool; being killed from outside counts a fifth.
    result_limit
        Largest result in bytes.
    environment
        Variables added to the workers' environment.
    """

    job: str
    job_settings: Mapping[str, Any] = field(default_factory=dict)
    count: int = 2
    spares: int = 0
    niceness: int = 0
    deadline: float = 120.0
    memory_limit: int = 2 << 30
    recycle_after: int = 500
    start_timeout: float = 60.0
    start_attempts: int = 3
    result_limit: int = 256 << 20
    environment: Mapping[str, str] = field(default_factory=dict)


class PoolObserver(Protocol):
    """Told what happens in the pool, for metrics and logs."""

    def worker_started(self, seconds: float) -> None:
        """Report that a worker became ready after ``seconds``."""

    def worker_ended(self, cause: str, exit_: WorkerExit) -> None:
        """Report that a worker ended for a cause such as "recycled", "worker_timeout" or "worker_killed"."""


class SilentObserver:
    """An observer that ignores everything."""

    def worker_started(self, seconds: float) -> None:
        """Ignore."""

    def worker_ended(self, cause: str, exit_: WorkerExit) -> None:
        """Ignore."""


class Ticket:
    """An assignment on its way through the pool.

    Attributes
    ----------
    assignment
        What is to be done.
    outcome
        Resolves to the result or the failure; cancelled with :meth:`WorkerPool.cancel`.
    started, ended
        Monotonic times of the attempt; None before.
    """

    __slots__ = ("_process", "assignment", "ended", "outcome", "started")

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.started: float | None = None
        self.ended: float | None = None
        self._process: WorkerProcess | None = None

    def _begin(self, process: WorkerProcess) -> None:
        self._process = process
        self.started = time.monotonic()

    def _resolve(self, outcome: Outcome) -> None:
        self._process = None
        self.ended = time.monotonic()
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def _abandon(self) -> None:
        self.outcome.cancel()
        if self._process is not None:
            self._process.kill(_CANCELLED)


class WorkerPool:
    """A fixed number of supervised worker processes.

    Parameters
    ----------
    options
        How workers are run.
    observer
        Told about starts and ends.
    """

    def __init__(self, options: PoolOptions, observer: PoolObserver | None = None) -> None:
        self._options = options
        self._observer: PoolObserver = observer or SilentObserver()
        self._queue: deque[Ticket] = deque()
        self._idle: deque[asyncio.Future[Ticket | None]] = deque()
        self._supervisors: list[asyncio.Task[None]] = []
        self._reserve = Reserve(self._start_worker, options.spares)
        self._closing = False
        self._grace = 2.0
        self.ready = 0
        self.busy = 0
        self.failed: asyncio.Future[StartError] = asyncio.get_running_loop().create_future()

    @property
    def spare(self) -> int:
        """Workers that are ready to take the place of a lost one."""
        return self._reserve.ready

    @property
    def queued(self) -> int:
        """Assignments that wait for a worker."""
        return len(self._queue)

    async def start(self) -> None:
        """Start all workers and wait until they are ready.

        Raises
        ------
        JobImportError, WorkerStartError
            A worker cannot start; all others are stopped again.
        """
        first = [asyncio.ensure_future(self._start_first()) for _ in range(self._options.count)]
        try:
            await asyncio.wait(first)
            workers = [task.result() for task in first]
        except BaseException:
            for task in first:
                task.cancel()
            done = await asyncio.gather(*first, return_exceptions=True)
            await asyncio.gather(*(each.stop(0.0) for each in done if isinstance(each, WorkerProcess)))
            raise
        self._supervisors = [asyncio.ensure_future(self._supervise(worker)) for worker in workers]
        self._reserve.open()

    def submit(self, assignment: Assignment, *, first: bool = False) -> Ticket:
        """Queue an assignment, before all others when ``first``."""
        ticket = Ticket(assignment)
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(ticket)
                return ticket
        if first:
            self._queue.appendleft(ticket)
        else:
            self._queue.append(ticket)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Give an assignment up: forget it when it waits, kill its worker when it runs."""
        if ticket in self._queue:
            self._queue.remove(ticket)
        ticket._abandon()

    async def close(self, grace: float = 2.0) -> None:
        """Stop all workers: busy ones at once, idle ones within ``grace`` seconds. Waiting work is cancelled."""
        self._closing = True
        self._grace = grace
        while self._queue:
            self._queue.popleft().outcome.cancel()
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        for task in self._supervisors:
            task.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        self._supervisors.clear()
        await self._reserve.close(grace)
        self.failed.cancel()

    async def _supervise(self, process: WorkerProcess | None) -> None:
        """Keep one slot filled until the pool closes or workers cannot be started any more."""
        failures = 0.0
        while not self._closing:
            if process is None:
                try:
                    process = self._reserve.take() or await self._start_worker()
                except StartError as error:
                    failures += _KILLED_COUNTS if error.values.get("killed") else 1
                    if failures >= self._options.start_attempts:
                        self._give_up(error)
                        return
                    await asyncio.sleep(min(5.0, 0.1 * 2**failures))
                    continue
            failures = 0.0
            self.ready += 1
            cause = "closed"
            try:
                cause = await self._serve(process)
            finally:
                self.ready -= 1
                exit_ = await process.stop(self._grace)
                self._observer.worker_ended(cause, exit_)
            process = None

    async def _serve(self, process: WorkerProcess) -> str:
        """Give a worker assignments one by one; return why it must be replaced."""
        for _ in range(self._options.recycle_after):
            ticket = await self._next_ticket(process)
            if ticket is None:
                return "closed" if self._closing else "worker_idle_exit"
            self.busy += 1
            try:
                outcome, cause = await self._attempt(process, ticket)
            finally:
                self.busy -= 1
            ticket._resolve(outcome)
            if cause:
                return cause
        return "recycled"

    async def _next_ticket(self, process: WorkerProcess) -> Ticket | None:
        """Next assignment, or None when the process ended while it was idle or the pool closes."""
        if process.exit is not None:
            return None
        while self._queue:
            ticket = self._queue.popleft()
            if not ticket.outcome.cancelled():
                return ticket
        waiter: asyncio.Future[Ticket | None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        process.on_exit = wake
        self._idle.append(waiter)
        try:
            return await waiter
        finally:
            process.on_exit = None
            if waiter in self._idle:
                self._idle.remove(waiter)

    async def _attempt(self, process: WorkerProcess, ticket: Ticket) -> tuple[Outcome, str]:
        """Run one assignment; return its outcome and, when the worker is lost, the cause."""
        options = self._options
        ticket._begin(process)
        process.send(assignment_frame(ticket.assignment))
        try:
            async with asyncio.timeout(options.deadline):
                frame = await process.receive()
            outcome = parse_outcome(frame)
        except TimeoutError:
            process.kill("timeout")
            text = f"the exposure took longer than {options.deadline:g} s"
            return JobFailure(
                "lost", "worker_timeout", text, {"deadline": options.deadline}
            ), "worker_timeout"
        except WorkerGoneError as gone:
            failure = classify_exit(gone.exit)
            return failure, failure.code
        except (KeyError, TypeError, ValueError) as error:
            process.kill("protocol")
            text = f"the worker answered nonsense ({type(error).__name__}: {error})"
            return JobFailure("lost", "worker_protocol", text), "worker_protocol"
        except asyncio.CancelledError:
            ticket.outcome.cancel()
            process.kill("closed")
            raise
        if isinstance(outcome, JobFailure) and outcome.code == "worker_out_of_memory":
            values = {**outcome.values, "limit": options.memory_limit}
            outcome = JobFailure("lost", outcome.code, outcome.text, values, outcome.traceback)
            return outcome, outcome.code
        return outcome, ""

    async def _start_first(self) -> WorkerProcess:
        """Start a worker of the first ones: what is wrong with it ends the pool, unless somebody killed it."""
        failures = 0.0
        while True:
            try:
                return await self._start_worker()
            except StartError as error:
                failures += _KILLED_COUNTS if error.values.get("killed") else self._options.start_attempts
                if failures >= self._options.start_attempts:
                    raise

    async def _start_worker(self) -> WorkerProcess:
        options = self._options
        began = time.monotonic()
        process = WorkerProcess(options.result_limit, options.environment)
        hello = {
            "job": options.job,
            "settings": dict(options.job_settings),
            "memory_limit": options.memory_limit,
            "niceness": options.niceness,
        }
        try:
            process.send(Frame(hello))
            async with asyncio.timeout(options.start_timeout):
                frame = await process.receive()
            if frame.header.get("kind") == "ready":
                self._observer.worker_started(time.monotonic() - began)
                return process
            detail = str(frame.header.get("values", {}).get("detail", frame.header.get("text", "")))
            error: StartError = JobImportError(job=options.job, detail=detail)
        except TimeoutError:
            error = WorkerStartError(detail=f"no answer within {options.start_timeout:g} s")
        except WorkerGoneError as gone:
            error = WorkerStartError(detail=gone.exit.describe(), killed=gone.exit.signal == signal.SIGKILL)
        except asyncio.CancelledError:
            await process.stop(0.0)
            raise
        await process.stop(0.0)
        raise error

    def _give_up(self, error: StartError) -> None:
        if not self.failed.done():
            self.failed.set_result(error)


def classify_exit(exit_: WorkerExit) -> JobFailure:
    """Say what the end of a busy worker means for its event."""
    values: dict[str, Any] = {"peak_bytes": exit_.peak_bytes}
    if exit_.detail == _CANCELLED:
        return JobFailure("lost", "worker_cancelled", "the work was given up", values)
    if exit_.detail:
        return JobFailure("lost", "worker_protocol", f"the worker was stopped: {exit_.detail}", values)
    if exit_.signal is None:
        values["status"] = exit_.code
        return JobFailure("lost", "worker_exited", f"the worker {exit_.describe()}", values)
    values["signal"] = exit_.signal
    # SIGKILL that we did not send comes from an operator or from the kernel's out-of-memory killer; the
    # peak size in the values tells them apart.
    code = "worker_killed" if exit_.signal in {9, 15} else "worker_crashed"
    return JobFailure("lost", code, f"the worker was {exit_.describe()}", values)
