"""Services that die at the worst moment, and end otherwise the second time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from streamchar.client import subscribe
from streamchar.messages import ExposureStatus
from streamchar.stream.topics import ensure_topics
from streamchar.stream.verify import verify
from tests.stream.brokers import Broker
from tests.stream.conformance.clients import fresh
from tests.stream.services import Night, ServiceProcess, outcomes, stub_event

AT_LEAST_ONCE = (
    "delivery.mode=at_least_once",
    "kafka.instance_id=slot-0",
    "workers.job=stub_jobs:cataloguing",
)
BEFORE_COMMIT = "import crash_points; crash_points.before_the_first_commit()"


@pytest.mark.parametrize(
    ("broker", "first"),
    [
        ("embedded", "succeeded"),
        ("apache", "failed"),
        pytest.param("embedded", "failed", marks=pytest.mark.chaos),
        pytest.param("apache", "succeeded", marks=pytest.mark.chaos),
    ],
    indirect=["broker"],
)
async def test_an_event_that_ends_otherwise_after_a_crash_has_one_status_for_every_subscriber(
    broker: Broker, tmp_path: Path, first: str
) -> None:
    """At least once, killed between publication and commit; the second attempt has another outcome."""
    night, well = Night(broker.bootstrap, fresh("crash")), tmp_path / "well"
    settings = night.settings(*AT_LEAST_ONCE)
    await ensure_topics(settings)
    await night.announce([stub_event(0, do="raise", unless=str(well))], partition=0)
    if first == "succeeded":
        well.touch()
    dying = ServiceProcess(night, tmp_path / "dying.log", *AT_LEAST_ONCE, prelude=BEFORE_COMMIT)
    await dying.start()
    assert await dying.wait(30) == -signal.SIGKILL
    (before,) = await night.statuses()
    assert before.outcome == first
    if first == "succeeded":
        well.unlink()
    else:
        well.touch()
    service = ServiceProcess(night, tmp_path / "service.log", *AT_LEAST_ONCE)
    await service.start()
    try:
        both = await night.wait_for_statuses(2, 30)
        assert await service.stop() == 0
    finally:
        await service.kill()
    assert outcomes(both) == {"succeeded": 1, "failed": 1}
    assert len({status.message_id for status in both}) == 1
    seen: list[ExposureStatus] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            subscription = subscribe(
                night.bootstrap, products="status", from_beginning=True, topics=night.topics
            )
            async for status in subscription:
                seen.append(status)  # noqa: PERF401 - it is ended by the timeout
    assert [status.outcome for status in seen] == [first]
    report = await verify(settings)
    assert report.is_well, report.findings
    assert (report.announced, report.pending, report.repeats) == (1, 0, 1)
