"""One event in hand: the record it came in, what it announces, and what it went through so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from streamchar import __version__
from streamchar.messages import (
    ExposureReady,
    ExposureStatus,
    Outcome,
    ProductDescription,
    Provenance,
    Reason,
    SourcePosition,
    StageTiming,
    TopicNames,
    encode,
    position_id,
)
from streamchar.stream.dead_letters import (
    VALUE_OMITTED,
    Origin,
    Passage,
    dead_letter_headers,
    read_passage,
    read_replay,
    retry_headers,
)
from streamchar.stream.job import Headers, JobFailure, JobResult
from streamchar.stream.outbox import Record
from streamchar.stream.pool import Ticket
from streamchar.stream.retry import History

_MAX_KEY = 1024
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX_EPOCH_MJD = 40_587.0
NO_DIGEST = "sha256:" + "0" * 64


@dataclass
class Event:
    """An event from its reading to the publication of its outcome.

    Attributes
    ----------
    partition, offset
        Where it was read.
    key, value, headers
        The record as it was read.
    passage
        What an earlier passage through the retry topic left in the headers.
    received_at
        When it was read (UTC).
    announced
        The decoded message; None when it could not be decoded.
    tries
        Attempts since it was read.
    lost
        Attempts, in all rounds, that lost their worker.
    ticket
        Its present attempt.
    result_bytes
        Bytes of its finished, unpublished result.
    """

    partition: TopicPartition
    offset: int
    key: bytes | None
    value: bytes
    headers: Headers
    passage: Passage
    received_at: datetime
    announced: ExposureReady | None = None
    tries: int = 0
    lost: int = 0
    ticket: Ticket | None = None
    result_bytes: int = 0

    @classmethod
    def read(cls, record: ConsumerRecord[Any, Any], now: datetime) -> Event:
        """Take a record into hand without looking into its value."""
        headers = tuple((name, value or b"") for name, value in record.headers)
        here = Origin(record.topic, record.partition, record.offset, now)
        passage = read_passage(headers, here)
        return cls(
            TopicPartition(record.topic, record.partition),
            record.offset,
            record.key,
            record.value or b"",
            headers,
            passage,
            now,
            lost=passage.lost,
        )

    @property
    def history(self) -> History:
        """What it went through."""
        return History(self.tries, self.lost, self.passage.rounds)

    @property
    def event_id(self) -> str:
        """Identifier of the event, from its first position when it does not tell one."""
        if self.announced is not None:
            return self.announced.event_id
        origin = self.passage.origin
        return position_id(origin.topic, origin.partition, origin.offset)

    @property
    def name(self) -> str:
        """Name for logs: ``instrument/exposure/detector``, or the position."""
        if self.announced is not None:
            return self.announced.key
        return f"{self.partition.topic}[{self.partition.partition}]@{self.offset}"

    @property
    def log_fields(self) -> dict[str, str | int]:
        """What a log record about the event carries: its name and identifier, and which exposure it announces."""
        fields: dict[str, str | int] = {"event": self.name, "event_id": self.event_id}
        if self.announced is not None:
            fields["instrument"] = self.announced.instrument
            fields["exposure"] = self.announced.exposure
            fields["detector"] = self.announced.detector
        return fields

    @property
    def shutter_closed_at(self) -> datetime | None:
        """When the exposure ended, if its middle, taken as UTC, and its length are announced."""
        announced = self.announced
        if announced is None or announced.mid_time is None or announced.exposure_time is None:
            return None
        days = announced.mid_time - _UNIX_EPOCH_MJD
        try:
            return _UNIX_EPOCH + timedelta(days=days, seconds=0.5 * announced.exposure_time)
        except (OverflowError, ValueError):
            return None

    @property
    def created_at(self) -> datetime | None:
        """When the event was made, when it tells."""
        return None if self.announced is None else self.announced.created_at

    def expired(self, now: datetime, seconds: float) -> bool:
        """Say whether the event is older than ``seconds``; a replay is as old as the operator's wish."""
        made = self.created_at
        replayed = read_replay(self.headers).time
        if made is not None and replayed is not None:
            made = max(made, replayed)
        return made is not None and now - made > timedelta(seconds=seconds)

    def is_same_record(self, record: ConsumerRecord[Any, Any]) -> bool:
        """Say whether a record read again is the one in hand, not one of a topic created anew."""
        return (record.key, record.value or b"") == (self.key, self.value)


Identity = tuple[str, str, int]
"""Event identifier, ``instrument/exposure/detector``, and how often it was replayed."""


def identity_of(announced: ExposureReady, headers: Headers) -> Identity:
    """Return what tells an announcement from another; equal for one that was made twice."""
    return announced.event_id, announced.key, read_replay(headers).round


