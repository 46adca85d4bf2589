"""Reading topics from beginning to end, as they are at the start of the reading: committed records only, no group.

The end is that of all records: those of a transaction that is open at the start are waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streamchar.kafka.partitions import find_partitions
from streamchar.kafka.raw_records import RawRecord
from streamchar.kafka.tolerant import poll
from streamchar.stream.contact import cause_of
from streamchar.stream.errors import ReadStalledError, TopicsMissingError
from streamchar.stream.settings import KafkaSettings

_POLL_SECONDS = 0.2
_POLL_RECORDS = 1_000
PATIENCE = 45.0
"""Seconds without anything new: more than an abandoned transaction may stay open."""

Progress = Callable[[int, int], None]
"""Takes how much is done, and how much there is to do."""


async def read_all(
    kafka: KafkaSettings,
    topics: Collection[str],
    *,
    begin: Mapping[TopicPartition, int] | None = None,
    patience: float = PATIENCE,
    wait: bool = True,
    progress: Progress | None = None,
) -> AsyncGenerator[RawRecord, None]:
    """Yield every committed record of the topics, up to what there was at the beginning.

    Records of one partition come in order; partitions come in any.

    Parameters
    ----------
    kafka
        How to reach the brokers.
    topics
        Names of existing topics.
    begin
        First offset by partition where it is not the oldest record.
    patience
        Seconds to wait for records that an open transaction hides.
    wait
        Whether to wait for them at all.
    progress
        Is told again and again how many records have been read, and how many there are.

    Raises
    ------
    BrokerUnreachableError
        No broker answers.
    TopicsMissingError
        A topic does not exist.
    ReadStalledError
        Records stayed hidden.
    """
    all_records = AIOKafkaConsumer(isolation_level="read_uncommitted", **kafka.connection())
    consumer = AIOKafkaConsumer(
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
        **kafka.connection(),
    )
    try:
        following, end = await _open(consumer, all_records if wait else consumer, kafka, topics, begin or {})
        async for record in _read(consumer, kafka, following, end, patience, progress or _tell_nobody):
            yield record
    finally:
        await asyncio.gather(consumer.stop(), all_records.stop())


async def partitions_of(kafka: KafkaSettings, topics: Collection[str]) -> list[TopicPartition]:
    """Return all partitions of the topics, in order.

    Raises
    ------
    TopicsMissingError
        A topic does not exist.
    """
    admin = AIOKafkaAdminClient(**kafka.connection())
    try:
        await admin.start()
        found = await find_partitions(admin, topics)
    finally:
        await admin.close()
    if missing := sorted(set(topics) - set(found)):
        raise TopicsMissingError(topics=", ".join(missing))
    return sorted(chain.from_iterable(found.values()))


async def _open(
    consumer: AIOKafkaConsumer,
    counter: AIOKafkaConsumer,
    kafka: KafkaSettings,
    topics: Collection[str],
    begin: Mapping[TopicPartition, int],
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Assign all partitions; return where to begin and, as the ``counter`` sees it, to end with each."""
    try:
        async with asyncio.timeout(kafka.start_timeout):
            await consumer.start()
            if counter is not consumer:
                await counter.start()
            partitions = await partitions_of(kafka, topics)
            consumer.assign(partitions)
            first: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
            end: dict[TopicPartition, int] = await counter.end_offsets(partitions)
    except (TimeoutError, KafkaError) as error:
        raise await cause_of(error, kafka) from error
    following = {
        partition: min(max(begin.get(partition, 0), first[partition]), end[partition])
        for partition in partitions
    }
    for partition, offset in following.items():
        consumer.seek(partition, offset)
    return following, end


async def _read(
    consumer: AIOKafkaConsumer,
    kafka: KafkaSettings,
    following: dict[TopicPartition, int],
    end: Mapping[TopicPartition, int],
    patience: float,
    progress: Progress,
) -> AsyncGenerator[RawRecord, None]:
    loop = asyncio.get_running_loop()
    last = loop.time()
    wanted = sum(end.values()) - sum(following.values())
    while open_ := [partition for partition in following if following[partition] < end[partition]]:
        before = dict(following)
        batches: Mapping[TopicPartition, list[Any]]
        try:
            batches = await poll(
                consumer, kafka.connection, *open_, wait=_POLL_SECONDS, max_records=_POLL_RECORDS
            )
            for partition in open_:  # past markers of transactions, which are no records
                following[partition] = await consumer.position(partition)
        except KafkaError as error:
            if not error.retriable:
                raise await cause_of(error, kafka) from error
            await asyncio.sleep(_POLL_SECONDS)
            batches = {}
        for partition, records in batches.items():
            for record in records:
                if record.offset < end[partition]:
                    yield record
        progress(wanted - sum(end[place] - offset for place, offset in following.items()), wanted)
        if following != before:
            last = loop.time()
        elif loop.time() - last > patience:
            places = (
                f"{place.topic}[{place.partition}] from offset {following[place]} on" for place in open_
            )
            raise ReadStalledError(partitions=", ".join(places), seconds=patience)


def _tell_nobody(done: int, wanted: int) -> None:
    """Take what nobody asked for."""
