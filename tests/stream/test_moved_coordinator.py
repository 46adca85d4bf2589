"""A group whose coordinator has just moved: "it is not me" must not be taken for "nothing was ever committed".

From version 2 on an OffsetFetch answer carries such an error at its end, with no partitions at all; the client looks
for errors only at the partitions. A broker of a cluster answers so for a moment after another one was killed. One that
was frozen meanwhile answers for a moment what it knew before.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.structs import OffsetAndMetadata

import streamchar
from streamchar.broker import BrokerSettings, EmbeddedBroker
from streamchar.broker.groups import GroupCoordinator
from streamchar.broker.messages_groups import (
    CommittedPartition,
    CommittedTopic,
    ErrorResponse,
    HeartbeatRequest,
    OffsetFetchRequest,
    OffsetFetchResponse,
)
from streamchar.client import ForbiddenError
from streamchar.kafka.committed import committed_offsets
from streamchar.stream.progress import read_progress
from streamchar.stream.service import Service
from streamchar.stream.topics import ensure_topics
from streamchar.stream.verify import verify
from tests.stream.conformance.clients import consumer, fresh, make_topic
from tests.stream.published import nothing_more, quality, sender, take
from tests.stream.services import HERE, Night, assert_once, running, stub_event

LOADING, UNAVAILABLE, MOVED, UNKNOWN_MEMBER, FORBIDDEN = 14, 15, 16, 25, 30


class Trouble:
    """Lets the broker answer every request for committed offsets with an error, for a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.met = 0
        self.at_partitions = False
        self._errors = itertools.cycle([MOVED])
        self._end = 0.0
        self._usual = GroupCoordinator.fetch_offsets
        monkeypatch.setattr(GroupCoordinator, "fetch_offsets", lambda *request: self._answer(*request))

    def begin(self, *errors: int, seconds: float = 0.5) -> None:
        self.met = 0
        self._errors = itertools.cycle(errors)
        self._end = time.monotonic() + seconds

    def _answer(self, coordinator: GroupCoordinator, request: OffsetFetchRequest) -> OffsetFetchResponse:
        if time.monotonic() > self._end:
            return self._usual(coordinator, request)
        self.met += 1
        error = next(self._errors)
        if not self.at_partitions:
            return OffsetFetchResponse(0, [], error)
        topics = [
            CommittedTopic(topic.name, [CommittedPartition(one, -1, "", error) for one in topic.partitions])
            for topic in request.topics or []
        ]
        return OffsetFetchResponse(0, topics, 0)


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Trouble:
    return Trouble(monkeypatch)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[str]:
    async with EmbeddedBroker(
        BrokerSettings(data_dir=tmp_path / "broker", port=0, group_min_session_timeout_ms=1000)
    ) as broker:
        yield broker.bootstrap


@pytest.mark.parametrize("at_partitions", [False, True])
async def test_committed_offsets_are_asked_for_until_somebody_knows(
    broker: str, trouble: Trouble, *, at_partitions: bool
) -> None:
    topic, group = await make_topic(broker, 2), fresh("group")
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    async with consumer(broker, group_id=group) as client:
        client.assign([first])
        await client.commit({first: OffsetAndMetadata(0, "bits:0110")})
    connection = {"bootstrap_servers": broker}
    trouble.at_partitions = at_partitions
    trouble.begin(MOVED, LOADING, UNAVAILABLE)
    found = await committed_offsets(lambda: connection, group, [first, second])
    assert trouble.met > 0
    assert found == {first: OffsetAndMetadata(0, "bits:0110")}
    assert await committed_offsets(lambda: connection, group) == found
    assert await committed_offsets(lambda: connection, group, []) == {}
    assert await committed_offsets(lambda: connection, fresh("other")) == {}
    trouble.begin(FORBIDDEN)
    with pytest.raises(GroupAuthorizationFailedError):
        await committed_offsets(lambda: connection, group, [first])


