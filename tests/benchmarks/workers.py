"""Worker processes in the service's pool: start, memory, throughput. Run as a module; imports no pixels itself."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from streamchar.stream.job import Assignment, JobResult
from streamchar.stream.pool import PoolOptions, SilentObserver, WorkerPool
from streamchar.stream.process import WorkerExit
from tests.benchmarks.processes import answer

JOB = "streamchar.stream.characterize_job:characterize"


class Observer(SilentObserver):
    """Remembers how long workers took to start and how large they grew."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.peaks: list[int] = []

    def worker_started(self, seconds: float) -> None:
        """Remember it."""
        self.starts.append(seconds)

    def worker_ended(self, cause: str, exit_: WorkerExit) -> None:
        """Remember its size."""
        self.peaks.append(exit_.peak_bytes)


async def measure_starts(settings: Mapping[str, Any], times: int) -> list[float]:
    """Elapsed seconds from spawning a worker until it is ready, one after another."""
    observer = Observer()
    for _ in range(times):
        pool = WorkerPool(PoolOptions(JOB, settings, count=1), observer)
        await pool.start()
        await pool.close()
    return observer.starts


async def measure_throughput(
    settings: Mapping[str, Any], event: Assignment, count: int, each: int
) -> dict[str, Any]:
    """Exposures per second of ``count`` workers after one exposure each to warm up.

    Returns
    -------
    dict
        ``rate`` (exposures a second), ``cpu`` (median CPU seconds an exposure), ``peak_bytes`` (largest worker).
    """
    observer = Observer()
    pool = WorkerPool(PoolOptions(JOB, settings, count=count), observer)
    await pool.start()
    await asyncio.gather(*(pool.submit(event).outcome for _ in range(count)))
    start = time.perf_counter()
    outcomes = await asyncio.gather(*(pool.submit(event).outcome for _ in range(count * each)))
    elapsed = time.perf_counter() - start
    await pool.close()
    cpu = sorted(_cpu(outcome) for outcome in outcomes)
    return {"rate": len(outcomes) / elapsed, "cpu": cpu[len(cpu) // 2], "peak_bytes": max(observer.peaks)}


def _cpu(outcome: object) -> float:
    assert isinstance(outcome, JobResult), outcome
    seconds = {stage: cpu for stage, cpu, _ in outcome.timings}
    return seconds["read"] + seconds["characterize"] + seconds["encode"]


async def measure(
    settings: Mapping[str, Any], event: str, counts: list[int], each: int, starts: int
) -> dict[str, Any]:
    """Measure starts, then each number of workers."""
    assignment = Assignment(event.encode(), (("content-type", b"application/json"),))
    return {
        "starts": await measure_starts(settings, starts),
        "workers": {
            str(count): await measure_throughput(settings, assignment, count, each) for count in counts
        },
    }


if __name__ == "__main__":
    answer(asyncio.run(measure(**json.loads(sys.argv[1]))))
