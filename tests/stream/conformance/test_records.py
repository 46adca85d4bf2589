"""Producing and fetching: contents, sizes, order, waiting, and the refusals."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import defaultdict

import pytest
from aiokafka import TopicPartition

from streamchar.broker.apis import ApiKey
from streamchar.broker.batches import control_batch
from streamchar.broker.errors import ErrorCode
from streamchar.broker.messages_data import FetchRequest, FetchResponse
from tests.stream.brokers import BrokerProcess
from tests.stream.conformance.clients import (
    consumer,
    drain,
    fresh,
    listen,
    make_topic,
    producer,
    read_all,
    values,
)
from tests.stream.conformance.raw import batch, raw_client

MEGABYTE = 1 << 20


async def test_keys_headers_and_timestamps_arrive(bootstrap: str) -> None:
    topic, begin = await make_topic(bootstrap, 4), int(time.time() * 1000) - 60_000
    async with producer(bootstrap) as client:
        for i in range(40):
            headers = [("h", b"\x00\x01"), ("i", b"%d" % i)]
            await client.send(
                topic, b"v%d" % i, key=b"k%d" % (i % 5), headers=headers, timestamp_ms=begin + i
            )
        await client.flush()
    records = await read_all(bootstrap, topic, range(4))
    homes = defaultdict(set)
    assert len(records) == 40
    for record in records:
        number = int(record.value[1:])
        homes[record.key].add(record.partition)
        assert record.timestamp == begin + number
        assert dict(record.headers) == {"h": b"\x00\x01", "i": b"%d" % number}
    assert all(len(partitions) == 1 for partitions in homes.values())


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_batches_arrive(bootstrap: str, compression: str) -> None:
    topic = await make_topic(bootstrap)
    sent = [b"abc" * 1000 + b"%d" % i for i in range(50)]
    async with producer(bootstrap, compression_type=compression) as client:
        for value in sent:
            await client.send(topic, value, partition=0)
        await client.flush()
    assert await values(bootstrap, topic) == sent


@pytest.mark.parametrize("megabytes", [10, 50])
async def test_large_records_arrive(bootstrap: str, megabytes: int) -> None:
    topic = await make_topic(bootstrap, 1, {"max.message.bytes": str(70 * MEGABYTE)})
    value = os.urandom(MEGABYTE) * megabytes
    async with producer(bootstrap, max_request_size=80 * MEGABYTE, request_timeout_ms=40_000) as client:
        await client.send_and_wait(topic, value, partition=0)
    limits = {"fetch_max_bytes": 90 * MEGABYTE, "max_partition_fetch_bytes": 90 * MEGABYTE}
    assert await values(bootstrap, topic, **limits) == [value]


async def test_record_larger_than_the_fetch_limit_is_delivered(bootstrap: str) -> None:
    topic = await make_topic(bootstrap, 1, {"max.message.bytes": str(10 * MEGABYTE)})
    async with producer(bootstrap, max_request_size=10 * MEGABYTE) as client:
        for i in range(3):
            await client.send_and_wait(topic, bytes([i]) * (3 * MEGABYTE), partition=0)
    received = await values(bootstrap, topic, max_partition_fetch_bytes=MEGABYTE)
    assert [value[0] for value in received] == [0, 1, 2]


async def test_fetch_limits_return_whole_first_batch_and_no_more(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with raw_client(bootstrap) as client:
        for _ in range(3):
            await client.produce(topic, batch([b"x" * 1000]))
        one = await client.fetch(topic, 0, max_bytes=1)
        assert one.records is not None
        size = len(one.records)
        assert 1000 < size < 1200
        everything = await client.fetch(topic, 0)
        assert everything.records is not None
        assert len(everything.records) == 3 * size


async def test_seeking_into_a_batch(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    partition = TopicPartition(topic, 0)
    async with producer(bootstrap, linger_ms=100) as client:
        await asyncio.gather(*[await client.send(topic, b"%d" % i, partition=0) for i in range(30)])
    async with consumer(bootstrap) as client:
        client.assign([partition])
        client.seek(partition, 13)
        assert [r.offset for r in await drain(client, 17)] == list(range(13, 30))


async def test_pause_resume_and_seek(bootstrap: str) -> None:
    topic = await make_topic(bootstrap, 2)
    async with producer(bootstrap) as client:
        for i in range(20):
            await client.send(topic, b"%d" % i, partition=i % 2)
        await client.flush()
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    async with consumer(bootstrap) as client:
        client.assign([first, second])
        client.pause(first)
        assert {r.partition for r in await listen(client, 0.5)} == {1}
        client.resume(first)
        assert [r.partition for r in await drain(client, 10)] == [0] * 10
        client.seek(second, 7)
        assert [r.offset for r in await drain(client, 3)] == [7, 8, 9]


async def test_live_reader_misses_nothing_from_concurrent_producers(bootstrap: str) -> None:
    topic, writers, each = await make_topic(bootstrap), 8, 40
    partition = TopicPartition(topic, 0)
    generator = random.Random(1)
    sizes = [generator.choice([10, 1000, 300_000]) for _ in range(each)]

    async def write(number: int) -> None:
        async with producer(bootstrap, linger_ms=0, max_request_size=8 * MEGABYTE) as client:
            for size in sizes:
                await client.send_and_wait(topic, b"%d" % number + b"x" * size, partition=0)

    async with consumer(bootstrap) as reader:
        reader.assign([partition])
        await reader.seek_to_beginning()
        reading = asyncio.create_task(drain(reader, writers * each, 40))
        await asyncio.gather(*(write(number) for number in range(writers)))
        seen = [record.offset for record in await reading]
    assert seen == list(range(writers * each))


async def test_many_small_batches(bootstrap: str) -> None:
    topic, count = await make_topic(bootstrap), 1500
    async with producer(bootstrap, linger_ms=0) as client:
        for i in range(count):
            await client.send_and_wait(topic, b"%0200d" % i, partition=0)
    assert [int(value) for value in await values(bootstrap, topic)] == list(range(count))


async def test_waiting_reader_gets_a_record_at_once(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    partition, delays = TopicPartition(topic, 0), []
    async with (
        producer(bootstrap, linger_ms=0) as client,
        consumer(bootstrap, fetch_max_wait_ms=5000) as reader,
    ):
        reader.assign([partition])
        await reader.seek_to_end()
        await reader.position(partition)
        for _ in range(15):
            await asyncio.sleep(0.02)
            begin = time.monotonic()
            await client.send_and_wait(topic, b"x", partition=0)
            await asyncio.wait_for(reader.getone(), 5)
            delays.append(time.monotonic() - begin)
    assert sorted(delays)[7] < 0.25


async def test_fetch_waits_for_min_bytes_and_not_longer_than_asked(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with raw_client(bootstrap) as reader, raw_client(bootstrap) as writer:
        await reader.fetch(topic, 0)  # a cluster needs a moment to lead a new topic
        begin = time.monotonic()
        empty = await reader.fetch(topic, 0, max_wait_ms=400)
        waited = time.monotonic() - begin
        assert (empty.error_code, len(empty.records or b"")) == (0, 0)
        assert 0.35 < waited < 3
        pending = asyncio.create_task(reader.fetch(topic, 0, max_wait_ms=10_000, min_bytes=1500))
        await writer.produce(topic, batch([b"x" * 1000]))
        await asyncio.sleep(0.1)
        assert not pending.done()
        await writer.produce(topic, batch([b"x" * 1000]))
        full = await asyncio.wait_for(pending, 5)
        assert len(full.records or b"") > 2000


async def test_produce_refusals(bootstrap: str) -> None:
    topic = await make_topic(bootstrap, 1, {"max.message.bytes": "5000"})
    good = batch()
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    future = int(time.time() * 1000) + 7_200_000
    cases = {
        "unknown topic": (fresh("unknown"), good, -1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        "checksum": (topic, flipped, -1, ErrorCode.CORRUPT_MESSAGE),
        "too large": (topic, batch([b"x" * 6000]), -1, ErrorCode.MESSAGE_TOO_LARGE),
        "two batches": (topic, good + good, -1, ErrorCode.INVALID_RECORD),
        "nothing": (topic, b"", -1, ErrorCode.INVALID_RECORD),
        "marker": (topic, control_batch(1, 0, True, 0), -1, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        "future": (topic, batch(timestamp=future), -1, ErrorCode.INVALID_TIMESTAMP),
        "acks": (topic, good, 5, ErrorCode.INVALID_REQUIRED_ACKS),
    }
    async with raw_client(bootstrap) as client:
        answers = {
            name: (await client.produce(to, records, acks)).error_code
            for name, (to, records, acks, _) in cases.items()
        }
        kept = await client.produce(topic, good)
    assert answers == {name: error for name, (*_, error) in cases.items()}
    assert (kept.error_code, kept.base_offset) == (0, 0)


async def test_unacknowledged_records_are_kept(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with producer(bootstrap, acks=0) as client:
        await client.send_and_wait(topic, b"quiet", partition=0)
        await client.send_and_wait(topic, b"quieter", partition=0)
    async with producer(bootstrap) as client:
        while (await client.send_and_wait(topic, b"heard", partition=0)).offset < 2:
            await asyncio.sleep(0.01)
    assert b"quiet" in await values(bootstrap, topic)


async def test_fetch_refusals(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with raw_client(bootstrap) as client:
        await client.produce(topic, batch())
        assert (await client.fetch(topic, 2)).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
        assert (await client.fetch(topic, 1)).error_code == ErrorCode.NONE
        assert (await client.fetch(fresh("unknown"), 0)).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert (await client.fetch(topic, 0, index=7)).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        stale = FetchRequest(-1, 0, 1, 1000, 0, 123_456, 3, [], [], "")
        answer = await client.ask(ApiKey.FETCH, 11, stale, FetchResponse)
        assert answer.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


async def test_idle_reader_costs_nothing(embedded: BrokerProcess) -> None:
    topic = await make_topic(embedded.bootstrap, 4)
    async with consumer(embedded.bootstrap, topic, group_id=fresh("group"), fetch_max_wait_ms=500) as client:
        await listen(client, 1)
        before, begin = sum(embedded.process.cpu_times()[:2]), time.monotonic()
        await listen(client, 3)
        used = sum(embedded.process.cpu_times()[:2]) - before
    assert used / (time.monotonic() - begin) < 0.05


async def test_memory_does_not_grow_with_the_data(embedded: BrokerProcess) -> None:
    bootstrap, count = embedded.bootstrap, 300
    topic = await make_topic(bootstrap, 4, {"max.message.bytes": str(8 * MEGABYTE)})
    value = os.urandom(MEGABYTE)
    async with producer(bootstrap, max_request_size=8 * MEGABYTE, max_batch_size=4 * MEGABYTE) as client:
        await client.send_and_wait(topic, value, partition=0)
        before = embedded.process.memory_info().rss
        pending = [await client.send(topic, value, partition=i % 4) for i in range(count)]
        await asyncio.gather(*pending)
    read = await read_all(bootstrap, topic, range(4), fetch_max_bytes=50 * MEGABYTE)
    assert len(read) == count + 1
    grown = embedded.process.memory_info().rss - before
    assert grown < 60 * MEGABYTE, f"{grown / MEGABYTE:.0f} MiB for {count} MiB of records"
