"""What is measured, in which order: each function returns plain data for the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import debian
from tests.benchmarks import peers
from tests.benchmarks.processes import ROOT, read_through, run, run_module

Found = dict[str, Any]
Say = Callable[[str], None]

MEASURE_ALL = {"detection": {"include_threshold_multiplier": 1}}
"""Every footprint above 5 sigma becomes a source, measured in the final pass; preset reference measures all in every pass."""

GAIN, SATURATION = 1.7, 60000.0
"""Of the simulated detector."""

STARTS = 5
"""How often a worker is started."""

EACH, ROUNDS = 3, 4
"""Exposures of each worker, one after another, before another number of workers has its turn; and how often it has."""

TURNS = 10
"""Exposures that one worker characterizes when its memory is measured: normal and sharp in turn, measuring all."""

FEWEST = 3
"""Times that the largest exposure is characterized."""

CROWDED = 50_000
"""Stars on 4096 x 4096 beyond which their profiles overlap."""

PIXEL_STAGES = ("read", "background", "subtract_streaks", "repair", "detection", "compute_summary_stats")
"""Stages whose cost goes with the number of pixels."""
SOURCE_STAGES = (
    "deblend",
    "measurement",
    "normalized_calibration_flux",
    "measure_ap_corr",
    "apply_ap_corr",
    "catalog_calculation",
    "encode",
)
"""Stages whose cost goes with the number of sources. Neither has ``measure_psf``: its cost goes with the stars."""


def prepare(name: str, width: int, height: int, stars: int | None = None) -> Found:
    """Make a scene in a process of its own: the files, and what is in them."""
    return run_module("scenes", name=name, width=width, height=height, stars=stars)[0]


def characterize(
    scene: Mapping[str, Any], configuration: Mapping[str, Any], runs: int, *, memory: bool = False
) -> Found:
    """Characterize a scene, from the page cache, in a process of its own; adds what the whole ``process`` used."""
    from tests.benchmarks.loop import settings_of

    path = Path(scene["path"])
    settings = settings_of(path, configuration)
    read_through(path)
    found, usage = run_module("exposures", path=str(path), settings=settings, runs=runs, memory=memory)
    return {**found, "process": {"cpu": usage.cpu, "user": usage.user}}


def cases(size: int) -> dict[str, tuple[str, int, int, Mapping[str, Any]]]:
    """Scenes and settings of the main table: name to (scene, width, height, settings)."""
    square, half, small = (size, size), (size // 2, size), (size // 4, size // 4)
    return {
        f"{width}x{height} {scene}{label}": (scene, width, height, settings)
        for scene, label, (width, height), settings in (
            ("normal", "", square, {}),
            ("normal", ", measure all", square, MEASURE_ALL),
            ("normal", ", reference", square, {"preset": "reference"}),
            ("normal", ", reference, measure all", square, {"preset": "reference", **MEASURE_ALL}),
            ("sharp", "", square, {}),
            ("sharp", ", reference", square, {"preset": "reference"}),
            ("normal", "", half, {}),
            ("normal", ", measure all", half, MEASURE_ALL),
            ("normal", "", small, {}),
            ("normal", ", measure all", small, MEASURE_ALL),
        )
    }


def measure_cases(size: int, runs: int, say: Say) -> Found:
    """CPU seconds and memory, in total and by stage, FITS in page cache to encoded messages."""
    found: Found = {}
    for label, (name, width, height, settings) in cases(size).items():
        say(label)
        scene = prepare(name, width, height)
        found[label] = {**scene, **characterize(scene, settings, runs, memory=True)}
    return found


def measure_peers(size: int, runs: int, say: Say) -> Found:
    """Whole-process CPU seconds of the other programs and of ours on the same pixels, in turns."""
    debian.install(peers.PACKAGES)
    scene = prepare("normal", size, size)
    found: defaultdict[str, list[Found]] = defaultdict(list)
    for number in range(runs):
        say(f"round {number + 1} of {runs}: source-extractor, psfex, source-extractor; ours; sep")
        read_through(Path(scene["plain"]))
        chains = peers.run_chains(Path(scene["plain"]), scene["fwhm"], GAIN, SATURATION)
        for label, chain in chains.items():
            steps = {
                name: {"cpu": use.cpu, "peak_bytes": use.peak_bytes} for name, use in chain.steps.items()
            }
            found[label].append(
                {
                    "cpu": chain.cpu,
                    "user": chain.user,
                    "peak_bytes": chain.peak_bytes,
                    "steps": steps,
                    "sources": chain.sources,
                }
            )
        for label, settings in (("ours", {}), ("ours, measure all", MEASURE_ALL)):
            ours = characterize(scene, settings, 0)
            found[label].append(
                {**ours["process"], "peak_bytes": ours["peak_bytes"], "sources": ours["rows"]}
            )
        sep, usage = run_module("sep_chain", plain=scene["plain"], fwhm=scene["fwhm"], gain=GAIN)
        found["sep"].append({**sep, "cpu": usage.cpu})
    return found


def measure_workers(size: int, say: Say) -> Found:
    """Start, memory and throughput of 1 to as many workers as there are cores."""
    from tests.benchmarks.loop import announcement, settings_of
    from tests.benchmarks.workers import JOB

    scene = prepare("normal", size, size)
    path = Path(scene["path"])
    cores = len(os.sched_getaffinity(0))
    counts = sorted({1, *(2**power for power in range(8) if 2**power <= cores), cores})
    settings = settings_of(path, {})
    turns = [path, Path(prepare("sharp", size, size)["path"])]
    say(f"starts, then {', '.join(map(str, counts))} workers in turns, then {TURNS} exposures in one")
    found, _ = run_module(
        "workers",
        settings=settings,
        event=announcement(path).value.decode(),
        counts=counts,
        each=EACH,
        rounds=ROUNDS,
        starts=STARTS,
        all_settings=settings_of(path, MEASURE_ALL),
        turns=[announcement(file).value.decode() for file in turns],
        exposures=TURNS,
    )
    module, _, function = JOB.partition(":")
    build = (
        "import json, streamchar.stream.worker\n"
        "from streamchar.stream.heap import made_to_stay\n"
        f"with made_to_stay():\n    from {module} import {function} as job\n    job(json.loads({json.dumps(settings)!r}))"
    )
    command = [sys.executable, "-c", build]
    return {**found, "start_cpu": [run(command).cpu for _ in range(STARTS)]}


def measure_sizes(sizes: Sequence[int], say: Say) -> Found:
    """CPU seconds against the number of pixels, at the same densities; as many pixels of each size, so small exposures more often."""
    found: Found = {}
    for size in sizes:
        say(f"{size}x{size}")
        scene = prepare("normal", size, size)
        found[str(size)] = _costs(characterize(scene, {}, max((max(sizes) // size) ** 2, FEWEST)))
    return found


def measure_counts(counts: Sequence[int], size: int, say: Say) -> Found:
    """CPU seconds of measuring all against the number of stars; many of them on twice the size, to keep them apart."""
    found: Found = {}
    for count in counts:
        side = 2 * size if count > CROWDED * (size / 4096) ** 2 else size
        say(f"{count} stars on {side}x{side}")
        scene = prepare("normal", side, side, count)
        found[str(count)] = _costs(characterize(scene, MEASURE_ALL, 1 if side > size else 3))
    return found


def measure_encodings(size: int, say: Say) -> Found:
    """Cost of a catalogue in our messages and in other formats."""
    say("encoding and decoding")
    scene = prepare("normal", size, size)
    return run_module("encodings", path=scene["path"])[0]


def _costs(found: Mapping[str, Any]) -> Found:
    stages = {name: min(values) for name, values in found["stages"].items()}
    return {
        "cpu": min(found["cpu"]),
        "pixels": sum(stages.get(name, 0.0) for name in PIXEL_STAGES),
        "sources": sum(stages.get(name, 0.0) for name in SOURCE_STAGES),
        "final_measurement": found["passes"]["measurement"][-1],
        "measure_psf": stages.get("measure_psf", 0.0),
        "rows": found["rows"],
        "peak_bytes": found["peak_bytes"],
        "outcome": found["outcome"],
    }


def machine() -> Found:
    """What the figures were taken on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    git = ["git", "describe", "--always", "--dirty"]
    described = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "revision": described.stdout.strip() or "unknown",
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": [round(x, 1) for x in os.getloadavg()],
    }
