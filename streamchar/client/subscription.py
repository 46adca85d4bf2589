"""An iterator over what the topics hold: without repeats, whole, committed, and where it left off."""

from __future__ import annotations

import asyncio
import contextlib
import time
import warnings
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterator,
    Mapping,
)
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeAlias, TypedDict, TypeVar, Union, cast

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, KafkaTimeoutError

from streamchar.client.blocking import LoopThread
from streamchar.client.errors import SubscriptionError, TopicsMissingError
from streamchar.client.partitions import check_address, connection, explain, find_partitions
from streamchar.kafka.committed import committed_offsets
from streamchar.kafka.contact import leave_logging_to_the_application
from streamchar.kafka.tolerant import poll
from streamchar.messages.assembly import CatalogAssembler, Memory, Partition, PsfAssembler, Record
from streamchar.messages.base import Outcome
from streamchar.messages.catalog import Catalog
from streamchar.messages.codec import decode
from streamchar.messages.errors import MessageError
from streamchar.messages.exposure_status import ExposureStatus
from streamchar.messages.psf_conversion import PublishedPsf
from streamchar.messages.psf_quality import PsfQuality
from streamchar.messages.topics import TopicNames

if TYPE_CHECKING:
    from astropy.table import QTable

Product: TypeAlias = Union[PsfQuality, ExposureStatus, Catalog, PublishedPsf, "QTable"]
ProductName = Literal["quality", "catalog", "table", "psf", "status"]
P_co = TypeVar("P_co", covariant=True)
_Offsets = Callable[[Collection[TopicPartition]], Awaitable[dict[TopicPartition, int]]]

QUALITY: tuple[ProductName, ...] = ("quality",)
POLL_SECONDS = 0.2
MAX_RECORDS = 100
WAIT_FOR_TOPICS = 1.0
"""Seconds between two looks for topics that do not exist yet."""
LOOK_FOR_PARTITIONS = 30.0
"""Seconds between two looks for new partitions, and without anything new for the broker itself."""
LAST_COMMIT = 5.0
"""Seconds to wait for the last commit; what it would have told is delivered again next time."""


class SubscriptionWarning(UserWarning):
    """Something could not be delivered: a malformed message, an incomplete catalogue, a topic that does not exist."""


def warn_about(problem: MessageError) -> None:
    """Issue a :class:`SubscriptionWarning`; what happens with problems unless told otherwise."""
    warnings.warn(SubscriptionWarning(str(problem)), stacklevel=2)


class SubscriptionOptions(TypedDict, total=False):
    """Options of :class:`Subscription` by name."""

    group: str | None
    instrument: str | Collection[str] | None
    band: str | Collection[str] | None
    detector: int | Collection[int] | None
    outcome: Outcome | Collection[Outcome] | None
    from_beginning: bool
    from_end: int
    stop_at_end: bool
    topics: TopicNames | None
    incomplete_after: float
    on_problem: Callable[[MessageError], None]
    remembered: int
    commit_interval: float
    consumer_options: Mapping[str, Any] | None


