"""A lane: one owned input partition with its ledger, its backlog of unread events and its queue of finished ones."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from streamchar.stream.errors import (
    MessageTooLargeError,
    PartitionLostError,
    PublishAbortedError,
    PublishError,
)
from streamchar.stream.ledger import OffsetLedger
from streamchar.stream.outbox import Outbox, Record
from streamchar.stream.repeats import Announcements
from streamchar.stream.settings import DeliverySettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Completion:
    """A finished event, ready to be published.

    Attributes
    ----------
    offset
        Its offset in the lane's partition.
    records
        Everything to be published for it.
    nbytes
        Bytes of the records.
    owner
        Whatever the dispatcher wants to be told back.
    """

    offset: int
    records: tuple[Record, ...]
    owner: Any = None
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        total = sum(memoryview(record.value).nbytes for record in self.records)
        object.__setattr__(self, "nbytes", total)


class LaneOwner(Protocol):
    """Told what becomes of completions."""

    def published(self, lane: Lane, completions: Sequence[Completion], seconds: float) -> None:
        """Report that completions are visible and committed."""

    def replace_oversized(self, completion: Completion) -> Completion:
        """Return what to publish instead of a completion with a message that the broker refuses."""

    def broke(self, lane: Lane, error: PublishError) -> None:
        """Report that the lane cannot go on: its partition must be taken over anew."""


class Lane:
    """Progress of one partition from its assignment to its revocation.

    Parameters
    ----------
    partition
        The input partition.
    ledger
        Restored from the last commit.
    outbox
        Opened for the partition.
    owner
        Told about published completions.
    delivery
        Batch limits and attempts.
    clock
        Monotonic seconds.
    window
        Offsets among which repeated announcements are recognised.

    Attributes
    ----------
    backlog
        Records that were read and not started.
    first
        Offset where processing began; records before it are looked at only to recognise repetitions.
    announcements
        The latest events of the partition.
    """

    def __init__(
        self,
        partition: TopicPartition,
        ledger: OffsetLedger,
        outbox: Outbox,
        owner: LaneOwner,
        delivery: DeliverySettings,
        clock: Callable[[], float],
        window: int = 0,
    ) -> None:
        self.partition = partition
        self.ledger = ledger
        self.first = ledger.base
        self.announcements = Announcements(window)
        self.backlog: deque[ConsumerRecord[Any, Any]] = deque()
        self._outbox = outbox
        self._owner = owner
        self._delivery = delivery
        self._clock = clock
        self._finished: deque[Completion] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._publisher = asyncio.ensure_future(self._publish_all())
        self._publisher.add_done_callback(self._check_publisher)

    @property
    def closed(self) -> bool:
        """Whether the partition was given up."""
        return self._closed

    @property
    def waiting(self) -> int:
        """Completions whose publication has not begun."""
        return len(self._finished)

    def add(self, completion: Completion) -> None:
        """Queue a completion for publication."""
        self._finished.append(completion)
        self._wake.set()

    async def close(self) -> list[Completion]:
        """Let the running publication end, then stop; return the completions that were not published."""
        self._closed = True
        self._wake.set()
        await asyncio.wait([self._publisher])
        return list(self._finished)

    def _check_publisher(self, publisher: asyncio.Task[None]) -> None:
        """Report a defect in the publication rather than be silent."""
        error = None if publisher.cancelled() else publisher.exception()
        if error is not None:
            self._closed = True
            name = f"{self.partition.topic}[{self.partition.partition}]"
            self._owner.broke(self, PublishError(partition=name, detail=f"{type(error).__name__}: {error}"))

    async def _publish_all(self) -> None:
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            while self._finished and not self._closed:
                batch = self._take_batch()
                began = self._clock()
                try:
                    published = await self._publish(batch)
                except PublishError as error:
                    # Kept: should the partition come back without its offsets, they are published once more.
                    self._finished.extendleft(reversed(batch))
                    self._closed = True
                    if isinstance(error, PartitionLostError):
                        log.warning("%s", error)  # the group is already on its way to a new assignment
                    else:
                        self._owner.broke(self, error)
                    return
                self._owner.published(self, published, self._clock() - began)

    def _take_batch(self) -> list[Completion]:
        """Take what is finished, within the limits of one transaction; one completion at least."""
        batch = [self._finished.popleft()]
        size = batch[0].nbytes
        while self._finished and len(batch) < self._delivery.batch_events:
            size += self._finished[0].nbytes
            if size > self._delivery.batch_bytes:
                break
            batch.append(self._finished.popleft())
        return batch

    async def _publish(self, batch: list[Completion]) -> list[Completion]:
        """Publish a batch as one; when a message in it is too large, each for itself."""
        try:
            await self._publish_together(batch)
        except MessageTooLargeError:
            if len(batch) > 1:
                return [done for one in batch for done in await self._publish([one])]
            batch = [self._owner.replace_oversized(batch[0])]
            await self._publish_together(batch)
        return batch

    async def _publish_together(self, batch: Sequence[Completion]) -> None:
        offsets = [completion.offset for completion in batch]
        records = [record for completion in batch for record in completion.records]
        attempt = 1
        while True:
            try:
                await self._outbox.publish(self.partition, records, self.ledger.prepare(offsets))
            except PublishAbortedError:
                if attempt >= self._delivery.attempts:
                    raise
                await asyncio.sleep(0.1 * 2**attempt)
                attempt += 1
            else:
                self.ledger.finish(offsets)
                return
