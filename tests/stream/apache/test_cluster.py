"""Three brokers of Apache Kafka, killed one after the other under a running service."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streamchar.broker.apis import ApiKey
from streamchar.broker.messages_groups import OffsetFetchRequest, OffsetFetchResponse, TopicPartitions
from streamchar.kafka.committed import committed_offsets
from streamchar.stream.service import Service
from streamchar.stream.topics import ensure_topics
from tests.stream.apache.kafka import ApacheCluster
from tests.stream.conformance.clients import consumer, fresh, producer, values
from tests.stream.conformance.raw import raw_client
from tests.stream.services import HERE, Night, assert_once, outcomes, running, stub_event


async def test_what_was_acknowledged_survives_any_one_broker(apache_cluster: ApacheCluster) -> None:
    bootstrap, topic = apache_cluster.bootstrap, fresh("replicated")
    sent: list[bytes] = []
    async with producer(bootstrap, acks="all", enable_idempotence=True, retry_backoff_ms=100) as client:
        for index in range(len(apache_cluster.brokers)):
            await asyncio.to_thread(apache_cluster.kill, index)
            for number in range(20):
                sent.append(b"%d/%d" % (index, number))
                await asyncio.wait_for(client.send_and_wait(topic, sent[-1], partition=0), 20)
            await asyncio.to_thread(apache_cluster.restart, index)
            await apache_cluster.settled()
    assert await values(bootstrap, topic) == sent


@pytest.mark.parametrize("mode", ["exactly_once", pytest.param("at_least_once", marks=pytest.mark.chaos)])
async def test_brokers_killed_in_turn_lose_and_repeat_nothing(
    apache_cluster: ApacheCluster, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    night = Night(apache_cluster.bootstrap, fresh("night"))
    settings = night.settings("topics.replication=3", f"delivery.mode={mode}", "kafka.request_timeout=5")
    await ensure_topics(settings)
    await apache_cluster.settled()
    await night.announce(stub_event(number, sleep=0.1) for number in range(200))
    async with running(Service(settings)):
        await night.wait_for_statuses(1)
        victims = list(range(len(apache_cluster.brokers)))
        random.Random(7).shuffle(victims)
        for victim in victims:
            await asyncio.to_thread(apache_cluster.kill, victim)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(apache_cluster.restart, victim)
            await apache_cluster.settled()
        statuses = await night.wait_for_different(200, 60)
        await asyncio.sleep(0.5)
        statuses = await night.statuses()
    assert outcomes(statuses)["succeeded"] == len(statuses)
    if mode == "exactly_once":
        assert_once(statuses, range(200))
        assert len(await night.read(night.topics.source_catalog)) == 200
    else:  # repeats are allowed and carry the same identifier
        assert {status.exposure for status in statuses} == set(range(200))
        assert len({status.message_id for status in statuses}) == 200


async def test_a_new_coordinator_tells_what_the_last_one_acknowledged(apache_cluster: ApacheCluster) -> None:
    """For some seconds after it has taken over it tells those who do not insist what was committed before.

    The other brokers name no partitions at all, which the client would take for "nothing was ever committed".
    """
    bootstrap, topic, group = apache_cluster.bootstrap, fresh("replicated"), fresh("group")
    partition, position = TopicPartition(topic, 0), OffsetAndMetadata(1, "bits:0110")
    async with producer(bootstrap, acks="all", enable_idempotence=True, retry_backoff_ms=100) as client:
        await client.send_and_wait(topic, b"one", partition=0)

    async def ask(address: str) -> OffsetFetchResponse:
        async with raw_client(address) as client:
            request = OffsetFetchRequest(group, [TopicPartitions(topic, [0])])
            return await client.ask(ApiKey.OFFSET_FETCH, 3, request, OffsetFetchResponse)

    async with consumer(bootstrap, group_id=group) as client:
        client.assign([partition])
        await client.commit({partition: 0})
        answers = [await ask(address) for address in bootstrap.split(",")]
        coordinator = next(index for index, answer in enumerate(answers) if answer.error_code == 0)
        await client.commit({partition: position})
        await asyncio.to_thread(apache_cluster.kill, coordinator)
    try:
        asked = [
            committed_offsets(lambda: {"bootstrap_servers": bootstrap}, group, which)
            for which in ([partition], None)
        ]
        assert await asyncio.gather(*asked) == [{partition: position}] * 2
    finally:
        await asyncio.to_thread(apache_cluster.restart, coordinator)
        await apache_cluster.settled()
    del answers[coordinator]
    assert [(answer.error_code, answer.topics) for answer in answers] == [(16, [])] * 2
