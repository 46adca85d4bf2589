"""The outbox: makes results visible, and commits the offsets they came from, in that order or in one transaction.

Exactly once: one transactional producer for each input partition, with the transactional id
``<group>-<topic>-<partition>``. Starting it fences whoever had the partition before and ends the transaction that
one left open; only then may the committed offset be read. The offset commit of a transaction carries no group
generation in this client, so the id is what keeps a former owner from publishing.

At least once: one idempotent producer; publish, wait for every acknowledgement, then commit through the group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    CommitFailedError,
    GroupAuthorizationFailedError,
    IllegalOperation,
    IllegalStateError,
    InvalidProducerEpoch,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.structs import OffsetAndMetadata

from streamchar.frozen import frozen
from streamchar.stream.errors import (
    FencedError,
    MessageTooLargeError,
    PartitionLostError,
    PublishAbortedError,
    PublishAuthorizationError,
    PublishError,
    PublishTimeoutError,
)
from streamchar.stream.framing import Buffer
from streamchar.stream.job import Headers
from streamchar.stream.ledger import Commit
from streamchar.stream.settings import DeliverySettings, KafkaSettings, milliseconds

_FORBIDDEN = (
    ClusterAuthorizationFailedError,
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)

_COMMIT_PAUSE = 0.2
_STOP_SECONDS = 2.0

CommitThroughGroup = Callable[[Mapping[TopicPartition, OffsetAndMetadata]], Awaitable[None]]


@frozen
class Record:
    """A message on its way to a topic."""

    topic: str
    key: bytes | None
    value: Buffer
    headers: Headers = ()


class Outbox(Protocol):
    """Where finished results go."""

    async def open(self, partition: TopicPartition) -> None:
        """Take possession of an input partition; afterwards nobody else can publish its results."""

    async def publish(self, partition: TopicPartition, records: Sequence[Record], commit: Commit) -> None:
        """Make the records visible and commit the offset of the partition they came from.

        Raises
        ------
        MessageTooLargeError
            Nothing is visible; a record can never be published.
        PublishAbortedError
            Nothing is visible; the same call may succeed when repeated.
        PartitionLostError
            Everything is visible and nothing is committed: another member will do it again.
        PublishError
            The partition must be opened anew, which also tells whether anything became visible: fenced, forbidden, not
            acknowledged in time, or unknown.
        """

    async def close(self, partition: TopicPartition) -> None:
        """Give an input partition up."""

    async def stop(self) -> None:
        """Release all connections."""


class TransactionalOutbox:
    """Exactly once: products, status and offset in one transaction.

    Parameters
    ----------
    kafka, delivery
        Settings.
    """

    def __init__(self, kafka: KafkaSettings, delivery: DeliverySettings) -> None:
        self._kafka = kafka
        self._delivery = delivery
        self._producers: dict[TopicPartition, AIOKafkaProducer] = {}
        self._departures = Departures()

    async def open(self, partition: TopicPartition) -> None:
        """Start the partition's producer, which fences the former owner, and any earlier one of this process."""
        name = f"{self._kafka.group}-{partition.topic}-{partition.partition}"
        producer = AIOKafkaProducer(
            transactional_id=name,
            transaction_timeout_ms=milliseconds(self._delivery.transaction_timeout),
            **_producer_options(self._kafka, self._delivery),
        )
        await self.close(partition)
        await self._departures.start(producer, partition, self._kafka.start_timeout)
        self._producers[partition] = producer

    async def publish(self, partition: TopicPartition, records: Sequence[Record], commit: Commit) -> None:
        """Publish in one transaction; see :meth:`Outbox.publish`."""
        producer = self._producers[partition]
        seconds = self._delivery.publish_timeout
        try:
            async with asyncio.timeout(seconds):
                await self._transact(producer, partition, records, commit)
        except TimeoutError as error:
            raise PublishTimeoutError(partition=_name(partition), seconds=seconds) from error

    async def _transact(
        self,
        producer: AIOKafkaProducer,
        partition: TopicPartition,
        records: Sequence[Record],
        commit: Commit,
    ) -> None:
        try:
            await producer.begin_transaction()
            await _send_all(producer, records)
            offsets = {partition: OffsetAndMetadata(commit.offset, commit.metadata)}
            await producer.send_offsets_to_transaction(offsets, self._kafka.group)
            await producer.commit_transaction()
        except (KafkaError, AssertionError) as error:
            failure = classify(error, partition, records)
            if isinstance(failure, (MessageTooLargeError, PublishAbortedError)):
                await self._abort(producer, partition)
            raise failure from error

    async def _abort(self, producer: AIOKafkaProducer, partition: TopicPartition) -> None:
        try:
            await producer.abort_transaction()
        except (KafkaError, AssertionError) as error:  # the client asserts its state transitions
            raise _unrecoverable(error, partition) from error

    async def close(self, partition: TopicPartition) -> None:
        """Stop the partition's producer."""
        producer = self._producers.pop(partition, None)
        if producer is not None:
            await self._departures.stop(producer)

    async def stop(self) -> None:
        """Stop all producers."""
        await asyncio.gather(*(self.close(partition) for partition in list(self._producers)))
        await self._departures.end()


