"""Settings of the comparison with truth, and its table at the end of the run.

``make truth TRUTH_SEEDS=1,2,3 TRUTH_SCENES=normal,sharp TRUTH_SIZE=2048``: variables of the environment, since they are
rarely changed. Without seeds each scene takes as many exposures as :data:`tests.science.truth.scenes.SEEDS` says.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from tests.science.truth.report import Run, show, write
from tests.science.truth.scenes import CACHE, SCENE_NAMES
from tests.science.truth.targets import SIZE


@dataclass
class Comparison:
    """What is compared, and what has been found so far; without ``seeds`` each scene takes as many as it needs."""

    seeds: tuple[int, ...] | None
    scenes: tuple[str, ...]
    size: int
    runs: list[Run] = field(default_factory=list)


COMPARISON = pytest.StashKey[Comparison]()


def pytest_configure(config: pytest.Config) -> None:
    _comparison(config)


@pytest.fixture
def comparison(request: pytest.FixtureRequest) -> Comparison:
    return _comparison(request.config)


def pytest_terminal_summary(config: pytest.Config) -> None:
    comparison = config.stash.get(COMPARISON, None)
    if comparison is None or not comparison.runs:
        return
    write(comparison.runs, CACHE / "report.json")
    show(comparison.runs, Console(width=200))


def _comparison(config: pytest.Config) -> Comparison:
    if COMPARISON not in config.stash:
        environment = os.environ
        named = environment.get("TRUTH_SEEDS")
        seeds = tuple(int(seed) for seed in named.split(",")) if named else None
        scenes = tuple(environment.get("TRUTH_SCENES", ",".join(SCENE_NAMES)).split(","))
        size = int(environment.get("TRUTH_SIZE", str(SIZE)))
        config.stash[COMPARISON] = Comparison(seeds, scenes, size)
    return config.stash[COMPARISON]
