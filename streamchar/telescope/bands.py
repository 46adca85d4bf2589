"""The filters of the simulated camera: how bright the sky is and how much light arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

BandName = Literal["u", "g", "r", "i", "z", "y"]


@dataclass(frozen=True, slots=True)
class Band:
    """One filter.

    Attributes
    ----------
    wavelength
        Effective wavelength in nanometres.
    zero_point
        AB magnitude that gives one electron per second above the atmosphere at airmass 1.
    sky_brightness
        Dark-sky AB magnitude per square arcsecond at zenith.
    """

    wavelength: float
    zero_point: float
    sky_brightness: float


BANDS: Mapping[BandName, Band] = MappingProxyType(
    {
        "u": Band(365.0, 26.52, 22.95),
        "g": Band(480.0, 28.36, 22.24),
        "r": Band(622.0, 28.17, 21.20),
        "i": Band(754.0, 27.78, 20.47),
        "z": Band(869.0, 27.46, 19.60),
        "y": Band(971.0, 26.68, 18.63),
    }
)
"""Values typical of an 8 m survey telescope on a good site (Ivezić et al. 2019, ApJ 873, 111, table 2)."""
