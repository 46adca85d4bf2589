"""Simulated exposures with their truth, kept on disk so that only the first run draws them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS

import streamchar.telescope
from streamchar.characterize.config import Preset
from streamchar.image import Exposure, Identity, Observation
from streamchar.telescope import SCENES, named_scene, simulate_exposure
from streamchar.telescope.config import SceneConfig
from streamchar.telescope.truth import Truth, read_truth, write_truth
from tests.science.truth import bounds
from tests.science.truth.bounds import StarBounds, star_bounds
from tests.science.truth.crossed import hits_on_stars

ROOT = Path(__file__).parents[3]
CACHE = ROOT / ".cache" / "truth"
CROSSED = "crossed"
SCENE_NAMES = (*SCENES, CROSSED)
"""The named scenes, and the normal one with a real cosmic-ray hit through every bright isolated star."""

SEEDS: Mapping[str, int] = MappingProxyType(
    {"sharp": 8, "poor": 8, "sparse": 60, "crowded": 8, "gradients": 6, CROSSED: 6}
)
"""Exposures on which ``best`` is judged, where ``MOST_SEEDS`` are too few for the errors of the pulls' mean and width to be
about a third of what they may deviate by: there are few stars, or exposures differ as a whole."""

MOST_SEEDS = 4
REFERENCE_SEEDS = 2
"""Exposures of most scenes, and those that the reference is compared on."""


def seeds_of(name: str, preset: Preset) -> tuple[int, ...]:
    """Seeds 1, 2, ... of a scene."""
    count = SEEDS.get(name, MOST_SEEDS)
    return tuple(range(1, 1 + (count if preset == "best" else min(count, REFERENCE_SEEDS))))


@dataclass(frozen=True)
class SceneKey:
    """Which exposure."""

    name: str
    seed: int
    size: int

    @property
    def folder(self) -> Path:
        return CACHE / f"{self.name}-{self.size}-{self.seed}-{_simulator_digest()}"


def exposure_of(key: SceneKey) -> Exposure:
    """The exposure, drawn when it is not on disk yet; call ``prepare`` first to keep drawing out of timings."""
    folder = prepare(key)
    facts = json.loads((folder / "exposure.json").read_text())
    exposure = Exposure.from_image(
        np.load(folder / "image.npy"),
        gain=facts["observation"]["gain"],
        read_noise=facts["observation"]["read_noise"],
        observation=Observation(**facts["observation"]),
        identity=Identity(**facts["identity"]),
        wcs=WCS(Header.fromstring(facts["wcs"])),
        source=str(key),
    )
    with np.load(folder / "mask.npz") as planes:
        exposure.mask[...] = planes["mask"]
    return exposure


def truth_of(key: SceneKey) -> Truth:
    return read_truth(prepare(key) / "truth.fits")


def bounds_of(key: SceneKey) -> StarBounds:
    """What can be known of each star at best; computed once."""
    digest = hashlib.sha256(Path(bounds.__file__).read_bytes()).hexdigest()[:10]
    path = prepare(key) / f"bounds-{digest}.npz"
    if not path.exists():
        star_bounds(truth_of(key)).save(path)
    return StarBounds.load(path)


def prepare(key: SceneKey) -> Path:
    """Draw an exposure and write it to the cache, whole or not at all."""
    folder = key.folder
    if (folder / "truth.fits").exists():
        return folder
    simulated = _simulate(key)
    exposure = simulated.exposure
    temporary = folder.with_suffix(f".{os.getpid()}")
    temporary.mkdir(parents=True)
    np.save(temporary / "image.npy", exposure.image)
    np.savez_compressed(temporary / "mask.npz", mask=exposure.mask)
    assert exposure.wcs is not None
    observation = {name: getattr(exposure.observation, name) for name in exposure.observation.__slots__}
    identity = {name: getattr(exposure.identity, name) for name in exposure.identity.__slots__}
    facts = {"observation": observation, "identity": identity, "wcs": exposure.wcs.to_header().tostring()}
    (temporary / "exposure.json").write_text(json.dumps(facts))
    write_truth(temporary / "truth.fits", simulated.truth)
    temporary.rename(folder)
    return folder


def _simulate(key: SceneKey):
    if key.name != CROSSED:
        return simulate_exposure(named_scene(key.name, size=key.size), key.seed)
    scene = _without_hits(named_scene("normal", size=key.size))
    plain = simulate_exposure(scene, key.seed)
    return simulate_exposure(scene, key.seed, injected=hits_on_stars(plain.truth, key.seed))


def _without_hits(scene: SceneConfig) -> SceneConfig:
    return scene.model_copy(update={"cosmic_rays": scene.cosmic_rays.model_copy(update={"rate": 0.0})})


def _simulator_digest() -> str:
    digest = hashlib.sha256()
    folder = Path(streamchar.telescope.__file__).parent
    drawing = ("cosmic_rays", "defects", "painter", "population", "profiles", "psf", "renderer", "scenes")
    for name in (*drawing, "simulate", "streaks", "transform", "truth", "wings"):
        digest.update((folder / f"{name}.py").read_bytes())
    digest.update((Path(__file__).parent / "crossed.py").read_bytes())
    return digest.hexdigest()[:10]
