"""Charged particles through the silicon: straight muon tracks, winding electron tracks, compact spots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamchar.telescope.config import SceneConfig

Array = NDArray[np.float64]

TRACK, WORM, SPOT, INJECTED = 0, 1, 2, 3
KINDS = ("track", "worm", "spot", "injected")
"""Names of the kinds of hits by their number."""

STEP = 0.1
"""Length of a step along a track, pixels."""

SAMPLES = 12
"""Charges into which a step's charge is split before each diffuses on its own."""

MUON_CHARGE = 75.0
"""Most probable electrons per micrometre from a minimum-ionising particle in silicon."""

DIFFUSION = (0.12, 0.42)
"""Standard deviation of the diffusion of charge from the lower and from the upper surface, pixels."""

SMALLEST_CHARGE = 1.0
"""Electrons in a pixel below which it does not count as hit."""


@dataclass(frozen=True, slots=True, eq=False)
class CosmicRays:
    """Hits and the pixels they left charge in.

    Attributes
    ----------
    kind
        uint8 (hits): index into :data:`KINDS`.
    hit
        int32 (pixels): which hit.
    x, y
        int32 (pixels).
    charge
        float32 (pixels): electrons.
    """

    kind: NDArray[np.uint8]
    hit: NDArray[np.int32]
    x: NDArray[np.int32]
    y: NDArray[np.int32]
    charge: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.kind)

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Pixels with charge of any hit: bool of ``shape``."""
        result = np.zeros(shape, bool)
        result[self.y, self.x] = True
        return result

    def add_to(self, image: NDArray[np.float32]) -> None:
        """Add the charge to an image in electrons."""
        np.add.at(image, (self.y, self.x), self.charge)

    @classmethod
    def from_image(cls, charge: NDArray[np.floating]) -> CosmicRays:
        """Take real hits from an image of nothing but their charge in electrons; touching pixels are one hit."""
        from scipy import ndimage

        labels, count = ndimage.label(charge >= SMALLEST_CHARGE, structure=np.ones((3, 3)))
        y, x = np.nonzero(labels)
        return cls(
            np.full(count, INJECTED, np.uint8),
            (labels[y, x] - 1).astype(np.int32),
            x.astype(np.int32),
            y.astype(np.int32),
            charge[y, x].astype(np.float32),
        )


def draw_cosmic_rays(scene: SceneConfig, random: np.random.Generator) -> CosmicRays:
    """Draw the hits of one exposure.

    Muons arrive with the cosine-squared law of sea level and lose a Landau-distributed charge per step; electrons
    scatter along their way, losing more as they slow down; spots are low-energy particles stopped within a pixel or
    two. Charge diffuses the more the further from the gates it was freed. Rate, sizes and charges are those of 1764
    hits harvested from 1500 s of darks of an LSST sensor of 100 micrometres (imSim, data/cosmic_rays_itl_2017).
    """
    camera, config = scene.camera, scene.cosmic_rays
    area = camera.height * camera.width * (camera.pixel_size * 1e-4) ** 2
    number = int(random.poisson(config.rate * area * scene.exposure_time / 60.0))
    fractions = random.uniform(size=number)
    kind = np.where(
        fractions < config.track_fraction,
        TRACK,
        np.where(fractions < config.track_fraction + config.worm_fraction, WORM, SPOT),
    ).astype(np.uint8)
    makers = (_track, _worm, _spot)
    paths = [makers[which](scene, random) for which in kind]
    hits = np.repeat(np.arange(number), [len(path) for path in paths])
    points = np.concatenate(paths) if paths else np.zeros((0, 4))
    return _deposit(scene, kind, hits, points, random)


def _track(scene: SceneConfig, random: np.random.Generator) -> Array:
    camera = scene.camera
    # Flux through a flat detector goes as cos^3: its integral over solid angle inverts to a fourth root.
    slope = np.tan(np.arccos(np.clip(random.uniform(), 1e-3, 1.0) ** 0.25))
    length = slope * camera.thickness / camera.pixel_size
    steps = max(2, int(np.ceil(length / STEP)))
    direction = random.uniform(0.0, 2.0 * np.pi)
    along = (np.arange(steps) + 0.5) / steps
    micrometres = camera.thickness * np.sqrt(1.0 + slope**2) / steps
    charge = _landau(MUON_CHARGE * micrometres, micrometres, steps, random)
    x, y = _start(scene, random)
    return np.column_stack(
        [x + along * length * np.cos(direction), y + along * length * np.sin(direction), along, charge]
    )


def _worm(scene: SceneConfig, random: np.random.Generator) -> Array:
    length = np.exp(random.normal(np.log(15.0), 0.75))
    steps = max(20, int(length / STEP))
    remaining = 1.0 - np.arange(steps) / steps
    # Multiple scattering grows as the electron slows down.
    turns = np.cumsum(random.standard_normal(steps) * 0.16 / np.sqrt(remaining + 0.03))
    direction = random.uniform(0.0, 2.0 * np.pi) + turns
    depth = np.clip(
        random.uniform() + 0.3 * np.cumsum(random.standard_normal(steps)) / np.sqrt(steps), 0.0, 1.0
    )
    loss = MUON_CHARGE * scene.camera.pixel_size * STEP * (1.0 + 0.6 / (remaining + 0.15))
    charge = loss * np.exp(0.3 * random.standard_normal(steps))
    x, y = _start(scene, random)
    return np.column_stack(
        [x + STEP * np.cumsum(np.cos(direction)), y + STEP * np.cumsum(np.sin(direction)), depth, charge]
    )


def _spot(scene: SceneConfig, random: np.random.Generator) -> Array:
    steps = 8
    total = np.exp(random.normal(np.log(2500.0), 0.9))
    spread = random.uniform(0.0, 0.6)
    x, y = _start(scene, random)
    return np.column_stack(
        [
            x + spread * random.standard_normal(steps),
            y + spread * random.standard_normal(steps),
            np.full(steps, random.uniform()),
            np.full(steps, total / steps),
        ]
    )


def _start(scene: SceneConfig, random: np.random.Generator) -> Array:
    return random.uniform(-0.5, np.array([scene.camera.width, scene.camera.height]) - 0.5)


def _landau(probable: float, micrometres: float, steps: int, random: np.random.Generator) -> Array:
    # Moyal's approximation of the Landau distribution is -log of a chi-square variate.
    width = 18.0 * micrometres
    moyal = -np.log(random.chisquare(1.0, steps).clip(1e-6))
    return np.asarray(np.clip(probable + width * moyal, 0.1 * probable, 30.0 * probable))


def _deposit(
    scene: SceneConfig,
    kind: NDArray[np.uint8],
    hits: NDArray[np.intp],
    points: Array,
    random: np.random.Generator,
) -> CosmicRays:
    height, width = scene.camera.height, scene.camera.width
    near, far = DIFFUSION
    sigma = near + (far - near) * np.sqrt(points[:, 2])
    x, y = (
        np.floor(
            points[:, axis, None] + sigma[:, None] * random.standard_normal((len(points), SAMPLES)) + 0.5
        )
        for axis in (0, 1)
    )
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    owner = np.broadcast_to(hits[:, None], x.shape)[inside]
    pixel = y[inside].astype(np.int64) * width + x[inside].astype(np.int64)
    charge = np.broadcast_to(points[:, 3, None] / SAMPLES, x.shape)[inside]
    keys, index = np.unique(owner.astype(np.int64) * (height * width) + pixel, return_inverse=True)
    summed = np.bincount(index, charge, len(keys))
    kept = summed >= SMALLEST_CHARGE
    hit, place = np.divmod(keys[kept], height * width)
    row, column = np.divmod(place, width)
    return CosmicRays(
        kind,
        hit.astype(np.int32),
        column.astype(np.int32),
        row.astype(np.int32),
        summed[kept].astype(np.float32),
    )
