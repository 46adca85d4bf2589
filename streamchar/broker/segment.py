"""One log file of a partition: appending, finding positions through a sparse index, and recovery after a crash."""

from __future__ import annotations

import base64
import json
import mmap
import os
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from streamchar.broker.batches import (
    HEADER_SIZE,
    LEADING_SIZE,
    BatchHeader,
    checksum_matches,
    leading_bytes,
    parse_header,
)
from streamchar.broker.codec import Buffer

INDEX_INTERVAL = 32 << 10
"""Bytes of log per index entry: 24 bytes of memory for every 32 KiB on disk."""

_WINDOW = 16 << 10

Replay = Callable[[BatchHeader, memoryview], None]


class Located(NamedTuple):
    """Where a batch is in its file."""

    position: int
    header: BatchHeader


class Segment:
    """A log file named after its first offset.

    Parameters
    ----------
    directory
        Directory of the partition.
    base_offset
        Offset of the first record the file may hold.
    """

    def __init__(self, directory: Path, base_offset: int) -> None:
        self.base_offset = base_offset
        self.path = directory / f"{base_offset:020d}.log"
        self.index_path = self.path.with_suffix(".index")
        self.next_offset = base_offset
        self.size = 0
        self.max_timestamp = -1
        self.created_ms = -1
        self._offsets = array("q")
        self._positions = array("q")
        self._timestamps = array("q")  # largest timestamp up to and including the batches of the entry
        self._descriptor = -1

    # writing

    def open(self) -> None:
        """Open the file for appending, creating it when missing."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def close(self) -> None:
        """Close the file; reading stays possible."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def append(self, batch: Buffer, header: BatchHeader, base_offset: int) -> BatchHeader:
        """Write one batch at the end with the offset it is assigned; a failed write leaves no trace."""
        view = memoryview(batch)
        try:
            self._write(leading_bytes(base_offset, header), view[LEADING_SIZE:])
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        placed = header._replace(base_offset=base_offset)
        self._note(placed)
        return placed

    def _write(self, leading: bytes, rest: memoryview) -> None:
        written = os.pwritev(self._descriptor, [leading, rest], self.size)
        while written < len(leading) + len(rest):  # a full disk or a signal cuts writes short
            written += os.pwrite(self._descriptor, rest[written - len(leading) :], self.size + written)

    def _note(self, header: BatchHeader) -> None:
        self.max_timestamp = max(self.max_timestamp, header.max_timestamp)
        if not self._positions or self.size - self._positions[-1] >= INDEX_INTERVAL:
            self._offsets.append(header.base_offset)
            self._positions.append(self.size)
            self._timestamps.append(self.max_timestamp)
        else:
            self._timestamps[-1] = self.max_timestamp
        self.size += header.size
        self.next_offset = header.next_offset

    def duplicate_descriptor(self) -> int:
        """Return a descriptor of its own for syncing in another thread."""
        return os.dup(self._descriptor) if self._descriptor >= 0 else os.open(self.path, os.O_RDONLY)

    # reading

    def open_for_reading(self) -> int:
        """Return a descriptor of its own: it stays valid when the file is deleted."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def batches_from(self, position: int, end: int | None = None) -> Iterator[Located]:
        """Walk over batch headers, reading small windows and never the records themselves."""
        end = self.size if end is None else end
        descriptor = self.open_for_reading()
        try:
            window, start = b"", position
            while position + HEADER_SIZE <= end:
                if position + HEADER_SIZE > start + len(window) or position < start:
                    start, window = position, os.pread(descriptor, _WINDOW, position)
                    if len(window) < HEADER_SIZE:
                        return
                header = parse_header(window, position - start)
                if not header.plausible:
                    return
                yield Located(position, header)
                position += header.size
        finally:
            os.close(descriptor)

    def find(self, offset: int) -> Located | None:
        """Return the first batch that ends at or after ``offset``."""
        entry = max(bisect_right(self._offsets, offset) - 1, 0)
        start = self._positions[entry] if self._positions else 0
        return next((found for found in self.batches_from(start) if found.header.last_offset >= offset), None)

    def position_of(self, offset: int) -> int:
        """Return where the batch that begins at or after ``offset`` starts, or the end of the file."""
        if offset >= self.next_offset:
            return self.size
        found = self.find(offset)
        if found is None:
            return self.size
        return found.position if found.header.base_offset >= offset else found.position + found.header.size

    def floor(self, start: int, limit: int) -> tuple[int, int]:
        """Return the last batch boundary at or before ``limit`` and the offset there, walking from ``start``."""
        position, offset = start, self.base_offset
        entry = bisect_right(self._positions, limit) - 1
        if entry >= 0 and self._positions[entry] > start:
            position, offset = self._positions[entry], self._offsets[entry]
        for found in self.batches_from(position, limit):
            if found.position + found.header.size > limit:
                break
            position, offset = found.position + found.header.size, found.header.next_offset
        return position, offset

    def read(self, position: int, length: int) -> bytes:
        """Read bytes of the file."""
        descriptor = self.open_for_reading()
        try:
            return os.pread(descriptor, length, position)
        finally:
            os.close(descriptor)

    def batches_reaching(self, timestamp: int) -> Iterator[Located]:
        """Walk over the batches whose latest record is not earlier than ``timestamp``."""
        if self.max_timestamp < timestamp:
            return
        entry = next(i for i, latest in enumerate(self._timestamps) if latest >= timestamp)
        for found in self.batches_from(self._positions[entry]):
            if found.header.max_timestamp >= timestamp:
                yield found

    def older_than(self, horizon: int) -> bool:
        """Whether all records are older than a time; records without timestamps are as old as the file."""
        if self.max_timestamp < 0 and self.size:
            return self.path.stat().st_mtime * 1000 < horizon
        return self.max_timestamp < horizon

    # recovery

    def recover(self, replay: Replay) -> int:
        """Rebuild everything from the file, cutting off what was not completely written.

        Returns
        -------
        int
            Bytes cut off.
        """
        self.open()
        actual = os.fstat(self._descriptor).st_size
        if actual:
            with (
                mmap.mmap(self._descriptor, actual, prot=mmap.PROT_READ) as mapped,
                memoryview(mapped) as view,
            ):
                self._scan(view, replay)
        os.ftruncate(self._descriptor, self.size)
        return actual - self.size

    def _scan(self, view: memoryview, replay: Replay) -> None:
        while self.size + HEADER_SIZE <= len(view):
            header = parse_header(view, self.size)
            if (
                not header.plausible
                or header.base_offset < self.next_offset
                or self.size + header.size > len(view)
            ):
                return
            with view[self.size : self.size + header.size] as batch:
                if not checksum_matches(batch, header):
                    return
                replay(header, batch)
            self._note(header)

    # what a closed file remembers, so that starting does not read it again

    def seal(self, state: dict[str, Any]) -> None:
        """Write the index and the partition's ``state`` at the end of this file beside it."""
        payload = json.dumps(
            {
                "size": self.size,
                "next_offset": self.next_offset,
                "max_timestamp": self.max_timestamp,
                "offsets": _pack(self._offsets),
                "positions": _pack(self._positions),
                "timestamps": _pack(self._timestamps),
                "state": state,
            }
        ).encode()
        temporary = self.index_path.with_suffix(".tmp")
        temporary.write_bytes(b"%08x\n%s" % (zlib.crc32(payload), payload))
        temporary.replace(self.index_path)

    def load_sealed(self) -> dict[str, Any] | None:
        """Restore the index written by ``seal`` and return the state, or ``None`` if it cannot be trusted."""
        try:
            checksum, _, payload = self.index_path.read_bytes().partition(b"\n")
            if int(checksum, 16) != zlib.crc32(payload):
                return None
            content = json.loads(payload)
        except (FileNotFoundError, ValueError):
            return None
        if content["size"] != self.path.stat().st_size:
            return None
        self.size, self.next_offset = content["size"], content["next_offset"]
        self.max_timestamp = content["max_timestamp"]
        self._offsets, self._positions = _unpack(content["offsets"]), _unpack(content["positions"])
        self._timestamps = _unpack(content["timestamps"])
        state: dict[str, Any] = content["state"]
        return state

    def delete(self) -> None:
        """Remove the files; descriptors opened for reading stay valid."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.index_path.unlink(missing_ok=True)


def _pack(values: array[int]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _unpack(text: str) -> array[int]:
    values = array("q")
    values.frombytes(base64.b64decode(text))
    return values
