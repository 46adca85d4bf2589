"""Runs a night in real time: a process of its own draws the exposures, each is announced when its time has come."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from streamchar.telescope.announce import Announcer
from streamchar.telescope.config import NightConfig
from streamchar.telescope.night import PlannedExposure, Telescope
from streamchar.telescope.renderer import Renderer
from streamchar.telescope.store import StoredExposure


@dataclass(slots=True)
class NightReport:
    """What a night came to.

    Attributes
    ----------
    exposures
        All that were stored and announced, in order.
    longest_delay
        Seconds by which the latest announcement was behind its time.
    """

    exposures: list[StoredExposure] = field(default_factory=list)
    longest_delay: float = 0.0

    @property
    def announced(self) -> int:
        """Number of events."""
        return len(self.exposures)

    @property
    def faults(self) -> int:
        """Number of events whose file is truncated, missing or full of NaN."""
        return sum(1 for stored in self.exposures if stored.plan.fault)

    @property
    def cpu(self) -> float:
        """CPU seconds of drawing and writing per exposure of one detector; NaN without any."""
        return (
            sum(stored.cpu for stored in self.exposures) / len(self.exposures)
            if self.exposures
            else float("nan")
        )


async def run_night(
    config: NightConfig,
    directory: str | Path,
    announcer: Announcer | None = None,
    *,
    on_stored: Callable[[StoredExposure], None] | None = None,
) -> NightReport:
    """Take the exposures of a night, one of all detectors every ``config.cadence`` seconds, and announce them.

    The next exposure is drawn while the present one waits for its time, so announcements come at an even rhythm as
    long as drawing is faster than the cadence. Cancelling stops at once and leaves no process and no partial file.

    Parameters
    ----------
    config
        The night.
    directory
        Where the files go; made when missing.
    announcer
        Who is told; nobody when omitted.
    on_stored
        Called after each announcement.

    Returns
    -------
    NightReport
        What was taken.

    Raises
    ------
    MissingSimulatorError
        Without GalSim.
    AnnouncementError
        When the broker does not take an event.
    DrawingError
        When an exposure cannot be drawn or written.
    OSError
        When the directory cannot be made.
    """
    target = Path(directory)
    await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
    report = NightReport()
    loop = asyncio.get_running_loop()
    async with Renderer(target) as renderer:

        async def expose(plans: list[PlannedExposure]) -> list[StoredExposure]:
            return [await renderer.render(plan) for plan in plans]

        exposures = [
            list(group)
            for _, group in itertools.groupby(Telescope(config).night(), key=lambda plan: plan.exposure)
        ]
        drawing = asyncio.create_task(expose(exposures[0]))
        start: float | None = None
        try:
            for index in range(len(exposures)):
                ready = await drawing
                if index + 1 < len(exposures):
                    drawing = asyncio.create_task(expose(exposures[index + 1]))
                # The clock starts with the first exposure: the process needs a second to get going.
                start = loop.time() if start is None else start
                due = start + index * config.cadence
                if config.cadence:
                    report.longest_delay = max(report.longest_delay, loop.time() - due)
                    await asyncio.sleep(due - loop.time())
                for stored in ready:
                    if announcer is not None:
                        await announcer.announce(stored.event())
                    report.exposures.append(stored)
                    if on_stored is not None:
                        on_stored(stored)
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
    return report
