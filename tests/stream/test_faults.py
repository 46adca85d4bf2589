"""Faults on purpose: brokers, services and workers are killed or frozen; every event still has exactly one status."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from streamchar.errors import StreamcharError
from streamchar.stream.errors import (
    BrokerUnreachableError,
    JobImportError,
    RefusedError,
    StuckError,
    TopicsMissingError,
)
from streamchar.stream.service import Service
from streamchar.stream.topics import ensure_topics
from tests.stream.brokers import BrokerProcess
from tests.stream.services import (
    EXTERNAL,
    HERE,
    Night,
    Start,
    assert_once,
    long_on_apache,
    on_one_broker,
    outcomes,
    running,
    service_processes,
    stub_event,
)


@pytest.fixture
async def start(night: Night, tmp_path: Path) -> AsyncIterator[Start]:
    """Start services as processes, with all topics there; none outlives the test."""
    await ensure_topics(night.settings())
    async with service_processes(night, tmp_path) as start:
        yield start


@pytest.mark.skipif(EXTERNAL is not None, reason="the external broker is not ours to kill")
async def test_a_killed_broker_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    with BrokerProcess(tmp_path / "mortal") as broker:
        await ensure_topics(Night(broker.bootstrap).settings())
        await kill_the_broker(broker, Night(broker.bootstrap))


async def kill_the_broker(broker: BrokerProcess, night: Night) -> None:
    """Run a night and kill the broker three times."""
    await night.announce(stub_event(n, sleep=0.02) for n in range(120))
    async with running(Service(night.settings())):
        for _ in range(3):
            await night.wait_for_statuses(1)
            await asyncio.sleep(0.5)
            broker.kill()
            await asyncio.sleep(0.3)
            broker.start()
        statuses = await night.wait_for_statuses(120, 40)
    assert_once(statuses, range(120))
    assert len(await night.read(night.topics.source_catalog)) == 120


@long_on_apache
async def test_a_frozen_service_is_fenced_when_it_thaws(night: Night, start: Start) -> None:
    one = await start()
    await night.announce(stub_event(n, sleep=0.1) for n in range(40))
    await night.wait_for_statuses(5)
    one.send(signal.SIGSTOP)
    two = await start()
    await night.wait_for_statuses(40, 30)
    one.send(signal.SIGCONT)
    await night.announce(stub_event(n) for n in range(40, 60))
    await night.wait_for_statuses(60, 30)
    await asyncio.sleep(1)
    assert_once(await night.statuses(), range(60))
    assert await two.stop() == 0
    assert await one.stop() in {0, 4, -signal.SIGTERM}


@on_one_broker
@pytest.mark.parametrize("mode", [pytest.param("exactly_once", marks=pytest.mark.chaos), "at_least_once"])
async def test_a_service_killed_at_any_moment_is_continued(night: Night, start: Start, mode: str) -> None:
    await night.announce(stub_event(n, sleep=0.02) for n in range(120))
    dice = random.Random(3)
    overrides = ("kafka.instance_id=slot-0", f"delivery.mode={mode}")
    for _ in range(3):
        service = await start(*overrides)
        await asyncio.sleep(dice.uniform(1.2, 1.8))
        await service.kill()
    last = await start(*overrides)
    await last.ready()
    statuses = await night.wait_for_different(120, 30)
    assert await last.stop() == 0
    if mode == "exactly_once":
        assert_once(statuses, range(120))
    else:  # repeats are allowed and carry the same identifier
        assert {status.exposure for status in statuses} == set(range(120))
        assert len({status.message_id for status in statuses}) == 120


@on_one_broker
async def test_the_breaker_turns_the_service_unready_and_lets_it_recover(night: Night) -> None:
    await ensure_topics(night.settings())
    settings = night.settings("breaker.consecutive=5", "breaker.cool_down=1", "limits.events_in_flight=2")
    await night.announce((stub_event(n, do="raise") for n in range(10)), partition=0)
    service = Service(settings)
    async with running(service), aiohttp.ClientSession() as client:
        await night.wait_for_statuses(5)
        async with client.get(f"http://127.0.0.1:{service.health.port}/readyz") as answer:
            assert answer.status == 503
            assert "dead letters" in (await answer.json())["checks"]["breaker"]
        assert len(await night.statuses()) <= 7
        await night.wait_for_statuses(10, 20)
        await night.announce((stub_event(n) for n in range(10, 15)), partition=0)
        statuses = await night.wait_for_statuses(15, 20)
        assert outcomes(statuses) == {"failed": 10, "succeeded": 5}
        async with client.get(f"http://127.0.0.1:{service.health.port}/readyz") as answer:
            assert answer.status == 200, await answer.text()


@on_one_broker
async def test_the_watchdog_ends_a_service_that_has_work_and_makes_no_progress(night: Night) -> None:
    await ensure_topics(night.settings())
    await night.announce([stub_event(n, sleep=60) for n in range(3)])
    settings = night.settings("lifecycle.stuck_after=1.5", "workers.deadline=100")
    with pytest.raises(StuckError, match="although 3 wait: 2 workers ready, 2 busy"):
        await asyncio.wait_for(Service(settings).run(), 60)


@on_one_broker
@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (
            ["topics.create=false", "topics.prefix=elsewhere"],
            TopicsMissingError,
            "elsewhere.exposure-ready.v1",
        ),
        (["kafka.bootstrap='127.0.0.1:1'", "kafka.start_timeout=1"], BrokerUnreachableError, "127.0.0.1:1"),
        (
            ["kafka.session_timeout=1", "kafka.heartbeat_interval=0.3"],
            RefusedError,
            "do not allow kafka.session_timeout",
        ),
        (["workers.job=stub_jobs:broken"], JobImportError, "no job can be made"),
    ],
)
async def test_what_is_wrong_at_the_start_is_said_in_one_sentence(
    night: Night, overrides: list[str], error: type[StreamcharError], words: str
) -> None:
    await ensure_topics(night.settings())
    with pytest.raises(error, match=words):
        await Service(night.settings(*overrides)).run()


@on_one_broker
async def test_exit_codes(start: Start) -> None:
    wrong = await start("worker.count=1")
    assert await wrong.wait() == 2
    assert "did you mean 'workers'?" in wrong.log_path.read_text()
    missing = await start("topics.create=false", "topics.prefix=elsewhere")
    assert await missing.wait() == 3
    assert missing.log[-1]["reason"] == "topics_missing"
