"""What survives when the broker is killed; only for a broker we may kill."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from tests.stream.brokers import Broker, BrokerProcess
from tests.stream.conformance.clients import (
    admin,
    committed,
    consumer,
    doomed_producer,
    drain,
    fresh,
    make_topic,
    producer,
    until,
    values,
)


async def test_kill_loses_nothing_and_running_clients_recover(mortal: Broker) -> None:
    bootstrap, group = mortal.bootstrap, fresh("group")
    topic = await make_topic(bootstrap, 2)
    partition = TopicPartition(topic, 0)
    sent = [b"%d" % i for i in range(10)]
    async with (
        producer(bootstrap, request_timeout_ms=20_000, retry_backoff_ms=100) as client,
        consumer(bootstrap, topic, group_id=group, session_timeout_ms=6000) as reader,
    ):
        for value in sent:
            await client.send_and_wait(topic, value, partition=0)
        assert len(await drain(reader, 10)) == 10
        await reader.commit({partition: 10})
        await asyncio.to_thread(mortal.restart)
        await asyncio.wait_for(client.send_and_wait(topic, b"after", partition=0), 20)
        assert [r.value for r in await drain(reader, 1)] == [b"after"]
    assert await values(bootstrap, topic) == [*sent, b"after"]

    async def is_kept() -> bool:  # the coordinator may still be reading its log
        return await committed(bootstrap, group, partition) == 10

    await until(is_kept)


async def test_topics_their_settings_and_deletions_survive(mortal: Broker) -> None:
    bootstrap = mortal.bootstrap
    kept = await make_topic(bootstrap, 3, {"max.message.bytes": "5000"})
    gone = await make_topic(bootstrap)
    async with producer(bootstrap) as client:
        for _ in range(5):
            await client.send_and_wait(kept, b"x", partition=1)
    async with admin(bootstrap) as client:
        await client.delete_topics([gone])
        await client.delete_records({TopicPartition(kept, 1): RecordsToDelete(before_offset=3)})
    await asyncio.sleep(0.5)  # Apache Kafka writes the new beginning down a little later
    await asyncio.to_thread(mortal.restart)
    async with admin(bootstrap) as client:
        topics = await client.list_topics()
        assert kept in topics
        assert gone not in topics
    async with consumer(bootstrap) as reader:
        partition = TopicPartition(kept, 1)
        assert (await reader.beginning_offsets([partition]))[partition] == 3
        assert (await reader.end_offsets([partition]))[partition] == 5


async def test_open_transaction_survives_and_can_be_committed(mortal: Broker) -> None:
    bootstrap, group = mortal.bootstrap, fresh("group")
    topic, source = await make_topic(bootstrap), await make_topic(bootstrap)
    partition = TopicPartition(source, 0)
    async with producer(bootstrap, transactional_id=fresh("tx"), request_timeout_ms=20_000) as client:
        await client.begin_transaction()
        await client.send_and_wait(topic, b"before", partition=0)
        await client.send_offsets_to_transaction({partition: 4}, group)
        await asyncio.to_thread(mortal.restart)
        assert await values(bootstrap, topic) == []
        await client.send_and_wait(topic, b"after", partition=0)
        await client.commit_transaction()
    assert await values(bootstrap, topic) == [b"before", b"after"]
    assert await committed(bootstrap, group, partition) == 4


async def test_dead_producer_is_fenced_after_a_restart(mortal: Broker) -> None:
    bootstrap, name = mortal.bootstrap, fresh("tx")
    topic = await make_topic(bootstrap)
    async with doomed_producer(bootstrap, transactional_id=name) as dead:
        await dead.begin_transaction()
        await dead.send_and_wait(topic, b"zombie", partition=0)
        await asyncio.to_thread(mortal.restart)
        async with producer(bootstrap, transactional_id=name) as client, client.transaction():
            await client.send(topic, b"new", partition=0)
        assert await values(bootstrap, topic) == [b"new"]


async def test_aborted_records_stay_hidden_after_a_restart(mortal: Broker) -> None:
    bootstrap = mortal.bootstrap
    topic = await make_topic(bootstrap, 1, {"segment.bytes": str(1 << 20)})
    async with producer(bootstrap, transactional_id=fresh("tx")) as client:
        for number in range(6):
            await client.begin_transaction()
            await client.send_and_wait(topic, b"%d" % number * 400_000, partition=0)
            await (client.commit_transaction() if number % 2 else client.abort_transaction())

    async def settled() -> bool:
        """A commit is acknowledged when it is decided, and carried out a moment later.

        An Apache broker without replicas that is killed in between may forget to carry it out: while it is fenced
        during its restart, its coordinator takes the partition for deleted and skips the marker.
        """
        return [value[:1] for value in await values(bootstrap, topic)] == [b"1", b"3", b"5"]

    await until(settled)
    await asyncio.to_thread(mortal.restart)
    assert [value[:1] for value in await values(bootstrap, topic)] == [b"1", b"3", b"5"]


async def test_termination_is_graceful(mortal_embedded: BrokerProcess) -> None:
    topic = await make_topic(mortal_embedded.bootstrap)
    async with producer(mortal_embedded.bootstrap) as client:
        await client.send_and_wait(topic, b"x", partition=0)
        assert await asyncio.to_thread(mortal_embedded.stop) == 0
    assert "stopping" in mortal_embedded.log
    assert "ERROR" not in mortal_embedded.log
    await asyncio.to_thread(mortal_embedded.start)
    assert await values(mortal_embedded.bootstrap, topic) == [b"x"]


async def test_two_brokers_never_share_a_directory(mortal_embedded: BrokerProcess) -> None:
    rival = BrokerProcess(mortal_embedded.data_dir)
    rival.log_path = mortal_embedded.log_path.with_name("rival.log")
    with pytest.raises(RuntimeError, match="is in use by another broker"):
        await asyncio.to_thread(rival.start)
    assert mortal_embedded.running


@pytest.mark.parametrize("fsync", ["always", "20"])
async def test_forced_writes(embedded: BrokerProcess, tmp_path: Path, fsync: str) -> None:
    with BrokerProcess(tmp_path / "data", [f"fsync={fsync}"]) as broker:
        topic, source, group = (
            await make_topic(broker.bootstrap, 2),
            await make_topic(broker.bootstrap),
            fresh("group"),
        )
        async with producer(broker.bootstrap, transactional_id=fresh("tx")) as client:
            for number in range(20):
                async with client.transaction():
                    await client.send(topic, b"%d" % number, partition=0)
                    await client.send_offsets_to_transaction({TopicPartition(source, 0): number}, group)
        broker.restart()
        assert len(await values(broker.bootstrap, topic)) == 20
        assert await committed(broker.bootstrap, group, TopicPartition(source, 0)) == 19
