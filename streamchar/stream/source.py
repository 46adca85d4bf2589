"""The source: the group's consumer, its rebalances, and a loop that never stops polling.

On assignment: pause, take possession of each partition through the outbox (which fences the former owner), only
then read the committed offset with its metadata, restore the ledger, seek, resume. On revocation: let running
publications end, give the partitions up. Offsets are only ever committed explicitly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    IllegalStateError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata

from streamchar.kafka.committed import Member, committed_offsets
from streamchar.kafka.raw_records import RawRecord
from streamchar.kafka.tolerant import fetch_leniently, rewind
from streamchar.monitor.metrics import Metrics
from streamchar.stream.dispatcher import Dispatcher
from streamchar.stream.errors import (
    BrokerUnreachableError,
    FatalError,
    GroupError,
    GroupForbiddenError,
    GroupSilentError,
    RefusedError,
)
from streamchar.stream.ledger import OffsetLedger
from streamchar.stream.outbox import Outbox
from streamchar.stream.settings import KafkaSettings, ServiceSettings, milliseconds

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_MAX_POLL_RECORDS = 500
_FORBIDDEN = (
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    TopicAuthorizationFailedError,
)
_PASSING = (TimeoutError, KafkaTimeoutError, IllegalGenerationError, UnknownMemberIdError)


class Source:
    """Reads the input topics as a member of the group.

    Parameters
    ----------
    settings
        Of the service.
    metrics
        Counts rebalances and skipped offsets.
    report
        Called with an error after which it cannot go on as it is: the group is joined anew, or the service ends.

    Attributes
    ----------
    last_poll
        Loop time of the last poll.
    assigned
        Whether partitions have been assigned at least once since the last revocation.
    was_assigned
        Whether partitions have been assigned at least once.
    """

    def __init__(
        self, settings: ServiceSettings, metrics: Metrics, report: Callable[[Exception], None]
    ) -> None:
        kafka = settings.kafka
        self._settings = settings
        self._metrics = metrics
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._consumer = _make_consumer(kafka)
        self._dispatcher: Dispatcher | None = None
        self._outbox: Outbox | None = None
        self._polling = True
        self._usable = True
        self._membership = object()
        self._taken = asyncio.Event()
        self._opened: set[TopicPartition] = set()
        self._running_poll: asyncio.Future[Mapping[TopicPartition, list[RawRecord]]] | None = None
        self._paused: set[TopicPartition] = set()
        self._following: dict[TopicPartition, int] = {}
        self.last_poll = self._loop.time()
        self.assigned = False
        self.was_assigned = False

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit through the group; a member that lost the partition is refused."""
        await self._consumer.commit(dict(offsets))

    async def start(self, dispatcher: Dispatcher, outbox: Outbox) -> None:
        """Connect and join the group.

        Raises
        ------
        BrokerUnreachableError
            No broker answers.
        RefusedError
            The group may not be joined: no permission, or a session timeout the brokers do not allow.
        """
        self._dispatcher, self._outbox = dispatcher, outbox
        try:
            async with asyncio.timeout(self._settings.kafka.start_timeout):
                await self._join()
        except (TimeoutError, KafkaError) as error:
            await self.stop()
            kafka, detail = self._settings.kafka, str(error) or "no answer"
            if isinstance(error, (TimeoutError, KafkaConnectionError)):
                raise BrokerUnreachableError(bootstrap=kafka.bootstrap, detail=detail) from error
            if isinstance(error, InvalidSessionTimeoutError):
                detail = f"they do not allow kafka.session_timeout = {kafka.session_timeout:g} s"
            raise RefusedError(bootstrap=kafka.bootstrap, group=kafka.group, detail=detail) from error

    async def _join(self) -> None:
        """Join the group, again and again while no broker answers: it may be on its way back."""
        while True:
            listener = _Listener(self, self._membership)
            self._consumer.subscribe(list(self._settings.topics.inputs()), listener=listener)
            try:
                await self._consumer.start()
            except KafkaConnectionError:
                await self._consumer.stop()
                await asyncio.sleep(_POLL_SECONDS)
                self._consumer = _make_consumer(self._settings.kafka)
            else:
                return

    @property
    def is_whole(self) -> bool:
        """Whether partitions are assigned and every one of them can publish."""
        assert self._dispatcher is not None
        return self._usable and self.assigned and self._dispatcher.is_whole

    async def rejoin(self) -> None:
        """Join the group anew, with a new client; return when taking over ended, well or not.

        The present client cannot be trusted after an outage: its coordination ends when it is asked to subscribe again
        while it looks for the coordinator.
        """
        assert self._dispatcher is not None
        self._usable = False
        self._membership = object()  # from here on the present client's rebalances are none of ours
        if self._running_poll is not None:
            self._running_poll.cancel()
        await self.revoked(self._opened | set(self._dispatcher.lanes))
        await self.stop()
        self._taken.clear()
        self._consumer = _make_consumer(self._settings.kafka)
        try:
            await self._join()
        except KafkaError as error:
            self._fail("joining the group", error)
        else:
            self._usable = True
            await self._taken.wait()

    async def poll(self) -> None:
        """Poll until :meth:`end_polling`; whatever happens to the events, the polls go on."""
        assert self._dispatcher is not None
        while self._polling:
            if not self._usable:
                self.last_poll = self._loop.time()
                await asyncio.sleep(_POLL_SECONDS)
                continue
            try:
                batches = await self._poll_once()
            except OffsetOutOfRangeError as error:
                await self._return_to_beginning(error)
                continue
            except NoOffsetForPartitionError:
                continue  # asked before the listener could seek; the seek answers it
            except UnicodeDecodeError:
                batches = await self._poll_leniently()
            except (KafkaError, ConsumerStoppedError) as error:
                if not getattr(error, "retriable", False) and self._usable:
                    self._usable = False  # its tasks have ended; a new one must take its place
                    self._taken.set()
                    self._fail("reading", error)
                await asyncio.sleep(_POLL_SECONDS)
                continue
            self.last_poll = self._loop.time()
            for partition, records in batches.items():
                if partition in self._following and records:
                    self._following[partition] = records[-1].offset + 1
                self._dispatcher.receive(partition, records)
            self._regulate()

    async def _poll_once(self) -> Mapping[TopicPartition, list[RawRecord]]:
        """Poll in a task of its own, because a client that has failed may never return.

        Nothing else may cancel it: the client would not count polls correctly any more.
        """
        poll = asyncio.ensure_future(self._consumer.getmany(timeout_ms=milliseconds(_POLL_SECONDS)))
        self._running_poll = poll
        try:
            await asyncio.wait([poll])
        finally:
            self._running_poll = None
        return {} if poll.cancelled() else poll.result()

    async def _poll_leniently(self) -> Mapping[TopicPartition, list[RawRecord]]:
        """Poll once in place of the client, which cannot read a record with a header name that is no UTF-8."""
        with contextlib.suppress(
            IllegalStateError
        ):  # a rebalance has begun: everything is read again after it
            rewind(self._consumer, self._following)
        wanted = {
            partition: offset
            for partition, offset in self._following.items()
            if partition not in self._paused
        }
        try:
            fetched = await fetch_leniently(self._settings.kafka.connection(), wanted)
        except KafkaError as error:
            if not error.retriable:
                self._fail("reading", error)
            await asyncio.sleep(_POLL_SECONDS)
            return {}
        batches = {}
        for partition, (records, following) in fetched.items():
            with contextlib.suppress(IllegalStateError):
                if self._following.get(partition) == wanted[partition]:
                    self._consumer.seek(partition, following)
                    self._following[partition] = following
                    batches[partition] = records
        return batches

    def end_polling(self) -> None:
        """Let the poll loop end after its present poll."""
        self._polling = False
        # A poll waits for the end of a rebalance, which without brokers never comes.
        if self._running_poll is not None:
            self._loop.call_later(2 * _POLL_SECONDS, self._running_poll.cancel)

    async def stop(self) -> None:
        """Leave the group."""
        stopping = asyncio.ensure_future(self._consumer.stop())
        await asyncio.wait([stopping], timeout=self._settings.kafka.request_timeout)
        # Without brokers the client's stop ends in the cancellation of its own tasks, half-way.
        error = stopping.exception() if stopping.done() and not stopping.cancelled() else None
        if not stopping.done() or stopping.cancelled() or error is not None:
            stopping.cancel()
            log.warning("leaving the group failed: %s", error or "no answer")
            await self._consumer._client.close()

    def marks(self) -> dict[TopicPartition, tuple[int, int]]:
        """First unfinished offset and end of each owned partition, as far as known."""
        assert self._dispatcher is not None
        found = {}
        for partition, lane in self._dispatcher.lanes.items():
            with contextlib.suppress(IllegalStateError):
                end = self._consumer.highwater(partition)
                if end is not None:
                    found[partition] = (lane.ledger.base, end)
        return found

    @property
    def is_first(self) -> bool:
        """Whether the first partition of the input topic is owned: of all members of the group, one has it."""
        assert self._dispatcher is not None
        return TopicPartition(self._settings.topics.names.exposure_ready, 0) in self._dispatcher.lanes

    @property
    def paused(self) -> int:
        """Number of partitions not being read."""
        return len(self._paused)

    def _regulate(self) -> None:
        """Pause partitions with a full backlog, resume those whose backlog is half empty.

        Late and early, because pausing drops what the client has fetched ahead.
        """
        assert self._dispatcher is not None
        high = self._settings.limits.backlog_events
        for partition, lane in list(self._dispatcher.lanes.items()):
            with contextlib.suppress(IllegalStateError):  # a rebalance has begun: the partition is not ours
                if partition not in self._paused and len(lane.backlog) >= high:
                    self._consumer.pause(partition)
                    self._paused.add(partition)
                elif partition in self._paused and len(lane.backlog) <= high // 2:
                    self._consumer.resume(partition)
                    self._paused.discard(partition)

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Give partitions up: end running publications, then the producers."""
        assert self._dispatcher is not None
        assert self._outbox is not None
        partitions = list(partitions)
        self.assigned = False
        self._paused.difference_update(partitions)
        for partition in partitions:
            self._following.pop(partition, None)
        await self._dispatcher.revoke(partitions)
        await asyncio.gather(*(self._outbox.close(partition) for partition in partitions))
        self._opened.difference_update(partitions)

    def is_current(self, membership: object) -> bool:
        """Whether a client has not been replaced since it joined: what it tells counts."""
        return membership is self._membership

    async def take(self, partitions: Iterable[TopicPartition], membership: object) -> None:
        """Take partitions over from whoever had them."""
        try:
            await self._take(sorted(partitions), membership)
        finally:
            if self.is_current(membership):
                self._taken.set()

    async def _take(self, owned: list[TopicPartition], membership: object) -> None:
        assert self._dispatcher is not None
        assert self._outbox is not None
        self._consumer.pause(*owned)
        self._metrics.change("streamchar_rebalances_total")
        self._opened.update(owned)
        opened = await asyncio.gather(
            *(self._outbox.open(partition) for partition in owned), return_exceptions=True
        )
        for problem in opened:
            if problem is not None:
                raise problem
        ledgers, first = await self._restore(owned)
        if not self.is_current(membership):
            return
        for partition, ledger in ledgers.items():
            earliest = max(first[partition], ledger.base - self._dispatcher.look_back(partition))
            self._seek(partition, earliest)
            self._dispatcher.assign(partition, ledger)
            log.info("owns %s[%d] from offset %d", partition.topic, partition.partition, ledger.base)
        self._dispatcher.forget_lost()
        self._consumer.resume(*owned)
        self.assigned = self.was_assigned = True

    def _fail(self, what: str, error: Exception) -> None:
        """Report what cannot be gone on with, as what it means for the membership."""
        if isinstance(error, FatalError):
            self._report(error)
            return
        detail = f"{what} failed: {type(error).__name__} {error}"
        kind = GroupError
        if isinstance(error, _FORBIDDEN):
            kind = GroupForbiddenError
        elif isinstance(error, _PASSING) or getattr(error, "retriable", False):
            kind = GroupSilentError
        self._report(kind(group=self._settings.kafka.group, detail=detail))

    async def _restore(
        self, partitions: list[TopicPartition]
    ) -> tuple[dict[TopicPartition, OffsetLedger], dict[TopicPartition, int]]:
        """Read the committed offsets with their metadata.

        Returns the ledgers, and the first offset there is of each partition.
        """
        if not partitions:
            return {}, {}
        async with asyncio.timeout(self._settings.kafka.start_timeout):
            kafka = self._settings.kafka
            committed = await committed_offsets(
                kafka.connection, kafka.group, partitions, member=self._member()
            )
            first = await self._consumer.beginning_offsets(partitions)
            end = await self._consumer.end_offsets(partitions)
        ledgers = {}
        for partition in partitions:
            found = committed.get(partition)
            offset = found.offset if found is not None else -1
            if first[partition] <= offset <= end[partition]:
                assert found is not None
                ledgers[partition] = OffsetLedger.restore(offset, found.metadata)
            else:
                self._note_skipped(partition, offset, first[partition])
                ledgers[partition] = OffsetLedger(first[partition])
        return ledgers, first

    def _member(self) -> Member:
        coordinator = self._consumer._coordinator
        return Member(coordinator.generation, coordinator.member_id)

    async def _return_to_beginning(self, error: OffsetOutOfRangeError) -> None:
        """Continue at the first offset there is when the one wanted is gone."""
        assert self._dispatcher is not None
        partitions = [partition for partition in error.args[0] if partition in self._dispatcher.lanes]
        try:
            first = await self._consumer.beginning_offsets(partitions)
        except KafkaError:
            await asyncio.sleep(_POLL_SECONDS)
            return  # the next poll raises the same error
        await self._dispatcher.revoke(partitions)
        for partition in partitions:
            self._note_skipped(partition, error.args[0][partition], first[partition])
            self._dispatcher.assign(partition, OffsetLedger(first[partition]))
            self._seek(partition, first[partition])

    def _seek(self, partition: TopicPartition, offset: int) -> None:
        self._consumer.seek(partition, offset)
        self._following[partition] = offset

    def _note_skipped(self, partition: TopicPartition, offset: int, first: int) -> None:
        if offset >= 0:
            log.error(
                "%s[%d]: offset %d does not exist, continuing at %d",
                partition.topic,
                partition.partition,
                offset,
                first,
            )
            self._metrics.change(
                "streamchar_offsets_skipped_total", max(0, first - offset), {"topic": partition.topic}
            )


def _make_consumer(kafka: KafkaSettings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        group_id=kafka.group,
        group_instance_id=kafka.instance_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        session_timeout_ms=milliseconds(kafka.session_timeout),
        heartbeat_interval_ms=milliseconds(kafka.heartbeat_interval),
        rebalance_timeout_ms=milliseconds(kafka.rebalance_timeout),
        max_poll_interval_ms=milliseconds(kafka.max_poll_interval),
        max_poll_records=_MAX_POLL_RECORDS,
        max_partition_fetch_bytes=256 << 10,
        fetch_max_wait_ms=250,
        **kafka.connection(),
    )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Passes rebalances on. The client swallows what a listener raises, so failures are reported instead."""

    def __init__(self, source: Source, membership: object) -> None:
        self._source = source
        self._membership = membership

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Give partitions up."""
        if self._source.is_current(self._membership):
            try:
                await self._source.revoked(revoked)
            except Exception as error:  # noqa: BLE001 - the client would log it and go on with half an assignment
                self._report("giving partitions back", error)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Take partitions over."""
        if self._source.is_current(self._membership):
            try:
                await self._source.take(assigned, self._membership)
            except Exception as error:  # noqa: BLE001 - the client would log it and go on with half an assignment
                self._report("taking partitions over", error)

    def _report(self, what: str, error: Exception) -> None:
        if self._source.is_current(self._membership):
            self._source._fail(what, error)
