"""The state of a night as its messages tell it: one row per event, and figures over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sized
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from statistics import median

from streamchar.frozen import frozen
from streamchar.messages import ExposureReady, ExposureStatus, PsfQuality

Key = tuple[str, int, int]


@frozen
class Figures:
    """What is shown of a product: of whole messages, a long night would not fit into memory.

    ``None`` means not known.

    Attributes
    ----------
    seeing
        PSF FWHM in arcseconds.
    psf_fwhm
        PSF FWHM at the centre in pixels.
    ellipticity
        Of the PSF at the centre.
    n_psf_used, n_sources
        Numbers of stars in the PSF model and of sources.
    width, height
        Of the exposure in pixels.
    """

    seeing: float | None = None
    psf_fwhm: float | None = None
    ellipticity: float | None = None
    n_psf_used: int | None = None
    n_sources: int | None = None
    width: int | None = None
    height: int | None = None

    @classmethod
    def of(cls, quality: PsfQuality) -> Figures:
        """Take from a message what is shown."""
        e1, e2 = quality.psf_e1, quality.psf_e2
        return cls(
            quality.seeing,
            quality.psf_fwhm,
            None if e1 is None or e2 is None else float((e1**2 + e2**2) ** 0.5),
            quality.n_psf_used,
            quality.n_sources,
            quality.width,
            quality.height,
        )


_UNKNOWN = Figures()


@dataclass(slots=True)
class Row:
    """One event: an exposure of one detector.

    ``None`` means not yet, or not known.
    """

    event_id: str
    key: Key | None = None
    band: str | None = None
    announced: bool = False
    announced_at: datetime | None = None
    published_at: datetime | None = None
    outcome: str | None = None
    reasons: tuple[str, ...] = ()
    quality: Figures = _UNKNOWN
    statuses: int = 0

    @property
    def latency(self) -> float | None:
        """Seconds from the announcement to the published status."""
        if self.published_at is None or self.announced_at is None:
            return None
        return (self.published_at - self.announced_at).total_seconds()


@dataclass(slots=True)
class Night:
    """Rows in the order in which their first message came, and how many there were.

    Attributes
    ----------
    remembered
        So many rows are kept, the latest; ``None`` for all. Only the numbers tell of those forgotten.
    rows
        By event.
    announced
        Number of events announced.
    outcomes
        Number of events by outcome.
    """

    remembered: int | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    announced: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    _waiting: dict[Key, Figures] = field(default_factory=dict)
    _by_key: dict[Key, Row] = field(default_factory=dict)

    def add(self, message: ExposureReady | ExposureStatus | PsfQuality) -> None:
        """Take in one message; they may come in any order, and again."""
        if isinstance(message, ExposureReady):
            self._announce(message)
        elif isinstance(message, ExposureStatus):
            self._finish(message)
        else:
            self._describe((message.instrument, message.exposure, message.detector), Figures.of(message))

    def _announce(self, message: ExposureReady) -> None:
        row = self._row(message.event_id, (message.instrument, message.exposure, message.detector))
        row.band, row.announced_at = message.band, message.created_at
        self.announced += not row.announced
        row.announced = True

    def _finish(self, message: ExposureStatus) -> None:
        row = self._row(message.event_id, _status_key(message))
        if row.outcome is not None:
            self.outcomes -= Counter((row.outcome,))
        self.outcomes[message.outcome] += 1
        row.outcome, row.published_at = message.outcome, message.published_at
        row.reasons = tuple(dict.fromkeys(reason.code for reason in message.reasons))
        row.statuses += 1
        row.band = row.band or message.band
        row.announced_at = row.announced_at or message.created_at

    def _describe(self, key: Key, quality: Figures) -> None:
        if key in self._by_key:
            self._by_key[key].quality = quality
        else:
            self._waiting[key] = quality
            if self._too_many(self._waiting):
                del self._waiting[next(iter(self._waiting))]

    def _row(self, event_id: str, key: Key | None) -> Row:
        row = self.rows.get(event_id)
        if row is None:
            row = self.rows[event_id] = Row(event_id)
            if self._too_many(self.rows):
                self._forget(next(iter(self.rows)))
        if key is not None and row.key is None:
            row.key = key
            before = self._by_key.get(key)
            row.quality = self._waiting.pop(key, before.quality if before else _UNKNOWN)
            self._by_key[key] = row
        return row

    def _too_many(self, kept: Sized) -> bool:
        return self.remembered is not None and len(kept) > self.remembered

    def _forget(self, event_id: str) -> None:
        row = self.rows.pop(event_id)
        if row.key is not None and self._by_key.get(row.key) is row:
            del self._by_key[row.key]

    def latest(self, count: int) -> list[Row]:
        """Return the rows last announced or finished, newest last."""
        return list(islice(reversed(self.rows.values()), count))[::-1]

    @property
    def latencies(self) -> list[float]:
        """Latencies in seconds of the finished events among the rows."""
        return [row.latency for row in self.rows.values() if row.latency is not None]

    @property
    def seeings(self) -> list[float]:
        """Seeing in arcseconds of the rows in which it is known."""
        return [row.quality.seeing for row in self.rows.values() if row.quality.seeing]

    @property
    def missing(self) -> list[str]:
        """Announced events among the rows without a status."""
        return [row.event_id for row in self.rows.values() if row.announced and row.outcome is None]

    @property
    def repeated(self) -> list[str]:
        """Events among the rows with more than one status."""
        return [row.event_id for row in self.rows.values() if row.statuses > 1]

    @property
    def unannounced(self) -> list[str]:
        """Events among the rows with a status that nobody announced."""
        return [row.event_id for row in self.rows.values() if not row.announced]


def _status_key(status: ExposureStatus) -> Key | None:
    if status.instrument is None or status.exposure is None or status.detector is None:
        return None
    return status.instrument, status.exposure, status.detector


def middle(values: Iterable[float]) -> float | None:
    """Median, or ``None`` without values."""
    known = list(values)
    return median(known) if known else None