class AcknowledgedOutbox:
    """At least once: publish, wait for the acknowledgements, then commit.

    Parameters
    ----------
    kafka, delivery
        Settings.
    commit
        Commits offsets through the group's consumer, which a member that lost the partition cannot do.
    """

    def __init__(self, kafka: KafkaSettings, delivery: DeliverySettings, commit: CommitThroughGroup) -> None:
        self._kafka = kafka
        self._delivery = delivery
        self._commit = commit
        self._producer: AIOKafkaProducer | None = None
        self._open: set[TopicPartition] = set()
        self._changing = asyncio.Lock()
        self._departures = Departures()

    async def open(self, partition: TopicPartition) -> None:
        """Start the producer when this is the first partition."""
        async with self._changing:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    enable_idempotence=True, **_producer_options(self._kafka, self._delivery)
                )
                await self._departures.start(producer, partition, self._kafka.start_timeout)
                self._producer = producer
            self._open.add(partition)

    async def publish(self, partition: TopicPartition, records: Sequence[Record], commit: Commit) -> None:
        """Publish, then commit; see :meth:`Outbox.publish`."""
        if self._producer is None:
            raise PublishError(partition=_name(partition), detail="the outbox is closed")
        seconds = self._delivery.publish_timeout
        try:
            async with asyncio.timeout(seconds):
                await _send_all(self._producer, records)
                await self._commit_in_the_end(partition, commit)
        except TimeoutError as error:
            raise PublishTimeoutError(partition=_name(partition), seconds=seconds) from error
        except KafkaError as error:
            raise classify(error, partition, records) from error

    async def _commit_in_the_end(self, partition: TopicPartition, commit: Commit) -> None:
        """Commit, as often as it takes: publishing again because of the commit alone would repeat everything."""
        while True:
            try:
                await self._commit({partition: OffsetAndMetadata(commit.offset, commit.metadata)})
            except (CommitFailedError, IllegalStateError) as error:
                raise PartitionLostError(partition=_name(partition), detail=str(error)) from error
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(_COMMIT_PAUSE)
            else:
                return

    async def close(self, partition: TopicPartition) -> None:
        """Stop the producer when this was the last partition."""
        async with self._changing:
            self._open.discard(partition)
            if not self._open:
                await self._leave()

    async def stop(self) -> None:
        """Stop the producer."""
        await self._leave()
        await self._departures.end()

    async def _leave(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._departures.stop(producer)


def classify(error: BaseException, partition: TopicPartition, records: Sequence[Record]) -> PublishError:
    """Say what an error of the client means for the publication."""
    name = _name(partition)
    detail = str(error) or type(error).__name__
    if isinstance(error, (ProducerFenced, InvalidProducerEpoch)):
        return FencedError(partition=name, detail=detail)
    if isinstance(error, _TOO_LARGE):
        size = max((memoryview(record.value).nbytes for record in records), default=0)
        return MessageTooLargeError(partition=name, size=size, detail=detail)
    if isinstance(error, _FORBIDDEN):
        return PublishAuthorizationError(partition=name, detail=detail)
    if isinstance(error, (IllegalOperation, IllegalStateError, AssertionError)) or type(error) is KafkaError:
        # A bare KafkaError is how the client reports that its sender died: it cannot be used again.
        return _unrecoverable(error, partition)
    return PublishAbortedError(partition=name, detail=detail)


def _unrecoverable(error: BaseException, partition: TopicPartition) -> PublishError:
    if isinstance(error, (ProducerFenced, InvalidProducerEpoch)):
        return FencedError(partition=_name(partition), detail=str(error))
    return PublishError(partition=_name(partition), detail=f"{type(error).__name__}: {error}")


async def _send_all(producer: AIOKafkaProducer, records: Sequence[Record]) -> None:
    """Send and wait until each record is acknowledged; raises the first failure after all have ended."""
    sent: list[Awaitable[Any]] = []
    problem: BaseException | None = None
    for record in records:
        try:
            sent.append(
                await producer.send(record.topic, record.value, key=record.key, headers=list(record.headers))
            )
        except KafkaError as error:
            problem = error
            break
    for answer in await asyncio.gather(*sent, return_exceptions=True):
        if isinstance(answer, BaseException):
            problem = problem or answer
    if problem is not None:
        raise problem


def _producer_options(kafka: KafkaSettings, delivery: DeliverySettings) -> dict[str, Any]:
    return {
        **kafka.connection(),
        "acks": "all",
        "linger_ms": round(delivery.linger * 1000),
        "max_request_size": delivery.max_message_bytes,
        "max_batch_size": delivery.max_message_bytes,
        "compression_type": delivery.compression,
    }


class Departures:
    """Producers on their way out: one whose brokers are gone cannot stop before they are back.

    It then finds itself fenced, or delivers what it still has, and ends; nobody waits for it.
    """

    def __init__(self) -> None:
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self, producer: AIOKafkaProducer, partition: TopicPartition, seconds: float) -> None:
        """Start a producer; one that cannot be started is stopped.

        Raises
        ------
        PublishError
            Why not.
        """
        try:
            async with asyncio.timeout(seconds):
                await producer.start()
        except TimeoutError as error:
            await self.stop(producer)
            raise PublishTimeoutError(partition=_name(partition), seconds=seconds) from error
        except KafkaError as error:
            await self.stop(producer)
            raise classify(error, partition, ()) from error

    async def stop(self, producer: AIOKafkaProducer) -> None:
        """Stop a producer, and go on without waiting when it takes long."""
        task = asyncio.ensure_future(_stop(producer))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        await asyncio.wait([task], timeout=_STOP_SECONDS)

    async def end(self) -> None:
        """Give up what is still on its way out."""
        leaving = list(self._leaving)
        for task in leaving:
            task.cancel()
        if leaving:
            await asyncio.wait(leaving, timeout=_STOP_SECONDS)


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        await producer.stop()
    except KafkaError:
        return  # a fenced one raises
    finally:
        await producer.client.close()  # what a producer that raises leaves open


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}[{partition.partition}]"
