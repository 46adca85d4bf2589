"""Idempotent producers: order, repeats, gaps, epochs."""

from __future__ import annotations

import asyncio

from streamchar.broker.errors import ErrorCode
from tests.stream.conformance.clients import make_topic, producer, read_all, values
from tests.stream.conformance.raw import RawClient, batch, raw_client


async def test_everything_arrives_once_and_in_order(bootstrap: str) -> None:
    topic = await make_topic(bootstrap, 2)
    async with producer(bootstrap, enable_idempotence=True) as client:
        await asyncio.gather(*[await client.send(topic, b"%d" % i, partition=i % 2) for i in range(2000)])
    records = await read_all(bootstrap, topic, range(2))
    for index in range(2):
        assert [int(r.value) for r in records if r.partition == index] == list(range(index, 2000, 2))


async def _produce(
    client: RawClient, topic: str, pid: int, sequence: int, count: int = 1, epoch: int = 0
) -> tuple[int, int]:
    records = batch(
        [b"%d" % (sequence + i) for i in range(count)], producer_id=pid, epoch=epoch, sequence=sequence
    )
    answer = await client.produce(topic, records)
    return answer.error_code, answer.base_offset


async def test_repeated_batches_get_the_offset_they_had(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with raw_client(bootstrap) as client:
        pid = (await client.init(None)).producer_id
        for number in range(6):
            assert await _produce(client, topic, pid, 2 * number, 2) == (0, 2 * number)
        for number in range(1, 6):
            assert await _produce(client, topic, pid, 2 * number, 2) == (0, 2 * number)
        forgotten, _ = await _produce(client, topic, pid, 0, 2)
        assert forgotten == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert len(await values(bootstrap, topic)) == 12


async def test_gaps_are_refused(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with raw_client(bootstrap) as client:
        pid = (await client.init(None)).producer_id
        assert await _produce(client, topic, pid, 0) == (0, 0)
        assert (await _produce(client, topic, pid, 2))[0] == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert await _produce(client, topic, pid, 1) == (0, 1)


async def test_old_epochs_are_refused_and_new_ones_begin_at_zero(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with raw_client(bootstrap) as client:
        pid = (await client.init(None)).producer_id
        assert await _produce(client, topic, pid, 0, epoch=1) == (0, 0)
        assert (await _produce(client, topic, pid, 1, epoch=0))[0] == ErrorCode.INVALID_PRODUCER_EPOCH
        assert (await _produce(client, topic, pid, 5, epoch=2))[0] == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert await _produce(client, topic, pid, 0, epoch=2) == (0, 1)


async def test_unknown_producer_may_begin_anywhere(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with raw_client(bootstrap) as client:
        pid = (await client.init(None)).producer_id
        assert await _produce(client, topic, pid, 7) == (0, 0)


async def test_producer_ids_differ(bootstrap: str) -> None:
    async with raw_client(bootstrap) as client:
        ids = [(await client.init(None)).producer_id for _ in range(5)]
    assert len(set(ids)) == 5
