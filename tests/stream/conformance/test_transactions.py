"""Transactions: visibility, fencing, offsets, timeouts, and the refusals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidTransactionTimeout, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from streamchar.broker.apis import ApiKey
from streamchar.broker.errors import ErrorCode
from streamchar.broker.messages_admin import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)
from streamchar.broker.messages_groups import (
    ErrorResponse,
    OffsetCommitPartition,
    OffsetCommitTopic,
    PartitionResultsResponse,
    TopicPartitions,
)
from tests.stream.conformance.clients import (
    admin,
    committed,
    consumer,
    doomed_producer,
    drain,
    fresh,
    listen,
    make_topic,
    producer,
    read_all,
    until,
    values,
)
from tests.stream.conformance.raw import RawClient, batch, raw_client


async def test_committed_records_are_visible(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with producer(bootstrap, transactional_id=fresh("tx")) as client:
        for turn in range(5):
            async with client.transaction():
                for i in range(10):
                    await client.send(topic, b"%d-%d" % (turn, i), partition=0)
    assert len(await values(bootstrap, topic)) == 50


async def test_open_transaction_hides_itself_and_what_follows(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with producer(bootstrap, transactional_id=fresh("tx")) as client, producer(bootstrap) as plain:
        await plain.send_and_wait(topic, b"before", partition=0)
        await client.begin_transaction()
        await client.send_and_wait(topic, b"open", partition=0)
        await plain.send_and_wait(topic, b"after", partition=0)
        async with consumer(bootstrap, isolation_level="read_committed") as reader:
            reader.assign([TopicPartition(topic, 0)])
            await reader.seek_to_beginning()
            assert [r.value for r in await listen(reader, 0.7)] == [b"before"]
            everything = await values(bootstrap, topic, isolation="read_uncommitted")
            assert everything == [b"before", b"open", b"after"]
            await client.commit_transaction()
            assert [r.value for r in await drain(reader, 2)] == [b"open", b"after"]


async def test_aborted_records_stay_hidden(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with producer(bootstrap, transactional_id=fresh("tx")) as client:
        await client.begin_transaction()
        await client.send_and_wait(topic, b"aborted", partition=0)
        await client.abort_transaction()
        async with client.transaction():
            await client.send(topic, b"kept", partition=0)
    assert await values(bootstrap, topic) == [b"kept"]
    assert await values(bootstrap, topic, isolation="read_uncommitted") == [b"aborted", b"kept"]


async def test_new_producer_aborts_what_the_dead_one_left_open(bootstrap: str) -> None:
    topic, name = await make_topic(bootstrap), fresh("tx")
    async with doomed_producer(bootstrap, transactional_id=name) as dead:
        await dead.begin_transaction()
        await dead.send_and_wait(topic, b"zombie", partition=0)
        async with producer(bootstrap, transactional_id=name) as client, client.transaction():
            await client.send(topic, b"new", partition=0)
        assert await values(bootstrap, topic) == [b"new"]


async def _send(zombie: AIOKafkaProducer, topic: str) -> None:
    await zombie.send_and_wait(topic, b"late", partition=0)


async def _offsets(zombie: AIOKafkaProducer, topic: str) -> None:
    await zombie.send_offsets_to_transaction({TopicPartition(topic, 0): 7}, fresh("group"))


async def _nothing(zombie: AIOKafkaProducer, topic: str) -> None:
    pass


@pytest.mark.parametrize("attempt", [_send, _offsets, _nothing])
async def test_zombie_is_fenced(
    bootstrap: str, attempt: Callable[[AIOKafkaProducer, str], Awaitable[None]]
) -> None:
    topic, name = await make_topic(bootstrap), fresh("tx")
    async with doomed_producer(bootstrap, transactional_id=name) as zombie:
        await zombie.begin_transaction()
        if attempt is _nothing:
            await zombie.send_and_wait(topic, b"early", partition=0)
        async with producer(bootstrap, transactional_id=name) as client:
            async with client.transaction():
                await client.send(topic, b"new", partition=0)

            async def act() -> None:
                await attempt(zombie, topic)
                await zombie.commit_transaction()

            with pytest.raises(ProducerFenced):
                await asyncio.wait_for(act(), 15)
    assert await values(bootstrap, topic) == [b"new"]


async def test_offsets_become_visible_with_the_commit_only(bootstrap: str) -> None:
    topic, source, group = await make_topic(bootstrap), await make_topic(bootstrap), fresh("group")
    partition = TopicPartition(source, 0)
    async with producer(bootstrap, transactional_id=fresh("tx")) as client:
        await client.begin_transaction()
        await client.send(topic, b"a", partition=0)
        await client.send_offsets_to_transaction({partition: OffsetAndMetadata(5, "bits:0110")}, group)
        assert await committed(bootstrap, group, partition) is None
        await client.commit_transaction()
        await until(lambda: _is_committed(bootstrap, group, partition, 5))
        async with admin(bootstrap) as reader:
            assert (await reader.list_consumer_group_offsets(group))[partition].metadata == "bits:0110"
        await client.begin_transaction()
        await client.send(topic, b"b", partition=0)
        await client.send_offsets_to_transaction({partition: OffsetAndMetadata(9, "")}, group)
        await client.abort_transaction()
        assert await committed(bootstrap, group, partition) == 5
        async with client.transaction():
            await client.send_offsets_to_transaction({partition: OffsetAndMetadata(11, "")}, group)
        await until(lambda: _is_committed(bootstrap, group, partition, 11))


async def _is_committed(bootstrap: str, group: str, partition: TopicPartition, offset: int) -> bool:
    return await committed(bootstrap, group, partition) == offset


async def test_overdue_transaction_is_aborted_and_its_producer_fenced(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with (
        doomed_producer(bootstrap, transactional_id=fresh("tx"), transaction_timeout_ms=1000) as slow,
        producer(bootstrap) as plain,
        consumer(bootstrap, isolation_level="read_committed") as reader,
    ):
        await slow.begin_transaction()
        await slow.send_and_wait(topic, b"slow", partition=0)
        await plain.send_and_wait(topic, b"other", partition=0)
        reader.assign([TopicPartition(topic, 0)])
        await reader.seek_to_beginning()
        begin = time.monotonic()
        assert [r.value for r in await drain(reader, 1, 30)] == [b"other"]
        assert time.monotonic() - begin > 0.3
        with pytest.raises((ProducerFenced, KafkaError)):
            await asyncio.wait_for(slow.commit_transaction(), 10)
    assert await values(bootstrap, topic) == [b"other"]


async def test_excessive_timeout_is_refused(bootstrap: str) -> None:
    with pytest.raises(InvalidTransactionTimeout):
        async with producer(bootstrap, transactional_id=fresh("tx"), transaction_timeout_ms=2_000_000):
            pass


async def test_overlapping_transactions_of_two_producers(bootstrap: str) -> None:
    topic, source, group = await make_topic(bootstrap), await make_topic(bootstrap, 2), fresh("group")
    partition = TopicPartition(source, 1)
    async with (
        producer(bootstrap, transactional_id=fresh("a")) as first,
        producer(bootstrap, transactional_id=fresh("b")) as second,
    ):
        await first.begin_transaction()
        await first.send_and_wait(topic, b"A", partition=0)
        await second.begin_transaction()
        await second.send_and_wait(topic, b"B", partition=0)
        await second.send_offsets_to_transaction({partition: 3}, group)
        await second.commit_transaction()
        await until(lambda: _is_committed(bootstrap, group, partition, 3))
        async with consumer(bootstrap, isolation_level="read_committed") as reader:
            reader.assign([TopicPartition(topic, 0)])
            await reader.seek_to_beginning()
            assert await listen(reader, 0.5) == []
            await first.commit_transaction()
            assert [r.value for r in await drain(reader, 2)] == [b"A", b"B"]


async def test_reader_progresses_under_constant_overlap(bootstrap: str) -> None:
    topic, sent, stop = await make_topic(bootstrap), 0, time.monotonic() + 3

    async def write(delay: float) -> None:
        nonlocal sent
        async with producer(bootstrap, transactional_id=fresh("tx"), linger_ms=0) as client:
            await asyncio.sleep(delay)
            while time.monotonic() < stop:
                async with client.transaction():
                    for _ in range(3):
                        await client.send_and_wait(topic, b"x", partition=0)
                        sent += 1
                        await asyncio.sleep(0.1)

    async with consumer(bootstrap, isolation_level="read_committed") as reader:
        reader.assign([TopicPartition(topic, 0)])
        await reader.seek_to_beginning()
        live, *_ = await asyncio.gather(listen(reader, 2.7), write(0), write(0.15))
    assert len(live) > sent / 2
    assert len(await values(bootstrap, topic)) == sent


async def test_markers_take_offsets_and_end_offsets_are_stable(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    partition = TopicPartition(topic, 0)
    async with (
        producer(bootstrap, transactional_id=fresh("tx")) as client,
        consumer(bootstrap, isolation_level="read_committed") as stable,
        consumer(bootstrap) as live,
    ):
        async with client.transaction():
            for _ in range(5):
                await client.send_and_wait(topic, b"x", partition=0)
        await until(lambda: _ends_at(stable, partition, 6))
        await client.begin_transaction()
        await client.send_and_wait(topic, b"y", partition=0)
        assert (await stable.end_offsets([partition]))[partition] == 6
        assert (await live.end_offsets([partition]))[partition] == 7
        await client.commit_transaction()
        await until(lambda: _ends_at(stable, partition, 8))
    assert [r.offset for r in await read_all(bootstrap, topic)] == [0, 1, 2, 3, 4, 6]


async def _ends_at(client: object, partition: TopicPartition, offset: int) -> bool:
    return bool((await client.end_offsets([partition]))[partition] == offset)  # type: ignore[attr-defined]


# the refusals, one request at a time


async def _add(
    client: RawClient, name: str, pid: int, epoch: int, topics: list[TopicPartitions]
) -> list[int]:
    request = AddPartitionsToTxnRequest(name, pid, epoch, topics)
    while True:
        answer = await client.ask(ApiKey.ADD_PARTITIONS_TO_TXN, 0, request, PartitionResultsResponse)
        errors = [p.error_code for t in answer.topics for p in t.partitions]
        if ErrorCode.CONCURRENT_TRANSACTIONS not in errors:
            return errors
        await asyncio.sleep(0.02)


async def _end(client: RawClient, name: str, pid: int, epoch: int, commit: bool) -> int:
    while True:
        request = EndTxnRequest(name, pid, epoch, commit)
        answer = await client.ask(ApiKey.END_TXN, 0, request, ErrorResponse)
        if answer.error_code != ErrorCode.CONCURRENT_TRANSACTIONS:
            return answer.error_code
        await asyncio.sleep(0.02)


async def test_coordinator_refusals(bootstrap: str) -> None:
    topic, name = await make_topic(bootstrap, 2), fresh("tx")
    here = [TopicPartitions(topic, [0])]
    async with raw_client(bootstrap) as client:
        owner = await client.init(name)
        pid, epoch = owner.producer_id, owner.producer_epoch
        assert (owner.error_code, epoch) == (0, 0)
        assert (await client.init("")).error_code == ErrorCode.INVALID_REQUEST
        assert (await client.init(name, 0)).error_code == ErrorCode.INVALID_TRANSACTION_TIMEOUT
        assert await _end(client, name, pid, epoch, True) == ErrorCode.INVALID_TXN_STATE
        assert await _end(client, fresh("nobody"), pid, epoch, True) == ErrorCode.INVALID_PRODUCER_ID_MAPPING
        assert await _add(client, name, pid + 5, epoch, here) == [ErrorCode.INVALID_PRODUCER_ID_MAPPING]
        assert await _add(client, name, pid, epoch + 1, here) == [ErrorCode.INVALID_PRODUCER_EPOCH]
        half = [TopicPartitions(topic, [0]), TopicPartitions(fresh("unknown"), [0])]
        assert sorted(await _add(client, name, pid, epoch, half)) == [
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode.OPERATION_NOT_ATTEMPTED,
        ]
        assert await _add(client, name, pid, epoch, here) == [ErrorCode.NONE]
        assert await _end(client, name, pid, epoch, True) == ErrorCode.NONE
        assert await _end(client, name, pid, epoch, True) == ErrorCode.NONE
        assert await _end(client, name, pid, epoch, False) == ErrorCode.INVALID_TXN_STATE
        again = await client.init(name)
        assert (again.producer_id, again.producer_epoch) == (pid, epoch + 1)
        assert await _end(client, name, pid, epoch, True) == ErrorCode.INVALID_PRODUCER_EPOCH


async def test_records_outside_of_a_transaction_are_refused(bootstrap: str) -> None:
    topic, name = await make_topic(bootstrap), fresh("tx")
    async with raw_client(bootstrap) as client:
        owner = await client.init(name)
        pid, epoch = owner.producer_id, owner.producer_epoch
        records = batch(producer_id=pid, epoch=epoch, sequence=0, transactional=True)
        outside = await client.produce(topic, records, transactional_id=name)
        nameless = await client.produce(topic, records)
        assert outside.error_code == ErrorCode.INVALID_TXN_STATE
        assert nameless.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        await _add(client, name, pid, epoch, [TopicPartitions(topic, [0])])
        assert (await client.produce(topic, records, transactional_id=name)).error_code == ErrorCode.NONE
        assert await _end(client, name, pid, epoch, False) == ErrorCode.NONE


async def test_init_with_an_open_transaction_bumps_the_epoch_twice(bootstrap: str) -> None:
    topic, name = await make_topic(bootstrap), fresh("tx")
    async with raw_client(bootstrap) as client:
        owner = await client.init(name)
        pid, epoch = owner.producer_id, owner.producer_epoch
        await _add(client, name, pid, epoch, [TopicPartitions(topic, [0])])
        records = batch(producer_id=pid, epoch=epoch, sequence=0, transactional=True)
        assert (await client.produce(topic, records, transactional_id=name)).error_code == ErrorCode.NONE
        successor = await client.init(name)
        assert (successor.producer_id, successor.producer_epoch) == (pid, epoch + 2)
        late = batch(producer_id=pid, epoch=epoch, sequence=1, transactional=True)
        refused = await client.produce(topic, late, transactional_id=name)
        assert refused.error_code == ErrorCode.INVALID_PRODUCER_EPOCH


async def test_offsets_of_a_group_that_was_not_added_are_refused(bootstrap: str) -> None:
    source, name, group = await make_topic(bootstrap), fresh("tx"), fresh("group")
    async with raw_client(bootstrap) as client:
        owner = await client.init(name)
        pid, epoch = owner.producer_id, owner.producer_epoch
        good = OffsetCommitTopic(source, [OffsetCommitPartition(0, 3, "")])
        missing = OffsetCommitTopic(fresh("unknown"), [OffsetCommitPartition(0, 3, "")])

        async def commit(producer_epoch: int) -> list[int]:
            request = TxnOffsetCommitRequest(name, group, pid, producer_epoch, [good, missing])
            answer = await client.ask(ApiKey.TXN_OFFSET_COMMIT, 0, request, PartitionResultsResponse)
            return [
                p.error_code
                for topic in (source, missing.name)
                for t in answer.topics
                if t.name == topic
                for p in t.partitions
            ]

        assert (await commit(epoch))[0] == ErrorCode.INVALID_TXN_STATE
        request = AddOffsetsToTxnRequest(name, pid, epoch, group)
        assert (await client.ask(ApiKey.ADD_OFFSETS_TO_TXN, 0, request, ErrorResponse)).error_code == 0
        assert (await commit(epoch + 1))[0] == ErrorCode.INVALID_PRODUCER_EPOCH
        assert await commit(epoch) == [ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION]
        assert await _end(client, name, pid, epoch, True) == ErrorCode.NONE
    await until(lambda: _is_committed(bootstrap, group, TopicPartition(source, 0), 3))


async def test_transaction_latency(bootstrap: str) -> None:
    topic, source, group = await make_topic(bootstrap), await make_topic(bootstrap), fresh("group")
    delays = []
    async with producer(bootstrap, transactional_id=fresh("tx")) as client:
        for i in range(20):
            begin = time.monotonic()
            async with client.transaction():
                await client.send(topic, b"x", partition=0)
                await client.send_offsets_to_transaction({TopicPartition(source, 0): i + 1}, group)
            delays.append(time.monotonic() - begin)
    assert sorted(delays)[10] < 0.5
