"""Tells the open pages what has changed: the whole night to a new one, to the others only what they have not seen."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from streamchar import __version__
from streamchar.dashboard import layout, summaries
from streamchar.dashboard.layout import Outline
from streamchar.dashboard.services import ServiceState
from streamchar.dashboard.subscriber import Contact
from streamchar.dashboard.visits import Visit, VisitKey, Visits
from streamchar.monitor.page_settings import CameraLayout

REFRESH_SECONDS = 0.4
"""Shortest time between two refreshes; they take at most a tenth of the time."""

BEAT_SECONDS = 5.0
"""Longest time without a word to a page, so that it can tell silence from a lost connection."""

INSTRUMENTS = 20
"""Most instruments that get a focal plane."""


class Feed:
    """What the pages show, and who wants to know.

    Parameters
    ----------
    visits
        The night.
    contact, services
        Return how the subscriber stands with the brokers, and what is known of the services.
    cameras
        Configured focal planes by instrument.

    Attributes
    ----------
    boot
        Different after every start: revisions of another one mean nothing here.
    pages
        Pages that are listening.
    """

    def __init__(
        self,
        visits: Visits,
        contact: Callable[[], Contact],
        services: Callable[[], Sequence[ServiceState]],
        cameras: Mapping[str, CameraLayout],
    ) -> None:
        self._visits, self._contact, self._services = visits, contact, services
        self._configured = {name: layout.configured(camera) for name, camera in cameras.items()}
        self._planes: dict[str, _FocalPlane] = {}
        self.boot = secrets.token_hex(4)
        self.pages = 0
        self._revision = 0
        self._sections: dict[str, str] = {}
        self._rows: dict[VisitKey, tuple[int, bool, str]] = {}
        self._dirty = asyncio.Event()
        self._refreshed = asyncio.Condition()
        self._closed = False

    def mark(self) -> None:
        """Note that something has changed."""
        self._dirty.set()

    async def run(self) -> None:
        """Refresh for ever, soon after each change."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            self.refresh()
            async with self._refreshed:
                self._refreshed.notify_all()
            await asyncio.sleep(max(REFRESH_SECONDS, 10 * (loop.time() - began)))
            await self._dirty.wait()
            self._dirty.clear()

    async def close(self) -> None:
        """End all subscriptions."""
        self._closed = True
        async with self._refreshed:
            self._refreshed.notify_all()

    async def subscribe(self, last: str = "") -> AsyncGenerator[str, None]:
        """Yield server-sent events: ``night`` with everything, ``update`` with what has changed, ``beat`` in between.

        Parameters
        ----------
        last
            Identifier of the last event the page has seen; what it knows already is not repeated.
        """
        seen = self._seen(last)
        sent: dict[str, str] = {}
        self.pages += 1
        try:
            while not self._closed:
                name, data, revision = self._message(seen, sent)
                if data:
                    yield f"id: {self.boot}-{revision}\nevent: {name}\ndata: {data}\n\n"
                    seen = revision
                else:
                    yield f'event: beat\ndata: {{"now": {time.time():.3f}}}\n\n'
                await self._wait()
        finally:
            self.pages -= 1

    def night(self) -> str:
        """Return everything as JSON."""
        return self._message(None, {})[1]

    def outlines_of(self, instrument: str) -> dict[str, list[float]]:
        """Return the focal plane of an instrument, see :func:`streamchar.dashboard.summaries.outlines`."""
        plane = self._planes.get(instrument)
        return summaries.outlines(plane.layout) if plane is not None else {}

    def refresh(self) -> None:
        """Compute anew what has changed."""
        visits = self._visits
        found = visits.changed_since(self._revision)
        for visit in visits if found is None else found[0]:
            self._place(visit)
        instruments = {visit.key[0] for visit in visits}
        self._planes = {name: plane for name, plane in self._planes.items() if name in instruments}
        self._revision = visits.revision
        sections: dict[str, Any] = {
            "totals": summaries.totals(visits),
            "latency": summaries.latency(visits),
            "lights": summaries.lights(visits),
            "reasons": summaries.reasons(visits),
            "failures": summaries.failures(visits),
            "planes": {
                name: {"layout": plane.origin, "detectors": summaries.outlines(plane.layout)}
                for name, plane in self._planes.items()
            },
            "kafka": dataclasses.asdict(self._contact()),
            "services": [dataclasses.asdict(state) for state in self._services()],
        }
        self._sections = {name: dump(value) for name, value in sections.items()}

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(BEAT_SECONDS), self._refreshed:
                await self._refreshed.wait()
        except TimeoutError:
            return

    def _seen(self, last: str) -> int | None:
        boot, _, revision = last.partition("-")
        if boot != self.boot or not revision.isdecimal() or len(revision) > 18:
            return None
        return int(revision)

    def _message(self, seen: int | None, sent: dict[str, str]) -> tuple[str, str, int]:
        """Compose an event for a page that has seen a revision and was sent some sections, which is noted there."""
        found = None if seen is None else self._visits.changed_since(seen)
        whole = found is None
        changed, dropped = (list(self._visits), []) if found is None else found
        parts = {name: text for name, text in self._sections.items() if whole or sent.get(name) != text}
        sent.update(parts)
        if not (whole or changed or dropped or parts):
            return "", "", self._visits.revision
        recent = set(list(self._visits.keys())[-summaries.CELL_VISITS :])
        parts["visits"] = "[" + ",".join(self._row(visit, visit.key in recent) for visit in changed) + "]"
        if dropped:
            parts["dropped"] = dump(dropped)
        if whole:
            parts["columns"] = dump(summaries.VISIT_COLUMNS)
            parts["version"] = dump(__version__)
        parts["now"] = f"{time.time():.3f}"
        text = "{" + ",".join(f'"{name}":{part}' for name, part in parts.items()) + "}"
        return "night" if whole else "update", text, self._visits.revision

    def _row(self, visit: Visit, with_cells: bool) -> str:
        known = self._rows.get(visit.key)
        if known is None or known[:2] != (visit.revision, with_cells):
            if len(self._rows) > 2 * len(self._visits) + 100:
                self._rows.clear()
            known = visit.revision, with_cells, dump(summaries.visit_row(visit, with_cells=with_cells))
            self._rows[visit.key] = known
        return known[2]

    def _place(self, visit: Visit) -> None:
        """Learn from a changed visit where the detectors are."""
        name = visit.key[0]
        plane = self._planes.get(name)
        if plane is None:
            if len(self._planes) >= INSTRUMENTS:
                return
            plane = self._planes[name] = _FocalPlane(self._configured.get(name))
        plane.learn(visit)


class _FocalPlane:
    """Where the detectors of an instrument are, as far as is known."""

    def __init__(self, configured: Mapping[int, Outline] | None) -> None:
        self.origin = "settings" if configured is not None else "grid"
        self._base: Mapping[int, Outline] = configured or {}
        self._detectors: set[int] = set()
        self.layout: dict[int, Outline] = dict(self._base)

    def learn(self, visit: Visit) -> None:
        """Take a visit into account: its detectors, and their places on the sky when there are more than known."""
        detectors = set(visit.frames["detector"].tolist())
        changed = not detectors <= self._detectors
        self._detectors |= detectors
        if self.origin != "settings":
            corners = {
                detector: detail.corners
                for detector, detail in visit.details.items()
                if detail.corners is not None
            }
            if len(corners) > len(self._base) and (found := layout.from_sky(corners)):
                self.origin, self._base, changed = "sky", found, True
        if changed:
            self.layout = layout.complete(self._base, self._detectors)


def dump(value: Any) -> str:
    """Return compact JSON; numbers that are not finite are an error, since JSON has none."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
