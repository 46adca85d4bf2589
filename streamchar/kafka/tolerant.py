"""Reading on where the client cannot: a record with a header name that is no UTF-8 must not stop a partition.

The client raises ``UnicodeDecodeError`` from a poll that meets such a record, drops what it read before it, and
would do so again after every restart. The poll is then done here instead, with a parser that escapes such names.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IllegalStateError, KafkaError, LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest

from streamchar.kafka.raw_records import RawRecord, read_committed

_READ_COMMITTED = 1
_PARTITION_BYTES = 256 << 10
_RESPONSE_BYTES = 8 << 20
_WAIT_MS = 50
_PAUSE_SECONDS = 0.2

Fetched = dict[TopicPartition, tuple[list[RawRecord], int]]


def rewind(consumer: AIOKafkaConsumer, following: Mapping[TopicPartition, int]) -> None:
    """Take a consumer to the next offset wanted of each of its partitions, back before what a failed poll dropped."""
    for partition, offset in following.items():
        consumer.seek(partition, offset)


async def poll(
    consumer: AIOKafkaConsumer,
    connection: Callable[[], Mapping[str, Any]],
    *partitions: TopicPartition,
    wait: float,
    max_records: int | None = None,
) -> Mapping[TopicPartition, list[RawRecord]]:
    """Poll a consumer, also past records that it cannot read.

    Parameters
    ----------
    consumer
        Reads committed records only.
    connection
        Returns the client's arguments that say how to reach the brokers; called only where the client cannot read, since
        it may read certificates and passwords.
    *partitions
        Which of its partitions; all when there are none.
    wait
        Seconds to wait for positions that are not known yet, and for records.
    max_records
        At most so many; about 256 KiB of each partition where the client cannot read.

    Returns
    -------
    dict
        Records of each partition; none while partitions are taken away or their positions not known.

    Raises
    ------
    aiokafka.errors.KafkaError
        The brokers refuse or do not answer.
    """
    try:
        async with asyncio.timeout(wait):
            before = {
                partition: await consumer.position(partition)
                for partition in partitions or consumer.assignment()
            }
    except (TimeoutError, IllegalStateError):
        return {}
    try:
        found: Mapping[TopicPartition, list[RawRecord]] = await consumer.getmany(
            *partitions, timeout_ms=round(1000 * wait), max_records=max_records
        )
    except UnicodeDecodeError:
        return await _poll_in_its_place(consumer, connection(), before)
    return found


async def _poll_in_its_place(
    consumer: AIOKafkaConsumer, connection: Mapping[str, Any], before: Mapping[TopicPartition, int]
) -> Mapping[TopicPartition, list[RawRecord]]:
    """Poll from where the client's failed poll began."""
    try:
        rewind(consumer, before)
        fetched = await fetch_leniently(connection, before)
        rewind(consumer, {partition: following for partition, (_, following) in fetched.items()})
    except IllegalStateError:
        return {}  # a partition was taken away meanwhile: who has it now begins where it was committed
    except KafkaError as error:
        if not error.retriable:
            raise
        await asyncio.sleep(_PAUSE_SECONDS)
        return {}
    return {partition: records for partition, (records, _) in fetched.items()}


async def fetch_leniently(connection: Mapping[str, Any], wanted: Mapping[TopicPartition, int]) -> Fetched:
    """Read once from each partition, of committed records only.

    Parameters
    ----------
    connection
        The client's arguments that say how to reach the brokers.
    wanted
        First offset of each partition.

    Returns
    -------
    dict
        For each partition the records, at most about 256 KiB of them, and the offset after the last.

    Raises
    ------
    aiokafka.errors.KafkaError
        The brokers refuse or do not answer.
    """
    client = AIOKafkaClient(**connection)
    try:
        await client.bootstrap()
        await client.set_topics({partition.topic for partition in wanted})
        by_leader: dict[int, dict[TopicPartition, int]] = defaultdict(dict)
        for partition, offset in wanted.items():
            leader = client.cluster.leader_for_partition(partition)
            if leader is None or leader < 0:
                raise LeaderNotAvailableError(str(partition))
            by_leader[leader][partition] = offset
        fetched: Fetched = {}
        for leader, offsets in by_leader.items():
            fetched.update(await _fetch_from(client, leader, offsets))
        return fetched
    finally:
        await client.close()


async def _fetch_from(client: AIOKafkaClient, leader: int, offsets: Mapping[TopicPartition, int]) -> Fetched:
    topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for partition, offset in offsets.items():
        topics[partition.topic].append((partition.partition, offset, _PARTITION_BYTES))
    request = FetchRequest(_WAIT_MS, 1, _RESPONSE_BYTES, _READ_COMMITTED, list(topics.items()))
    response = await client.send(leader, request)
    fetched: Fetched = {}
    for topic, answers in response.topics:
        for number, code, _, *rest in answers:
            if code:
                raise for_code(code)(f"{topic}[{number}]")
            partition = TopicPartition(topic, number)
            # The layout grows with the version; the aborted transactions are the only list in it.
            aborted = next((part for part in rest if isinstance(part, list)), [])
            fetched[partition] = read_committed(
                topic, number, bytes(rest[-1] or b""), aborted, offsets[partition]
            )
    return fetched
