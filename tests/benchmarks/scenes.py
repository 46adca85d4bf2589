"""The exposures that are measured: simulated once, kept in ``.cache/bench``. Run as a module: makes one, prints it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from streamchar.characterize.background import BackgroundList, SubtractBackground
from streamchar.characterize.peaks import find_footprints
from streamchar.characterize.smoothing import convolution, kernel_width
from streamchar.characterize.thresholds import make_threshold
from streamchar.configuration import merge, validate
from streamchar.image import Exposure
from streamchar.image.fits import write_exposure
from streamchar.telescope import SceneConfig, named_scene, simulate_exposure
from tests.benchmarks.processes import CACHE, answer, read_through

SEED = 5
DENSITY = 1.8
"""Stars and galaxies in units of the named scenes': gives about 10,000 footprints above 5 sigma on 4096 x 4096."""
THRESHOLD = 5.0
COUNTED_STARS = {"bright_magnitude": 17.0, "faint_magnitude": 23.5, "slope": 0.9}
"""Counted stars: below saturation, above 5 sigma, and so steep that 1 in 50 reaches 50 sigma."""


def describe(name: str, width: int, height: int, stars: int | None) -> SceneConfig:
    """Return the scene of a name at a size; with ``stars``, exactly that many stars and nothing else."""
    tree: dict[str, Any] = named_scene(name, size=max(width, height)).model_dump()
    merge(tree, {"camera": {"width": width, "height": height}})
    if stars is None:
        merge(tree, {group: {"density": DENSITY * tree[group]["density"]} for group in ("stars", "galaxies")})
    else:
        merge(tree, {"stars": {"count": stars, **COUNTED_STARS}, "galaxies": {"count": 0}})
    return validate(SceneConfig, tree, name)


def prepare(name: str, width: int, height: int, stars: int | None = None) -> dict[str, Any]:
    """Make the files of a scene unless they are there, and bring them into the page cache.

    Returns
    -------
    dict
        ``path`` (three planes), ``plain`` (the same pixels alone, for other programs), ``fwhm`` in pixels,
        ``footprints`` above 5 sigma and ``bright`` ones above 50 sigma.
    """
    scene = describe(name, width, height, stars)
    digest = hashlib.sha256(f"{SEED} {scene.model_dump_json()}".encode()).hexdigest()[:10]
    label = f"{name}-{width}x{height}" + ("" if stars is None else f"-{stars}-stars") + f"-{digest}"
    path, plain, facts = (CACHE / f"{label}{end}" for end in (".fits", "-plain.fits", ".json"))
    if not facts.exists():
        simulated = simulate_exposure(scene, SEED)
        write_exposure(path, simulated.exposure)
        _write_plain(plain, simulated.exposure)
        fwhm = float(np.median(simulated.truth.psf_grid["fwhm"]))
        counts = count_footprints(simulated.exposure, fwhm / 2.3548)
        facts.write_text(json.dumps({"fwhm": fwhm, "footprints": counts[0], "bright": counts[1]}))
    for file in (path, plain):
        read_through(file)
    return {"path": str(path), "plain": str(plain), **json.loads(facts.read_text())}


def count_footprints(exposure: Exposure, sigma: float) -> tuple[int, int]:
    """Footprints above 5 sigma on the smoothed exposure, and those that reach 50 sigma. Subtracts the background."""
    SubtractBackground().run(exposure, BackgroundList())
    smoothed = convolution(exposure.image, exposure.variance, sigma, kernel_width(sigma, 7.0))
    threshold = make_threshold("pixel_stdev", THRESHOLD, None, None)
    above, bright = (
        find_footprints(smoothed, threshold, multiple, 1, negative=False)[0] for multiple in (1.0, 10.0)
    )
    return len(above), len(bright)


def _write_plain(path: Path, exposure: Exposure) -> None:
    from astropy.io import fits

    fits.PrimaryHDU(exposure.image).writeto(path, overwrite=True)


if __name__ == "__main__":
    answer(prepare(**json.loads(sys.argv[1])))
