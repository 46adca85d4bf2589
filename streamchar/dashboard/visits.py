"""The night by visit, compact and bounded: one row of numbers for each detector, details only of the latest visits.

Every change gets a new revision, so that what changed since any earlier moment can be told without a history: a page
that was away for a minute is given the visits with a higher revision than the last one it saw. All counts are derived
from the rows, so that repeated messages, late ones and forgotten visits cannot make them wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, KeysView
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen
from streamchar.messages import ExposureReady, ExposureStatus, PsfQuality, Reason
from streamchar.messages.exposure_status import ProductDescription
from streamchar.messages.psf_quality import PsfGrid

OUTCOMES = ("waiting", "succeeded", "degraded", "failed", "expired")
"""What may have become of an exposure of a detector, by the number in :data:`FRAME`."""

GRADES = ("unknown", "green", "yellow", "orange", "red")
"""Quality grades by the number in :data:`FRAME`, the better the smaller."""

FRAME = np.dtype(
    [
        ("detector", "i8"),
        ("outcome", "u1"),
        ("grade", "u1"),
        ("codes", "i2"),
        ("announced", "f8"),
        ("closed", "f8"),
        ("published", "f8"),
        ("seeing", "f4"),
        ("fwhm", "f4"),
        ("e1", "f4"),
        ("e2", "f4"),
        ("stars", "f4"),
        ("sources", "f4"),
        ("sky", "f4"),
        ("cosmic_rays", "f4"),
        ("work", "f4"),
    ]
)
"""One exposure of one detector. Times are seconds since 1970: announcement, end of the exposure, publication. Seeing is
in arcseconds, FWHM in pixels; stars are those of the PSF, the sky level is in image units, cosmic rays are the fraction
of pixels hit, work is in seconds. ``codes`` is a number for :meth:`Visits.codes`. NaN where not known."""

MAX_VISITS = 4_000
MAX_FRAMES = 400_000
DETAILED_VISITS = 24
FAILURES = 200
CODE_SETS = 500
DROPPED = 5_000

_PLAUSIBLE_LATENCY = (-5.0, 86_400.0)
_MJD_OF_1970 = 40_587.0
_DAY = 86_400.0

VisitKey = tuple[str, int]
Message = ExposureReady | ExposureStatus | PsfQuality


@dataclass(slots=True)
class Detail:
    """What only the map and the panel of a detector show.

    Attributes
    ----------
    grid
        x, y, Ixx, Iyy and Ixy of the PSF at points of the detector, (5, N).
    corners
        Right ascension and declination of the corners in degrees, counter-clockwise from the first pixel, (4, 2).
    size
        Width and height in pixels.
    """

    event_id: str = ""
    reasons: tuple[Reason, ...] = ()
    grade_reasons: tuple[Reason, ...] = ()
    products: tuple[ProductDescription, ...] = ()
    attempts: int = 0
    size: tuple[int, int] | None = None
    grid: NDArray[np.float32] | None = None
    corners: NDArray[np.float64] | None = None


@frozen
class Failure:
    """An event that ended without products; identity is None when the event could not be read."""

    at: float
    outcome: str
    event_id: str
    instrument: str | None
    exposure: int | None
    detector: int | None
    code: str
    text: str


class Visit:
    """One exposure of a camera: the frames of its detectors.

    Parameters
    ----------
    key
        Instrument and exposure number.
    at
        When it was first heard of, seconds since 1970.

    Attributes
    ----------
    band, tense
        As the messages say.
    details
        By detector; empty unless the visit is among the latest.
    revision
        Revision of its last change.
    """

    __slots__ = ("_frames", "_index", "at", "band", "details", "key", "revision", "tense")

    def __init__(self, key: VisitKey, at: float) -> None:
        self.key = key
        self.at = at
        self.band: str | None = None
        self.tense = "current"
        self.details: dict[int, Detail] = {}
        self.revision = 0
        self._index: dict[int, int] = {}
        self._frames = np.zeros(1, FRAME)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def frames(self) -> NDArray[np.void]:
        """The frames in the order in which the detectors were heard of, (N,) of :data:`FRAME`; a view."""
        return self._frames[: len(self._index)]

    @property
    def latencies(self) -> tuple[NDArray[np.float64], bool]:
        """Seconds to publication of the finished frames, and whether from the end of the exposure.

        They count from the announcement where the end of the exposure is not known, or impossible as in a night
        that is simulated or replayed.
        """
        frames = self.frames
        frames = frames[np.isfinite(frames["published"])]
        from_closed = frames["published"] - frames["closed"]
        plausible = (from_closed > _PLAUSIBLE_LATENCY[0]) & (from_closed < _PLAUSIBLE_LATENCY[1])
        latencies = np.where(plausible, from_closed, frames["published"] - frames["announced"])
        return latencies[np.isfinite(latencies)], bool(len(frames)) and bool(plausible.all())

    def frame(self, detector: int) -> np.void:
        """Return the row of a detector, to be read and written; made when there is none."""
        place = self._index.get(detector)
        if place is None:
            place = self._index[detector] = len(self._index)
            if place >= len(self._frames):
                self._frames = np.concatenate([self._frames, np.zeros(len(self._frames), FRAME)])
            self._frames[place] = _EMPTY
            self._frames[place]["detector"] = detector
        found: np.void = self._frames[place]
        return found


class Visits:
    """All visits of a night.

    Parameters
    ----------
    gap
        Seconds between two visits that separate one night from the next.
    span
        Seconds that a night lasts at most.
    max_visits, max_frames
        Most that is kept; the oldest visits go first.

    Attributes
    ----------
    revision
        Increased by every change.
    newest
        Latest time in any message, seconds since 1970; 0 before the first.
    failures
        The latest events without products, newest last.
    """

    def __init__(
        self,
        *,
        gap: float = 5 * 3600.0,
        span: float = _DAY,
        max_visits: int = MAX_VISITS,
        max_frames: int = MAX_FRAMES,
    ) -> None:
        self._gap, self._span = gap, span
        self._max_visits, self._max_frames = max_visits, max_frames
        self.revision = 0
        self.newest = 0.0
        self.failures: deque[Failure] = deque(maxlen=FAILURES)
        self._visits: dict[VisitKey, Visit] = {}
        self._detailed: set[VisitKey] = set()
        self._dropped: deque[tuple[int, VisitKey]] = deque(maxlen=DROPPED)
        self._forgotten = 0
        self._frame_count = 0
        self._unsorted = False
        self._code_sets: list[tuple[str, ...]] = [(), ("other",)]
        self._code_numbers = {codes: number for number, codes in enumerate(self._code_sets)}

    def __len__(self) -> int:
        return len(self._visits)

    def __iter__(self) -> Iterator[Visit]:
        return iter(self._visits.values())

    def __reversed__(self) -> Iterator[Visit]:
        return reversed(self._visits.values())

    def keys(self) -> KeysView[VisitKey]:
        """Return instrument and exposure number of each visit, in order."""
        return self._visits.keys()

    def get(self, instrument: str, exposure: int) -> Visit | None:
        """Return a visit, or None."""
        return self._visits.get((instrument, exposure))

    @property
    def frame_count(self) -> int:
        """Frames of all visits."""
        return self._frame_count

    def codes(self, number: int) -> tuple[str, ...]:
        """Return the reason codes behind the number in a frame."""
        return self._code_sets[number]

    def add(self, message: Message, recorded: float = 0.0) -> None:
        """Take in one message; they may come in any order, and again.

        Parameters
        ----------
        message
            What was read.
        recorded
            When it was written, seconds since 1970; quality records do not tell any other time.
        """
        if isinstance(message, ExposureReady):
            self._announced(message)
        elif isinstance(message, PsfQuality):
            self._measured(message, recorded or self.newest)
        else:
            self._finished(message)

    def settle(self) -> None:
        """Bring visits into the order of time and forget former nights; to be called when all there is was read."""
        if not self._unsorted:
            return
        self._unsorted = False
        ordered = sorted(self._visits.values(), key=lambda visit: visit.at)
        self._visits = {visit.key: visit for visit in ordered}
        gaps = [after.at for before, after in pairwise(ordered) if after.at - before.at > self._gap]
        begin = max(gaps[-1] if gaps else 0.0, self.newest - self._span)
        for visit in ordered:
            if visit.at >= begin:
                break
            self._drop(visit)
        kept = [failure for failure in self.failures if failure.at >= begin]
        if len(kept) < len(self.failures):
            self.failures = deque(kept, maxlen=FAILURES)

    def changed_since(self, revision: int) -> tuple[list[Visit], list[VisitKey]] | None:
        """Return the visits changed after a revision and the keys of those dropped; None when that is not known."""
        if revision < self._forgotten or revision > self.revision:
            return None
        changed = [visit for visit in self if visit.revision > revision]
        dropped = {key for at, key in self._dropped if at > revision and key not in self._visits}
        return changed, sorted(dropped)

    def _announced(self, message: ExposureReady) -> None:
        at = message.created_at.timestamp()
        visit = self._touch((message.instrument, message.exposure), at)
        visit.band, visit.tense = message.band or visit.band, message.tense
        row = self._frame(visit, message.detector)
        row["announced"] = at
        self._note_closed(row, message)

    def _measured(self, message: PsfQuality, recorded: float) -> None:
        key = message.instrument, message.exposure
        known = self._visits.get(key)
        visit = self._touch(key, recorded if known is None else known.at)
        visit.band, visit.tense = message.band or visit.band, message.tense
        row = self._frame(visit, message.detector)
        for name, value in (
            ("seeing", message.seeing),
            ("fwhm", message.psf_fwhm),
            ("e1", message.psf_e1),
            ("e2", message.psf_e2),
            ("stars", message.n_psf_used),
            ("sources", message.n_sources),
            ("sky", message.statistics.sky_bg),
            ("cosmic_rays", message.cosmic_ray_fraction),
            ("work", sum(timing.wall for timing in message.timings) if message.timings else None),
        ):
            row[name] = np.nan if value is None else value
        row["grade"] = GRADES.index(message.grade)
        self._note_closed(row, message)
        detail = self._detail(visit, message.detector)
        detail.event_id, detail.grade_reasons = message.event_id, message.grade_reasons
        detail.grid = None if message.psf_grid is None else _columns(message.psf_grid)
        if message.width and message.height:
            detail.size = message.width, message.height
        ra, dec = message.statistics.ra_corners, message.statistics.dec_corners
        if ra is not None and dec is not None:
            detail.corners = np.array([ra, dec], np.float64).T
        self._bound_details()

    def _finished(self, message: ExposureStatus) -> None:
        published = message.published_at.timestamp()
        announced = published if message.created_at is None else message.created_at.timestamp()
        codes = tuple(dict.fromkeys(reason.code for reason in message.reasons))
        if message.instrument is None or message.exposure is None or message.detector is None:
            self.revision += 1
            self._hear(published)
            self._fail(message, published, codes)
            return
        visit = self._touch((message.instrument, message.exposure), announced)
        self._hear(published)
        visit.band, visit.tense = message.band or visit.band, message.tense
        row = self._frame(visit, message.detector)
        repeated = row["published"] == published
        row["outcome"], row["codes"] = OUTCOMES.index(message.outcome), self._code_number(codes)
        row["announced"], row["published"] = announced, published
        detail = self._detail(visit, message.detector)
        detail.event_id, detail.attempts = message.event_id, message.attempts
        detail.reasons, detail.products = message.reasons, message.products
        self._bound_details()
        if not repeated:
            self._fail(message, published, codes)

    def _fail(self, message: ExposureStatus, published: float, codes: tuple[str, ...]) -> None:
        if message.outcome not in {"failed", "expired"}:
            return
        self.failures.append(
            Failure(
                at=published,
                outcome=message.outcome,
                event_id=message.event_id,
                instrument=message.instrument,
                exposure=message.exposure,
                detector=message.detector,
                code=codes[0] if codes else "",
                text=next((reason.message for reason in message.reasons if reason.message), ""),
            )
        )

    def _note_closed(self, row: np.void, message: ExposureReady | PsfQuality) -> None:
        if message.mid_time is not None:
            row["closed"] = (message.mid_time - _MJD_OF_1970) * _DAY + 0.5 * (message.exposure_time or 0.0)

    def _code_number(self, codes: tuple[str, ...]) -> int:
        number = self._code_numbers.get(codes)
        if number is None:
            if len(self._code_sets) >= CODE_SETS:
                return self._code_numbers["other",]
            number = self._code_numbers[codes] = len(self._code_sets)
            self._code_sets.append(codes)
        return number

    def _touch(self, key: VisitKey, at: float) -> Visit:
        """Return a visit that is about to change, made when it is new."""
        visit = self._visits.get(key)
        if visit is None:
            visit = self._visits[key] = Visit(key, at)
            self._unsorted = True
        elif at < visit.at:
            visit.at = at
            self._unsorted = True
        self._hear(at)
        self.revision += 1
        visit.revision = self.revision
        return visit

    def _hear(self, at: float) -> None:
        self.newest = max(self.newest, at)

    def _frame(self, visit: Visit, detector: int) -> np.void:
        before = len(visit)
        row = visit.frame(detector)
        self._frame_count += len(visit) - before
        while len(self._visits) > self._max_visits or (
            self._frame_count > self._max_frames and len(self._visits) > 1
        ):
            self._drop(next(other for other in self if other is not visit))
        return row

    def _detail(self, visit: Visit, detector: int) -> Detail:
        self._detailed.add(visit.key)
        return visit.details.setdefault(detector, Detail())

    def _bound_details(self) -> None:
        if len(self._detailed) > DETAILED_VISITS:
            oldest = min(self._detailed, key=lambda key: self._visits[key].at)
            self._detailed.discard(oldest)
            self._visits[oldest].details.clear()

    def _drop(self, visit: Visit) -> None:
        del self._visits[visit.key]
        self._detailed.discard(visit.key)
        self._frame_count -= len(visit)
        self.revision += 1
        if len(self._dropped) == self._dropped.maxlen:
            self._forgotten = self._dropped[0][0]
        self._dropped.append((self.revision, visit.key))


def _columns(grid: PsfGrid) -> NDArray[np.float32]:
    return np.array([grid.x, grid.y, grid.ixx, grid.iyy, grid.ixy], np.float32)


def _empty_frame() -> np.void:
    row = np.zeros(1, FRAME)
    for name in FRAME.names or ():
        if FRAME[name].kind == "f":
            row[name] = np.nan
    found: np.void = row[0]
    return found


_EMPTY = _empty_frame()
