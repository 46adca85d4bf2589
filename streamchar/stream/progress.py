"""How far the group is: what each input partition holds, and what of it is not finished."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from streamchar.frozen import frozen
from streamchar.stream.contact import cause_of
from streamchar.stream.ledger import OffsetLedger
from streamchar.stream.reading import partitions_of
from streamchar.stream.settings import ServiceSettings

_RETRY_SECONDS = 0.2


@frozen
class PartitionProgress:
    """How far the group is in one input partition.

    Attributes
    ----------
    topic, partition
        Which.
    committed
        First offset that is not finished; None when the group has never committed there.
    end
        Offset of the next record to be written.
    finished_above
        Offsets above ``committed`` that are finished out of order.
    lag
        Offsets that are not finished. In the retry topic a few of them are markers of transactions, not events.
    """

    topic: str
    partition: int
    committed: int | None
    end: int
    finished_above: int
    lag: int


async def read_ledgers(settings: ServiceSettings) -> dict[TopicPartition, OffsetLedger]:
    """Read how far the group is in every input partition where it has committed.

    Raises
    ------
    BrokerUnreachableError
        No broker answers in time.
    """
    kafka = settings.kafka
    admin = AIOKafkaAdminClient(**kafka.connection())
    try:
        async with asyncio.timeout(kafka.start_timeout):
            await admin.start()
            committed = await _read_offsets(admin, kafka.group)
    except (TimeoutError, KafkaError) as error:
        raise await cause_of(error, kafka) from error
    finally:
        await admin.close()
    return {
        partition: OffsetLedger.restore(found.offset, found.metadata)
        for partition, found in committed.items()
        if partition.topic in settings.topics.inputs() and found.offset >= 0
    }


async def _read_offsets(admin: AIOKafkaAdminClient, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """Read a group's offsets, again and again while its coordinator is not there: a fresh cluster makes it first."""
    while True:
        try:
            found: Mapping[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(group)
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return found


async def read_progress(settings: ServiceSettings) -> list[PartitionProgress]:
    """Compare what the input partitions hold with what the group has committed.

    Raises
    ------
    BrokerUnreachableError
        No broker answers in time.
    TopicsMissingError
        An input topic does not exist.
    """
    kafka = settings.kafka
    ledgers = await read_ledgers(settings)
    consumer = AIOKafkaConsumer(**kafka.connection())
    try:
        async with asyncio.timeout(kafka.start_timeout):
            await consumer.start()
            partitions = await partitions_of(kafka, settings.topics.inputs())
            consumer.assign(partitions)
            first = await consumer.beginning_offsets(partitions)
            end = await consumer.end_offsets(partitions)
    except (TimeoutError, KafkaError) as error:
        raise await cause_of(error, kafka) from error
    finally:
        await consumer.stop()
    return [
        _compare(partition, ledgers.get(partition), first[partition], end[partition])
        for partition in partitions
    ]


def _compare(
    partition: TopicPartition, ledger: OffsetLedger | None, first: int, end: int
) -> PartitionProgress:
    base = first if ledger is None else max(first, ledger.base)
    above = ledger.finished_above if ledger is not None else 0
    return PartitionProgress(
        partition.topic,
        partition.partition,
        None if ledger is None else ledger.base,
        end,
        above,
        max(0, end - base - above),
    )
