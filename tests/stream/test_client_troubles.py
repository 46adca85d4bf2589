"""What a subscriber makes of damaged messages, and of brokers and topics that are not there."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
import warnings

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

import streamchar
from streamchar.client import (
    AddressError,
    SubscriptionWarning,
    TopicsMissingError,
    UnreachableError,
)
from streamchar.dashboard.follow import follow
from streamchar.messages import (
    IncompleteCatalogError,
    MalformedMessageError,
    TopicNames,
)
from tests.stream.brokers import BrokerProcess
from tests.stream.conformance.raw import raw_client
from tests.stream.published import (
    begin,
    catalog,
    nothing_more,
    open_at,
    quality,
    sender,
    take,
)
from tests.stream.services import batch_with_header

pytestmark = pytest.mark.usefixtures("strict_warnings")


async def test_problems_are_told(bootstrap, topics):
    messages = catalog(1)
    async with sender(bootstrap, topics) as (producer, send):
        await producer.send_and_wait(topics.psf_quality, b"garbage", partition=0)
        await producer.send_and_wait(topics.psf_quality, None, b"tombstone", partition=0)
        await send(*messages[:-1], *catalog(2), quality(3))
    problems = []
    options = {"incomplete_after": 0.5, "on_problem": problems.append}
    async with open_at(bootstrap, topics, ("quality", "catalog"), **options) as subscription:
        assert len(await take(subscription, 2)) == 2
        await nothing_more(subscription)
    assert sorted(type(problem).__name__ for problem in problems) == [
        "IncompleteCatalogError",
        "MalformedMessageError",
        "MalformedMessageError",
    ]
    assert any(
        isinstance(problem, IncompleteCatalogError) and "DemoCam/1/0" in str(problem) for problem in problems
    )
    assert any(isinstance(problem, MalformedMessageError) for problem in problems)


async def test_problems_are_warnings_by_default(bootstrap, topics):
    async with sender(bootstrap, topics) as (producer, send):
        await producer.send_and_wait(topics.psf_quality, b"garbage", partition=0)
        await send(quality(1))
    async with open_at(bootstrap, topics) as subscription:
        with pytest.warns(SubscriptionWarning, match="malformed"):
            assert len(await take(subscription, 1)) == 1


async def test_a_header_name_that_is_no_text_stops_nobody(bootstrap, topics):
    async with sender(bootstrap, topics) as (_, send):
        await send(quality(1))
        odd = quality(2)
        async with raw_client(bootstrap.split(",")[0]) as client:
            batch = batch_with_header(odd.value, b"caf\xe9", odd.headers)
            answer = await client.produce(topics.psf_quality, batch, index=0)
        assert answer.error_code == 0
        await send(quality(3))
        await send(quality(4), partition=1)
    async with open_at(bootstrap, topics) as alone:
        assert {record.exposure for record in await take(alone, 4)} == {1, 2, 3, 4}
        await nothing_more(alone)
    async with open_at(bootstrap, topics, group="g") as member:
        assert {record.exposure for record in await take(member, 4)} == {1, 2, 3, 4}
        await nothing_more(member)
    async with open_at(bootstrap, topics, group="g") as member:
        await nothing_more(member)
    followed = set()
    async with asyncio.timeout(20), contextlib.aclosing(follow(bootstrap, topics)) as watched:
        async for message in watched:
            followed |= set() if message is None else {message.exposure}
            if followed == {1, 2, 3, 4}:
                return


async def test_topics_that_do_not_exist_yet_are_waited_for_and_read_from_their_beginning(
    bootstrap, monkeypatch
):
    monkeypatch.setattr("streamchar.client.subscription.WAIT_FOR_TOPICS", 0.1)
    names = TopicNames(f"later-{uuid.uuid4().hex[:8]}")
    with pytest.raises(TopicsMissingError, match=rf"{bootstrap}.*{names.psf_quality}"):
        await anext(aiter(streamchar.subscribe(bootstrap, topics=names, stop_at_end=True)))
    async with streamchar.subscribe(bootstrap, topics=names) as subscription:
        with pytest.warns(SubscriptionWarning, match=rf"waiting for the topics {names.psf_quality}"):
            waiting = await begin(subscription)
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(names.psf_quality, 1, 1)])
        await admin.close()
        async with sender(bootstrap, names) as (_, send):
            await send(quality(1))
        assert [record.exposure for record in await waiting] == [1]


async def test_following_creates_no_topics_but_waits_for_them(bootstrap, monkeypatch):
    """A client that subscribes to a topic creates it, with the broker's partitions and retention instead of ours."""
    monkeypatch.setattr("streamchar.dashboard.follow.WAIT_FOR_TOPICS", 0.1)
    names = TopicNames(f"followed-{uuid.uuid4().hex[:8]}")
    wanted = [names.exposure_ready, names.psf_quality, names.exposure_status]
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    async with asyncio.timeout(30), contextlib.aclosing(follow(bootstrap, names)) as watched:
        for _ in range(3):
            assert await anext(watched) is None
        assert not set(wanted) & set(await admin.list_topics())
        await admin.create_topics([NewTopic(name, 1, 1) for name in wanted])
        async with sender(bootstrap, names) as (_, send):
            await send(quality(1))
        while (message := await anext(watched)) is None:
            pass
        assert message.exposure == 1
    await admin.close()


