"""Surveys whose nights are known: how many detectors, how large, how often, how soon."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from streamchar.frozen import frozen


@frozen
class Survey:
    """What arrives in a night.

    Attributes
    ----------
    title
        Name for people.
    cameras
        Cameras that observe independently of each other.
    detectors
        Detectors of a camera; all arrive together.
    cadence
        Seconds from one exposure of a camera to the next.
    deadline
        Seconds from the shutter's closing to the published products.
    height, width
        Pixels of a detector.
    announce_delay
        Seconds from the shutter's closing to the announcement of a detector: readout, transfer, instrument signature.
    announce_spread
        Seconds over which the announcements of one exposure are spread.
    night
        Hours.
    """

    title: str
    cameras: int
    detectors: int
    cadence: float
    deadline: float
    height: int
    width: int
    announce_delay: float = 5.0
    announce_spread: float = 2.0
    night: float = 10.0

    @property
    def megapixels(self) -> float:
        """Millions of pixels of a detector."""
        return self.height * self.width / 1e6

    @property
    def rate(self) -> float:
        """Exposures of single detectors per second, on average."""
        return self.cameras * self.detectors / self.cadence


SURVEYS: Mapping[str, Survey] = MappingProxyType(
    {
        "rubin": Survey("Rubin Observatory, LSSTCam", 1, 189, 34.0, 60.0, 4000, 4072),
        "decam": Survey("Blanco, DECam", 1, 60, 120.0, 60.0, 4094, 2046, announce_delay=20.0),
        "ztf": Survey("Zwicky Transient Facility", 1, 64, 40.0, 60.0, 3080, 3072, announce_delay=10.0),
        "lco": Survey("Las Cumbres Observatory, 1 m network", 13, 1, 60.0, 60.0, 4096, 4096, night=24.0),
    }
)
"""By name. Detector formats and cadences as published by the observatories; delays are assumptions, to be overridden."""
