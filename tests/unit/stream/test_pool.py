"""The worker pool under fire: every kind of loss is named, replaced, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from streamchar.stream.errors import JobImportError, WorkerStartError
from streamchar.stream.job import Assignment, JobFailure, JobResult
from streamchar.stream.pool import PoolOptions, WorkerPool
from streamchar.stream.process import WorkerExit

STUBS = str(Path(__file__).parents[2] / "stream")
ENVIRONMENT = {"PYTHONPATH": STUBS, "PYTHONFAULTHANDLER": ""}
StartPool = Callable[..., Awaitable[WorkerPool]]


class Recorder:
    def __init__(self) -> None:
        self.started: list[float] = []
        self.ended: list[str] = []

    def worker_started(self, seconds: float) -> None:
        self.started.append(seconds)

    def worker_ended(self, cause: str, exit_: WorkerExit) -> None:
        self.ended.append(cause)


@pytest.fixture
async def start_pool() -> AsyncIterator[StartPool]:
    pools: list[WorkerPool] = []

    async def start(observer: Recorder | None = None, **options: object) -> WorkerPool:
        merged = {
            "job": "stub_jobs:scripted",
            "count": 1,
            "environment": ENVIRONMENT,
            "memory_limit": 0,
            **options,
        }
        pool = WorkerPool(PoolOptions(**merged), observer)  # type: ignore[arg-type]
        await pool.start()
        pools.append(pool)
        return pool

    # Brokers that other tests share may be running beside the pool.
    others, files = set(psutil.Process().children(recursive=True)), open_files()
    yield start
    for pool in pools:
        await pool.close()
    assert set(psutil.Process().children(recursive=True)) - others == set()
    assert open_files() == files


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def order(**what: object) -> Assignment:
    attempt = what.pop("attempt", 1)
    return Assignment(json.dumps(what).encode(), attempt=attempt)  # type: ignore[arg-type]


async def test_a_result_comes_back_with_its_bytes_and_one_thread(start_pool: StartPool) -> None:
    pool = await start_pool()
    result = await pool.submit(order(size=6_000_000)).outcome
    assert isinstance(result, JobResult)
    assert [message.type for message in result.messages] == ["psf-quality", "source-catalog"]
    assert result.messages[0].value == b"quality"
    assert result.messages[1].value == bytes(6_000_000)
    assert result.messages[1].key == b"StubCam/0/0"
    assert result.summary["threads"] == "1"
    assert result.metrics[0].name == "streamchar_sources_total"


@pytest.mark.parametrize(
    ("what", "code", "category", "cause"),
    [
        ("segfault", "worker_crashed", "lost", "worker_crashed"),
        ("kill", "worker_killed", "lost", "worker_killed"),
        ("loop", "worker_timeout", "lost", "worker_timeout"),
        ("hog", "worker_out_of_memory", "lost", "worker_out_of_memory"),
        ("exit", "worker_exited", "lost", "worker_exited"),
        ("nonsense", "worker_protocol", "lost", "worker_protocol"),
        ("raise", "unexpected_error", "permanent", None),
        ("missing", "file_missing", "retryable", None),
    ],
)
async def test_every_end_has_its_name_and_the_next_event_runs(
    start_pool: StartPool, what: str, code: str, category: str, cause: str | None
) -> None:
    recorder = Recorder()
    pool = await start_pool(recorder, deadline=1.0 if what == "loop" else 20.0, memory_limit=256 << 20)
    failure = await pool.submit(order(do=what)).outcome
    assert isinstance(failure, JobFailure)
    assert (failure.code, failure.category) == (code, category)
    assert failure.text
    assert isinstance(await pool.submit(order()).outcome, JobResult)
    assert recorder.ended == ([cause] if cause else [])
    assert ("this went wrong" in failure.traceback) == (what == "raise")


async def test_a_killed_worker_is_replaced_within_a_second(start_pool: StartPool) -> None:
    pool = await start_pool()
    first = await pool.submit(order()).outcome
    assert isinstance(first, JobResult)
    slow = pool.submit(order(sleep=30))
    await asyncio.sleep(0.1)
    killed = time.monotonic()
    os.kill(first.summary["pid"], signal.SIGKILL)
    assert isinstance(await slow.outcome, JobFailure)
    again = pool.submit(order(), first=True)
    assert isinstance(await again.outcome, JobResult)
    assert again.started is not None
    assert again.started - killed < 1.0


async def test_an_idle_worker_that_dies_is_replaced(start_pool: StartPool) -> None:
    recorder = Recorder()
    pool = await start_pool(recorder)
    first = await pool.submit(order()).outcome
    assert isinstance(first, JobResult)
    os.kill(first.summary["pid"], signal.SIGKILL)
    while not recorder.ended:
        await asyncio.sleep(0.01)
    assert isinstance(await pool.submit(order()).outcome, JobResult)
    assert recorder.ended == ["worker_idle_exit"]


async def test_workers_are_recycled(start_pool: StartPool) -> None:
    recorder = Recorder()
    pool = await start_pool(recorder, recycle_after=2)
    pids = [(await pool.submit(order()).outcome).summary["pid"] for _ in range(6)]  # type: ignore[union-attr]
    assert len(set(pids)) == 3
    assert recorder.ended[:2] == ["recycled", "recycled"]


async def test_a_result_beyond_the_limit_is_refused_before_it_is_held(start_pool: StartPool) -> None:
    pool = await start_pool(result_limit=1 << 20)
    failure = await pool.submit(order(size=2 << 20)).outcome
    assert isinstance(failure, JobFailure)
    assert failure.code == "worker_protocol"
    assert "exceeds 1048576" in failure.text


async def test_cancelled_work_frees_its_worker(start_pool: StartPool) -> None:
    pool = await start_pool()
    running, waiting = pool.submit(order(sleep=60)), pool.submit(order(sleep=60))
    await asyncio.sleep(0.1)
    pool.cancel(waiting)
    pool.cancel(running)
    assert isinstance(await asyncio.wait_for(pool.submit(order()).outcome, 5), JobResult)
    assert waiting.outcome.cancelled()
    assert running.outcome.cancelled()


async def test_work_spreads_over_all_workers(start_pool: StartPool) -> None:
    pool = await start_pool(count=2)
    began = time.monotonic()
    results = await asyncio.gather(*(pool.submit(order(sleep=0.3)).outcome for _ in range(4)))
    assert time.monotonic() - began < 1.1
    assert len({result.summary["pid"] for result in results if isinstance(result, JobResult)}) == 2


@pytest.mark.parametrize(
    ("job", "error", "words"),
    [
        ("stub_jobs:broken", JobImportError, "no job can be made"),
        ("stub_jobs:absent", JobImportError, "absent"),
        ("no_such_module:job", JobImportError, "no_such_module"),
        ("stub_jobs:dies_at_start", WorkerStartError, "status 5"),
    ],
)
async def test_a_job_that_cannot_start_is_one_clear_error(
    start_pool: StartPool, job: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await start_pool(job=job, count=2)


@pytest.mark.parametrize("started", [0, 1])
async def test_a_start_that_is_given_up_leaves_no_worker(start_pool: StartPool, started: int) -> None:
    recorder = Recorder()
    starting = asyncio.ensure_future(start_pool(recorder, count=3))
    async with asyncio.timeout(20):
        while len(recorder.started) < started or not psutil.Process().children():
            await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_closing_ends_busy_workers_and_cancels_what_waits(start_pool: StartPool) -> None:
    pool = await start_pool()
    running, waiting = pool.submit(order(do="loop")), pool.submit(order())
    await asyncio.sleep(0.1)
    await pool.close(grace=0.1)
    assert running.outcome.cancelled()
    assert waiting.outcome.cancelled()


ORPHANS = """
import asyncio, os, sys
from streamchar.stream.pool import PoolOptions, WorkerPool
from streamchar.stream.job import Assignment
async def main():
    pool = WorkerPool(PoolOptions("stub_jobs:scripted", count=2, environment={"PYTHONPATH": sys.argv[1]}, memory_limit=0))
    await pool.start()
    pool.submit(Assignment(b'{"do": "loop"}'))
    await asyncio.sleep(0.3)
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_workers_die_with_a_killed_coordinator() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANS, STUBS], stdout=subprocess.PIPE, text=True
    ) as coordinator:
        assert coordinator.stdout is not None
        assert coordinator.stdout.readline() == "ready\n"
        workers = psutil.Process(coordinator.pid).children(recursive=True)
        assert len(workers) == 2
        coordinator.kill()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []


