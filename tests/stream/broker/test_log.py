"""A partition's log: recovery after any damage to its end, retention, offsets by time, bounded reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.broker.batches import check_produced, control_batch, parse_header
from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.broker.log import LogLimits, PartitionLog, now_ms
from tests.stream.conformance.raw import batch

FOREVER = LogLimits(
    segment_bytes=1 << 30, segment_ms=1 << 40, retention_ms=-1, retention_bytes=-1, durable=False
)


def _limits(**changes: int) -> Callable[[], LogLimits]:
    fields = {name: getattr(FOREVER, name) for name in LogLimits.__slots__}
    return lambda: LogLimits(**{**fields, **changes})


def _append(log: PartitionLog, *values: bytes, **options: int | bool) -> int:
    records = batch(values, **options)  # type: ignore[arg-type]
    return log.append(records, check_produced(records, 1 << 30, 1 << 60))


def _mark(log: PartitionLog, producer_id: int, commit: bool) -> None:
    marker = control_batch(producer_id, 0, commit, now_ms())
    log.append(marker, parse_header(marker))


def _common(one: bytes, other: bytes) -> int:
    """Return how many leading bytes are equal."""
    differing = (
        position for position, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]
    )
    return next(differing, min(len(one), len(other)))


def _contents(log: PartitionLog, limit: int = 1 << 30) -> bytes:
    """Read the whole log in steps of at most ``limit`` bytes."""
    offset, data = log.start_offset, b""
    while (extent := log.plan_read(offset, limit, log.end_offset, True)) is not None:
        assert extent.end_offset > offset
        data += extent.segment.read(extent.position, extent.length)
        offset = extent.end_offset
    assert offset == log.end_offset
    return data


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=12),
    segment_bytes=st.sampled_from([1024, 4000, 1 << 20]),
    data=st.data(),
)
def test_damaged_end_loses_nothing_before_it(
    sizes: list[int], segment_bytes: int, data: st.DataObject
) -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        log = PartitionLog(directory, _limits(segment_bytes=segment_bytes))
        for number, size in enumerate(sizes):
            _append(log, bytes([number]) * size)
        before = _contents(log)
        log.close()
        active = max(directory.glob("*.log"))
        original = active.read_bytes()
        size = len(original)
        cut = data.draw(st.integers(0, size), label="damage begins at")
        junk = data.draw(st.sampled_from(["truncate", "zeros", "noise"]))
        with active.open("r+b") as file:
            file.truncate(cut)
            file.seek(cut)
            if junk != "truncate":
                file.write(bytes(size - cut + 50) if junk == "zeros" else os.urandom(size - cut + 50))
        damaged = active.read_bytes()
        # zeros may happen to be what was there
        intact = len(before) - size + _common(original, damaged)
        recovered = PartitionLog(directory, _limits(segment_bytes=segment_bytes))
        after = _contents(recovered)
        assert before.startswith(after)
        position = 0
        while position < len(before) and position + parse_header(before, position).size <= intact:
            position += parse_header(before, position).size
        assert len(after) == position
        assert _append(recovered, b"next") == recovered.end_offset - 1
        recovered.close()
        again = PartitionLog(directory, _limits(segment_bytes=segment_bytes))
        assert _contents(again)[: len(after)] == after
        assert again.end_offset == recovered.end_offset
        again.close()
    finally:
        shutil.rmtree(directory)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=15),
    counts=st.integers(1, 5),
    limit=st.integers(1, 100_000),
    segment_bytes=st.sampled_from([5000, 1 << 20]),
)
def test_any_read_limit_returns_every_batch_once(
    sizes: list[int], counts: int, limit: int, segment_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        log = PartitionLog(Path(name), _limits(segment_bytes=segment_bytes))
        for size in sizes:
            _append(log, *[b"x" * size] * counts)
        assert _contents(log, limit) == _contents(log)
        for offset in range(log.end_offset):
            extent = log.plan_read(offset, 1, log.end_offset, True)
            assert extent is not None
            header = parse_header(extent.segment.read(extent.position, extent.length))
            assert header.base_offset <= offset < header.next_offset
            assert log.plan_read(offset, 1, log.end_offset, False) is None
        log.close()


def test_reads_stop_at_the_last_stable_offset(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, _limits())
    _append(log, b"before")
    _append(log, b"open", producer_id=7, epoch=0, sequence=0, transactional=True)
    _append(log, b"behind")
    assert log.last_stable_offset == 1
    extent = log.plan_read(0, 1 << 20, log.last_stable_offset, True)
    assert extent is not None
    assert extent.end_offset == 1
    assert log.plan_read(1, 1 << 20, log.last_stable_offset, True) is None
    _mark(log, 7, commit=False)
    assert log.last_stable_offset == 4
    assert [(a.producer_id, a.first_offset, a.marker_offset) for a in log.aborted_between(0, 4)] == [
        (7, 1, 3)
    ]
    assert log.aborted_between(0, 1) == []
    log.close()


@pytest.mark.parametrize("segment_bytes", [1024, 1 << 20])
def test_producers_and_transactions_are_recovered(tmp_path: Path, segment_bytes: int) -> None:
    log = PartitionLog(tmp_path, _limits(segment_bytes=segment_bytes))
    for sequence in range(8):
        _append(log, b"x" * 300, producer_id=1, epoch=3, sequence=sequence)
        _append(log, b"x" * 300, producer_id=2, epoch=0, sequence=sequence, transactional=True)
        if sequence == 3:
            _mark(log, 2, commit=False)
    before = log.producers.snapshot()
    log.close()
    log = PartitionLog(tmp_path, _limits(segment_bytes=segment_bytes))
    assert log.producers.snapshot() == before
    assert log.last_stable_offset == 10
    repeat = parse_header(batch([b"x"], producer_id=1, epoch=3, sequence=7))
    assert log.producers.check(repeat) == 15
    log.close()


def test_damaged_index_is_rebuilt(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, _limits(segment_bytes=2000))
    for number in range(20):
        _append(log, b"%d" % number * 300, producer_id=1, epoch=0, sequence=number)
    contents, producers = _contents(log), log.producers.snapshot()
    log.close()
    for index in tmp_path.glob("*.index"):
        index.write_bytes(index.read_bytes()[:-20])
    log = PartitionLog(tmp_path, _limits(segment_bytes=2000))
    assert _contents(log) == contents
    assert log.producers.snapshot() == producers
    log.close()


def test_offsets_by_time_across_files(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, _limits(segment_bytes=2000))
    for number in range(50):
        _append(log, b"x" * 200, timestamp=1000 + 10 * number)
    assert log.offset_for_timestamp(0, log.end_offset) == (1000, 0)
    assert log.offset_for_timestamp(1001, log.end_offset) == (1010, 1)
    assert log.offset_for_timestamp(1490, log.end_offset) == (1490, 49)
    assert log.offset_for_timestamp(1491, log.end_offset) is None
    assert log.offset_for_timestamp(1490, 49) is None
    log.advance_start(20)
    assert log.offset_for_timestamp(0, log.end_offset) == (1200, 20)
    log.close()


def test_retention_by_time_keeps_open_transactions(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, _limits(segment_bytes=1000, retention_ms=1000))
    for _ in range(5):
        _append(log, b"x" * 900, timestamp=1)
    _append(log, b"open", producer_id=1, epoch=0, sequence=0, transactional=True, timestamp=1)
    _append(log, b"x" * 900, timestamp=1)
    assert log.enforce_retention(now_ms())
    assert log.start_offset == 5
    assert len(list(tmp_path.glob("*.log"))) == 3
    _mark(log, 1, commit=True)
    log.enforce_retention(now_ms())
    assert log.start_offset == 7
    log.close()


def test_retention_by_size(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, _limits(segment_bytes=1000, retention_bytes=3000))
    for _ in range(10):
        _append(log, b"x" * 900)
    log.enforce_retention(now_ms())
    assert 3000 <= log.size < 4000
    assert log.start_offset == 6
    log.close()
    log = PartitionLog(tmp_path, _limits())
    assert (log.start_offset, log.end_offset) == (6, 10)
    log.close()


def test_full_disk_refuses_and_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PartitionLog(tmp_path, _limits())
    _append(log, b"first")

    def half(descriptor: int, parts: list[bytes], position: int) -> int:
        os.pwrite(descriptor, parts[0], position)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwritev", half)
    with pytest.raises(RefusedError) as refusal:
        _append(log, b"second")
    assert refusal.value.error is ErrorCode.KAFKA_STORAGE_ERROR
    monkeypatch.undo()
    assert log.end_offset == 1
    assert _append(log, b"third") == 1
    log.close()
    assert PartitionLog(tmp_path, _limits()).end_offset == 2


def test_files_being_read_survive_deletion(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, _limits(segment_bytes=1000))
    for _ in range(4):
        _append(log, b"x" * 900)
    extent = log.plan_read(0, 1 << 20, log.end_offset, True)
    assert extent is not None
    descriptor = extent.segment.open_for_reading()
    log.advance_start(3)
    assert len(os.pread(descriptor, extent.length, extent.position)) == extent.length
    os.close(descriptor)
    log.delete()
    assert not tmp_path.exists()
