"""Record batches read leniently: what the client reads too must come out the same."""

from __future__ import annotations

import contextlib
import struct

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streamchar.kafka.raw_records import RecordFormatError, read_committed

Content = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
CONTENTS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.text(max_size=10), st.binary(max_size=20)), max_size=4),
    ),
    min_size=1,
    max_size=10,
)


def batch(
    contents: list[Content],
    base: int = 0,
    compression: int = 0,
    producer: int = -1,
    control: bool = False,
) -> bytes:
    """Build a batch with the client's own builder; ``producer`` makes it part of a transaction."""
    builder = DefaultRecordBatchBuilder(2, compression, producer >= 0, producer, 0, 0, 1 << 20)
    for offset, (key, value, headers) in enumerate(contents):
        builder.append(offset, 1000 + offset, key, value, headers)
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    if control:
        data[22] |= 0x20
    return bytes(data)


def control(producer: int, base: int, *, commit: bool) -> bytes:
    return batch([(struct.pack(">hh", 0, int(commit)), b"\0" * 6, [])], base, producer=producer, control=True)


@given(first=CONTENTS, second=CONTENTS, compression=st.integers(0, 4), cut=st.integers(0, 60))
def test_what_the_client_reads_comes_out_the_same(
    first: list[Content], second: list[Content], compression: int, cut: int
) -> None:
    data = batch(first, 10, compression) + batch(second, 100)
    records, following = read_committed("t", 3, data + batch(first, 200)[:cut], [], 11)
    memory, expected = MemoryRecords(data), []
    while memory.has_next():
        expected += [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in memory.next_batch()]
    found = [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]
    assert found == [entry for entry in expected if entry[0] >= 11]
    assert following == 100 + len(second)


def test_aborted_transactions_are_left_out() -> None:
    one = [(b"k", b"v", [])]
    data = (
        batch(one, 0, producer=7)
        + batch(one, 1, producer=8)
        + control(7, 2, commit=False)
        + batch(one, 3, producer=7)
        + control(7, 4, commit=True)
        + control(8, 5, commit=True)
    )
    records, following = read_committed("t", 0, data, [(7, 0)], 0)
    assert [record.offset for record in records] == [1, 3]
    assert following == 6


@given(data=st.binary(max_size=200), position=st.integers(61, 90), byte=st.integers(0, 255))
def test_damage_is_refused_or_harmless(data: bytes, position: int, byte: int) -> None:
    damaged = bytearray(batch([(b"key", b"value", [("name", b"content")])]))
    damaged[min(position, len(damaged) - 1)] = byte
    for hostile in (data, bytes(damaged)):
        with contextlib.suppress(RecordFormatError):
            read_committed("t", 0, hostile, [], 0)


def test_an_older_format_is_refused() -> None:
    data = bytearray(batch([(b"k", b"v", [])]))
    data[16] = 1
    with pytest.raises(RecordFormatError, match="format 1"):
        read_committed("t", 0, bytes(data), [], 0)
