"""Which errors end the service, which are mended, how often, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

import streamchar.stream.recovery as module
from streamchar.stream.errors import (
    FencedError,
    GroupError,
    GroupForbiddenError,
    GroupSilentError,
    OutageError,
    PublishAuthorizationError,
    PublishError,
    PublishTimeoutError,
    StuckError,
)
from streamchar.stream.pulse import Pulse
from streamchar.stream.recovery import Recovery
from streamchar.stream.settings import KafkaSettings, load_settings

TIMEOUT = PublishTimeoutError(partition="ready[0]", seconds=1)
DEFECT = PublishError(partition="ready[0]", detail="odd")


class FakePulse:
    """Beats or not, as the test says."""

    def __init__(self) -> None:
        self.beating = asyncio.Event()
        self.beating.set()
        self.problem = "connection refused"
        self.last_answer = asyncio.get_running_loop().time()

    @property
    def is_silent(self) -> bool:
        return not self.beating.is_set()

    async def answering(self) -> None:
        await self.beating.wait()


class FakeMembership:
    """Joins as the script says: well, not well, or never."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.is_whole = True
        self.script: list[bool | Exception | None] = []
        self.joins = 0

    async def rejoin(self) -> None:
        self.joins += 1
        step = self.script.pop(0) if self.script else True
        if step is None:
            await asyncio.sleep(3600)
        elif isinstance(step, Exception):
            self.bench.recovery.report(step)
        else:
            self.is_whole = step


class Bench:
    def __init__(self, *overrides: str) -> None:
        self.errors: list[Exception] = []
        self.pulse: Any = FakePulse()
        self.recovery = Recovery(load_settings(None, overrides, {}), self.pulse, self.errors.append)
        self.membership = FakeMembership(self)
        self.recovery.membership = self.membership

    def breaks(self, error: Exception) -> None:
        self.membership.is_whole = False
        self.recovery.report(error)

    async def mended(self) -> None:
        async with asyncio.timeout(5):
            while self.recovery.is_active:
                await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.002)
    monkeypatch.setattr(module, "_TICK", 0.005)


@contextlib.asynccontextmanager
async def watching(recovery: Recovery) -> AsyncIterator[None]:
    task = asyncio.ensure_future(recovery.watch())
    yield
    task.cancel()
    await asyncio.wait([task])


async def test_what_only_a_person_can_mend_ends_the_service() -> None:
    bench = Bench()
    hopeless = [
        PublishAuthorizationError(partition="ready[0]", detail="no"),
        GroupForbiddenError(group="night", detail="no"),
        StuckError(seconds=1, waiting=1, detail=""),
        ValueError("a defect of ours"),
    ]
    for error in hopeless:
        bench.breaks(error)
    assert bench.errors == hopeless
    assert not bench.recovery.is_active


async def test_an_outage_is_waited_for_however_often_it_comes() -> None:
    bench = Bench("lifecycle.recoveries=0")
    for error in (TIMEOUT, GroupSilentError(group="night", detail="")) * 20:
        bench.breaks(error)
        assert str(error) in bench.recovery.problem
        await bench.mended()
        assert bench.recovery.problem == ""
    assert bench.errors == []


async def test_a_defect_that_comes_again_and_again_ends_the_service_unless_something_is_published() -> None:
    bench = Bench("lifecycle.recoveries=3")
    for _ in range(10):
        bench.breaks(DEFECT)
        await bench.mended()
        bench.recovery.progress()
    for error in (DEFECT, FencedError(partition="", detail=""), GroupError(group="night", detail="")):
        bench.breaks(error)
        await bench.mended()
    assert bench.errors == []
    bench.breaks(DEFECT)
    assert bench.errors == [DEFECT]


async def test_a_defect_that_befalls_many_partitions_at_once_counts_once_for_each_joining() -> None:
    bench = Bench("lifecycle.recoveries=3")
    for _ in range(24):
        bench.breaks(DEFECT)
    bench.membership.script = [DEFECT, True]  # the first joining fails
    await bench.mended()
    assert bench.errors == []
    for _ in range(24):
        bench.breaks(DEFECT)
    await bench.mended()
    assert bench.errors == []
    bench.breaks(DEFECT)
    assert bench.errors == [DEFECT]


async def test_nothing_is_joined_before_the_brokers_answer() -> None:
    bench = Bench()
    bench.pulse.beating.clear()
    bench.breaks(TIMEOUT)
    bench.breaks(TIMEOUT)  # another partition
    await asyncio.sleep(0.05)
    assert bench.membership.joins == 0
    assert "connection refused" in bench.recovery.problem
    bench.pulse.beating.set()
    await bench.mended()
    assert bench.membership.joins == 1


async def test_joining_is_repeated_until_every_partition_can_publish() -> None:
    bench = Bench(
        "kafka.session_timeout=0.02", "kafka.heartbeat_interval=0.01", "kafka.rebalance_timeout=0.01"
    )
    bench.recovery._settings.kafka.__dict__["start_timeout"] = 0.01
    bench.membership.script = [False, TIMEOUT, None, None, True]
    bench.breaks(TIMEOUT)
    await bench.mended()
    assert bench.membership.joins == 5
    assert bench.errors == []


async def test_a_rebalance_that_mends_everything_by_itself_is_enough() -> None:
    bench = Bench()
    bench.breaks(TIMEOUT)
    bench.membership.is_whole = True
    await bench.mended()
    assert bench.membership.joins == 0


async def test_an_outage_is_called_to_mind_and_may_be_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_REMINDER", 0.03)
    patient, impatient = Bench(), Bench("lifecycle.outage=0.2")
    for bench in (patient, impatient):
        bench.pulse.beating.clear()
    async with watching(patient.recovery), watching(impatient.recovery), asyncio.timeout(5):
        while not impatient.errors:
            await asyncio.sleep(0.01)
    assert patient.errors == []
    assert isinstance(impatient.errors[0], OutageError)
    assert "connection refused" in str(impatient.errors[0])
    assert 2 <= caplog.text.count("still not ready") <= 40


async def test_after_closing_every_error_ends_the_service() -> None:
    bench = Bench()
    bench.membership.script = [None]
    bench.breaks(TIMEOUT)
    await asyncio.sleep(0.01)
    await bench.recovery.close()
    assert not bench.recovery.is_active
    bench.breaks(TIMEOUT)
    assert bench.errors == [TIMEOUT]


async def test_a_defect_in_the_mending_is_not_silent() -> None:
    bench = Bench()

    async def rejoin() -> None:
        raise LookupError("odd")

    bench.membership.rejoin = rejoin  # type: ignore[method-assign]
    bench.breaks(TIMEOUT)
    await asyncio.sleep(0.02)
    assert [str(error) for error in bench.errors] == [
        "the consumer group 'streamchar' failed: joining anew failed: LookupError odd"
    ]


async def test_silence_is_noticed_and_explained(
    unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    bootstrap = f"127.0.0.1:{unused_tcp_port}"
    pulse = Pulse(KafkaSettings(bootstrap=bootstrap, heartbeat_interval=0.1), "any")
    task = asyncio.ensure_future(pulse.run())
    async with asyncio.timeout(10):
        while not pulse.is_silent:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert str(unused_tcp_port) in pulse.problem
    assert "no Kafka broker answers" in pulse.problem
    assert [record.levelname for record in caplog.records if record.name == module.Pulse.__module__] == [
        "WARNING"
    ]
