"""One characterization of one simulated exposure in a process of its own, and all figures of it."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from streamchar.characterize import CharacterizeImage
from streamchar.characterize.base import Timing
from streamchar.characterize.config import CharacterizeImageConfig, Preset
from tests.science.truth.image_figures import background_figures, cosmic_ray_figures
from tests.science.truth.matching import match
from tests.science.truth.psf_figures import SPATIAL_DEGREE, attainable, psf_figures
from tests.science.truth.report import Figures, Run
from tests.science.truth.scenes import SceneKey, bounds_of, exposure_of, prepare, truth_of
from tests.science.truth.source_figures import Samples, source_findings


def measure(key: SceneKey, preset: Preset, overrides: tuple[str, ...] = ()) -> Run:
    """One run; in a fresh process, so that its memory is its own."""
    prepare(key)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(characterize, key, preset, overrides).result()


def characterize(key: SceneKey, preset: Preset, overrides: tuple[str, ...] = ()) -> Run:
    """Run in this process."""
    task = CharacterizeImage(CharacterizeImageConfig.preset(preset, overrides))
    raw = exposure_of(key)
    # The second copy is for comparison only; it is made last so that the peak is that of one exposure.
    start = time.process_time()
    result = task.run(raw)
    cpu = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures: Figures = {"cpu": cpu, "peak_memory": memory, **_stages(result.timings)}
    truth, bounds = truth_of(key), bounds_of(key)
    figures["succeeded"] = float(result.outcome == "succeeded")
    figures["failed"] = float(result.outcome == "failed")
    figures |= attainable(truth, bounds, SPATIAL_DEGREE.get(key.name, 2))
    figures |= background_figures(result, truth)
    figures |= cosmic_ray_figures(result, truth, exposure_of(key))
    samples: Samples = {}
    if result.catalog is not None:
        pairs = match(result.catalog, truth)
        figures |= psf_figures(result, truth, pairs, bounds)
        more, samples = source_findings(result, truth, pairs, bounds)
        figures |= more | {name: sample.value for name, sample in samples.items()}
    # A PSF without a shape misses its targets; other figures are not finite where there is nothing to measure.
    figures = {
        name: float(value)
        for name, value in figures.items()
        if np.isfinite(value) or name.startswith(("psf_size", "psf_ellipticity"))
    }
    return Run(key.name, key.seed, preset, figures, samples)


def _stages(timings: tuple[Timing, ...]) -> Figures:
    seconds: defaultdict[str, float] = defaultdict(float)
    for timing in timings:
        parts = timing.name.split(".")
        if len(parts) == 3:
            seconds[f"cpu_{parts[1]}"] += timing.cpu
    return dict(seconds)
