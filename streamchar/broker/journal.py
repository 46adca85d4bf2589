"""The durable journal of everything that is not records: topics, committed offsets, transactions.

One checksummed JSON line per event. When it has grown enough it is replaced, atomically, by the shortest list of events
that leads to the present state.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from streamchar.broker.errors import ForeignJournalError, JournalCorruptError, JournalUnavailableError

_logger = logging.getLogger(__name__)

Event = tuple[Any, ...]
Handlers = Mapping[str, Callable[..., None]]


class Journal:
    """An append-only file of events.

    Parameters
    ----------
    path
        The file; created when missing.
    max_growth
        Bytes it may grow beyond its last snapshot.
    """

    def __init__(self, path: Path, max_growth: int) -> None:
        self.path = path
        self.unsynced = False
        self._max_growth = max_growth
        self._descriptor = -1
        self._size = 0
        self._snapshot_size = 0

    @property
    def overgrown(self) -> bool:
        """Whether it is time to call ``rewrite``."""
        return self._size - self._snapshot_size > max(self._max_growth, self._snapshot_size)

    def open(self, handlers: Handlers) -> None:
        """Replay all events, cut off an incompletely written end, and open for appending.

        Parameters
        ----------
        handlers
            What to call, by event name, with the values of the event.

        Raises
        ------
        JournalCorruptError
            When something other than the end is damaged.
        ForeignJournalError
            When there are lines, and none is ours.
        """
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = 0
        for event, end in self._events(content):
            handler = handlers.get(event[0])
            if handler is not None:
                handler(*event[1:])
            whole = end
        if whole == 0 and b"\n" in content:
            raise ForeignJournalError(path=str(self.path))
        if whole < len(content):
            _logger.warning(
                "%s: cut off %d bytes that were not completely written", self.path, len(content) - whole
            )
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._descriptor, whole)
        self._size = self._snapshot_size = whole

    def _events(self, content: bytes) -> Iterator[tuple[Event, int]]:
        end, damaged = 0, 0
        for number, line in enumerate(content.splitlines(keepends=True), start=1):
            event = _parse(line)
            if event is None:
                damaged = damaged or number
                continue
            if damaged:
                raise JournalCorruptError(path=str(self.path), line=damaged)
            end += len(line)
            yield event, end

    def append(self, *event: Any) -> None:
        """Write one event; it survives a crash of the process from here on.

        Raises
        ------
        JournalUnavailableError
            When the file cannot be written; nothing of the event remains then.
        """
        line = _format(event)
        try:
            written = os.pwrite(self._descriptor, line, self._size)
            while written < len(line):
                written += os.pwrite(self._descriptor, line[written:], self._size + written)
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            raise JournalUnavailableError(path=str(self.path), detail=error.strerror) from error
        self._size += len(line)
        self.unsynced = True

    def start_sync(self) -> int:
        """Return a descriptor to force to the disk in another thread."""
        self.unsynced = False
        return os.dup(self._descriptor)

    def rewrite(self, events: Iterable[Event]) -> None:
        """Replace the whole content by ``events``, atomically and durably."""
        temporary = self.path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        size = 0
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                for event in events:
                    size += file.write(_format(event))
                file.flush()
                os.fsync(descriptor)
            temporary.replace(self.path)
        except OSError:
            os.close(descriptor)  # tried again twice a second while the disk is full
            raise
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = self._snapshot_size = size
        _sync_directory(self.path.parent)

    def close(self) -> None:
        """Force everything to the disk and close the file."""
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _format(event: Event) -> bytes:
    payload = json.dumps(event, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def _parse(line: bytes) -> Event | None:
    checksum, _, payload = line.rstrip(b"\n").partition(b" ")
    try:
        if not line.endswith(b"\n") or int(checksum, 16) != zlib.crc32(payload):
            return None
        return tuple(json.loads(payload))
    except ValueError:
        return None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
