"""How far the group is: what each input partition holds, and what of it is not finished."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamchar.frozen import frozen
from streamchar.kafka.committed import committed_offsets
from streamchar.stream.contact import cause_of
from streamchar.stream.ledger import OffsetLedger
from streamchar.stream.reading import partitions_of
from streamchar.stream.settings import ServiceSettings


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
    try:
        async with asyncio.timeout(kafka.start_timeout):
            committed = await committed_offsets(kafka.connection, kafka.group, wait=False)
    except (TimeoutError, KafkaError) as error:
        raise await cause_of(error, kafka) from error
    return {
        partition: OffsetLedger.restore(found.offset, found.metadata)
        for partition, found in committed.items()
        if partition.topic in settings.topics.inputs()
    }


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
