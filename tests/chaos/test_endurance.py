"""What must not grow, leak, block or linger."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from streamchar.stream.topics import ensure_topics
from streamchar.stream.verify import verify
from tests.chaos.conftest import Arena
from tests.stream.brokers import SHORTEST_SESSION
from tests.stream.services import ServiceProcess, Start, assert_once, service_processes, stub_event


@pytest.fixture
async def start(embedded: Arena, tmp_path: Path) -> AsyncIterator[Start]:
    """Start services on the embedded broker; none outlives the test."""
    await ensure_topics(embedded.night.settings())
    async with service_processes(embedded.night, tmp_path, ready=True) as start:
        yield start


def workers_of(service: ServiceProcess) -> list[psutil.Process]:
    return psutil.Process(service.pid).children()


async def published(arena: Arena, first: int) -> list[float]:
    """Times at which the statuses of exposures from ``first`` on were made, in order."""
    statuses = await arena.night.statuses()
    return sorted(s.published_at.timestamp() for s in statuses if (s.exposure or 0) >= first)


@pytest.mark.parametrize(
    ("slow", "fast", "count", "workers"),
    [
        pytest.param(4.0, 0.1, 440, 8, id="short"),
        pytest.param(60.0, 1.0, 1280, 16, id="whole", marks=[pytest.mark.chaos, pytest.mark.timeout(400)]),
    ],
)
async def test_a_slow_exposure_costs_no_more_than_its_worker(
    embedded: Arena, start: Start, slow: float, fast: float, count: int, workers: int
) -> None:
    """One partition: while the slow exposure runs, all other workers go on; no time is lost but its own."""
    night = embedded.night
    await night.announce(
        [stub_event(0, sleep=slow), *(stub_event(n, sleep=fast) for n in range(1, count))], 0
    )
    await start(f"workers.count={workers}", "http.enabled=false")
    await night.wait_for_statuses(count, 4 * slow + 60)
    times = await published(embedded, 0)
    begin = times[0] - fast
    during = sum(moment < begin + slow for moment in times) / slow
    after = [moment for moment in times[:-workers] if moment > begin + slow + fast]
    rate = (len(after) - 1) / (after[-1] - after[0])
    share = during / rate
    ideal = (workers - 1) / workers
    seconds, without = times[-1] - begin, count * fast / workers
    print(
        f"\none exposure of {slow:g} s among {count - 1} of {fast:g} s, {workers} workers: {during:.1f} events/s "
        f"beside it, {rate:.1f} after it, {100 * (1 - share):.1f} % loss; all in {seconds:.1f} s, "
        f"at best {without + slow / workers:.1f} s"
    )
    assert share > 0.9 * ideal


@pytest.mark.parametrize(
    "count", [pytest.param(3000, id="short"), pytest.param(20_000, id="whole", marks=pytest.mark.chaos)]
)
async def test_the_memory_of_the_coordinator_stays_flat(embedded: Arena, start: Start, count: int) -> None:
    service = await start("workers.recycle_after=100000", "http.enabled=false", "limits.duplicate_window=200")
    coordinator = psutil.Process(service.pid)
    sizes = []
    step = count // 10
    for first in range(0, count, step):
        await embedded.night.announce(stub_event(n) for n in range(first, first + step))
        await embedded.night.wait_for_sources(first + step, 60)
        sizes.append(coordinator.memory_info().rss)
    megabytes = ", ".join(f"{size / 2**20:.1f}" for size in sizes)
    print(f"\nmemory of the coordinator over {count} events: {megabytes} MiB")
    assert max(sizes) < 1.1 * sizes[2]


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(20, id="short"),
        pytest.param(100, id="whole", marks=[pytest.mark.chaos, pytest.mark.timeout(900)]),
    ],
)
async def test_nothing_is_left_behind(embedded: Arena, start: Start, kills: int) -> None:
    began = time.monotonic()
    service = await start("workers.count=3", "workers.spares=1", "retry.lost_attempts=50")
    youth = (
        time.monotonic() - began
    )  # as long as a worker takes to start, whatever the load: that is not what is tested
    await embedded.night.announce(stub_event(n, sleep=0.05) for n in range(3 * kills))
    await embedded.night.wait_for_statuses(1)
    coordinator = psutil.Process(service.pid)
    descriptors, dice = coordinator.num_fds(), random.Random(kills)
    killed = 0
    while killed < kills:
        await asyncio.sleep(0.2)
        assert service.is_running
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):  # none of them is ready
            grown = [worker for worker in workers_of(service) if time.time() - worker.create_time() > youth]
            dice.choice(grown).kill()
            killed += 1
    assert_once(await embedded.night.wait_for_statuses(3 * kills, 120), range(3 * kills))
    async with asyncio.timeout(60):
        while len(workers_of(service)) != 4 or coordinator.num_fds() > descriptors + 2:
            await asyncio.sleep(0.1)
    assert [child for child in workers_of(service) if child.status() == psutil.STATUS_ZOMBIE] == []
    workers = workers_of(service)
    for process in (coordinator, *workers):  # nothing is shared that could outlive them
        with contextlib.suppress(psutil.NoSuchProcess):  # one has ended
            assert not [part.path for part in process.memory_maps() if part.path.startswith("/dev/shm")]
    service.send(signal.SIGKILL)
    await service.wait()
    _, alive = psutil.wait_procs(workers, timeout=3)
    assert alive == []


async def test_a_killed_service_is_replaced_within_its_session(embedded: Arena, start: Start) -> None:
    night = embedded.night
    one = await start("limits.events_in_flight=2")
    two = await start("limits.events_in_flight=2")
    await night.announce(stub_event(n, sleep=0.05) for n in range(100))
    await night.wait_for_statuses(20)
    lost = last_owned(one)
    assert lost != last_owned(two)
    one.send(signal.SIGKILL)
    killed = time.time()
    statuses = await night.wait_for_statuses(100, 60)
    assert_once(statuses, range(100))
    taken_over = [
        status.published_at.timestamp() - killed
        for status in statuses
        if status.source.partition == lost and status.published_at.timestamp() > killed
    ]
    print(
        f"\nfrom SIGKILL of a service to resumed work: {min(taken_over):.1f} s, to the end: {max(taken_over):.1f} s"
    )
    assert min(taken_over) < SHORTEST_SESSION + 2
    assert (await verify(night.settings())).count("lost") == 0
    assert await two.stop() == 0


def last_owned(service: ServiceProcess) -> int:
    """Partition of the input topic that a service took over last; with two services that is its only one."""
    owned = [line["message"] for line in service.log if ".exposure-ready.v1[" in line["message"]]
    return int(owned[-1].partition("[")[2].partition("]")[0])
