"""Offsets: ends, times, commits, metadata, and the refusals."""

from __future__ import annotations

import asyncio
import time

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streamchar.broker.apis import ApiKey
from streamchar.broker.errors import ErrorCode
from streamchar.broker.messages_data import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from streamchar.broker.messages_groups import (
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
    OffsetFetchRequest,
    OffsetFetchResponse,
    PartitionResultsResponse,
    TopicPartitions,
)
from tests.stream.conformance.clients import admin, consumer, drain, fresh, make_topic, producer
from tests.stream.conformance.raw import batch, raw_client


async def test_ends_and_times_inside_batches(bootstrap: str) -> None:
    topic, begin = await make_topic(bootstrap), int(time.time()) * 1000 - 3_600_000
    partition = TopicPartition(topic, 0)
    async with producer(bootstrap, linger_ms=50) as client:
        times = [begin + i * 1000 for i in range(100)]
        await asyncio.gather(
            *[await client.send(topic, b"x", partition=0, timestamp_ms=moment) for moment in times]
        )
    async with consumer(bootstrap) as client:
        assert (await client.end_offsets([partition]))[partition] == 100
        assert (await client.beginning_offsets([partition]))[partition] == 0
        for moment, expected in ((0, 0), (49_001, 50), (50_000, 50), (99_000, 99)):
            found = (await client.offsets_for_times({partition: begin + moment}))[partition]
            assert (found.offset, found.timestamp) == (expected, begin + expected * 1000)
        assert (await client.offsets_for_times({partition: begin + 99_001}))[partition] is None


async def test_time_lookup_in_a_compressed_batch(bootstrap: str) -> None:
    topic, begin = await make_topic(bootstrap), int(time.time()) * 1000 - 3_600_000
    partition = TopicPartition(topic, 0)
    async with producer(bootstrap, linger_ms=50, compression_type="zstd") as client:
        times = [begin + i for i in range(100)]
        await asyncio.gather(
            *[await client.send(topic, b"x", partition=0, timestamp_ms=moment) for moment in times]
        )
    async with consumer(bootstrap) as client:
        assert (await client.offsets_for_times({partition: begin + 42}))[partition].offset == 42


async def test_latest_begins_at_the_end(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    partition = TopicPartition(topic, 0)
    async with (
        producer(bootstrap, linger_ms=30) as client,
        consumer(bootstrap, auto_offset_reset="latest") as reader,
    ):
        await asyncio.gather(*[await client.send(topic, b"old", partition=0) for _ in range(10)])
        reader.assign([partition])
        assert await reader.position(partition) == 10
        await client.send_and_wait(topic, b"new", partition=0)
        assert [r.value for r in await drain(reader, 1)] == [b"new"]
        assert reader.highwater(partition) == 11


async def test_commits_survive_the_consumer(bootstrap: str) -> None:
    topic, group = await make_topic(bootstrap, 2), fresh("group")
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    async with producer(bootstrap) as client:
        for i in range(40):
            await client.send(topic, b"%d" % i, partition=i % 2)
        await client.flush()
    async with consumer(bootstrap, topic, group_id=group) as client:
        assert len(await drain(client, 40)) == 40
        await client.commit({first: OffsetAndMetadata(10, "bits:0110"), second: 15})
    async with admin(bootstrap) as client:
        kept = await client.list_consumer_group_offsets(group)
    assert kept == {first: OffsetAndMetadata(10, "bits:0110"), second: OffsetAndMetadata(15, "")}
    async with consumer(bootstrap, topic, group_id=group) as client:
        records = await drain(client, 15)
    assert sorted((r.partition, r.offset) for r in records) == [(0, i) for i in range(10, 20)] + [
        (1, i) for i in range(15, 20)
    ]


async def test_commit_refusals(bootstrap: str) -> None:
    topic, group = await make_topic(bootstrap), fresh("group")
    good = OffsetCommitPartition(0, 3, "")
    lengthy = OffsetCommitPartition(0, 3, "x" * 4097)

    async with raw_client(bootstrap) as client:

        async def commit(
            name: str, partition: OffsetCommitPartition, generation: int = -1, member: str = ""
        ) -> int:
            topics = [OffsetCommitTopic(name, [partition])]
            request = OffsetCommitRequest(group, generation, member, -1, topics)
            while True:
                answer = await client.ask(ApiKey.OFFSET_COMMIT, 3, request, PartitionResultsResponse)
                error = answer.topics[0].partitions[0].error_code
                if error not in (14, 15, 16):
                    return error
                await asyncio.sleep(0.05)

        assert await commit(topic, good, 3, "someone") == ErrorCode.ILLEGAL_GENERATION
        assert await commit(topic, good) == ErrorCode.NONE
        assert await commit(fresh("unknown"), good) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert await commit(topic, OffsetCommitPartition(9, 3, "")) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert await commit(topic, lengthy) == ErrorCode.OFFSET_METADATA_TOO_LARGE
        assert await commit(topic, good, 3, "someone") == ErrorCode.UNKNOWN_MEMBER_ID
        request = OffsetFetchRequest(group, [TopicPartitions(topic, [0, 5])])
        answer = await client.ask(ApiKey.OFFSET_FETCH, 3, request, OffsetFetchResponse)
        assert [(p.index, p.offset, p.error_code) for p in answer.topics[0].partitions] == [
            (0, 3, 0),
            (5, -1, 0),
        ]


async def test_list_offsets_refusals(bootstrap: str) -> None:
    topic, unknown = await make_topic(bootstrap), fresh("unknown")
    async with raw_client(bootstrap) as client:
        await client.produce(topic, batch())
        topics = [ListOffsetsTopic(name, [ListOffsetsPartition(0, -1)]) for name in (topic, unknown)]
        answer = await client.ask(
            ApiKey.LIST_OFFSETS, 3, ListOffsetsRequest(-1, 0, topics), ListOffsetsResponse
        )
    found = {t.name: t.partitions[0] for t in answer.topics}
    assert (found[topic].error_code, found[topic].offset) == (0, 1)
    assert found[unknown].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
