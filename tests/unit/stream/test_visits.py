"""Detectors that never come are reported once, and only where they are expected."""

from __future__ import annotations

from streamchar.stream.settings import VisitSettings
from streamchar.stream.visits import Gap, VisitWatch


def test_a_visit_is_complete_or_reported_once() -> None:
    watch = VisitWatch(VisitSettings(detectors={"A": 3, "B": (4, 9)}).expected(), 10.0)
    for detector in (2, 0, 1):
        watch.see("A", 1, detector, now=0.0)
    watch.see("A", 2, 1, now=1.0)
    watch.see("A", 2, 1, now=2.0)
    watch.see("B", 2, 9, now=5.0)
    watch.see("C", 1, 0, now=0.0)
    assert watch.waiting == 2
    assert watch.due(10.9) == []
    assert watch.due(11.0) == [Gap("A", 2, (0, 2), 3)]
    watch.see("A", 2, 0, now=12.0)
    (gap,) = watch.due(100.0)
    assert gap == Gap("B", 2, (4,), 2)
    assert gap.describe() == "B 2: 1 of 2 detectors were never announced (4)"
    assert watch.due(1000.0) == []
    assert watch.waiting == 0


def test_memory_is_bounded() -> None:
    watch = VisitWatch({"A": frozenset({0})}, 10.0)
    for visit in range(30_000):
        watch.see("A", visit, 0, now=0.0)
    assert watch.waiting == 0
    assert len(watch._closed) == 10_000