@dataclass(frozen=True)
class Correspondent:
    """Writes the records that end a passage of an event: products and status, retry, or dead letter.

    Attributes
    ----------
    topics
        Names of the topics.
    source
        Who writes: the name of the consumer group, for the header ``ce_source``.
    config_digest
        Digest of the configuration in force.
    letter_limit
        Largest dead letter in bytes; a larger one travels without its value, and when that is not enough without
        its key and the headers it came with.
    """

    topics: TopicNames
    source: str
    config_digest: str = NO_DIGEST
    letter_limit: int = 900_000

    def success(self, event: Event, result: JobResult, now: datetime) -> tuple[Record, ...]:
        """Return the products and the status of a characterized event."""
        products = tuple(
            Record(self.topics.name_of(message.type), message.key, message.value, message.headers)
            for message in result.messages
        )
        described = [ProductDescription.model_validate(dict(product)) for product in result.products]
        status = self._status(
            event,
            result.outcome,
            now,
            reasons=[Reason.model_validate(dict(reason)) for reason in result.reasons],
            timings=[StageTiming(stage=stage, cpu=cpu, wall=wall) for stage, cpu, wall in result.timings],
            products=described or self._describe_products(result),
        )
        return (*products, status)

    def expired(self, event: Event, now: datetime, limit: float) -> tuple[Record, ...]:
        """Return the status of an event that came too late."""
        age = (now - event.created_at).total_seconds() if event.created_at is not None else 0.0
        text = f"the event is {age:.0f} s old, older than {limit:g} s (limits.expire_after)"
        reason = Reason(code="expired", values={"age": age, "limit": limit}, message=text)
        return (self._status(event, "expired", now, reasons=[reason]),)

    def dead(self, event: Event, failure: JobFailure, now: datetime) -> tuple[Record, ...]:
        """Return the dead letter and the status of an event that failed for good."""
        return (
            self._letter(event, failure, now),
            self._status(event, "failed", now, reasons=[_reason(failure)]),
        )

    def _letter(self, event: Event, failure: JobFailure, now: datetime) -> Record:
        """Return the dead letter, without what would not fit: the original is still at its first position."""
        original = event.passage.original_headers
        ours = dead_letter_headers(
            replace(event.passage, original_headers=()),
            failure,
            event.history,
            application=f"streamchar/{__version__}",
            failed_at=now,
        )
        letter = Record(self.topics.dlq, event.key, event.value, (*original, *ours))
        if _size(letter) > self.letter_limit:
            ours = (*ours, (VALUE_OMITTED, str(len(event.value)).encode()))
            letter = Record(self.topics.dlq, event.key, b"", (*original, *ours))
        if _size(letter) > self.letter_limit:
            letter = Record(self.topics.dlq, None, b"", ours)
        return letter

    def retry(self, event: Event, failure: JobFailure, not_before: datetime) -> tuple[Record, ...]:
        """Return the event on its way to the retry topic; it has no status yet."""
        headers = retry_headers(event.passage, failure, event.history, not_before)
        return (Record(self.topics.retry, event.key, event.value, headers),)

    def _describe_products(self, result: JobResult) -> list[ProductDescription]:
        described = []
        for kind in dict.fromkeys(message.type for message in result.messages):
            messages = [message for message in result.messages if message.type == kind]
            described.append(
                ProductDescription(
                    product=kind,
                    topic=self.topics.name_of(kind),
                    key=messages[0].key.decode("utf-8", "replace") or None,
                    messages=len(messages),
                    size_bytes=sum(memoryview(message.value).nbytes for message in messages),
                )
            )
        return described

    def _status(
        self,
        event: Event,
        outcome: Outcome,
        now: datetime,
        *,
        reasons: Sequence[Reason] = (),
        timings: Sequence[StageTiming] = (),
        products: Sequence[ProductDescription] = (),
    ) -> Record:
        announced, origin = event.announced, event.passage.origin
        status = ExposureStatus(
            event_id=event.event_id,
            instrument=announced.instrument if announced else None,
            exposure=announced.exposure if announced else None,
            detector=announced.detector if announced else None,
            band=announced.band if announced else None,
            tense=announced.tense if announced else "current",
            config_digest=self.config_digest,
            outcome=outcome,
            reasons=tuple(reasons),
            attempts=event.passage.attempts + event.tries,
            source=SourcePosition(topic=origin.topic, partition=origin.partition, offset=origin.offset),
            created_at=event.created_at,
            received_at=origin.first_seen,
            published_at=now,
            timings=tuple(timings),
            products=tuple(products),
            provenance=Provenance(software_version=__version__),
        )
        trace = dict(event.headers).get("traceparent")
        key = event.key if announced is None and len(event.key or b"") <= _MAX_KEY else None
        encoded = encode(status, time=now, source=self.source, traceparent=trace, key=key)
        return Record(
            self.topics.name_of(encoded.topic_type), encoded.key, encoded.value, tuple(encoded.headers)
        )


def _size(record: Record) -> int:
    headers = sum(len(name.encode()) + len(value) for name, value in record.headers)
    return len(record.key or b"") + memoryview(record.value).nbytes + headers


def _reason(failure: JobFailure) -> Reason:
    values = {
        str(name)[:256]: value[:4096] if isinstance(value, str) else value
        for name, value in list(failure.values.items())[:64]
        if isinstance(value, (str, int, bool)) or (isinstance(value, float) and abs(value) < float("inf"))
    }
    return Reason(code=failure.code, values=values, message=failure.text[:4096])


def utc_now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)
