"""The brokers go away for longer than a publication may take, and come back: the same process goes on."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streamchar.stream.service import Service
from streamchar.stream.topics import ensure_topics
from streamchar.stream.verify import verify
from tests.stream.brokers import Broker, BrokerProcess
from tests.stream.conformance.clients import fresh
from tests.stream.services import HERE, Night, ServiceProcess, assert_once, running, stub_event

BROKERS = pytest.mark.parametrize(
    "broker", ["embedded", pytest.param("apache", marks=pytest.mark.chaos)], indirect=True
)
QUICK = (
    "delivery.publish_timeout=1.5",
    "kafka.request_timeout=3",
    "kafka.rebalance_timeout=6",
    "lifecycle.stuck_after=20",
)


@asynccontextmanager
async def away(broker: Broker, *, frozen: bool = False) -> AsyncIterator[None]:
    """Take the broker away, and bring it back at the end.

    Apache Kafka is asked to end: alone, it does not keep its promises through SIGKILL.
    """
    if frozen:
        broker.send(signal.SIGSTOP)
    else:
        embedded = isinstance(broker, BrokerProcess)
        await asyncio.to_thread(broker.stop, signal.SIGKILL if embedded else signal.SIGTERM)
    try:
        yield
    finally:
        if frozen:
            broker.send(signal.SIGCONT)
        else:
            await asyncio.to_thread(broker.start)


async def probe(service: Service, name: str) -> tuple[int, dict[str, str]]:
    """Status and failing checks of a probe."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{service.health.port}/{name}") as answer,
    ):
        checks = (await answer.json())["checks"]
        return answer.status, {check: text for check, text in checks.items() if text != "ok"}


def attempts(journal: Path) -> Counter[int]:
    """How often the workers began each exposure."""
    return Counter(json.loads(line)["exposure"] for line in journal.read_text().splitlines())


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 30.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.05)


def outage(kind: str, mode: str, *, patience: float, seconds: float = 1.0, frozen: bool = False) -> Any:
    """A case: ``patience`` is the publish timeout, ``seconds`` pass after it was exceeded; long ones are for chaos."""
    how = "frozen" if frozen else "away"
    long = seconds > 1 or (kind == "apache" and mode == "at_least_once")
    marks = [pytest.mark.chaos, pytest.mark.timeout(seconds + patience + 300)] if long else []
    name = f"{kind}-{mode}-{how} for {patience + seconds:g} s"
    return pytest.param(kind, mode, patience, seconds, frozen, marks=marks, id=name)


@pytest.mark.parametrize(
    ("broker", "mode", "patience", "seconds", "frozen"),
    [
        outage("embedded", "exactly_once", patience=1.5),
        outage("embedded", "at_least_once", patience=1.5),
        outage("apache", "exactly_once", patience=1.5),
        outage("apache", "at_least_once", patience=1.5),
        outage("apache", "exactly_once", patience=60, seconds=60),
        outage("apache", "exactly_once", patience=5, seconds=40, frozen=True),
        outage("embedded", "exactly_once", patience=5, seconds=40, frozen=True),
    ],
    indirect=["broker"],
)
async def test_an_outage_longer_than_a_publication_may_take_is_survived_in_process(
    broker: Broker,
    mode: str,
    patience: float,
    seconds: float,
    frozen: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was finished is kept, nothing is made twice, and the probes tell what is going on."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    night, journal = Night(broker.bootstrap, fresh("outage")), tmp_path / "journal"
    journal.touch()
    settings = night.settings(
        *QUICK,
        f"delivery.mode={mode}",
        f"delivery.publish_timeout={patience}",
        f"characterize.journal='{journal}'",
    )
    await ensure_topics(settings)
    service = Service(settings)
    async with running(service):
        await night.announce(stub_event(n, sleep=0.1) for n in range(80))
        await night.wait_for_statuses(5)
        assert await probe(service, "readyz") == (200, {})
        async with away(broker, frozen=frozen):

            async def is_unready() -> bool:
                status, failing = await probe(service, "readyz")
                assert await probe(service, "livez") == (200, {})
                return status == 503 and "no answer for" in failing.get("brokers", "")

            await until(is_unready)
            exceeded = f"was not acknowledged within {float(patience)} s"
            await until(lambda: exceeded in caplog.text, patience + 30)
            before = attempts(journal).total()
            await asyncio.sleep(seconds)
            assert await is_unready()
        statuses = await night.wait_for_different(80, 60)
        await night.announce(stub_event(n) for n in range(80, 90))
        await night.wait_for_different(90, 60)
        await until(lambda: not service._recovery.problem)
        assert await probe(service, "readyz") == (200, {})
    statuses = await night.statuses()
    assert 5 <= before <= 80
    assert set(attempts(journal).values()) == {1}, "finished results were made again"
    if mode == "exactly_once":
        assert_once(statuses, range(90))
        assert len(await night.read(night.topics.source_catalog)) == 90
    else:
        assert {status.exposure for status in statuses} == set(range(90))
        assert len({status.message_id for status in statuses}) == 90
    assert "at work again" in caplog.text
    assert service.metrics.text().count(b'outcome="succeeded"} 90.0') == 1


@BROKERS
async def test_an_outage_without_events_is_noticed_too_and_may_be_bounded(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    night = Night(broker.bootstrap, fresh("outage"))
    bounded = ServiceProcess(night, tmp_path / "service.log", *QUICK, "lifecycle.outage=2")
    await ensure_topics(night.settings())
    await bounded.start()
    try:
        await until(lambda: any("owns" in line["message"] for line in bounded.log))
        async with away(broker):
            assert await bounded.wait(40) == 4
        assert bounded.log[-1]["reason"] == "outage"
        assert broker.bootstrap in bounded.log[-1]["message"]
    finally:
        await bounded.kill()


@BROKERS
async def test_sigterm_during_an_outage_does_not_wait_for_the_brokers(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    night = Night(broker.bootstrap, fresh("outage"))
    service = ServiceProcess(night, tmp_path / "service.log", *QUICK)
    await ensure_topics(night.settings())
    await service.start()
    try:
        await night.announce(stub_event(n, sleep=0.2) for n in range(40))
        await night.wait_for_statuses(3)
        async with away(broker):
            await until(lambda: any("not ready" in line["message"] for line in service.log))
            assert await service.stop() == 0
        rest = ServiceProcess(night, tmp_path / "rest.log", *QUICK)
        await rest.start()
        try:
            assert_once(await night.wait_for_statuses(40, 60), range(40))
            assert await rest.stop() == 0
        finally:
            await rest.kill()
    finally:
        await service.kill()
    assert (await verify(night.settings())).count("lost") == 0