@pytest.mark.parametrize(
    ("hours", "expected"), [(0, set()), (2, {3}), (10, {2, 3}), (None, {1, 2, 3, 4})], ids=str
)
async def test_following_reads_back_as_far_as_it_is_told(bootstrap, topics, hours, expected):
    now, newest = time.time(), {100, 101}
    followed = set()
    async with sender(bootstrap, topics) as (_, send):
        for ago, number in ((50, 1), (3, 2), (1, 3)):
            await send(quality(number), at=now - 3600 * ago)
        await send(quality(4), partition=1, at=now - 3600 * 50)
        span = None if hours is None else 3600 * hours
        async with asyncio.timeout(20), contextlib.aclosing(follow(bootstrap, topics, span=span)) as watched:
            while (message := await anext(watched)) is not None:
                followed.add(message.exposure)
            for partition, number in enumerate(newest):
                await send(quality(number), partition=partition)
            async for message in watched:
                followed |= set() if message is None else {message.exposure}
                if newest <= followed:
                    break
    assert followed - newest == expected


async def test_added_partitions_are_read_and_known_ones_go_on(bootstrap, topics, monkeypatch):
    monkeypatch.setattr("streamchar.client.subscription.LOOK_FOR_PARTITIONS", 0.2)
    async with sender(bootstrap, topics) as (_, send):
        await send(quality(1), quality(2))
    async with open_at(bootstrap, topics, remembered=1) as subscription:
        assert [record.exposure for record in await take(subscription, 2)] == [1, 2]
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_partitions({topics.psf_quality: NewPartitions(3)})
        await admin.close()
        async with sender(bootstrap, topics) as (_, send):
            await send(quality(3), partition=2)
            await send(quality(4))
        assert {record.exposure for record in await take(subscription, 2)} == {3, 4}
        await nothing_more(subscription, 0.5)


@pytest.mark.parametrize("address", ["", "kafka://host:9092", "host:port", "host:0", ":9092", "host:9092,"])
def test_what_is_no_address_is_told(address):
    with pytest.raises(AddressError, match="localhost:9092"):
        streamchar.subscribe(address)


async def test_a_broker_that_is_not_there_is_named_with_what_to_do():
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1.*is it running.*streamchar broker"):
        await anext(aiter(streamchar.subscribe("127.0.0.1:1")))
    with pytest.raises(UnreachableError):
        next(iter(streamchar.subscribe("127.0.0.1:1", group="any")))


async def told(caught, words):
    """Wait for a warning."""
    async with asyncio.timeout(60):
        while not any(words in str(warning.message) for warning in caught):
            await asyncio.sleep(0.05)


async def test_a_broker_that_dies_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("streamchar.client.subscription.LOOK_FOR_PARTITIONS", 0.3)
    with BrokerProcess(tmp_path / "data") as broker:
        names = TopicNames()
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(names.psf_quality, 1, 1)])
        await admin.close()
        async with open_at(broker.bootstrap, names, group="group") as subscription:
            async with sender(broker.bootstrap, names) as (_, send):
                await send(quality(1))
            assert [record.exposure for record in await take(subscription, 1)] == [1]
            waiting = await begin(subscription)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", SubscriptionWarning)
                await asyncio.to_thread(broker.kill)
                await told(caught, "no Kafka broker answers at")
                await asyncio.to_thread(broker.start)
                await told(caught, "is back")
                async with sender(broker.bootstrap, names) as (_, send):
                    await send(quality(1), quality(2))
                assert [record.exposure for record in await waiting] == [2]
