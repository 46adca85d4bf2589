"""The downstream library: quality records, statuses and whole catalogues from the topics, as typed objects."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Generator, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypedDict, TypeVar, Unpack, cast, overload

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from streamchar.messages.assembly import CatalogAssembler, Memory, Partition, Record
from streamchar.messages.catalog import Catalog
from streamchar.messages.codec import decode
from streamchar.messages.errors import MessageError
from streamchar.messages.exposure_status import ExposureStatus
from streamchar.messages.psf_quality import PsfQuality
from streamchar.messages.topics import TopicNames

Product = PsfQuality | ExposureStatus | Catalog
ProductName = Literal["quality", "catalog", "status"]
P_co = TypeVar("P_co", bound=Product, covariant=True)

QUALITY: tuple[ProductName, ...] = ("quality",)
POLL_MS = 200
MAX_RECORDS = 100


class SubscriptionWarning(UserWarning):
    """Something in a topic could not be delivered: a malformed message, or a catalogue that stayed incomplete."""


def warn_about(problem: MessageError) -> None:
    """Issue a :class:`SubscriptionWarning`; what happens with problems unless told otherwise."""
    warnings.warn(SubscriptionWarning(str(problem)), stacklevel=2)


class SubscriptionOptions(TypedDict, total=False):
    """Options of :class:`Subscription` by name."""

    group: str | None
    instrument: str | Collection[str] | None
    band: str | Collection[str] | None
    detector: int | Collection[int] | None
    from_beginning: bool
    topics: TopicNames | None
    incomplete_after: float
    on_problem: Callable[[MessageError], None]
    remembered: int
    commit_interval: float
    consumer_options: Mapping[str, Any] | None


@overload
def subscribe(
    bootstrap: str, *, products: Literal["quality"] = ..., **options: Unpack[SubscriptionOptions]
) -> Subscription[PsfQuality]: ...
@overload
def subscribe(
    bootstrap: str, *, products: Literal["catalog"], **options: Unpack[SubscriptionOptions]
) -> Subscription[Catalog]: ...
@overload
def subscribe(
    bootstrap: str, *, products: Literal["status"], **options: Unpack[SubscriptionOptions]
) -> Subscription[ExposureStatus]: ...
@overload
def subscribe(
    bootstrap: str, *, products: Collection[ProductName], **options: Unpack[SubscriptionOptions]
) -> Subscription[Product]: ...


def subscribe(
    bootstrap: str,
    *,
    products: ProductName | Collection[ProductName] = "quality",
    **options: Unpack[SubscriptionOptions],
) -> Subscription[Any]:
    """Subscribe to what streamchar publishes.

    Parameters
    ----------
    bootstrap
        Address of a broker, ``"host:port"``; several separated by commas.
    products
        ``"quality"``, ``"catalog"``, ``"status"``, or several of them.
    **options
        See :class:`Subscription`: ``group``, ``instrument``, ``band``, ``detector``, ``from_beginning`` and more.

    Returns
    -------
    Subscription
        An asynchronous iterator, and with :meth:`Subscription.stream` a plain one.

    Examples
    --------
    Print the seeing as it comes:

    >>> for quality in subscribe("localhost:9092").stream():  # doctest: +SKIP
    ...     print(quality.key, quality.seeing)

    Get every catalogue of one camera exactly where you left off, as astropy tables:

    >>> async for catalog in subscribe(  # doctest: +SKIP
    ...     "localhost:9092", products="catalog", group="my-pipeline", instrument="DemoCam"
    ... ):
    ...     table = catalog.to_qtable()

    Watch for failures from the beginning of the topic:

    >>> for status in subscribe(  # doctest: +SKIP
    ...     "localhost:9092", products="status", from_beginning=True
    ... ).stream():
    ...     if status.outcome == "failed":
    ...         print(status.key, [reason.message for reason in status.reasons])
    """
    names: tuple[ProductName, ...] = (products,) if isinstance(products, str) else tuple(products)
    return Subscription(bootstrap, products=names, **options)


class Subscription(Generic[P_co]):
    """A stream of typed records, without repeats, of committed transactions only.

    Iterate over it with ``async for``, or over :meth:`stream` with ``for``. With a group, the position is committed
    once the next record is asked for: a record is repeated after a crash rather than lost. Catalogues are put together
    from their chunks and checked against their manifests; after a restart the position is that of the first chunk of
    the oldest incomplete one.

    Parameters
    ----------
    bootstrap
        Address of a broker.
    products
        What to deliver.
    group
        Name under which the position is kept and the partitions are shared. Without it all partitions are read and
        nothing is kept.
    instrument, band, detector
        Deliver only records of this one, or of one of these.
    from_beginning
        Where to begin without a kept position: with the oldest record, or with the next one.
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
        from_beginning: bool = False,
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
            "status": names.exposure_status,
        }
        unknown = sorted(set(products) - set(of_product))
        if unknown or not products:
            raise ValueError(f"products are {', '.join(of_product)}; not {', '.join(unknown) or 'nothing'}")
        self._topics = [of_product[product] for product in products]
        self._catalog_topic = names.source_catalog
        self._group = group
        self._instruments = _texts(instrument)
        self._bands = _texts(band)
        self._detectors = _numbers(detector)
        self._on_problem = on_problem
        self._commit_interval = commit_interval
        self._settings: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "group_id": group,
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest" if from_beginning else "latest",
            # A subscriber may think long about a catalogue; heartbeats go on meanwhile.
            "max_poll_interval_ms": 1_800_000,
            **(consumer_options or {}),
        }
        self._memory = Memory(remembered)
        self._assembler = CatalogAssembler(
            timeout=incomplete_after, remembered=remembered, wanted=self._is_wanted
        )
        self._iteration: AsyncGenerator[P_co, None] | None = None

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

    def stream(self) -> Generator[P_co, None, None]:
        """Iterate without ``async``: blocks until a record comes; Kafka is served by a thread meanwhile."""
        with _LoopThread() as loop:
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
        consumer = AIOKafkaConsumer(**self._settings)
        progress = _Progress(consumer, self._assembler, self._group is not None, self._commit_interval)
        consumer.subscribe(self._topics, listener=progress)
        await consumer.start()
        try:
            while True:
                batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_RECORDS)
                epoch = progress.epoch
                for partition, records in batches.items():
                    for record in records:
                        for product in self._accept(record):
                            yield cast(P_co, product)
                            if progress.epoch != epoch:
                                break
                        if progress.epoch != epoch:
                            break
                        progress.advance(partition, record.offset + 1)
                for problem in self._assembler.expire(time.monotonic()):
                    self._on_problem(problem)
                await progress.commit_if_due()
        finally:
            await progress.commit()
            await consumer.stop()

    def _accept(self, record: Record) -> Iterator[Product]:
        """Return what a record delivers, and tell about what it spoils."""
        if not self._key_is_wanted(record):
            return
        if record.topic == self._catalog_topic:
            for found in self._assembler.feed(record, time.monotonic()):
                if isinstance(found, MessageError):
                    self._on_problem(found)
                else:
                    yield found
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
        )


