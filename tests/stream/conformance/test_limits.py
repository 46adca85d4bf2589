"""Limits: message sizes, retention, connections."""

from __future__ import annotations

import time

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import MessageSizeTooLargeError

from tests.stream.conformance.clients import admin, consumer, fresh, make_topic, producer, until, values


async def test_topic_limit_on_message_size(bootstrap: str) -> None:
    topic = await make_topic(bootstrap, 1, {"max.message.bytes": "100000"})
    async with producer(bootstrap, max_request_size=8 << 20) as client:
        with pytest.raises(MessageSizeTooLargeError):
            await client.send_and_wait(topic, b"x" * 2_000_000, partition=0)
        await client.send_and_wait(topic, b"small", partition=0)
    assert await values(bootstrap, topic) == [b"small"]


async def test_default_limit_on_message_size(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with producer(bootstrap, max_request_size=8 << 20) as client:
        with pytest.raises(MessageSizeTooLargeError):
            await client.send_and_wait(topic, b"x" * 1_100_000, partition=0)
        await client.send_and_wait(topic, b"x" * 1_000_000, partition=0)


async def test_records_expire_by_time(bootstrap: str) -> None:
    topic = await make_topic(bootstrap, 1, {"retention.ms": "500", "segment.ms": "100"})
    partition = TopicPartition(topic, 0)
    old = int(time.time() * 1000) - 60_000
    async with producer(bootstrap) as client, consumer(bootstrap) as reader:
        for _ in range(10):
            await client.send_and_wait(topic, b"x" * 1000, partition=0, timestamp_ms=old)

        async def expired() -> bool:
            return (await reader.beginning_offsets([partition]))[partition] == 10

        await until(expired, 60, 0.1)
        sent = await client.send_and_wait(topic, b"new", partition=0)
    assert sent.offset == 10


async def test_records_expire_by_size(bootstrap: str) -> None:
    limit = 2 << 20
    topic = await make_topic(bootstrap, 1, {"retention.bytes": str(limit), "segment.bytes": str(1 << 20)})
    partition, value = TopicPartition(topic, 0), b"x" * 100_000
    async with producer(bootstrap) as client, consumer(bootstrap) as reader:
        for _ in range(60):
            await client.send_and_wait(topic, value, partition=0)

        async def trimmed() -> bool:
            return (await reader.beginning_offsets([partition]))[partition] >= 20

        await until(trimmed, 60, 0.1)
    kept = len(await values(bootstrap, topic))
    assert limit <= kept * len(value) <= limit + (2 << 20)


async def test_compacted_topics_keep_the_latest_of_each_key(bootstrap: str) -> None:
    topic = await make_topic(bootstrap, 1, {"cleanup.policy": "compact"})
    async with producer(bootstrap) as client:
        for number in range(10):
            await client.send_and_wait(topic, b"%d" % number, key=b"k%d" % (number % 2), partition=0)
    assert (await values(bootstrap, topic))[-2:] == [b"8", b"9"]


async def test_topic_names_that_collide_in_metrics_are_refused(bootstrap: str) -> None:
    name = fresh("a.b")
    await make_topic(bootstrap, name=name)
    async with admin(bootstrap) as client:
        answer = await client.create_topics([NewTopic(name.replace(".", "_"), 1, 1)])
    assert answer.topic_errors[0][1] == 17
