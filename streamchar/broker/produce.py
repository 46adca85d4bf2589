"""Produce: checking record batches and appending them."""

from __future__ import annotations

from streamchar.broker.batches import HEADER_SIZE, check_produced, parse_header
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
        if request.transactional_id is None and _has_transactional_records(request):
            topics = _refuse_all(request, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        else:
            topics = [
                ProducedTopic(
                    topic.name, [self._append(request, topic.name, sent) for sent in topic.partitions]
                )
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
        partition = self._topics.require(topic, sent.index)
        if request.acks not in (-1, 0, 1):
            raise RefusedError(ErrorCode.INVALID_REQUIRED_ACKS, str(request.acks))
        config, log = partition.topic.config, partition.log
        latest = now_ms() + config.integer("message.timestamp.after.max.ms")
        header = check_produced(sent.records, config.integer("max.message.bytes"), latest)
        records = sent.records or b""
        duplicate_of = log.producers.check(header)
        if duplicate_of is not None:
            return ProducedPartition(sent.index, ErrorCode.NONE, duplicate_of, -1, log.start_offset)
        if header.transactional:
            self._transactions.check_produce(
                request.transactional_id or "", header.producer_id, header.producer_epoch, topic, sent.index
            )
        offset = log.append(records, header)
        partition.notify()
        return ProducedPartition(sent.index, ErrorCode.NONE, offset, -1, log.start_offset)


def _has_transactional_records(request: ProduceRequest) -> bool:
    batches = (sent.records for topic in request.topics for sent in topic.partitions)
    return any(len(batch) >= HEADER_SIZE and parse_header(batch).transactional for batch in batches if batch)


def _refuse_all(request: ProduceRequest, error: ErrorCode) -> list[ProducedTopic]:
    return [
        ProducedTopic(topic.name, [ProducedPartition(sent.index, error) for sent in topic.partitions])
        for topic in request.topics
    ]