async def test_a_spare_takes_the_place_of_a_lost_worker_at_once(start_pool: StartPool) -> None:
    recorder = Recorder()
    pool = await start_pool(recorder, spares=1)
    for round_ in range(3):
        async with asyncio.timeout(10):
            while pool.spare < 1:
                await asyncio.sleep(0.01)
        lost = pool.submit(order(do="kill"))
        began = time.monotonic()
        after = pool.submit(order())
        assert isinstance(await lost.outcome, JobFailure)
        assert isinstance(await after.outcome, JobResult)
        assert time.monotonic() - began < 0.5 * min(recorder.started), f"round {round_}"


async def test_a_spare_that_dies_is_replaced_and_never_given_work(start_pool: StartPool) -> None:
    pool = await start_pool(spares=2)
    before = {child.pid for child in psutil.Process().children()}
    async with asyncio.timeout(10):
        while pool.spare < 2:
            await asyncio.sleep(0.01)
    for spare in {child.pid for child in psutil.Process().children()} - before:
        os.kill(spare, signal.SIGKILL)
    async with asyncio.timeout(10):
        while pool.spare == 2:
            await asyncio.sleep(0.01)
        while pool.spare < 2:
            await asyncio.sleep(0.01)
    assert isinstance(await pool.submit(order(do="kill")).outcome, JobFailure)
    assert isinstance(await pool.submit(order()).outcome, JobResult)


