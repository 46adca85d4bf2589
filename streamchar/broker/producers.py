"""What a partition knows of its producers: sequence numbers, open transactions, aborted ones."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamchar.broker.batches import NO_PRODUCER, BatchHeader
from streamchar.broker.errors import ErrorCode, RefusedError

REMEMBERED_BATCHES = 5
"""A client has at most five requests in flight, so a repeat is one of the last five batches."""

_LAST_SEQUENCE = 0x7FFFFFFF


class Appended(NamedTuple):
    """A batch that was appended: enough to recognize a repeat of it."""

    first_sequence: int
    last_sequence: int
    offset: int


class Aborted(NamedTuple):
    """An aborted transaction: readers skip the producer's records from ``first_offset`` to ``marker_offset``."""

    producer_id: int
    first_offset: int
    marker_offset: int


@dataclass(slots=True)
class Producer:
    """The latest of one producer in one partition."""

    epoch: int
    timestamp: int
    batches: deque[Appended] = field(default_factory=lambda: deque(maxlen=REMEMBERED_BATCHES))

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last record, -1 when none was written in this epoch."""
        return self.batches[-1].last_sequence if self.batches else -1


class ProducerStates:
    """The producers of one partition."""

    def __init__(self) -> None:
        self.producers: dict[int, Producer] = {}
        self.ongoing: dict[int, int] = {}
        self.aborted: list[Aborted] = []

    def first_open_offset(self) -> int | None:
        """Return where the earliest open transaction begins."""
        return min(self.ongoing.values(), default=None)

    def check(self, header: BatchHeader) -> int | None:
        """Check sequence numbers before an append.

        Returns
        -------
        int or None
            The offset a repeated batch already has; ``None`` when the batch is new and in order.

        Raises
        ------
        RefusedError
            When the producer was fenced or its sequence has a gap.
        """
        known = self.producers.get(header.producer_id)
        if header.producer_id == NO_PRODUCER or known is None:
            return None
        if header.producer_epoch < known.epoch:
            raise RefusedError(ErrorCode.INVALID_PRODUCER_EPOCH, f"epoch {known.epoch} is known")
        first = header.base_sequence
        if header.producer_epoch > known.epoch:
            if first != 0:
                raise RefusedError(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, f"a new epoch begins with {first}")
            return None
        for batch in known.batches:
            if (batch.first_sequence, batch.last_sequence) == (first, header.last_sequence):
                return batch.offset
        expected = 0 if known.last_sequence == _LAST_SEQUENCE else known.last_sequence + 1
        if first != expected:
            raise RefusedError(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, f"{first} instead of {expected}")
        return None

    def record(self, header: BatchHeader) -> None:
        """Take note of an appended batch of records."""
        if header.producer_id == NO_PRODUCER:
            return
        producer = self._at_epoch(header)
        producer.batches.append(Appended(header.base_sequence, header.last_sequence, header.base_offset))
        if header.transactional:
            self.ongoing.setdefault(header.producer_id, header.base_offset)

    def record_marker(self, header: BatchHeader, commit: bool) -> None:
        """Take note of an appended transaction marker."""
        self._at_epoch(header)
        first = self.ongoing.pop(header.producer_id, None)
        if first is not None and not commit:
            self.aborted.append(Aborted(header.producer_id, first, header.base_offset))

    def _at_epoch(self, header: BatchHeader) -> Producer:
        producer = self.producers.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            producer = self.producers[header.producer_id] = Producer(
                header.producer_epoch, header.max_timestamp
            )
        producer.timestamp = header.max_timestamp
        return producer

    def aborted_between(self, first_offset: int, end_offset: int) -> list[Aborted]:
        """Return the aborted transactions that touch a range of offsets."""
        return [a for a in self.aborted if a.marker_offset >= first_offset and a.first_offset < end_offset]

    def trim(self, start_offset: int) -> None:
        """Forget aborted transactions that end before the log begins."""
        self.aborted = [a for a in self.aborted if a.marker_offset >= start_offset]

    def expire(self, before: int) -> None:
        """Forget producers that wrote nothing since a time and have nothing open."""
        silent = [
            pid for pid, p in self.producers.items() if p.timestamp < before and pid not in self.ongoing
        ]
        for producer_id in silent:
            del self.producers[producer_id]

    def snapshot(self) -> dict[str, Any]:
        """Return everything as plain values."""
        producers = [
            [pid, p.epoch, p.timestamp, [list(b) for b in p.batches]] for pid, p in self.producers.items()
        ]
        return {"producers": producers, "ongoing": list(self.ongoing.items()), "aborted": self.aborted}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> ProducerStates:
        """Rebuild from ``snapshot``."""
        states = cls()
        for producer_id, epoch, timestamp, batches in state["producers"]:
            producer = states.producers[producer_id] = Producer(epoch, timestamp)
            producer.batches.extend(Appended(*batch) for batch in batches)
        states.ongoing = dict(state["ongoing"])
        states.aborted = [Aborted(*entry) for entry in state["aborted"]]
        return states
