"""The offset ledger: which events of one partition are finished, and what to commit so that none is lost or redone.

Pure bookkeeping without any I/O. One ledger lives from the assignment of a partition to its revocation.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from streamchar.frozen import frozen

METADATA_LIMIT = 4000
"""Longest commit metadata in bytes; Kafka's own default limit (``offset.metadata.max.bytes``) is 4096."""

_PREFIX = "sc1."


@frozen
class Commit:
    """What to commit for a partition.

    Attributes
    ----------
    offset
        First offset whose event is not finished; Kafka's committed offset.
    metadata
        The finished offsets above it, encoded; at most :data:`METADATA_LIMIT` ASCII characters.
    """

    offset: int
    metadata: str


@dataclass
class Intervals:
    """A set of integers kept as sorted, disjoint, non-adjacent half-open intervals.

    Attributes
    ----------
    starts, ends
        Interval ``k`` is ``starts[k] <= n < ends[k]``.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self.starts, number) - 1
        return index >= 0 and number < self.ends[index]

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self.starts, self.ends, strict=True))

    def copy(self) -> Intervals:
        """Return an independent copy."""
        return Intervals(list(self.starts), list(self.ends))

    def add(self, start: int, end: int) -> None:
        """Add the integers of ``start <= n < end``; does nothing when the interval is empty."""
        if end <= start:
            return
        first = bisect_right(self.ends, start - 1)
        last = bisect_right(self.starts, end)
        if first < last:
            start = min(start, self.starts[first])
            end = max(end, self.ends[last - 1])
        self.starts[first:last] = [start]
        self.ends[first:last] = [end]

    def take_from(self, number: int) -> int:
        """Drop the first interval when it begins at or below ``number``; return the end of what is contiguous."""
        while self.starts and self.starts[0] <= number:
            number = max(number, self.ends.pop(0))
            self.starts.pop(0)
        return number


class OffsetLedger:
    """Progress of one partition during one assignment.

    Offsets are taken in the order in which the partition is read; offsets that the reader skips (transaction
    markers, aborted or compacted records) do not exist and count as finished. Taken offsets finish in any order.
    The committed offset is the first unfinished one, and the finished offsets above it travel in the commit's
    metadata, so that a restart neither loses nor redoes an event.

    Parameters
    ----------
    base
        First offset that is not finished: where reading starts.
    finished
        Finished offsets above ``base``, as half-open intervals.
    epoch
        Number of the assignment; results that carry another one are stale.
    limit
        Longest commit metadata in characters.
    """

    def __init__(
        self,
        base: int = 0,
        finished: Iterable[tuple[int, int]] = (),
        *,
        epoch: int = 0,
        limit: int = METADATA_LIMIT,
    ) -> None:
        self.epoch = epoch
        self._limit = limit
        self._finished = Intervals()
        for start, end in finished:
            self._finished.add(start, end)
        self._base = self._finished.take_from(base)
        self._position = self._base
        self._pending: set[int] = set()

    @classmethod
    def restore(
        cls, offset: int, metadata: str | None, *, epoch: int = 0, limit: int = METADATA_LIMIT
    ) -> OffsetLedger:
        """Rebuild the ledger from a commit; metadata that is not ours or does not belong to the offset is ignored."""
        try:
            finished = decode_finished(offset, metadata or "")
        except ValueError:
            finished = []
        return cls(offset, finished, epoch=epoch, limit=limit)

    @property
    def base(self) -> int:
        """First offset whose event is not finished."""
        return self._base

    @property
    def position(self) -> int:
        """One above the highest offset taken so far."""
        return self._position

    @property
    def pending(self) -> frozenset[int]:
        """Offsets that were taken and are not finished."""
        return frozenset(self._pending)

    @property
    def finished_above(self) -> int:
        """Number of finished offsets above :attr:`base`."""
        return sum(end - start for start, end in self._finished)

    def is_finished(self, offset: int) -> bool:
        """Say whether the event at this offset is finished or does not exist."""
        return offset < self._base or offset in self._finished

    def has_room(self, offset: int) -> bool:
        """Say whether ``offset`` can be taken and every future commit still fit into the metadata."""
        if offset < self._position:
            return True
        spread = _varint_length(max(1, offset + 1 - self._base, self._top() - self._base))
        # A pending offset costs at most one length byte of its own and one finished run after it;
        # what was restored above the position costs two runs.
        above = sum(1 for end in self._finished.ends if end > self._position)
        worst = (len(self._pending) + 1) * (1 + spread) + (above + 1) * 2 * spread + 4
        return len(_PREFIX) + 4 * ((worst + 2) // 3) <= self._limit

    def take(self, offset: int) -> bool:
        """Note that the event at ``offset`` is about to be processed.

        Returns
        -------
        bool
            False when it is finished or in work already: it must not be processed again.
        """
        if offset < self._position:
            return False
        self._finished.add(self._position, offset)
        self._position = offset + 1
        is_new = offset not in self._finished and offset >= self._base
        if is_new:
            self._pending.add(offset)
        self._base = self._finished.take_from(self._base)
        return is_new

    def prepare(self, offsets: Iterable[int]) -> Commit:
        """Return what to commit together with the results of ``offsets``; the ledger does not change.

        Raises
        ------
        KeyError
            An offset was never taken, or is finished already.
        """
        base, finished = self._after(offsets)
        return Commit(base, encode_finished(base, finished))

    def finish(self, offsets: Iterable[int]) -> None:
        """Note that the results of ``offsets`` are published and committed.

        Raises
        ------
        KeyError
            An offset was never taken, or is finished already.
        """
        offsets = list(offsets)
        self._base, self._finished = self._after(offsets)
        self._pending.difference_update(offsets)

    def snapshot(self) -> Commit:
        """Return the commit that describes the present state."""
        return Commit(self._base, encode_finished(self._base, self._finished))

    def _after(self, offsets: Iterable[int]) -> tuple[int, Intervals]:
        finished = self._finished.copy()
        for offset in offsets:
            if offset not in self._pending or offset in finished:
                raise KeyError(offset)
            finished.add(offset, offset + 1)
        return finished.take_from(self._base), finished

    def _top(self) -> int:
        return self._finished.ends[-1] if self._finished else self._position


def encode_finished(base: int, finished: Iterable[tuple[int, int]]) -> str:
    """Encode finished intervals above ``base`` as run lengths; the empty set is the empty string.

    The text is ``sc1.`` and, in URL-safe base 64 without padding, the CRC-32 of what follows and of ``base``,
    then LEB128 numbers: unfinished run, finished run, alternating, from ``base`` upwards.
    """
    runs = bytearray()
    position = base
    for start, end in finished:
        _append_varint(runs, start - position)
        _append_varint(runs, end - start)
        position = end
    if not runs:
        return ""
    payload = _checksum(base, runs).to_bytes(4, "little") + bytes(runs)
    return _PREFIX + base64.urlsafe_b64encode(payload).decode("ascii").rstrip("=")


def decode_finished(base: int, text: str) -> list[tuple[int, int]]:
    """Decode what :func:`encode_finished` wrote for the same ``base``.

    Raises
    ------
    ValueError
        The text is not ours, is damaged, or belongs to another offset.
    """
    if not text:
        return []
    if not text.startswith(_PREFIX) or len(text) > METADATA_LIMIT:
        raise ValueError("commit metadata written by another program")
    body = text[len(_PREFIX) :]
    try:
        payload = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("commit metadata is not base 64") from error
    runs = payload[4:]
    if int.from_bytes(payload[:4], "little") != _checksum(base, runs):
        raise ValueError("commit metadata is damaged or belongs to another offset")
    numbers = list(_varints(runs))
    if len(numbers) % 2:
        raise ValueError("commit metadata ends in an unfinished run")
    finished, position = [], base
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        start = position + gap
        position = start + length
        finished.append((start, position))
    return finished


def _checksum(base: int, runs: bytes | bytearray) -> int:
    return zlib.crc32(base.to_bytes(8, "little", signed=True) + runs)


def _varint_length(number: int) -> int:
    return max(1, (number.bit_length() + 6) // 7)


def _append_varint(buffer: bytearray, number: int) -> None:
    while number > 0x7F:
        buffer.append(number & 0x7F | 0x80)
        number >>= 7
    buffer.append(number)


def _varints(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
        elif shift > 63:
            raise ValueError("commit metadata holds a number that is no offset")
    if shift:
        raise ValueError("commit metadata is cut short")
