"""Record batches (format v2): the header, the checks on what producers send, and control batches."""

from __future__ import annotations

import struct
from typing import NamedTuple

from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from streamchar.broker.codec import Buffer
from streamchar.broker.errors import ErrorCode, RefusedError

_HEADER = struct.Struct(">qiibIhiqqqhii")
_LEADING = struct.Struct(">qii")
_CONTROL_KEY = struct.Struct(">hh")
_CONTROL_RECORD = struct.Struct(">bbbbbhhbhib")

HEADER_SIZE = _HEADER.size
LEADING_SIZE = _LEADING.size
MAGIC = 2
NO_PRODUCER = -1
_LENGTH_PREFIX = 12  # base offset and length precede what the length counts
_CRC_START = 21  # the checksum covers everything after itself
_TRANSACTIONAL = 0x10
_CONTROL = 0x20
_TIMESTAMP_TYPE = 0x08


class BatchHeader(NamedTuple):
    """The fixed-size beginning of a record batch."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return _LENGTH_PREFIX + self.length

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """Offset after the last record."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """Sequence number of the last record; they wrap around at 2**31."""
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF

    @property
    def transactional(self) -> bool:
        """Whether the records belong to a transaction."""
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def control(self) -> bool:
        """Whether this is a transaction marker."""
        return bool(self.attributes & _CONTROL)

    @property
    def plausible(self) -> bool:
        """Whether the fields can belong to a batch at all (before anything is believed or allocated)."""
        return (
            self.magic == MAGIC
            and self.size >= HEADER_SIZE
            and self.base_offset >= 0
            and self.last_offset_delta >= 0
            and self.record_count >= 0
        )


def parse_header(data: Buffer, position: int = 0) -> BatchHeader:
    """Read the header at ``position``; the caller guarantees ``HEADER_SIZE`` bytes there."""
    return BatchHeader._make(_HEADER.unpack_from(data, position))


def checksum_matches(batch: Buffer, header: BatchHeader) -> bool:
    """Whether the bytes of a whole batch are the ones that were checksummed."""
    crc: int = calc_crc32c(memoryview(batch)[_CRC_START : header.size])
    return crc == header.crc


def check_produced(records: Buffer | None, max_batch_bytes: int, latest_timestamp: int) -> BatchHeader:
    """Check what a producer sent for one partition: exactly one sound record batch.

    Parameters
    ----------
    records
        The bytes sent.
    max_batch_bytes
        The topic's ``max.message.bytes``.
    latest_timestamp
        Records later than this (ms since 1970) are refused.

    Raises
    ------
    RefusedError
        With the error code Apache Kafka answers in the same case, checked in the same order.
    """
    if records is None or len(records) < HEADER_SIZE:
        raise RefusedError(ErrorCode.INVALID_RECORD, "no complete record batch")
    header = parse_header(records)
    if header.magic != MAGIC or header.size != len(records):
        raise RefusedError(ErrorCode.INVALID_RECORD, "exactly one record batch of format v2 is expected")
    if header.base_offset != 0:
        raise RefusedError(ErrorCode.INVALID_RECORD, "the base offset of a produced batch must be 0")
    if header.size > max_batch_bytes:
        raise RefusedError(ErrorCode.MESSAGE_TOO_LARGE, f"{header.size} bytes, {max_batch_bytes} allowed")
    if not checksum_matches(records, header):
        raise RefusedError(ErrorCode.CORRUPT_MESSAGE, "checksum mismatch")
    _check_fields(header)
    if header.max_timestamp > latest_timestamp:
        raise RefusedError(ErrorCode.INVALID_TIMESTAMP, "the timestamp is too far in the future")
    return header


def _check_fields(header: BatchHeader) -> None:
    if header.control:
        raise RefusedError(ErrorCode.INVALID_RECORD, "clients cannot write control batches")
    if header.record_count <= 0 or header.record_count != header.last_offset_delta + 1:
        raise RefusedError(ErrorCode.INVALID_RECORD, "record count and offsets disagree")
    if header.producer_id != NO_PRODUCER and header.base_sequence < 0:
        raise RefusedError(ErrorCode.INVALID_RECORD, "a producer id without sequence numbers")
    if header.transactional and header.producer_id == NO_PRODUCER:
        raise RefusedError(ErrorCode.INVALID_RECORD, "a transaction without a producer id")
    if header.attributes & _TIMESTAMP_TYPE:
        raise RefusedError(ErrorCode.INVALID_TIMESTAMP, "clients cannot set the log append time")


def leading_bytes(base_offset: int, header: BatchHeader) -> bytes:
    """Return the first fields with the offset the log assigns; the checksum does not cover them."""
    return _LEADING.pack(base_offset, header.length, 0)


def control_batch(producer_id: int, producer_epoch: int, commit: bool, timestamp: int) -> bytes:
    """Build a transaction marker; the log assigns its offset.

    The single record holds the key (version 0, type 1 for commit and 0 for abort) and the value (version 0,
    coordinator epoch 0), each preceded by its zigzag length.
    """
    record = _CONTROL_RECORD.pack(32, 0, 0, 0, 8, 0, int(commit), 12, 0, 0, 0)
    fields = (_TRANSACTIONAL | _CONTROL, 0, timestamp, timestamp, producer_id, producer_epoch, -1, 1)
    body = struct.pack(">hiqqqhii", *fields) + record
    crc: int = calc_crc32c(body)
    return struct.pack(">qiibI", 0, len(body) + _CRC_START - _LENGTH_PREFIX, 0, MAGIC, crc) + body


def is_commit_marker(batch: Buffer) -> bool:
    """Whether a control batch commits (rather than aborts) its transaction."""
    # attributes, timestamp delta, offset delta and key length are one byte each in the only record
    _, kind = _CONTROL_KEY.unpack_from(batch, HEADER_SIZE + 5)
    return bool(kind == 1)


def first_record_at(batch: bytes, timestamp: int) -> tuple[int, int] | None:
    """Return timestamp and offset of the first record not earlier than ``timestamp``."""
    records = MemoryRecords(batch).next_batch()
    if records is None:
        return None
    for record in records:
        if record.timestamp >= timestamp:
            return int(record.timestamp), int(record.offset)
    return None
