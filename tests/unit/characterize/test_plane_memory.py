"""No step makes a temporary of the exposure's size: what each allocates above the three planes, from two sizes of one sky."""

import tracemalloc
from collections import defaultdict
from contextlib import contextmanager

import numpy as np
import pytest

from streamchar.characterize import CharacterizeImage
from streamchar.characterize.base import Task
from streamchar.image import Exposure, Identity

SIGMA, DENSITY = 1.5, 30e-6

LIMIT = 1.5
"""Bytes for each pixel; a plane of the image takes 4, one of flags 1. The sky's median sorts a quarter of the pixels."""
LIMITS = {"measurement": 3.0, "measure_psf": 3.0}
"""The same of steps that keep images of each star: thirty stars to a million pixels."""


def sky(size):
    """Gaussian stars on a flat sky."""
    random = np.random.default_rng(size)
    image = random.normal(100.0, 10.0, (size, size)).astype(np.float32)
    offset = np.arange(-10, 11)
    for x, y in random.uniform(12, size - 12, (int(DENSITY * size**2), 2)):
        column, row = int(x), int(y)
        profile = [
            np.exp(-0.5 * ((centre + offset - at) / SIGMA) ** 2) for centre, at in ((row, y), (column, x))
        ]
        box = image[row - 10 : row + 11, column - 10 : column + 11]
        box += np.float32(10 ** random.uniform(2.5, 4.5)) * np.outer(*profile).astype(np.float32)
    return Exposure.from_image(image, gain=1.0, read_noise=0.0, identity=Identity("SIM", 1, 1, "r"))


@contextmanager
def allocations(found):
    """The most that each step directly below the task has allocated at one time, bytes above what there was before it."""
    original = Task.timer

    @contextmanager
    def timer(task, step):
        parts = task.get_full_name().split(".")
        if len(parts) != 2 or step != "run":
            with original(task, step):
                yield
            return
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        with original(task, step):
            yield
        found[parts[1]] = max(found[parts[1]], tracemalloc.get_traced_memory()[1] - before)

    Task.timer = timer
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        Task.timer = original


@pytest.fixture(scope="module")
def growth():
    """Bytes for each pixel that the steps' largest allocations grow by."""
    task, sizes = CharacterizeImage(), (1024, 2048)
    peaks = []
    for size in sizes:
        exposure = sky(size)
        found = defaultdict(int)
        with allocations(found):
            result = task.run(exposure)
        assert result.outcome == "succeeded"
        peaks.append(found)
    pixels = sizes[1] ** 2 - sizes[0] ** 2
    return {step: (peaks[1][step] - peaks[0][step]) / pixels for step in peaks[1]}


def test_every_step_was_seen(growth):
    assert {"background", "repair", "detection", "measurement", "measure_psf"} < growth.keys()
    assert {"subtract_streaks", "compute_summary_stats"} < growth.keys()


def test_no_step_allocates_a_plane(growth):
    assert {step: found for step, found in growth.items() if found > LIMITS.get(step, LIMIT)} == {}


def test_a_plane_would_be_seen():
    found = defaultdict(int)
    task = CharacterizeImage()
    with allocations(found), task.background.timer("run"):
        np.empty((1000, 1000), np.float32)
    assert found["background"] == pytest.approx(4e6, rel=0.01)
