"""Where a subscriber begins, and where it goes on after it was ended or shared its work."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import uuid

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete

import streamchar
from streamchar.client import (
    SubscriptionWarning,
)
from streamchar.kafka.committed import committed_offsets
from streamchar.messages import (
    TopicNames,
)
from tests.stream.brokers import SHORTEST_SESSION, BrokerProcess
from tests.stream.conformance.clients import admin
from tests.stream.published import (
    begin,
    catalog,
    nothing_more,
    open_at,
    quality,
    sender,
    take,
)

pytestmark = pytest.mark.usefixtures("strict_warnings")


async def test_a_group_goes_on_where_it_left_off(bootstrap, topics):
    group = f"group-{uuid.uuid4().hex}"
    async with sender(bootstrap, topics) as (_, send):
        await send(*(quality(number) for number in range(1, 6)))
        async with open_at(bootstrap, topics, group=group) as subscription:
            assert [record.exposure for record in await take(subscription, 3)] == [1, 2, 3]
        # The third was given out, but the next one was not asked for: it may not have been dealt with.
        async with open_at(bootstrap, topics, group=group) as subscription:
            assert [record.exposure for record in await take(subscription, 3)] == [3, 4, 5]
            await nothing_more(subscription)


async def test_a_catalogue_that_straddles_a_restart_is_not_lost(bootstrap, topics):
    group = f"group-{uuid.uuid4().hex}"
    straddling, whole = catalog(1), catalog(2)
    async with sender(bootstrap, topics) as (_, send):
        await send(straddling[0], straddling[1], *whole)
        async with open_at(bootstrap, topics, "catalog", group=group, commit_interval=0.0) as subscription:
            (record,) = await take(subscription, 1)
            assert record.manifest.exposure == 2
            await nothing_more(subscription, 1.0)
        await send(*straddling[2:])
        async with open_at(bootstrap, topics, "catalog", group=group) as subscription:
            # What was complete behind the oldest incomplete one comes again: its memory died with the process.
            records = await take(subscription, 2)
        assert [record.manifest.exposure for record in records] == [2, 1]


async def test_a_group_shares_the_partitions(bootstrap, topics):
    group = f"group-{uuid.uuid4().hex}"
    fast = {
        "consumer_options": {"session_timeout_ms": 1000 * int(SHORTEST_SESSION), "heartbeat_interval_ms": 200}
    }
    async with (
        sender(bootstrap, topics) as (_, send),
        open_at(bootstrap, topics, group=group, **fast) as left,
        open_at(bootstrap, topics, group=group, **fast) as right,
    ):
        found = set()

        async def drain(subscription):
            async for record in subscription:
                found.add(record.exposure)

        tasks = [asyncio.create_task(drain(subscription)) for subscription in (left, right)]
        for number in range(30):
            await send(quality(number), partition=number % 2)
            await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            while found < set(range(30)):
                await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # A rebalance may give a record to both, never to neither.
    assert found == set(range(30))


async def join_and_leave(bootstrap, topics, group):
    """Let a group begin at the end without getting anything: be there until it has its positions."""
    async with streamchar.subscribe(
        bootstrap, topics=topics, group=group, commit_interval=0.0
    ) as subscription:
        waiting = asyncio.ensure_future(anext(aiter(subscription)))
        while len(await committed_offsets(lambda: {"bootstrap_servers": bootstrap}, group)) < 2:
            await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_a_group_keeps_its_place_before_the_first_record(bootstrap, topics):
    """What is published while a subscriber is started again is its, also when it never got anything before."""
    group = f"group-{uuid.uuid4().hex}"
    async with sender(bootstrap, topics) as (_, send):
        await send(quality(1))
        await join_and_leave(bootstrap, topics, group)
        await send(quality(2))
        await send(quality(3), partition=1)
        async with streamchar.subscribe(bootstrap, topics=topics, group=group) as subscription:
            assert {record.exposure for record in await take(subscription, 2)} == {2, 3}
            await nothing_more(subscription, 0.5)


async def test_a_subscriber_cancelled_while_it_joins_is_no_member(bootstrap, topics):
    """It would hold partitions for as long as its process lives, and nobody would read them."""
    group = f"group-{uuid.uuid4().hex}"
    async with sender(bootstrap, topics) as (_, send):
        await send(quality(1))
        await send(quality(2), partition=1)
    for milliseconds in range(0, 100, 5):
        async with open_at(bootstrap, topics, group=group) as impatient:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(milliseconds / 1000):
                    await anext(aiter(impatient))
    gc.collect()
    async with open_at(bootstrap, topics, group=group) as subscription:
        assert {record.exposure for record in await take(subscription, 2)} == {1, 2}


async def test_a_group_gets_what_is_left_when_its_place_has_expired(bootstrap, topics):
    group = f"group-{uuid.uuid4().hex}"
    async with sender(bootstrap, topics) as (_, send):
        await join_and_leave(bootstrap, topics, group)
        await send(*(quality(number) for number in range(1, 6)))
    async with admin(bootstrap) as client:
        partition = TopicPartition(topics.psf_quality, 0)
        await client.delete_records({partition: RecordsToDelete(3)})
    async with streamchar.subscribe(bootstrap, topics=topics, group=group) as subscription:
        assert [record.exposure for record in await take(subscription, 2)] == [4, 5]
        await nothing_more(subscription, 0.5)


async def test_a_group_reads_added_partitions_from_their_beginning(bootstrap, topics):
    group = f"group-{uuid.uuid4().hex}"
    quickly = {"metadata_max_age_ms": 300}
    async with (
        sender(bootstrap, topics) as (_, send),
        streamchar.subscribe(bootstrap, topics=topics, group=group, consumer_options=quickly) as subscription,
    ):
        waiting = await begin(subscription)
        await send(quality(1))
        assert [record.exposure for record in await waiting] == [1]
        async with admin(bootstrap) as client:
            await client.create_partitions({topics.psf_quality: NewPartitions(3)})
        async with sender(bootstrap, topics) as (_, late):
            await late(quality(2), partition=2)
        assert [record.exposure for record in await take(subscription, 1)] == [2]
        await nothing_more(subscription, 0.5)


async def test_from_near_the_end(bootstrap, topics):
    async with sender(bootstrap, topics) as (_, send):
        await send(*(quality(number) for number in range(1, 21)))
    for back, whole in ((3, False), (20, True), (500, True)):
        subscription = streamchar.subscribe(bootstrap, topics=topics, from_end=back, stop_at_end=True)
        found = [record.exposure async for record in subscription]
        assert found == list(range(max(1, 21 - back), 21))
        assert subscription.reads_all is whole


async def test_leaving_does_not_wait_for_a_broker_that_is_gone(tmp_path, monkeypatch):
    """What was delivered and not committed yet comes again next time."""
    monkeypatch.setattr("streamchar.client.subscription.LAST_COMMIT", 0.5)
    names = TopicNames()
    with BrokerProcess(tmp_path / "broker") as broker:
        async with sender(broker.bootstrap, names) as (_, send):
            await send(quality(1))
        subscription = streamchar.subscribe(
            broker.bootstrap, topics=names, group="g", from_beginning=True, commit_interval=600.0
        )
        assert (await anext(aiter(subscription))).exposure == 1
        waiting = asyncio.ensure_future(anext(aiter(subscription)))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(broker.stop, signal.SIGKILL)
        waiting.cancel()
        with pytest.warns(SubscriptionWarning, match="the position was not kept"):
            await asyncio.wait([waiting], timeout=30)
        assert waiting.cancelled()