class Subscription(Generic[P_co]):
    """A stream of typed records, without repeats, of committed transactions only.

    Iterate over it with ``async for`` or with ``for``. With a group, the position is committed
    once the next record is asked for: a record is repeated after a crash rather than lost. Catalogues are put together
    from their chunks and checked against their manifests; after a restart the position is that of the first chunk of
    the oldest incomplete one. It ends when it is closed, or when a wait for the next record is cancelled.

    Parameters
    ----------
    bootstrap
        Address of a broker.
    products
        What to deliver.
    group
        Name under which the position is kept, before the first record too, and the partitions are shared. Without it
        all partitions are read and nothing is kept.
    instrument, band, detector, outcome
        Deliver only records of this one, or of one of these. What a record does not tell does not match; catalogues
        and PSF models tell their outcome since version 1.1 of the contract.
    from_beginning
        Where to begin without a kept position: with the oldest record, or with the next one. Topics that do not exist
        yet are waited for and read from their beginning.
    from_end
        Without a group: begin so many offsets before the end of each partition. A catalogue takes several, and each
        transaction one more; what began before is left out.
    stop_at_end
        End once everything has been delivered that was there at the start, instead of waiting for more.
    topics
        Names of the topics.
    incomplete_after
        Seconds after which a catalogue whose parts stopped coming is reported.
    on_problem
        Called with malformed messages and incomplete catalogues; warns unless given.
    remembered
        How many identifiers are remembered to drop repeats.
    commit_interval
        Seconds between commits.
    consumer_options
        Further arguments for :class:`aiokafka.AIOKafkaConsumer`, for example ``security_protocol``.

    Raises
    ------
    AddressError
        ``bootstrap`` is no address.
    ValueError
        A product is not known.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        products: Collection[ProductName] = QUALITY,
        group: str | None = None,
        instrument: str | Collection[str] | None = None,
        band: str | Collection[str] | None = None,
        detector: int | Collection[int] | None = None,
        outcome: Outcome | Collection[Outcome] | None = None,
        from_beginning: bool = False,
        from_end: int = 0,
        stop_at_end: bool = False,
        topics: TopicNames | None = None,
        incomplete_after: float = 60.0,
        on_problem: Callable[[MessageError], None] = warn_about,
        remembered: int = 100_000,
        commit_interval: float = 1.0,
        consumer_options: Mapping[str, Any] | None = None,
    ) -> None:
        names = topics or TopicNames()
        of_product = {
            "quality": names.psf_quality,
            "catalog": names.source_catalog,
            "table": names.source_catalog,
            "psf": names.psf_model,
            "status": names.exposure_status,
        }
        check_address(bootstrap)
        unknown = sorted(set(products) - set(of_product))
        if unknown or not products:
            raise ValueError(f"products are {', '.join(of_product)}; not {', '.join(unknown) or 'nothing'}")
        if {"catalog", "table"} <= set(products):
            raise ValueError("catalog and table are the same product in two forms; choose one")
        self._topics = list(dict.fromkeys(of_product[product] for product in products))
        self._as_table = "table" in products
        self._group = group
        self._instruments = _texts(instrument)
        self._bands = _texts(band)
        self._detectors = _numbers(detector)
        self._outcomes = _texts(outcome)
        self._from_beginning = from_beginning
        self._from_end = from_end
        self._stop_at_end = stop_at_end
        self._on_problem = on_problem
        self._commit_interval = commit_interval
        self._settings: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "group_id": group,
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "retry_backoff_ms": 500,
            # A subscriber may think long about a catalogue; heartbeats go on meanwhile.
            "max_poll_interval_ms": 1_800_000,
            **(consumer_options or {}),
        }
        self._memory = Memory(remembered)
        self._assemblers: dict[str, CatalogAssembler | PsfAssembler] = {
            topic: kind(timeout=incomplete_after, remembered=remembered, wanted=self._is_wanted)
            for topic, kind in ((names.source_catalog, CatalogAssembler), (names.psf_model, PsfAssembler))
            if topic in self._topics
        }
        self._iteration: AsyncGenerator[P_co, None] | None = None
        self._reads_all = False

    def __aiter__(self) -> AsyncIterator[P_co]:
        if self._iteration is None:
            self._iteration = self._iterate()
        return self._iteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop and leave the group. ``async with`` does it by itself."""
        if self._iteration is not None:
            iteration, self._iteration = self._iteration, None
            await iteration.aclose()

    @property
    def reads_all(self) -> bool:
        """Whether it began, without a group, with the oldest record of every partition."""
        return self._reads_all

    def __iter__(self) -> Iterator[P_co]:
        return self.stream()

    def stream(self) -> Generator[P_co, None, None]:
        """Iterate without ``async``: blocks until a record comes; Kafka is served by a thread meanwhile."""
        with LoopThread() as loop:
            try:
                iterator = self.__aiter__()
                while True:
                    try:
                        record = loop.run(iterator.__anext__())
                    except StopAsyncIteration:
                        return
                    yield record
            finally:
                loop.run(self.aclose())

    async def _iterate(self) -> AsyncGenerator[P_co, None]:
        leave_logging_to_the_application()
        reader = await self._open()
        try:
            while True:
                batches = await reader.poll()
                epoch = reader.epoch
                for partition, records in batches.items():
                    for record in records:
                        for product in self._accept(record):
                            yield cast(P_co, product)
                            if reader.epoch != epoch:
                                break
                        if reader.epoch != epoch:
                            break
                        reader.advance(partition, record.offset + 1)
                for assembler in self._assemblers.values():
                    for problem in assembler.expire(time.monotonic()):
                        self._on_problem(problem)
                await reader.commit_if_due()
                if self._stop_at_end and await reader.is_at_end():
                    return
                await reader.look_around(quiet=not batches)
        finally:
            await reader.close()

    async def _open(self) -> _Reader:
        """Wait for the topics, connect, and go to where reading begins."""
        partitions = await find_partitions(self._settings, self._topics)
        missing = [topic for topic in self._topics if topic not in partitions]
        if missing and self._stop_at_end:
            raise TopicsMissingError(bootstrap=self._settings["bootstrap_servers"], topics=", ".join(missing))
        if missing:
            warnings.warn(
                SubscriptionWarning(
                    f"waiting for the topics {', '.join(missing)}, which {self._settings['bootstrap_servers']} does not "
                    "have yet: a service creates them when it starts; topics=TopicNames(prefix) chooses other names"
                ),
                stacklevel=2,
            )
        while any(topic not in partitions for topic in self._topics):
            await asyncio.sleep(WAIT_FOR_TOPICS)
            partitions = await find_partitions(self._settings, self._topics)
        at_end = not self._from_beginning and not missing
        # Positions are set by ourselves; what expired before it was read is skipped, no more.
        consumer = AIOKafkaConsumer(**{"auto_offset_reset": "earliest", **self._settings})
        reader = _Reader(consumer, self._settings, self._assemblers, self._commit_interval)
        try:
            await reader.start(
                [partition for topic in self._topics for partition in partitions[topic]],
                back=self._from_end if at_end else None,
            )
        except BaseException as error:  # also when the wait is cancelled: nobody else would leave the group
            await consumer.stop()
            if isinstance(error, KafkaError | TimeoutError | OSError):
                raise await explain(error, self._settings, self._topics) from error
            raise
        self._reads_all = reader.reads_all
        return reader

    def _accept(self, record: Record) -> Iterator[Product]:
        """Return what a record delivers, and tell about what it spoils."""
        if not self._key_is_wanted(record):
            return
        assembler = self._assemblers.get(record.topic)
        if assembler is not None:
            for found in assembler.feed(record, time.monotonic()):
                if isinstance(found, MessageError):
                    self._on_problem(found)
                else:
                    yield found.to_qtable() if self._as_table and isinstance(found, Catalog) else found
            return
        try:
            message = decode(record.value or b"", record.headers)
        except MessageError as error:
            self._on_problem(error)
            return
        if not isinstance(message, PsfQuality | ExposureStatus) or not self._is_wanted(message):
            return
        if message.message_id not in self._memory:
            self._memory.add(message.message_id)
            yield message

    def _key_is_wanted(self, record: Record) -> bool:
        """Whether a record may be of interest, from its key alone: chunks of other cameras need no decoding."""
        key = getattr(record, "key", None)
        if not isinstance(key, bytes) or (self._instruments is None and self._detectors is None):
            return True
        parts = key.decode("utf-8", "replace").split("/")
        if len(parts) != 3:
            return True
        if self._instruments is not None and parts[0] not in self._instruments:
            return False
        return self._detectors is None or parts[2] in {str(number) for number in self._detectors}

    def _is_wanted(self, message: Any) -> bool:
        return (
            (self._instruments is None or message.instrument in self._instruments)
            and (self._bands is None or message.band in self._bands)
            and (self._detectors is None or message.detector in self._detectors)
            and (self._outcomes is None or getattr(message, "outcome", _UNTOLD) in self._outcomes | {_UNTOLD})
        )


