"""Frames on a stream socket: one small msgpack header and any number of raw buffers, without copying the buffers."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any

import msgpack

from streamchar.errors import StreamcharError
from streamchar.frozen import frozen

Buffer = bytes | bytearray | memoryview

_MAGIC = b"scf1"
_PREAMBLE = struct.Struct("<4sI")
_MAX_BUFFERS = 4096
_READ_AT_ONCE = 256 << 10


class FrameError(StreamcharError):
    """The other end sent something that is not a frame, or one that is too large."""

    code = "frame"


@frozen
class Frame:
    """A header of plain data and the buffers that belong to it."""

    header: dict[str, Any]
    buffers: tuple[Buffer, ...] = ()


def encode(frame: Frame) -> list[Buffer]:
    """Return the pieces to be written one after the other."""
    header: bytes = msgpack.packb(frame.header, default=_plain)
    pieces: list[Buffer] = [header, *frame.buffers]
    lengths = struct.pack(f"<{len(pieces)}Q", *(memoryview(piece).nbytes for piece in pieces))
    return [_PREAMBLE.pack(_MAGIC, len(pieces)) + lengths, *pieces]


def _plain(value: Any) -> Any:
    """Turn a NumPy scalar into a Python number, and what is left into text."""
    return value.item() if hasattr(value, "item") else str(value)


def send(connection: socket.socket, pieces: Sequence[Buffer]) -> None:
    """Write an encoded frame to a blocking socket."""
    for piece in pieces:
        connection.sendall(piece)


def receive(connection: socket.socket, limit: int) -> Frame | None:
    """Read one frame from a blocking socket; None when the other end is gone.

    Raises
    ------
    FrameError
        Not a frame, or larger than ``limit`` bytes.
    """
    reader = FrameReader(limit)
    while True:
        if not reader.read(connection):
            return None
        if reader.frames:
            return reader.frames.pop(0)


class FrameReader:
    """Assembles frames from a socket, reading straight into buffers of the right size.

    Parameters
    ----------
    limit
        Largest frame in bytes; nothing larger is allocated.

    Attributes
    ----------
    frames
        Complete frames, oldest first; the caller removes them.
    """

    def __init__(self, limit: int) -> None:
        self.frames: list[Frame] = []
        self._limit = limit
        self._begin_frame()

    def read(self, connection: socket.socket) -> bool:
        """Read what is there, a quarter of a megabyte at the most; False at the end of the stream.

        Raises
        ------
        FrameError
            Not a frame, or a frame larger than the limit.
        BlockingIOError
            Nothing is there on a non-blocking socket.
        """
        view = memoryview(self._buffer)[self._filled : self._filled + _READ_AT_ONCE]
        count = connection.recv_into(view)
        view.release()
        if count == 0:
            return False
        self._filled += count
        while self._filled == len(self._buffer):
            self._next_part()
            if self._stage == "preamble":
                break
        return True

    def _begin_frame(self) -> None:
        self._stage = "preamble"
        self._parts: list[bytearray] = []
        self._lengths: tuple[int, ...] = ()
        self._expect(_PREAMBLE.size)

    def _expect(self, size: int) -> None:
        self._buffer = bytearray(size)
        self._filled = 0

    def _next_part(self) -> None:
        if self._stage == "preamble":
            magic, count = _PREAMBLE.unpack(self._buffer)
            if magic != _MAGIC or not 0 < count <= _MAX_BUFFERS:
                raise FrameError(detail="the other end does not speak frames")
            self._stage = "lengths"
            self._expect(8 * count)
        elif self._stage == "lengths":
            self._lengths = struct.unpack(f"<{len(self._buffer) // 8}Q", self._buffer)
            if sum(self._lengths) > self._limit:
                raise FrameError(detail=f"a frame of {sum(self._lengths)} bytes exceeds {self._limit}")
            self._stage = "parts"
            self._expect(self._lengths[0])
        else:
            self._parts.append(self._buffer)
            if len(self._parts) < len(self._lengths):
                self._expect(self._lengths[len(self._parts)])
            else:
                self._finish()

    def _finish(self) -> None:
        header, *buffers = self._parts
        try:
            content = msgpack.unpackb(header)
        except (ValueError, msgpack.UnpackException) as error:
            raise FrameError(detail="the header of a frame is not msgpack") from error
        if not isinstance(content, dict):
            raise FrameError(detail="the header of a frame is not a map")
        self.frames.append(Frame(content, tuple(buffers)))
        self._begin_frame()
