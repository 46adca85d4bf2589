"""Produce: checking record batches and appending them."""

from __future__ import annotations

from streamchar.broker.batches import check_produced
from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.broker.log import now_ms
from streamchar.broker.messages_data import (
    ProducedPartition,
    ProducedTopic,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
)
from streamchar.broker.topics import Topics
from streamchar.broker.transactions import TransactionCoordinator


class RecordAppender:
    """Answers Produce requests."""

    def __init__(self, topics: Topics, transactions: TransactionCoordinator) -> None:
        self._topics = topics
        self._transactions = transactions

    def produce(self, request: ProduceRequest) -> ProduceResponse | None:
        """Append what is sound; ``None`` when the producer wants no answer.

        Raises
        ------
        RefusedError
            A producer that wants no answer learns of a failure only by losing its connection.
        """
        topics = [
            ProducedTopic(topic.name, [self._append(request, topic.name, sent) for sent in topic.partitions])
            for topic in request.topics
        ]
        if request.acks != 0:
            return ProduceResponse(topics)
        for topic in topics:
            for partition in topic.partitions:
                if partition.error_code:
                    raise RefusedError(
                        ErrorCode(partition.error_code), f"{topic.name}-{partition.index}, acks=0"
                    )
        return None

    def _append(self, request: ProduceRequest, topic: str, sent: ProducePartition) -> ProducedPartition:
        try:
            return self._checked_append(request, topic, sent)
        except RefusedError as refusal:
            return ProducedPartition(sent.index, refusal.error)

    def _checked_append(
        self, request: ProduceRequest, topic: str, sent: ProducePartition
    ) -> ProducedPartition:
        if request.acks not in (-1, 0, 1):
            raise RefusedError(ErrorCode.INVALID_REQUIRED_ACKS, str(request.acks))
        partition = self._topics.require(topic, sent.index)
        config, log = partition.topic.config, partition.log
        latest = now_ms() + config.integer("message.timestamp.after.max.ms")
        header = check_produced(sent.records, config.integer("max.message.bytes"), latest)
        records = sent.records or b""
        duplicate_of = log.producers.check(header)
        if duplicate_of is not None:
            return ProducedPartition(sent.index, ErrorCode.NONE, duplicate_of, -1, log.start_offset)
        if header.transactional:
            self._transactions.check_produce(
                request.transactional_id, header.producer_id, header.producer_epoch, topic, sent.index
            )
        offset = log.append(records, header)
        partition.notify()
        return ProducedPartition(sent.index, ErrorCode.NONE, offset, -1, log.start_offset)