@pytest.mark.parametrize("mode", ["exactly_once", "at_least_once"])
async def test_a_service_goes_on_where_the_group_was(
    broker: str, trouble: Trouble, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    night = Night(broker, fresh("night"))
    settings = night.settings(f"delivery.mode={mode}", "workers.job=stub_jobs:cataloguing")
    await ensure_topics(settings)
    await night.announce(stub_event(number) for number in range(6))
    async with running(Service(settings)):
        await night.wait_for_statuses(6)
    trouble.begin(MOVED, LOADING)
    await night.announce(stub_event(number) for number in range(6, 10))
    async with running(Service(settings)):
        assert_once(await night.wait_for_statuses(10), range(10))
    assert trouble.met > 0
    trouble.begin(MOVED, LOADING)
    report = await verify(settings)
    assert report.is_well
    assert (report.announced, report.pending) == (10, 0)
    trouble.begin(MOVED, LOADING)
    assert {one.lag for one in await read_progress(settings)} == {0}


class Frozen:
    """Lets the broker forget what it learned lately, for a while: members, and what was committed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self._end = 0.0
        heartbeat, fetch = GroupCoordinator.heartbeat, GroupCoordinator.fetch_offsets

        def old_heartbeat(coordinator: GroupCoordinator, request: HeartbeatRequest) -> ErrorResponse:
            self.asked += 1
            wakes = time.monotonic() < self._end
            return ErrorResponse(0, UNKNOWN_MEMBER) if wakes else heartbeat(coordinator, request)

        def old_offsets(coordinator: GroupCoordinator, request: OffsetFetchRequest) -> OffsetFetchResponse:
            if time.monotonic() > self._end:
                return fetch(coordinator, request)
            topics = [
                CommittedTopic(topic.name, [CommittedPartition(one, 0, "") for one in topic.partitions])
                for topic in request.topics or []
            ]
            return OffsetFetchResponse(0, topics, 0)

        monkeypatch.setattr(GroupCoordinator, "heartbeat", old_heartbeat)
        monkeypatch.setattr(GroupCoordinator, "fetch_offsets", old_offsets)

    def wake(self, seconds: float) -> None:
        self.asked = 0
        self._end = time.monotonic() + seconds


@pytest.mark.parametrize("seconds", [0.5, 4.0])
async def test_a_coordinator_that_does_not_know_the_member_is_not_believed(
    broker: str, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """For a moment it is asked again; for long, the service takes itself for thrown out, and joins anew."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    frozen, night = Frozen(monkeypatch), Night(broker, fresh("night"))
    settings = night.settings("workers.job=stub_jobs:cataloguing", "lifecycle.recoveries=0")
    await ensure_topics(settings)
    await night.announce(stub_event(number) for number in range(6))
    async with running(Service(settings)):
        await night.wait_for_statuses(6)
    await night.announce(stub_event(number) for number in range(6, 10))
    frozen.wake(seconds)
    async with running(Service(settings)):
        assert_once(await night.wait_for_statuses(10), range(10))
    assert frozen.asked > 0
    assert (await verify(settings)).is_well


@pytest.mark.parametrize("from_beginning", [True, False])
async def test_a_subscriber_goes_on_where_its_group_was(
    broker: str, trouble: Trouble, *, from_beginning: bool
) -> None:
    """Began at the end it would lose what came meanwhile, began at the beginning it would get everything again."""
    night = Night(broker, fresh("night"))
    await ensure_topics(night.settings())
    async with sender(broker, night.topics) as (_, send):
        await send(*(quality(number) for number in range(3)))
        options = {"topics": night.topics, "group": "observers"}
        async with streamchar.subscribe(broker, from_beginning=True, **options) as first:
            await take(first, 3)
            await nothing_more(first, 0.3)
        await send(*(quality(number) for number in range(3, 6)))
        trouble.begin(MOVED, LOADING)
        async with streamchar.subscribe(broker, from_beginning=from_beginning, **options) as second:
            assert [record.exposure for record in await take(second, 3)] == [3, 4, 5]
            await nothing_more(second, 0.3)
        await send(quality(6))
        trouble.begin(MOVED, LOADING)
        async with streamchar.subscribe(broker, stop_at_end=True, **options) as third:
            assert [record.exposure async for record in third] == [6]


async def test_a_subscriber_that_may_not_know_its_position_is_told(broker: str, trouble: Trouble) -> None:
    night = Night(broker, fresh("night"))
    await ensure_topics(night.settings())
    trouble.begin(FORBIDDEN, seconds=60)
    async with streamchar.subscribe(broker, topics=night.topics, group="observers") as subscription:
        with pytest.raises(ForbiddenError):
            await take(subscription, 1)