class _Progress(ConsumerRebalanceListener):  # type: ignore[misc]
    """How far each partition has been delivered, and when that is committed."""

    def __init__(
        self, consumer: AIOKafkaConsumer, assembler: CatalogAssembler, keeps: bool, interval: float
    ) -> None:
        self.epoch = 0
        self._consumer = consumer
        self._assembler = assembler
        self._keeps = keeps
        self._interval = interval
        self._next: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._last = time.monotonic()

    def advance(self, partition: TopicPartition, offset: int) -> None:
        self._next[partition] = offset

    async def commit_if_due(self) -> None:
        if time.monotonic() - self._last >= self._interval:
            await self.commit()

    async def commit(self) -> None:
        """Commit what has been delivered, but nothing after the first chunk of an incomplete catalogue."""
        self._last = time.monotonic()
        if not self._keeps:
            return
        offsets: dict[TopicPartition, int] = {}
        for partition, following in self._next.items():
            needed = self._assembler.oldest_needed_offset(_plain(partition))
            offset = following if needed is None else min(following, needed)
            if self._committed.get(partition) != offset:
                offsets[partition] = offset
        if not offsets:
            return
        try:
            await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            # The partitions belong to somebody else by now: who reads them again from the last position.
            return
        except KafkaError as error:
            warnings.warn(SubscriptionWarning(f"the position was not kept: {error}"), stacklevel=2)
            return
        self._committed.update(offsets)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self.commit()
        self.epoch += 1
        for partition in revoked:
            self._assembler.drop(_plain(partition))
        self._next.clear()
        self._committed.clear()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Nothing to do: reading begins at the committed positions."""


class _LoopThread:
    """An event loop in a thread of its own, so that heartbeats go on while the caller works."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="streamchar-subscribe", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, awaitable: Any) -> Any:
        """Wait for a coroutine that runs in the thread."""

        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()


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