async def test_a_worker_killed_while_it_starts_does_not_end_the_pool(start_pool: StartPool) -> None:
    starting = asyncio.ensure_future(start_pool())
    async with asyncio.timeout(10):
        while not psutil.Process().children():
            await asyncio.sleep(0.001)
    psutil.Process().children()[0].kill()
    pool = await starting
    assert isinstance(await pool.submit(order()).outcome, JobResult)


async def test_a_worker_ended_by_a_signal_without_a_name_is_lost_like_any_other(
    start_pool: StartPool,
) -> None:
    pool = await start_pool()
    first = await pool.submit(order()).outcome
    assert isinstance(first, JobResult)
    slow = pool.submit(order(sleep=30))
    await asyncio.sleep(0.1)
    os.kill(first.summary["pid"], signal.SIGRTMIN + 3)
    failure = await slow.outcome
    assert isinstance(failure, JobFailure)
    assert failure.text == f"the worker was killed by signal {signal.SIGRTMIN + 3}"
    assert isinstance(await pool.submit(order()).outcome, JobResult)


@pytest.mark.parametrize("place", ["socket.socketpair", "os.pidfd_open", "subprocess.Popen"])
async def test_a_moment_without_file_descriptors_costs_no_worker(
    start_pool: StartPool, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    pool = await start_pool()
    module, name = place.split(".")
    original, refused = getattr(sys.modules[module], name), []

    def refuse_once(*values: object, **named: object) -> object:
        if not refused:
            refused.append(name)
            raise OSError(errno.EMFILE, "Too many open files")
        return original(*values, **named)

    monkeypatch.setattr(place, refuse_once)
    await pool.submit(order(do="kill")).outcome
    assert isinstance(await asyncio.wait_for(pool.submit(order()).outcome, 20), JobResult)
    assert refused
