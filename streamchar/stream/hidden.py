"""Open transactions: from the first record of the oldest one on, readers of committed records see nothing of a partition.

A transaction of ours is open for less than a second, and for ``delivery.transaction_timeout`` when its service dies.
One that stays open for longer hangs: the broker has forgotten it (a single Apache Kafka 4.3 node does when it is killed
within milliseconds of a commit), and only an administrator can end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamchar.frozen import frozen
from streamchar.stream.contact import cause_of
from streamchar.stream.reading import partitions_of
from streamchar.stream.settings import KafkaSettings, ServiceSettings, milliseconds

_READ_SECONDS = 5.0
_GRACE_SECONDS = 30.0
"""Brokers look for overdue transactions every ten seconds, and are slow when they are busy."""


@frozen
class OpenTransaction:
    """The oldest open transaction of a partition.

    Attributes
    ----------
    topic, partition
        Where.
    offset
        Its first offset: the last stable offset.
    end
        Offset of the next record to be written: everything in between is hidden.
    since
        When its first record was made; None when that cannot be read.
    """

    topic: str
    partition: int
    offset: int
    end: int
    since: datetime | None

    def hangs(self, settings: ServiceSettings, now: datetime) -> bool:
        """Say whether it is older than any transaction of the service can be."""
        if self.since is None:
            return False
        return (now - self.since).total_seconds() > settings.delivery.transaction_timeout + _GRACE_SECONDS

    def describe(self, now: datetime) -> str:
        """One sentence."""
        age = "" if self.since is None else f" for {(now - self.since).total_seconds():.0f} s"
        return (
            f"{self.topic}[{self.partition}]: a transaction has been open{age} at offset {self.offset}; "
            f"{self.end - self.offset} records from there on are hidden from all readers"
        )

    def remedy(self, bootstrap: str) -> str:
        """Command that ends it; what it wrote is then dropped, as it was never committed or its commit was lost."""
        return (
            f"kafka-transactions.sh --bootstrap-server {bootstrap} abort "
            f"--topic {self.topic} --partition {self.partition} --start-offset {self.offset}"
        )


async def open_transactions(kafka: KafkaSettings, topics: Collection[str]) -> list[OpenTransaction]:
    """Find the partitions whose last stable offset is behind their end.

    Raises
    ------
    BrokerUnreachableError
        No broker answers in time.
    TopicsMissingError
        A topic does not exist.
    """
    everything = AIOKafkaConsumer(isolation_level="read_uncommitted", **kafka.connection())
    committed = AIOKafkaConsumer(isolation_level="read_committed", **kafka.connection())
    try:
        async with asyncio.timeout(kafka.start_timeout):
            partitions = await partitions_of(kafka, topics)
            for consumer in (everything, committed):
                await consumer.start()
                consumer.assign(partitions)
            # In this order, what is committed in between does not look open.
            end = await everything.end_offsets(partitions)
            stable = await committed.end_offsets(partitions)
            behind = [partition for partition in partitions if stable[partition] < end[partition]]
            return [
                OpenTransaction(
                    partition.topic,
                    partition.partition,
                    stable[partition],
                    end[partition],
                    await _time_of(everything, partition, stable[partition]),
                )
                for partition in behind
            ]
    except (TimeoutError, KafkaError) as error:
        raise await cause_of(error, kafka) from error
    finally:
        await asyncio.gather(everything.stop(), committed.stop())


async def hanging_transactions(settings: ServiceSettings) -> list[OpenTransaction]:
    """Find transactions in all topics of the service that no producer will end any more.

    Raises
    ------
    BrokerUnreachableError, TopicsMissingError
        The topics cannot be looked at.
    """
    found = await open_transactions(settings.kafka, list(settings.topics.names.all()))
    now = datetime.now(UTC)
    return [transaction for transaction in found if transaction.hangs(settings, now)]


def explain(transactions: Sequence[OpenTransaction], bootstrap: str) -> str:
    """Say what hangs and how to end it, one line each."""
    now = datetime.now(UTC)
    return "\n".join(
        f"{transaction.describe(now)}. End it with: {transaction.remedy(bootstrap)}"
        for transaction in transactions
    )


async def _time_of(consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> datetime | None:
    """When the record at an offset was made."""
    consumer.assign([partition])
    consumer.seek(partition, offset)
    try:
        records = (await consumer.getmany(timeout_ms=milliseconds(_READ_SECONDS))).get(partition, [])
    except UnicodeDecodeError:
        return None  # a header that the client cannot read
    return datetime.fromtimestamp(records[0].timestamp / 1000, UTC) if records else None
