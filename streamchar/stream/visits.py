"""Visits that stay incomplete: which detectors of an exposure were never announced. Pure; time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamchar.frozen import frozen

Visit = tuple[str, int]

_REMEMBERED = 10_000


@frozen
class Gap:
    """Detectors of a visit that were not announced in time.

    Attributes
    ----------
    instrument, exposure
        The visit.
    missing
        Their numbers, in order.
    expected
        How many detectors the instrument has.
    """

    instrument: str
    exposure: int
    missing: tuple[int, ...]
    expected: int

    def describe(self) -> str:
        """Return a sentence."""
        shown = ", ".join(map(str, self.missing[:20])) + (", ..." if len(self.missing) > 20 else "")
        return (
            f"{self.instrument} {self.exposure}: {len(self.missing)} of {self.expected} detectors "
            f"were never announced ({shown})"
        )


@dataclass(slots=True)
class _Open:
    since: float
    seen: set[int] = field(default_factory=set)


class VisitWatch:
    """Waits for the detectors of every visit, from its first announcement on.

    Parameters
    ----------
    detectors
        Detector numbers by instrument; visits of other instruments are not watched.
    after
        Seconds from the first announcement of a visit until the missing detectors are reported, once.
    """

    def __init__(self, detectors: Mapping[str, frozenset[int]], after: float) -> None:
        self._detectors = detectors
        self._after = after
        self._open: OrderedDict[Visit, _Open] = OrderedDict()
        self._closed: OrderedDict[Visit, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Visits that are not complete yet."""
        return len(self._open)

    def see(self, instrument: str, exposure: int, detector: int, now: float) -> None:
        """Note that a detector of a visit was announced."""
        expected = self._detectors.get(instrument)
        visit = (instrument, exposure)
        if expected is None or visit in self._closed:
            return
        open_ = self._open.setdefault(visit, _Open(now))
        open_.seen.add(detector)
        if expected <= open_.seen:
            self._close(visit)

    def due(self, now: float) -> list[Gap]:
        """Return the visits that waited long enough; each is returned once."""
        gaps = []
        late = [visit for visit, open_ in self._open.items() if now - open_.since >= self._after]
        for visit in late:
            expected = self._detectors[visit[0]]
            missing = tuple(sorted(expected - self._open[visit].seen))
            gaps.append(Gap(*visit, missing, len(expected)))
            self._close(visit)
        return gaps

    def _close(self, visit: Visit) -> None:
        del self._open[visit]
        self._closed[visit] = None
        if len(self._closed) > _REMEMBERED:
            self._closed.popitem(last=False)
