"""The plan of a night: where the telescope points, and what the weather, the focus and the guiding do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamchar.telescope.bands import BANDS, BandName
from streamchar.telescope.config import ConditionsConfig, NightConfig, SceneConfig
from streamchar.telescope.simulate import Pointing, SimulatedExposure, simulate_exposure

Fault = Literal["", "truncated", "missing", "nan"]

FAULTS: tuple[Fault, ...] = ("truncated", "missing", "nan")
"""What can go wrong with a file: cut short, never written, no finite pixel."""

LATITUDE = -30.24
LONGITUDE = -70.74
"""The site, degrees north and east."""

SECONDS_PER_DAY = 86400.0
SEEING_WAVELENGTH = 500.0
EXTINCTION_PER_AIRMASS = 0.1
FOCUS_PERIOD = 900.0
"""Seconds to which the focus drift in the settings refers."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The state of sky and telescope in one exposure.

    Attributes
    ----------
    mid_time
        Middle of the exposure, MJD.
    band
        Filter.
    pointing
        Centre of the camera.
    airmass
        1 at zenith.
    seeing
        Atmospheric FWHM in this direction and band, arcseconds.
    defocus
        Added defocus, arcseconds.
    refocused
        Whether the telescope refocused just before.
    guiding_rms, guiding_ratio, guiding_angle
        Guiding error, see :class:`streamchar.telescope.config.PsfConfig`.
    extinction
        By clouds and airmass, magnitudes.
    sky_brightness
        AB magnitude per square arcsecond.
    """

    mid_time: float
    band: BandName
    pointing: Pointing
    airmass: float
    seeing: float
    defocus: float
    refocused: bool
    guiding_rms: float
    guiding_ratio: float
    guiding_angle: float
    extinction: float
    sky_brightness: float

    def apply(self, scene: SceneConfig) -> SceneConfig:
        """Return the scene under these conditions."""
        defocus = scene.psf.defocus or (0.0,)
        psf = scene.psf.model_copy(
            update={
                "seeing": self.seeing,
                "defocus": (defocus[0] + self.defocus, *defocus[1:]),
                "guiding_rms": self.guiding_rms,
                "guiding_ratio": self.guiding_ratio,
                "guiding_angle": self.guiding_angle,
            }
        )
        sky = scene.sky.model_copy(update={"brightness": self.sky_brightness})
        return scene.model_copy(
            update={"psf": psf, "sky": sky, "band": self.band, "extinction": self.extinction}
        )


@dataclass(frozen=True, slots=True)
class PlannedExposure:
    """One exposure of one detector, ready to be made.

    Attributes
    ----------
    scene
        What the detector sees.
    seed
        Seed of everything random.
    exposure
        Exposure number.
    mid_time
        Middle of the exposure, MJD.
    pointing
        Centre of the camera.
    fault
        What will be wrong with the file, empty for nothing.
    file_name
        Name of the file.
    """

    scene: SceneConfig
    seed: int
    exposure: int
    mid_time: float
    pointing: Pointing
    fault: Fault
    file_name: str

    def simulate(self) -> SimulatedExposure:
        """Make the exposure (without its fault); the same plan gives the same pixels."""
        return simulate_exposure(
            self.scene, self.seed, exposure=self.exposure, mid_time=self.mid_time, pointing=self.pointing
        )


class Telescope:
    """Plans a night; the same configuration gives the same plan.

    Parameters
    ----------
    config
        Settings.
    """

    def __init__(self, config: NightConfig) -> None:
        self.config = config

    def night(self) -> Iterator[PlannedExposure]:
        """Plan all detectors of the first exposure, then all of the next, and so on."""
        config = self.config
        random = np.random.default_rng([config.seed, 1])
        for index, conditions in enumerate(self.conditions()):
            scene = conditions.apply(config.scene) if config.vary else config.scene
            number = config.first_exposure + index
            detectors = range(config.scene.camera.detectors)
            for detector in detectors if config.vary or len(detectors) > 1 else (config.scene.detector,):
                fault: Fault = ""
                if random.uniform() < config.fault_rate:
                    fault = FAULTS[int(random.integers(len(FAULTS)))]
                yield PlannedExposure(
                    scene=scene.model_copy(update={"detector": detector}),
                    seed=config.seed,
                    exposure=number,
                    mid_time=conditions.mid_time,
                    pointing=conditions.pointing,
                    fault=fault,
                    file_name=f"{config.name or config.scene.camera.name}-{number:06d}-{detector:02d}.fits",
                )

    def conditions(self) -> Iterator[Conditions]:
        """The conditions of each exposure in turn.

        Seeing and clouds are Ornstein-Uhlenbeck processes (the first in its logarithm), scaled with airmass^0.6 and
        wavelength^-0.2 (Kolmogorov turbulence); the focus walks randomly until it is set again.
        """
        config, weather = self.config, self.config.conditions
        random = np.random.default_rng([config.seed, 0])
        seeing, clouds, sky = random.standard_normal(3)
        defocus = 0.0
        hour_angle = dec = 0.0
        for index in range(config.exposures):
            block, place = divmod(index, config.exposures_per_band)
            band = config.bands[block % len(config.bands)]
            mid_time = config.start_time + index * config.interval / SECONDS_PER_DAY
            if place == 0:
                hour_angle, dec = random.uniform(-35.0, 15.0), random.uniform(-55.0, 0.0)
            airmass = _airmass(hour_angle, dec)
            refocused = abs(defocus) > weather.refocus_limit
            if refocused:
                defocus = 0.01 * random.standard_normal()
            guiding = _guiding(weather, random)
            wavelength = BANDS[band].wavelength / SEEING_WAVELENGTH
            yield Conditions(
                mid_time=mid_time,
                band=band,
                pointing=Pointing(float((_sidereal(mid_time) - hour_angle) % 360.0), float(dec)),
                airmass=airmass,
                seeing=float(
                    weather.seeing * np.exp(weather.seeing_scatter * seeing) * airmass**0.6 * wavelength**-0.2
                ),
                defocus=float(defocus),
                refocused=refocused,
                guiding_rms=guiding[0],
                guiding_ratio=guiding[1],
                guiding_angle=guiding[2],
                extinction=float(
                    weather.cloud_extinction * np.exp(clouds - 0.5) + EXTINCTION_PER_AIRMASS * (airmass - 1.0)
                ),
                sky_brightness=float(BANDS[band].sky_brightness + weather.sky_scatter * sky),
            )
            seeing = _wander(seeing, config.interval / weather.seeing_timescale, random)
            clouds = _wander(clouds, config.interval / weather.cloud_timescale, random)
            sky = _wander(sky, config.interval / weather.cloud_timescale, random)
            defocus += (
                weather.focus_drift * np.sqrt(config.interval / FOCUS_PERIOD) * random.standard_normal()
            )
            hour_angle += config.interval / SECONDS_PER_DAY * 360.9856


def _wander(value: float, step: float, random: np.random.Generator) -> float:
    """Advance an Ornstein-Uhlenbeck process of unit variance by ``step`` timescales."""
    memory = float(np.exp(-step))
    return memory * value + float(np.sqrt(1.0 - memory**2) * random.standard_normal())


def _guiding(weather: ConditionsConfig, random: np.random.Generator) -> tuple[float, float, float]:
    event, angle, ratio = random.uniform(size=3)
    if event < weather.guiding_event_probability:
        return weather.guiding_event_rms, 0.2 * ratio, 180.0 * angle
    return weather.guiding_rms, 0.6 + 0.4 * ratio, 180.0 * angle


def _airmass(hour_angle: float, dec: float) -> float:
    """Secant of the zenith distance, at most 3."""
    latitude, declination = np.radians(LATITUDE), np.radians(dec)
    cosine = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(
        np.radians(hour_angle)
    )
    return float(1.0 / max(cosine, 1.0 / 3.0))


def _sidereal(mjd: float) -> float:
    """Local sidereal time in degrees, good to a minute of time."""
    return float((280.46062 + 360.98564737 * (mjd - 51544.5) + LONGITUDE) % 360.0)
