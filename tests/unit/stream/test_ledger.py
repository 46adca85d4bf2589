"""The ledger against a naive model that remembers every offset."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.stream.ledger import METADATA_LIMIT, Intervals, OffsetLedger, decode_finished, encode_finished


def log_of_offsets(data: st.DataObject, size: int) -> list[int]:
    """Offsets that exist in the partition; the gaps are markers and compacted records."""
    steps = data.draw(st.lists(st.integers(1, 4), min_size=size, max_size=size))
    start = data.draw(st.integers(0, 2**40))
    offsets, offset = [], start - 1
    for step in steps:
        offset += step
        offsets.append(offset)
    return offsets


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_nothing_is_lost_and_nothing_published_is_redone(data: st.DataObject) -> None:
    """Take, publish and restart at random: afterwards every event has been published exactly once."""
    log = log_of_offsets(data, data.draw(st.integers(1, 40)))
    published: list[int] = []
    committed = (log[0], "")
    ledger = OffsetLedger.restore(*committed)
    reader = 0
    for _ in range(250):
        action = data.draw(st.sampled_from(["take", "take", "finish", "finish", "restart", "seek back"]))
        if action == "take" and reader < len(log):
            offset = log[reader]
            assert ledger.has_room(offset)
            assert ledger.take(offset) == (
                offset not in published and offset not in ledger.pending - {offset}
            )
            reader += 1
        elif action == "finish" and ledger.pending:
            some = data.draw(
                st.lists(st.sampled_from(sorted(ledger.pending)), min_size=1, max_size=3, unique=True)
            )
            commit = ledger.prepare(some)
            assert len(commit.metadata) <= METADATA_LIMIT
            if data.draw(st.booleans()):  # otherwise the transaction failed: nothing may have changed
                published += some
                ledger.finish(some)
                committed = (commit.offset, commit.metadata)
                assert (ledger.snapshot().offset, ledger.snapshot().metadata) == committed
        elif action == "restart":
            ledger = OffsetLedger.restore(*committed)
            reader = next((k for k, offset in enumerate(log) if offset >= ledger.position), len(log))
        elif action == "seek back" and reader:
            assert not ledger.take(log[data.draw(st.integers(0, reader - 1))])
        unpublished = [offset for offset in log if offset not in published]
        assert committed[0] <= min(unpublished, default=committed[0])
        assert all(not ledger.is_finished(offset) for offset in unpublished)
        assert sorted(published) == sorted(set(published))
        if not unpublished:
            break
    restored = OffsetLedger.restore(*committed)
    redone = [offset for offset in log if offset >= restored.position and restored.take(offset)]
    assert redone == [offset for offset in log if offset not in published]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(200, METADATA_LIMIT))
def test_the_metadata_never_outgrows_its_limit(seed: int, limit: int) -> None:
    """Whatever finishes in whatever order, a ledger that refused offsets without room stays below its limit."""
    dice = random.Random(seed)
    ledger = OffsetLedger(dice.randrange(10**6), limit=limit)
    for _ in range(1500):
        offset = ledger.position + dice.choice([0, 0, 0, 1, 5, 400])
        if dice.random() < 0.6 and ledger.has_room(offset):
            ledger.take(offset)
        elif len(ledger.pending) > 1:
            done = dice.choice(sorted(ledger.pending)[1:])
            assert len(ledger.prepare([done]).metadata) <= limit
            ledger.finish([done])
        if dice.random() < 0.01:
            state = ledger.snapshot()
            ledger = OffsetLedger.restore(state.offset, state.metadata, limit=limit)


def test_a_stuck_event_stops_the_intake_before_the_metadata_overflows() -> None:
    ledger = OffsetLedger(100)
    taken = 0
    while ledger.has_room(ledger.position):
        ledger.take(ledger.position)
        taken += 1
    assert taken > 500
    ledger.finish(range(101, 100 + taken, 2))
    assert len(ledger.snapshot().metadata) <= METADATA_LIMIT
    ledger.finish([100])
    assert ledger.base == 102


def test_one_slow_event_costs_a_few_bytes_however_many_finish_behind_it() -> None:
    ledger = OffsetLedger(0)
    assert ledger.take(0)
    for offset in range(1, 50_001):
        assert ledger.has_room(offset)
        ledger.take(offset)
        ledger.finish([offset])
    assert ledger.base == 0
    assert len(ledger.snapshot().metadata) < 20
    ledger.finish([0])
    assert ledger.snapshot().offset == 50_001
    assert ledger.snapshot().metadata == ""


@given(
    st.integers(0, 2**50), st.text(max_size=200) | st.binary(max_size=60).map(lambda raw: "sc1." + raw.hex())
)
def test_garbage_metadata_means_nothing_is_finished_above_the_offset(offset: int, text: str) -> None:
    ledger = OffsetLedger.restore(offset, text)
    assert ledger.base == offset
    assert ledger.take(offset)


def test_metadata_of_another_offset_is_refused() -> None:
    text = encode_finished(10, [(12, 15)])
    assert decode_finished(10, text) == [(12, 15)]
    with pytest.raises(ValueError, match="another offset"):
        decode_finished(11, text)
    assert not OffsetLedger.restore(11, text).is_finished(13)


def test_only_taken_offsets_can_finish_and_only_once() -> None:
    ledger = OffsetLedger(0)
    ledger.take(0)
    ledger.take(1)
    with pytest.raises(KeyError):
        ledger.prepare([5])
    ledger.finish([1])
    with pytest.raises(KeyError):
        ledger.finish([1])
    with pytest.raises(KeyError):
        ledger.prepare([0, 0])
    assert ledger.pending == {0}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20))
def test_intervals_are_a_set(pairs: list[tuple[int, int]]) -> None:
    intervals, model = Intervals(), set()
    for start, end in pairs:
        intervals.add(start, end)
        model.update(range(start, end))
    assert {number for number in range(-2, 64) if number in intervals} == model
    assert all(end < start for end, start in zip(intervals.ends, intervals.starts[1:], strict=False))
