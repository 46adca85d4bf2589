"""Satellites that cross the detector during an exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamchar.telescope.config import SceneConfig
from streamchar.telescope.psf import TruePsf

Array = NDArray[np.float64]
Real = NDArray[np.float32]

PROFILE_POINTS = 512
PROFILE_STEP = 0.05


@dataclass(frozen=True, slots=True)
class Streak:
    """A straight line across the detector.

    Attributes
    ----------
    x, y
        A point on the line, pixels.
    angle
        Direction, radians from x towards y, 0 to pi.
    brightness
        Electrons per pixel of length.
    width
        Standard deviation across that the satellite adds to the point-spread function, pixels.
    """

    x: float
    y: float
    angle: float
    brightness: float
    width: float

    def distance(self, x: Array, y: Array) -> Array:
        """Distance of positions from the line, pixels, not negative."""
        return np.asarray(np.abs((y - self.y) * np.cos(self.angle) - (x - self.x) * np.sin(self.angle)))


def draw_streaks(
    scene: SceneConfig, psf: TruePsf, sky_sigma: float, random: np.random.Generator
) -> list[Streak]:
    """Draw the satellites of an exposure, their brightness even in the logarithm.

    Parameters
    ----------
    scene
        Settings.
    psf
        Point-spread function, which turns peak brightness into brightness per length.
    sky_sigma
        Standard deviation of the sky, electrons.
    random
        Source of randomness.
    """
    config, camera = scene.streaks, scene.camera
    streaks = []
    for _ in range(config.count + int(random.uniform() < config.probability)):
        x = random.uniform(0.15, 0.85) * camera.width
        y = random.uniform(0.15, 0.85) * camera.height
        angle = random.uniform(0.0, np.pi)
        peak = sky_sigma * np.exp(random.uniform(np.log(config.faint), np.log(config.bright)))
        width = config.width / camera.pixel_scale
        unit = Streak(x, y, angle, 1.0, width)
        streaks.append(Streak(x, y, angle, float(peak / _profile(unit, psf)[0]), width))
    return streaks


def paint_streak(image: Real, streak: Streak, psf: TruePsf) -> None:
    """Add a streak to an image in electrons; its cross profile is that of the PSF in the detector's middle."""
    profile = _profile(streak, psf)
    reach = (len(profile) - 1) * PROFILE_STEP
    if abs(np.cos(streak.angle)) >= abs(np.sin(streak.angle)):
        _paint_rows(image, streak.x, streak.y, np.tan(streak.angle), reach, profile)
    else:
        _paint_rows(image.T, streak.y, streak.x, 1.0 / np.tan(streak.angle), reach, profile)


def _paint_rows(image: Real, x: float, y: float, slope: float, reach: float, profile: Real) -> None:
    """Add a line with |slope| <= 1 to an array of rows."""
    height, width = image.shape
    columns = np.arange(width)
    center = y + slope * (columns - x)
    stretch = np.sqrt(1.0 + slope**2)
    half = int(np.ceil(reach * stretch))
    rows = np.round(center).astype(np.int64) + np.arange(-half, half + 1)[:, None]
    distance = np.abs(rows - center) / stretch
    values = np.interp(distance, np.arange(len(profile)) * PROFILE_STEP, profile, right=0.0)
    inside = (rows >= 0) & (rows < height)
    image[rows[inside], np.broadcast_to(columns, rows.shape)[inside]] += values[inside].astype(np.float32)


def _profile(streak: Streak, psf: TruePsf) -> Real:
    """Cross section at multiples of the step, down to 1e-4 of the peak, for one electron per pixel of length.

    By the projection theorem it is the inverse transform of the section of the PSF's transform along the normal.
    """
    frequencies = np.linspace(0.0, psf.frequency_limit, PROFILE_POINTS)
    section = psf.section(streak.angle + 0.5 * np.pi, frequencies)
    section *= np.exp(-0.5 * (frequencies * streak.width) ** 2)
    distance = np.arange(0.0, 12.0 * (psf.fwhm + streak.width), PROFILE_STEP)
    weight = np.full(PROFILE_POINTS, frequencies[1] / np.pi)
    weight[0] *= 0.5
    profile = streak.brightness * (np.cos(np.outer(distance, frequencies)) @ (weight * section))
    visible = np.flatnonzero(profile > 1e-4 * profile[0])
    return np.asarray(profile[: visible[-1] + 2].astype(np.float32))
