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


async def measure_turns(settings: Mapping[str, Any], events: list[Assignment], count: int) -> int:
    """Largest size of one worker that characterizes ``count`` exposures, of the events in turn, bytes."""
    observer = Observer()
    pool = WorkerPool(PoolOptions(JOB, settings, count=1), observer)
    await pool.start()
    for number in range(count):
        _cpu(await pool.submit(events[number % len(events)]).outcome)
    await pool.close()
    return max(observer.peaks)


def _cpu(outcome: object) -> float:
    assert isinstance(outcome, JobResult), outcome
    seconds = {stage: cpu for stage, cpu, _ in outcome.timings}
    return seconds["read"] + seconds["characterize"] + seconds["encode"]


async def measure(
    settings: Mapping[str, Any],
    event: str,
    counts: list[int],
    each: int,
    starts: int,
    all_settings: Mapping[str, Any],
    turns: list[str],
    exposures: int,
) -> dict[str, Any]:
    """Measure starts, then each number of workers, then one worker's size over events in turn with other settings."""
    assignment = _assignment(event)
    return {
        "starts": await measure_starts(settings, starts),
        "workers": {
            str(count): await measure_throughput(settings, assignment, count, each) for count in counts
        },
        "turns": {
            "exposures": exposures,
            "peak_bytes": await measure_turns(all_settings, [*map(_assignment, turns)], exposures),
        },
    }


def _assignment(event: str) -> Assignment:
    return Assignment(event.encode(), (("content-type", b"application/json"),))


if __name__ == "__main__":
    answer(asyncio.run(measure(**json.loads(sys.argv[1]))))
