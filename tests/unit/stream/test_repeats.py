"""Repetitions follow from the log alone: whoever takes a partition over anywhere decides as the owner before did."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamchar.stream.repeats import Announcements


@given(
    log=st.lists(st.integers(0, 8), max_size=80),
    gaps=st.lists(st.integers(1, 4), min_size=80, max_size=80),
    window=st.integers(0, 20),
    takeover=st.integers(0, 80),
)
def test_every_owner_decides_alike(log: list[int], gaps: list[int], window: int, takeover: int) -> None:
    offsets = [sum(gaps[:number]) for number in range(len(log))]
    announced = list(zip(offsets, log, strict=True))
    expected = [
        any(offset - window <= earlier < offset and other == event for earlier, other in announced)
        for offset, event in announced
    ]
    first = Announcements(window)
    assert [first.note(event, offset) is not None for offset, event in announced] == expected

    base = offsets[takeover] if takeover < len(offsets) else 1000
    second = Announcements(window)
    decided = {
        offset: second.note(event, offset) is not None
        for offset, event in announced
        if offset >= base - window
    }
    for (offset, _), repeats in zip(announced, expected, strict=True):
        if offset >= base:
            assert decided[offset] == repeats


def test_what_is_noted_again_repeats_nothing_and_memory_is_bounded() -> None:
    announcements = Announcements(100)
    assert announcements.note("a", 5) is None
    assert announcements.note("a", 5) is None
    for offset in range(6, 5000):
        announcements.note(offset, offset)
    assert len(announcements) <= 101
