"""A partition's log: a chain of segment files with retention, offsets by time, and recovery."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from streamchar.broker.batches import BatchHeader, first_record_at, is_commit_marker
from streamchar.broker.codec import Buffer
from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.broker.producers import Aborted, ProducerStates
from streamchar.broker.segment import Segment
from streamchar.frozen import frozen

_logger = logging.getLogger(__name__)


@frozen
class LogLimits:
    """When files are closed and deleted."""

    segment_bytes: int
    segment_ms: int
    retention_ms: int
    retention_bytes: int
    durable: bool


@frozen
class Extent:
    """A range of whole batches in one file, planned but not read yet."""

    segment: Segment
    position: int
    length: int
    end_offset: int


def now_ms() -> int:
    """Return milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class PartitionLog:
    """The records of one partition.

    Parameters
    ----------
    directory
        Where the segment files are; created when missing.
    limits
        Called whenever limits matter, so that changed settings take effect.
    """

    def __init__(self, directory: Path, limits: Callable[[], LogLimits]) -> None:
        self.directory = directory
        self.start_offset = 0
        self.producers = ProducerStates()
        self.unsynced = False
        self._limits = limits
        self._segments: list[Segment] = []
        directory.mkdir(parents=True, exist_ok=True)
        self._recover()

    @property
    def end_offset(self) -> int:
        """Offset the next record will get; with one node also the high watermark."""
        return self._active.next_offset

    @property
    def last_stable_offset(self) -> int:
        """Offset below which every transaction has ended."""
        first_open = self.producers.first_open_offset()
        return self.end_offset if first_open is None else first_open

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self._segments)

    @property
    def _active(self) -> Segment:
        return self._segments[-1]

    # recovery

    def _recover(self) -> None:
        bases = sorted(int(path.stem) for path in self.directory.glob("*.log"))
        for position, base in enumerate(bases):
            segment = Segment(self.directory, base)
            sealed = segment.load_sealed() if position < len(bases) - 1 else None
            if sealed is not None:
                self.producers = ProducerStates.restore(sealed)
            else:
                self._rescan(segment)
            if segment.size == 0 and position < len(bases) - 1:
                segment.delete()
                continue
            self._segments.append(segment)
        if not self._segments:
            self._segments.append(Segment(self.directory, 0))
        self._active.open()
        self.start_offset = self._segments[0].base_offset
        self.producers.trim(self.start_offset)

    def _rescan(self, segment: Segment) -> None:
        cut = segment.recover(self._replay)
        segment.close()
        if cut:
            _logger.warning("%s: cut off %d bytes that were not completely written", segment.path, cut)

    def _replay(self, header: BatchHeader, batch: Buffer) -> None:
        if header.control:
            self.producers.record_marker(header, is_commit_marker(batch))
        else:
            self.producers.record(header)

    # writing

    def append(self, batch: Buffer, header: BatchHeader) -> int:
        """Append a batch of records or a marker and return the offset it got.

        Raises
        ------
        RefusedError
            ``KAFKA_STORAGE_ERROR`` when the file cannot be written.
        """
        try:
            self._roll_if_due(header.size)
            placed = self._active.append(batch, header, self.end_offset)
        except OSError as error:
            _logger.exception("%s: records could not be written", self._active.path)
            raise RefusedError(ErrorCode.KAFKA_STORAGE_ERROR, str(error.strerror)) from error
        self._replay(placed, batch)
        self.unsynced = True
        return placed.base_offset

    def _roll_if_due(self, incoming: int) -> None:
        limits, active = self._limits(), self._active
        if active.created_ms < 0:
            active.created_ms = now_ms()
        too_old = now_ms() - active.created_ms >= limits.segment_ms
        if active.size and (active.size + incoming > limits.segment_bytes or too_old):
            self._roll()

    def _roll(self) -> None:
        following = Segment(self.directory, self.end_offset)
        following.open()
        if self.unsynced and self._limits().durable:
            sync_and_close(self.start_sync())
        self._active.seal(self.producers.snapshot())
        self._active.close()
        self._segments.append(following)

    def start_sync(self) -> int:
        """Return a descriptor to hand to ``sync_and_close`` in another thread."""
        self.unsynced = False
        return self._active.duplicate_descriptor()

    # reading

    def plan_read(self, offset: int, max_bytes: int, end_offset: int, at_least_one: bool) -> Extent | None:
        """Plan to read whole batches from ``offset`` on, without touching the records.

        Parameters
        ----------
        offset
            First offset wanted; the batch that contains it is returned whole.
        max_bytes
            Bytes wanted at most.
        end_offset
            Nothing at or beyond this offset is returned; a batch boundary.
        at_least_one
            Return the first batch even if it is larger than ``max_bytes``.
        """
        if offset >= end_offset:
            return None
        at = max(bisect_right(self._segments, offset, key=lambda segment: segment.base_offset) - 1, 0)
        found = self._segments[at].find(offset)
        while found is None and at + 1 < len(self._segments):
            at += 1
            found = self._segments[at].find(offset)
        if found is None or found.header.base_offset >= end_offset:
            return None
        segment, first = self._segments[at], found.position
        stop = segment.position_of(end_offset)
        if stop - first <= max_bytes:
            return Extent(segment, first, stop - first, min(end_offset, segment.next_offset))
        stop, stop_offset = segment.floor(first, first + max_bytes)
        if stop > first:
            return Extent(segment, first, stop - first, stop_offset)
        return Extent(segment, first, found.header.size, found.header.next_offset) if at_least_one else None

    def aborted_between(self, first_offset: int, end_offset: int) -> list[Aborted]:
        """Return the aborted transactions that touch a range of offsets."""
        return self.producers.aborted_between(first_offset, end_offset)

    def offset_for_timestamp(self, timestamp: int, end_offset: int) -> tuple[int, int] | None:
        """Return timestamp and offset of the first record not earlier than ``timestamp``."""
        for segment in self._segments:
            for position, header in segment.batches_reaching(timestamp):
                if header.last_offset < self.start_offset:
                    continue
                found = first_record_at(segment.read(position, header.size), timestamp)
                if found is not None and found[1] >= self.start_offset:
                    return found if found[1] < end_offset else None
        return None

    # deleting

    def advance_start(self, offset: int) -> bool:
        """Make ``offset`` the first one and delete files wholly before it; return whether anything changed."""
        if offset <= self.start_offset:
            return False
        self.start_offset = min(offset, self.end_offset)
        while len(self._segments) > 1 and self._segments[1].base_offset <= self.start_offset:
            self._segments.pop(0).delete()
        self.producers.trim(self.start_offset)
        return True

    def enforce_retention(self, now: int) -> bool:
        """Delete files whose records are too old or too many; return whether anything changed."""
        limits = self._limits()
        if limits.retention_ms >= 0:
            self._roll_expired(now - limits.retention_ms)
        kept = list(self._segments)
        excess = self.size - limits.retention_bytes if limits.retention_bytes >= 0 else 0
        while len(kept) > 1 and kept[0].next_offset <= self.last_stable_offset:
            expired = limits.retention_ms >= 0 and kept[0].older_than(now - limits.retention_ms)
            if not expired and excess < kept[0].size:
                break
            excess -= kept.pop(0).size
        return self.advance_start(kept[0].base_offset)

    def _roll_expired(self, horizon: int) -> None:
        if self._active.size and all(segment.older_than(horizon) for segment in self._segments):
            self._roll()

    def close(self) -> None:
        """Close the file being written."""
        self._active.close()

    def delete(self) -> None:
        """Remove all files."""
        for segment in self._segments:
            segment.delete()
        with contextlib.suppress(OSError):
            self.directory.rmdir()


def sync_and_close(descriptor: int) -> None:
    """Force a file to the disk and close the descriptor; safe in any thread."""
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
