"""Record batches read leniently: header names that are no UTF-8, over which the client stumbles, are escaped. Pure.

Layout of the batches: Apache Kafka, protocol guide, "Record Batch", message format 2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.structs import ConsumerRecord

from streamchar.frozen import frozen

RawRecord: TypeAlias = "ConsumerRecord[bytes | None, bytes | None]"

_HEADER = struct.Struct(">qiibIhiqqqhii")
_CONTROL_KEY = struct.Struct(">hh")
_BEFORE_LENGTH = 12
_ABORT = 0
_DECODERS: dict[int, Callable[[bytes], bytes]] = {
    1: gzip_decode,
    2: snappy_decode,
    3: lz4_decode,
    4: zstd_decode,
}


class RecordFormatError(ValueError):
    """The bytes are no record batches of format 2."""


@frozen
class Batch:
    """A record batch whose records are not looked at yet."""

    base_offset: int
    next_offset: int
    attributes: int
    first_timestamp: int
    producer_id: int
    count: int
    body: bytes

    @property
    def is_transactional(self) -> bool:
        """Whether it belongs to a transaction."""
        return bool(self.attributes & 0x10)

    @property
    def is_control(self) -> bool:
        """Whether it marks the end of a transaction instead of carrying records."""
        return bool(self.attributes & 0x20)

    def content(self) -> bytes:
        """Return the records, decompressed."""
        codec = self.attributes & 0x07
        if codec == 0:
            return self.body
        if codec not in _DECODERS:
            raise RecordFormatError(f"compression {codec} is not known")
        return bytes(_DECODERS[codec](self.body))


def read_batches(data: bytes) -> Iterator[Batch]:
    """Divide what a broker returned into batches; an incomplete last one is left out.

    Raises
    ------
    RecordFormatError
        A batch of an older format.
    """
    position = 0
    while position + _HEADER.size <= len(data):
        base, length, _, magic, _, attributes, last, first_time, _, producer, _, _, count = (
            _HEADER.unpack_from(data, position)
        )
        end = position + _BEFORE_LENGTH + length
        if magic != 2 or length < _HEADER.size - _BEFORE_LENGTH:
            raise RecordFormatError(f"a batch of format {magic} and length {length}")
        if end > len(data):
            return
        body = data[position + _HEADER.size : end]
        yield Batch(base, base + last + 1, attributes, first_time, producer, count, body)
        position = end


def read_committed(
    topic: str, partition: int, data: bytes, aborted: Iterable[tuple[int, int]], begin: int
) -> tuple[list[RawRecord], int]:
    """Return the records from offset ``begin`` on that no aborted transaction wrote, and the offset after them.

    Parameters
    ----------
    topic, partition
        Where they come from.
    data
        Record batches as a broker returned them.
    aborted
        Producer id and first offset of the aborted transactions among them.
    begin
        Offset that was asked for.

    Raises
    ------
    RecordFormatError
        The bytes are not what they should be.
    """
    waiting = sorted(aborted, key=lambda entry: entry[1])
    dead: set[int] = set()
    records: list[RawRecord] = []
    following = begin
    for batch in read_batches(data):
        while waiting and waiting[0][1] <= batch.base_offset:
            dead.add(waiting.pop(0)[0])
        if batch.is_control:
            if _is_abort(batch):
                dead.discard(batch.producer_id)
        elif not (batch.is_transactional and batch.producer_id in dead):
            found = _records(topic, partition, batch)
            records.extend(record for record in found if record.offset >= begin)
        following = batch.next_offset
    return records, following


def _is_abort(batch: Batch) -> bool:
    key = next(_records("", 0, batch)).key or b""
    return len(key) >= _CONTROL_KEY.size and _CONTROL_KEY.unpack_from(key)[1] == _ABORT


def _records(topic: str, partition: int, batch: Batch) -> Iterator[RawRecord]:
    cursor = _Cursor(batch.content())
    for _ in range(batch.count):
        cursor.number()  # length
        cursor.take(1)  # attributes
        timestamp = batch.first_timestamp + cursor.number()
        offset = batch.base_offset + cursor.number()
        key, value = cursor.field(), cursor.field()
        headers = tuple(
            ((cursor.field() or b"").decode("utf-8", "backslashreplace"), cursor.field() or b"")
            for _ in range(cursor.number())
        )
        yield ConsumerRecord(
            topic,
            partition,
            offset,
            timestamp,
            0,
            key,
            value,
            None,
            -1 if key is None else len(key),
            -1 if value is None else len(value),
            headers,
        )


class _Cursor:
    """Reads numbers and fields from bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, count: int) -> bytes:
        part = self._data[self._position : self._position + count]
        if count < 0 or len(part) < count:
            raise RecordFormatError("a record is cut short")
        self._position += count
        return part

    def number(self) -> int:
        """A zigzag number of variable length."""
        result = shift = 0
        while True:
            byte = self.take(1)[0]
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (result >> 1) ^ -(result & 1)
            shift += 7
            if shift > 63:
                raise RecordFormatError("a number is too long")

    def field(self) -> bytes | None:
        length = self.number()
        return None if length < 0 else self.take(length)
