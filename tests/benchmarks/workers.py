"""Worker processes in the service's pool: start, memory, throughput. Run as a module; imports no pixels itself."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
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
    settings: Mapping[str, Any], event: Assignment, counts: Sequence[int], each: int, rounds: int
) -> dict[str, Any]:
    """What an exposure takes with each number of workers that are all busy, in turns, one round before to warm up.

    Returns
    -------
    dict
        For each count, as text: ``elapsed`` and ``cpu`` (seconds an exposure, all of them), ``peak_bytes`` (largest worker).
    """
    observers = {count: Observer() for count in counts}
    pools = {count: WorkerPool(PoolOptions(JOB, settings, count), observers[count]) for count in counts}
    found: dict[str, Any] = {str(count): {"elapsed": [], "cpu": []} for count in counts}
    for pool in pools.values():
        await pool.start()
    for number in range(1 + rounds):
        for count, pool in pools.items():
            lanes = await asyncio.gather(*(_one_by_one(pool, event, each) for _ in range(count)))
            for elapsed, cpu in (exposure for lane in lanes for exposure in lane if number):
                found[str(count)]["elapsed"].append(elapsed)
                found[str(count)]["cpu"].append(cpu)
    for count, pool in pools.items():
        await pool.close()
        found[str(count)]["peak_bytes"] = max(observers[count].peaks)
    return found


async def _one_by_one(pool: WorkerPool, event: Assignment, each: int) -> list[tuple[float, float]]:
    """Elapsed and CPU seconds of exposures one after another."""
    found = []
    for _ in range(each):
        start = time.perf_counter()
        cpu = _cpu(await pool.submit(event).outcome)
        found.append((time.perf_counter() - start, cpu))
    return found


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
    rounds: int,
    starts: int,
    all_settings: Mapping[str, Any],
    turns: list[str],
    exposures: int,
) -> dict[str, Any]:
    """Measure starts, then the numbers of workers in turns, then one worker's size over events in turn with other settings."""
    assignment = _assignment(event)
    return {
        "starts": await measure_starts(settings, starts),
        "workers": await measure_throughput(settings, assignment, counts, each, rounds),
        "turns": {
            "exposures": exposures,
            "peak_bytes": await measure_turns(all_settings, [*map(_assignment, turns)], exposures),
        },
    }


def _assignment(event: str) -> Assignment:
    return Assignment(event.encode(), (("content-type", b"application/json"),))


if __name__ == "__main__":
    answer(asyncio.run(measure(**json.loads(sys.argv[1]))))
