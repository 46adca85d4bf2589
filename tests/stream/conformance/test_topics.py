"""Topics: creation, settings, growth, deletion, and the refusals."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamchar.broker.apis import ApiKey
from streamchar.broker.errors import ErrorCode
from streamchar.broker.messages_admin import (
    ConfigEntry,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
    CreateTopicsRequest,
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopic,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    NewPartitionCount,
    TopicErrorsResponse,
)
from streamchar.broker.messages_admin import NewTopic as RawNewTopic
from streamchar.broker.messages_data import MetadataRequest, MetadataResponse
from tests.stream.conformance.clients import (
    admin,
    committed,
    consumer,
    fresh,
    make_topic,
    producer,
    read_all,
    until,
    values,
)
from tests.stream.conformance.raw import raw_client


async def test_created_topic_is_listed_and_described(bootstrap: str) -> None:
    topic = await make_topic(bootstrap, 6, {"max.message.bytes": "60000000"})
    async with admin(bootstrap) as client:
        assert topic in await client.list_topics()
        described = (await client.describe_topics([topic]))[0]
        assert sorted(p["partition"] for p in described["partitions"]) == list(range(6))
        answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    configs = {row[0]: row[1] for row in answers[0].resources[0][4]}
    assert configs["max.message.bytes"] == "60000000"
    assert configs["cleanup.policy"] == "delete"
    assert configs["message.timestamp.type"] == "CreateTime"


async def test_topic_is_created_on_first_use(bootstrap: str) -> None:
    topic = fresh("auto")
    async with producer(bootstrap) as client:
        await client.send_and_wait(topic, b"x")
        assert len(await client.partitions_for(topic)) >= 1


async def test_partitions_can_be_added(bootstrap: str) -> None:
    topic = await make_topic(bootstrap, 1)
    async with producer(bootstrap) as client:
        await client.send_and_wait(topic, b"kept", partition=0)
    async with admin(bootstrap) as client:
        await client.create_partitions({topic: NewPartitions(3)})

        async def grown() -> bool:
            return len((await client.describe_topics([topic]))[0]["partitions"]) == 3

        await until(grown)
    async with producer(bootstrap) as client:
        await client.send_and_wait(topic, b"new", partition=2)
    assert {r.partition: r.value for r in await read_all(bootstrap, topic, range(3))} == {
        0: b"kept",
        2: b"new",
    }


async def test_deleted_topic_comes_back_empty_and_without_offsets(bootstrap: str) -> None:
    topic, group = await make_topic(bootstrap, 2), fresh("group")
    partition = TopicPartition(topic, 0)
    async with producer(bootstrap) as client:
        await client.send_and_wait(topic, b"old", partition=0)
    async with consumer(bootstrap, group_id=group) as client:
        client.assign([partition])
        await client.commit({partition: 1})
    assert await committed(bootstrap, group, partition) == 1
    async with admin(bootstrap) as client:
        await client.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await client.list_topics()

        await until(gone)

        async def created() -> bool:
            answer = await client.create_topics([NewTopic(topic, 2, 1)])
            return answer.topic_errors[0][1] == 0

        await until(created)
    async with producer(bootstrap) as client:
        sent = await client.send_and_wait(topic, b"new", partition=0)
    assert sent.offset == 0
    assert await values(bootstrap, topic) == [b"new"]
    assert await committed(bootstrap, group, partition) is None


async def test_records_can_be_deleted_up_to_an_offset(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    partition = TopicPartition(topic, 0)
    async with producer(bootstrap) as client:
        for number in range(10):
            await client.send_and_wait(topic, b"%d" % number, partition=0)
    async with admin(bootstrap) as client:
        await client.delete_records({partition: RecordsToDelete(before_offset=6)})
    async with consumer(bootstrap) as client:
        assert (await client.beginning_offsets([partition]))[partition] == 6
    assert [r.offset for r in await read_all(bootstrap, topic)] == [6, 7, 8, 9]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"num_partitions": 0}, ErrorCode.INVALID_PARTITIONS),
        ({"num_partitions": -2}, ErrorCode.INVALID_PARTITIONS),
        ({"replication_factor": 3}, ErrorCode.INVALID_REPLICATION_FACTOR),
        ({"replication_factor": 0}, ErrorCode.INVALID_REPLICATION_FACTOR),
        ({"name": "no spaces"}, ErrorCode.INVALID_TOPIC_EXCEPTION),
        ({"name": ".."}, ErrorCode.INVALID_TOPIC_EXCEPTION),
        ({"name": "x" * 250}, ErrorCode.INVALID_TOPIC_EXCEPTION),
        ({"configs": [ConfigEntry("no.such.setting", "1")]}, ErrorCode.INVALID_CONFIG),
        ({"configs": [ConfigEntry("retention.ms", "soon")]}, ErrorCode.INVALID_CONFIG),
        ({"configs": [ConfigEntry("cleanup.policy", "recycle")]}, ErrorCode.INVALID_CONFIG),
    ],
)
async def test_bad_topics_are_refused(bootstrap: str, change: dict[str, object], error: ErrorCode) -> None:
    fields = {
        "name": fresh("bad"),
        "num_partitions": 1,
        "replication_factor": 1,
        "assignments": [],
        "configs": [],
    }
    topic = RawNewTopic(**(fields | change))  # type: ignore[arg-type]
    async with raw_client(bootstrap) as client:
        request = CreateTopicsRequest([topic], 5000, False)
        answer = await client.ask(ApiKey.CREATE_TOPICS, 3, request, TopicErrorsResponse)
    assert answer.topics[0].error_code == error


async def test_existing_and_unknown_topics_are_refused(bootstrap: str) -> None:
    topic, unknown = await make_topic(bootstrap, 2), fresh("unknown")
    new = RawNewTopic(topic, 1, 1, [], [])
    fewer = CreatePartitionsTopic(topic, NewPartitionCount(2, None))
    missing = CreatePartitionsTopic(unknown, NewPartitionCount(2, None))
    async with raw_client(bootstrap) as client:
        created = await client.ask(
            ApiKey.CREATE_TOPICS, 3, CreateTopicsRequest([new], 5000, False), TopicErrorsResponse
        )
        extended = await client.ask(
            ApiKey.CREATE_PARTITIONS,
            1,
            CreatePartitionsRequest([fewer, missing], 5000, False),
            TopicErrorsResponse,
        )
        deleted = await client.ask(
            ApiKey.DELETE_TOPICS, 3, DeleteTopicsRequest([unknown], 5000), DeleteTopicsResponse
        )
    assert created.topics[0].error_code == ErrorCode.TOPIC_ALREADY_EXISTS
    assert {t.name: t.error_code for t in extended.topics} == {
        topic: ErrorCode.INVALID_PARTITIONS,
        unknown: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert deleted.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


async def test_validation_alone_creates_nothing(bootstrap: str) -> None:
    topic = fresh("dry")
    async with raw_client(bootstrap) as client:
        request = CreateTopicsRequest([RawNewTopic(topic, 1, 1, [], [])], 5000, True)
        answer = await client.ask(ApiKey.CREATE_TOPICS, 3, request, TopicErrorsResponse)
    assert answer.topics[0].error_code == ErrorCode.NONE
    async with admin(bootstrap) as client:
        assert topic not in await client.list_topics()


async def test_records_beyond_the_end_cannot_be_deleted(bootstrap: str) -> None:
    topic, unknown = await make_topic(bootstrap), fresh("unknown")
    request = DeleteRecordsRequest(
        [
            DeleteRecordsTopic(topic, [DeleteRecordsPartition(0, 5)]),
            DeleteRecordsTopic(unknown, [DeleteRecordsPartition(0, 0)]),
        ],
        5000,
    )
    async with raw_client(bootstrap) as client:
        answer = await client.ask(ApiKey.DELETE_RECORDS, 1, request, DeleteRecordsResponse)
    errors = {t.name: t.partitions[0].error_code for t in answer.topics}
    assert errors == {topic: ErrorCode.OFFSET_OUT_OF_RANGE, unknown: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}


@pytest.mark.parametrize("version", range(6))
async def test_metadata_of_every_version(bootstrap: str, version: int) -> None:
    topic, unknown = await make_topic(bootstrap, 3), fresh("unknown")
    names = [topic, unknown] if version >= 4 else [topic]
    async with raw_client(bootstrap) as client:
        request = MetadataRequest(names, allow_auto_topic_creation=False)
        answer = await client.ask(ApiKey.METADATA, version, request, MetadataResponse)
    found = {t.name: t for t in answer.topics}
    assert len(found[topic].partitions) == 3
    assert {p.leader_id for p in found[topic].partitions} == {answer.brokers[0].node_id}
    if version >= 4:
        assert found[unknown].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