_UNTOLD = ""
"""In place of the outcome of a part of a product: only the last part tells it."""


class _Reader(ConsumerRebalanceListener):  # type: ignore[misc]
    """A consumer, how far each of its partitions has been delivered, and when that is committed."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        settings: Mapping[str, Any],
        assemblers: Mapping[str, CatalogAssembler | PsfAssembler],
        interval: float,
    ) -> None:
        self.consumer = consumer
        self.epoch = 0
        self.reads_all = False
        self._settings = settings
        self._assemblers = assemblers
        self._keeps = settings["group_id"] is not None
        self._interval = interval
        self._topics: tuple[str, ...] = ()
        self._from_end: frozenset[TopicPartition] = frozenset()
        self._next: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._lost = False
        self._placed = asyncio.Event()
        self._refusal: KafkaError | None = None
        self._last_commit = self._last_look = time.monotonic()

    async def start(self, partitions: list[TopicPartition], *, back: int | None) -> None:
        """Join the group, or take all partitions: from ``back`` offsets before their ends, or from the beginning.

        A group goes on where it was; where it has no position yet, it begins at the end or, without ``back``, at the
        beginning.
        """
        self._topics = tuple(dict.fromkeys(partition.topic for partition in partitions))
        if self._keeps:
            self._from_end = frozenset(partitions if back is not None else ())
            self.consumer.subscribe(list(self._topics), listener=self)
        await self.consumer.start()
        if not self._keeps:
            await self._take(partitions, back=back)
        self._ends = await self.consumer.end_offsets(partitions)

    async def poll(self) -> Mapping[TopicPartition, list[Record]]:
        """Wait a moment for records; a header name that is no UTF-8 is escaped."""
        if self._refusal is not None:
            raise await explain(self._refusal, self._settings, self._topics) from self._refusal
        if not self._placed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._placed.wait()
            return {}
        return await poll(
            self.consumer, partial(connection, self._settings), wait=POLL_SECONDS, max_records=MAX_RECORDS
        )

    async def is_at_end(self) -> bool:
        """Whether all partitions we have were read to where they ended at the start."""
        if not self._placed.is_set():
            return False
        for partition in self.consumer.assignment():
            if await self.consumer.position(partition) < self._ends.get(partition, 0):
                return False
        return True

    async def look_around(self, *, quiet: bool) -> None:
        """Once in a while: say when the broker is lost and found again, and without a group take new partitions."""
        if time.monotonic() - self._last_look < LOOK_FOR_PARTITIONS or (self._keeps and not quiet):
            return
        try:
            found = await find_partitions(self._settings, self._topics)
        except SubscriptionError as error:
            self._say(f"{error}; going on as soon as it is back", lost=True)
            return
        finally:
            self._last_look = time.monotonic()
        self._say("the Kafka broker is back", lost=False)
        new = [one for group in found.values() for one in group if one not in self._next]
        if new and not self._keeps:
            await self._take([*self._next, *new], back=None)

    def _say(self, text: str, *, lost: bool) -> None:
        if lost != self._lost:
            warnings.warn(SubscriptionWarning(text), stacklevel=2)
        self._lost = lost

    async def _take(self, partitions: list[TopicPartition], *, back: int | None) -> None:
        """Assign partitions; go on with known ones, begin new ones near their end or at their beginning."""
        self.consumer.assign(partitions)
        new = [partition for partition in partitions if partition not in self._next]
        begin = await self.consumer.beginning_offsets(new)
        if back is not None:
            ends = await self.consumer.end_offsets(new)
            oldest = begin
            begin = {partition: max(oldest[partition], ends[partition] - back) for partition in new}
            self.reads_all = begin == oldest
        self._next.update(begin)
        for partition in partitions:
            self.consumer.seek(partition, self._next[partition])
        self._placed.set()

    def advance(self, partition: TopicPartition, offset: int) -> None:
        """Note that everything before ``offset`` has been delivered."""
        self._next[partition] = offset

    async def commit_if_due(self) -> None:
        """Commit once in a while."""
        if time.monotonic() - self._last_commit >= self._interval:
            await self.commit()

    async def commit(self) -> None:
        """Commit what has been delivered, but nothing after the first part of an incomplete product."""
        self._last_commit = time.monotonic()
        if not self._keeps:
            return
        offsets: dict[TopicPartition, int] = {}
        for partition, following in self._next.items():
            assembler = self._assemblers.get(partition.topic)
            needed = assembler.oldest_needed_offset(_plain(partition)) if assembler is not None else None
            offset = following if needed is None else min(following, needed)
            if self._committed.get(partition) != offset:
                offsets[partition] = offset
        if not offsets:
            return
        try:
            await self.consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            # The partitions belong to somebody else by now: who reads them again from the last position.
            return
        except KafkaError as error:
            warnings.warn(SubscriptionWarning(f"the position was not kept: {error}"), stacklevel=2)
            return
        self._committed.update(offsets)

    async def close(self) -> None:
        """Commit, which a broker that is away must not make endless, and leave."""
        try:
            async with asyncio.timeout(LAST_COMMIT):
                await self.commit()
        except TimeoutError:
            warnings.warn(SubscriptionWarning("the position was not kept: no broker answers"), stacklevel=2)
        finally:
            await self.consumer.stop()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Commit while the partitions are still ours, and forget what was read of them."""
        await self.commit()
        self._placed.clear()
        self.epoch += 1
        for partition in revoked:
            if partition.topic in self._assemblers:
                self._assemblers[partition.topic].drop(_plain(partition))
        self._next.clear()
        self._committed.clear()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Go to the committed positions, and begin where there are none."""
        self.consumer.pause(*assigned)
        try:
            await self._place(assigned)
        except KafkaError as error:  # the client would swallow it, and nothing would ever come
            self._refusal = error
            return
        self.consumer.resume(*assigned)
        self._placed.set()

    async def _place(self, partitions: Collection[TopicPartition]) -> None:
        """Seek; a position that the group did not have is kept from now on, even if nothing is read there."""
        found = await committed_offsets(
            partial(connection, self._settings), self._settings["group_id"], partitions
        )
        fresh = set(partitions) - set(found)
        begin = await self._patiently(self.consumer.beginning_offsets, fresh - self._from_end)
        begin.update(await self._patiently(self.consumer.end_offsets, fresh & self._from_end))
        self._committed = {partition: position.offset for partition, position in found.items()}
        self._next = begin | self._committed
        for partition, offset in self._next.items():
            self.consumer.seek(partition, offset)

    async def _patiently(
        self, ask: _Offsets, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Ask for offsets until a broker answers; while none does, :meth:`look_around` says so."""
        while True:
            try:
                return await ask(partitions)
            except KafkaTimeoutError:
                continue


def _texts(value: str | Collection[str] | None) -> frozenset[str] | None:
    if value is None:
        return None
    return frozenset([value] if isinstance(value, str) else value)


def _numbers(value: int | Collection[int] | None) -> frozenset[int] | None:
    if value is None:
        return None
    return frozenset([value] if isinstance(value, int) else value)


def _plain(partition: TopicPartition) -> Partition:
    return partition.topic, partition.partition
