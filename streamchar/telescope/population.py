"""The stars and galaxies of a scene."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from streamchar.telescope.bands import BANDS
from streamchar.telescope.config import GalaxiesConfig, SceneConfig, StarsConfig

Array = NDArray[np.float64]

LATE_INDICES = (1.0, 1.5)
EARLY_INDICES = (2.5, 4.0)
MARGIN_ARCSEC = 12.0
"""Sources this far outside the detector are drawn, for their wings."""

SMALLEST_AXIS_RATIO = 0.2
RADIUS_REFERENCE_MAGNITUDE = 21.0


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """Stars and galaxies; arrays of length n.

    Attributes
    ----------
    x, y
        float64: positions in pixels; may lie outside the detector.
    flux
        float64: electrons.
    magnitude
        float64: above the atmosphere.
    galaxy
        bool: galaxies; the rest are stars.
    index
        float64: Sersic index, 0 for stars.
    radius
        float64: half-light radius along the major axis, pixels, 0 for stars.
    axis_ratio, angle
        float64: minor over major axis, and direction of the major axis in radians from x towards y.
    """

    x: Array
    y: Array
    flux: Array
    magnitude: Array
    galaxy: NDArray[np.bool_]
    index: Array
    radius: Array
    axis_ratio: Array
    angle: Array

    def __len__(self) -> int:
        return len(self.x)

    def take(self, which: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Sources:
        """Return some of the sources."""
        return Sources(*(getattr(self, field.name)[which] for field in fields(self)))


def draw_sources(scene: SceneConfig, random: np.random.Generator) -> Sources:
    """Draw the sources of a scene: stars first, then galaxies, each in order of falling flux.

    Parameters
    ----------
    scene
        Settings.
    random
        Source of randomness.
    """
    stars = _positions(scene, scene.stars, random)
    galaxies = _positions(scene, scene.galaxies, random)
    shapes = _shapes(scene, galaxies[2], random)
    none = np.zeros(len(stars[2]))
    magnitude = np.concatenate([stars[2], galaxies[2]])
    return Sources(
        x=np.concatenate([stars[0], galaxies[0]]),
        y=np.concatenate([stars[1], galaxies[1]]),
        flux=electrons(scene, magnitude),
        magnitude=magnitude,
        galaxy=np.repeat([False, True], [len(none), len(galaxies[2])]),
        index=np.concatenate([none, shapes[0]]),
        radius=np.concatenate([none, shapes[1]]),
        axis_ratio=np.concatenate([none + 1.0, shapes[2]]),
        angle=np.concatenate([none, shapes[3]]),
    )


def electrons(scene: SceneConfig, magnitude: Array) -> Array:
    """Electrons collected from sources of given magnitude."""
    brightness = BANDS[scene.band].zero_point - scene.extinction - magnitude
    return np.asarray(scene.exposure_time * 10.0 ** (0.4 * brightness))


def _positions(
    scene: SceneConfig, counts: StarsConfig | GalaxiesConfig, random: np.random.Generator
) -> tuple[Array, Array, Array]:
    camera = scene.camera
    margin = 0.0 if counts.count is not None else MARGIN_ARCSEC / camera.pixel_scale
    width, height = camera.width + 2.0 * margin, camera.height + 2.0 * margin
    number = counts.count
    if number is None:
        number = int(random.poisson(counts.density * width * height * (camera.pixel_scale / 60.0) ** 2))
    x = random.uniform(-0.5 - margin, camera.width - 0.5 + margin, number)
    y = random.uniform(-0.5 - margin, camera.height - 0.5 + margin, number)
    # Cumulative counts grow as 10^(slope m): the inverse of that distribution between the two limits.
    lowest = 10.0 ** (counts.slope * (counts.bright_magnitude - counts.faint_magnitude))
    magnitude = counts.faint_magnitude + np.log10(random.uniform(lowest, 1.0, number)) / counts.slope
    order = np.argsort(magnitude)
    return x, y, magnitude[order]


def _shapes(
    scene: SceneConfig, magnitude: Array, random: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    config, number = scene.galaxies, len(magnitude)
    early = random.uniform(size=number) < config.early_fraction
    index = np.where(early, random.choice(EARLY_INDICES, number), random.choice(LATE_INDICES, number))
    logarithm = (
        np.log10(config.radius)
        - config.radius_slope * (magnitude - RADIUS_REFERENCE_MAGNITUDE)
        + config.radius_scatter * random.standard_normal(number)
    )
    axis_ratio = np.where(
        early, random.uniform(0.55, 1.0, number), random.uniform(SMALLEST_AXIS_RATIO, 1.0, number)
    )
    angle = random.uniform(0.0, np.pi, number)
    return index, 10.0**logarithm / scene.camera.pixel_scale, axis_ratio, angle
