"""Verification: reads all topics as any consumer would, and says what is missing, duplicated or incomplete.

Every announcement that the group has finished must have led to exactly one status with its position, and a status to
exactly what it describes: a success to one quality record, to whole catalogues and PSF models, a failure to one dead
letter and no product.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Literal

from aiokafka import TopicPartition

from streamchar.frozen import frozen
from streamchar.kafka.raw_records import RawRecord
from streamchar.messages import (
    CatalogChunk,
    CatalogManifest,
    ExposureStatus,
    MessageError,
    TopicNames,
    decode,
    decode_exposure_ready,
    position_id,
)
from streamchar.messages.base import ProductMessage
from streamchar.messages.catalog_chunks import digest_of
from streamchar.stream.dead_letters import Origin, read_passage
from streamchar.stream.errors import HangingTransactionError
from streamchar.stream.events import identity_of, utc_now
from streamchar.stream.hidden import explain, hanging_transactions
from streamchar.stream.ledger import OffsetLedger
from streamchar.stream.progress import read_ledgers
from streamchar.stream.reading import PATIENCE, Progress, read_all
from streamchar.stream.repeats import Announcements
from streamchar.stream.settings import ServiceSettings

Position = tuple[str, int, int]
"""Topic, partition and offset."""

Kind = Literal["lost", "duplicated", "incomplete", "unexpected"]

_SUCCESSES = ("succeeded", "degraded")


@frozen
class Finding:
    """Something that is not as promised.

    Attributes
    ----------
    kind
        "lost": an event without its status, or a failure without its dead letter. "duplicated": something is there
        twice. "incomplete": a product of a success is missing, or only a part of it is there. "unexpected": a product
        without a success, or a message that cannot be read.
    event
        Identifier of the event.
    detail
        One sentence.
    """

    kind: Kind
    event: str
    detail: str


@frozen
class Report:
    """The result of a verification.

    Attributes
    ----------
    announced
        Events in the input topic, repetitions not counted.
    repeated
        Announcements that repeat an earlier one.
    pending
        Events that are not finished: not read yet, in work, or waiting in the retry topic.
    outcomes
        Statuses by outcome.
    messages
        Records by topic.
    repeats
        Messages that came again with the same identifier, which subscribers drop; only counted for at-least-once
        delivery, where they are allowed.
    findings
        What is wrong.
    """

    announced: int
    repeated: int
    pending: int
    outcomes: Mapping[str, int]
    messages: Mapping[str, int]
    repeats: int
    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def count(self, kind: Kind) -> int:
        """Return the number of findings of a kind."""
        return sum(finding.kind == kind for finding in self.findings)


async def verify(
    settings: ServiceSettings,
    *,
    allow_repeats: bool | None = None,
    patience: float = PATIENCE,
    progress: Progress | None = None,
) -> Report:
    """Read all topics and compare what is there with what is promised.

    Parameters
    ----------
    settings
        Which brokers, topics and group.
    allow_repeats
        Whether messages with the same identifier may come again, as at-least-once delivery permits; as the setting
        ``delivery.mode`` says when omitted.
    patience
        Seconds to wait for records that an open transaction hides.
    progress
        Is told again and again how many records have been read, and how many there are: first of the inputs, then of
        the outputs.

    Raises
    ------
    BrokerUnreachableError, TopicsMissingError, ReadStalledError
        The topics cannot be read.
    HangingTransactionError
        A transaction that nobody will end hides records; says which, and the command that ends it.
    """
    if allow_repeats is None:
        allow_repeats = settings.delivery.mode == "at_least_once"
    await _refuse_hidden(settings)
    # Progress is read first: what was finished by then must be visible afterwards.
    ledgers = await read_ledgers(settings)
    night = Evidence(settings.topics.names, settings.limits.duplicate_window, allow_repeats)
    # Inputs before outputs: a status of an event that came in between is known to be nobody's fault.
    names = settings.topics.names
    outputs = [names.exposure_status, names.psf_quality, names.source_catalog, names.psf_model, names.dlq]
    for topics in ([names.exposure_ready, names.retry], outputs):
        async for record in read_all(settings.kafka, topics, patience=patience, progress=progress):
            night.add(record)
    return night.report(ledgers)


async def _refuse_hidden(settings: ServiceSettings) -> None:
    """Judge nothing that cannot be seen."""
    hanging = await hanging_transactions(settings)
    if hanging:
        raise HangingTransactionError(explanation=explain(hanging, settings.kafka.bootstrap))


@frozen
class _Status:
    """What counts of a status: of whole messages, a long night would not fit into memory.

    Attributes
    ----------
    products
        Kind and number of messages of each product in a topic.
    """

    event_id: str
    config_digest: str
    message_id: str
    outcome: str
    products: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, message: ExposureStatus) -> _Status:
        return cls(
            intern(message.event_id),
            intern(message.config_digest),
            message.message_id,
            message.outcome,
            tuple(
                (intern(described.product), described.messages or 1)
                for described in message.products
                if described.topic is not None  # otherwise a stored file
            ),
        )

    @property
    def attempt(self) -> tuple[str, str]:
        """What its products have in common."""
        return self.event_id, self.config_digest


@dataclass(slots=True)
class _Products:
    """What was published for one event with one configuration.

    Attributes
    ----------
    messages
        Topic type and identifier of each message.
    chunks
        Digests of the parts of the catalogue that are there.
    manifest
        Number and digest of each part it should have; ``None`` when nothing says so.
    """

    messages: list[tuple[str, str]] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    manifest: tuple[tuple[int, str], ...] | None = None

    @property
    def counts(self) -> Counter[str]:
        """Number of different messages by topic type."""
        return Counter(topic for topic, _ in set(self.messages))


class Evidence:
    """Collects records and judges them; knows nothing of Kafka.

    Parameters
    ----------
    names
        Of the topics.
    window
        Offsets among which a repeated announcement is not processed again.
    allow_repeats
        Whether messages with equal identifiers may come more than once.
    """

    def __init__(self, names: TopicNames, window: int, allow_repeats: bool) -> None:
        self._names = names
        self._allow_repeats = allow_repeats
        self._window = window
        self._latest: dict[int, Announcements] = {}
        self._announced: dict[Position, str] = {}
        self._repeated: set[Position] = set()
        self._waiting: dict[Position, list[Position]] = defaultdict(list)
        self._statuses: dict[Position, list[_Status]] = defaultdict(list)
        self._products: dict[tuple[str, str], _Products] = defaultdict(_Products)
        self._letters: Counter[Position] = Counter()
        self._messages: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._repeats = 0

    def add(self, record: RawRecord) -> None:
        """Take a record of any of the topics; those of one partition must come in order."""
        self._messages[record.topic] += 1
        position = (record.topic, record.partition, record.offset)
        if record.topic == self._names.exposure_ready:
            self._add_announcement(record, position)
        elif record.topic in (self._names.retry, self._names.dlq):
            here = Origin(*position, utc_now())
            origin = read_passage(tuple(record.headers), here).origin
            first = (origin.topic, origin.partition, origin.offset)
            if record.topic == self._names.dlq:
                self._letters[first] += 1
            else:
                self._waiting[first].append(position)
        else:
            self._add_output(record, position)

    def _add_announcement(self, record: RawRecord, position: Position) -> None:
        try:
            event = decode_exposure_ready(record.value or b"", record.headers)
        except MessageError:
            self._announced[position] = position_id(*position)
            return
        identity = identity_of(event, tuple(record.headers))
        latest = self._latest.setdefault(record.partition, Announcements(self._window))
        if latest.note(identity, record.offset) is not None:
            self._repeated.add(position)
        else:
            self._announced[position] = intern(event.event_id)

    def _add_output(self, record: RawRecord, position: Position) -> None:
        try:
            message = decode(record.value or b"", record.headers)
        except MessageError as error:
            name = "{}[{}]@{}".format(*position)
            self._find("unexpected", name, f"the message cannot be read: {error}")
            return
        if isinstance(message, ExposureStatus):
            source = message.source
            self._statuses[intern(source.topic), source.partition, source.offset].append(_Status.of(message))
        elif isinstance(message, ProductMessage):
            self._add_product(message, record.value or b"")

    def _add_product(self, message: ProductMessage, value: bytes) -> None:
        products = self._products[intern(message.event_id), intern(message.config_digest)]
        products.messages.append((message.topic_type, message.message_id))
        if isinstance(message, CatalogChunk):
            products.chunks.append(digest_of(value))
        elif isinstance(message, CatalogManifest):
            products.manifest = tuple((chunk.chunk, chunk.digest) for chunk in message.chunks)

    def report(self, progress: Mapping[TopicPartition, OffsetLedger]) -> Report:
        """Judge what was collected.

        Parameters
        ----------
        progress
            How far the group was in the input partitions before the records were read.
        """
        pending = [position for position in self._announced if self._is_pending(position, progress)]
        self._judge_statuses(set(pending))
        self._judge_products()
        return Report(
            announced=len(self._announced),
            repeated=len(self._repeated),
            pending=len(pending),
            outcomes=dict(Counter(status[0].outcome for status in self._statuses.values())),
            messages=dict(self._messages),
            repeats=self._repeats,
            findings=tuple(self._findings),
        )

    def _is_pending(self, position: Position, progress: Mapping[TopicPartition, OffsetLedger]) -> bool:
        """Whether an event without status is not finished yet, in its own partition or in the retry topic."""
        if position in self._statuses:
            return False
        return any(
            not _is_finished(place, progress) for place in (position, *self._waiting.get(position, ()))
        )

    def _judge_statuses(self, pending: set[Position]) -> None:
        for position, event_id in self._announced.items():
            if position not in self._statuses and position not in pending:
                where = "{}[{}]@{}".format(*position)
                self._find("lost", event_id, f"{where} is finished and has no status")
        for position, statuses in self._statuses.items():
            status = statuses[0]
            where = "{}[{}]@{}".format(*position)
            if position in self._repeated:
                text = f"{where} repeats an earlier announcement and has a status of its own"
                self._find("duplicated", status.event_id, text)
            self._judge_repeats(status.event_id, f"status of {where}", statuses)
            letters, ends = self._letters.pop(position, 0), self._ends(statuses)
            if "failed" in ends and letters == 0:
                self._find("lost", status.event_id, f"{where} failed and has no dead letter")
            elif letters and "failed" not in ends:
                text = f"{where} {status.outcome} and has a dead letter"
                self._find("unexpected", status.event_id, text)
            elif letters > 1 and not self._allow_repeats:
                self._find("duplicated", status.event_id, f"{where} has {letters} dead letters")
        for position in self._letters:
            where = "{}[{}]@{}".format(*position)
            self._find("unexpected", where, f"{where} has a dead letter and no status")

    def _ends(self, statuses: list[_Status]) -> set[str]:
        """Outcomes that may have left something behind: with at-least-once delivery those of all attempts."""
        return {status.outcome for status in (statuses if self._allow_repeats else statuses[:1])}

    def _judge_repeats(self, event: str, what: str, messages: list[_Status]) -> None:
        """Judge messages of which there should be one."""
        different = len({message.message_id for message in messages})
        if different > 1 or (len(messages) > 1 and not self._allow_repeats):
            outcomes = ", ".join(message.outcome for message in messages)
            self._find("duplicated", event, f"{what}: {len(messages)} times ({outcomes})")
        self._repeats += len(messages) - different

    def _judge_products(self) -> None:
        successes: dict[tuple[str, str], _Status] = {}
        rounds: Counter[tuple[str, str]] = Counter()
        failures: set[str] = set()
        for statuses in self._statuses.values():
            ends = self._ends(statuses)
            status = next((each for each in statuses if each.outcome in ends.intersection(_SUCCESSES)), None)
            if status is not None:
                successes[status.attempt] = status
                rounds[status.attempt] += 1
            elif self._allow_repeats:
                failures.add(statuses[0].event_id)  # a crash may have left products of an earlier attempt
        for key, status in successes.items():
            self._judge_success(status, self._products.get(key, _Products()), rounds[key])
        for key, products in self._products.items():
            if key not in successes and key[0] not in failures:
                topics = ", ".join(sorted(products.counts))
                self._find("unexpected", key[0], f"products without a success: {topics}")

    def _judge_success(self, status: _Status, products: _Products, rounds: int) -> None:
        """Compare what a status describes with what is there; each replay may have published it once more."""
        event, counts = status.event_id, products.counts
        for product, wanted in status.products:
            if counts[product] < wanted:
                text = f"{counts[product]} of {wanted} messages of {product} are there"
                self._find("incomplete", event, text)
        if counts["source-catalog"] and (text := _missing_parts(products)):
            self._find("incomplete", event, text)
        for (topic, message_id), count in Counter(products.messages).items():
            self._repeats += max(0, count - rounds)
            if count > rounds and not self._allow_repeats:
                self._find("duplicated", event, f"{topic} {message_id}: {count} times")

    def _find(self, kind: Kind, event: str, detail: str) -> None:
        self._findings.append(Finding(kind, event, detail))


def _is_finished(position: Position, progress: Mapping[TopicPartition, OffsetLedger]) -> bool:
    topic, partition, offset = position
    ledger = progress.get(TopicPartition(topic, partition))
    return ledger is not None and ledger.is_finished(offset)


def _missing_parts(products: _Products) -> str:
    """Say which parts of a catalogue are missing; nothing when it is whole."""
    if products.manifest is None:
        return "the manifest of the catalogue is missing"
    missing = [str(chunk) for chunk, digest in products.manifest if digest not in products.chunks]
    return f"chunks {', '.join(missing)} of the catalogue are missing" if missing else ""


def summarize(report: Report) -> Iterator[tuple[str, str]]:
    """Return the figures of a report as pairs of name and value."""
    yield "announced", str(report.announced)
    yield "announced again, not processed again", str(report.repeated)
    yield "not finished yet", str(report.pending)
    yield from ((outcome, str(count)) for outcome, count in sorted(report.outcomes.items()))
    kinds: Iterable[Kind] = ("lost", "duplicated", "incomplete", "unexpected")
    yield from ((kind, str(report.count(kind))) for kind in kinds)
    yield "repeats that subscribers drop", str(report.repeats)
