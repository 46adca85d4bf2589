"""Compare some scenes with truth by hand: ``python -m tests.science.truth --scenes normal sharp --size 2048``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from tests.science.truth.report import show, write
from tests.science.truth.runs import measure
from tests.science.truth.scenes import CACHE, SCENE_NAMES, SceneKey, seeds_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", nargs="+", default=list(SCENE_NAMES), choices=SCENE_NAMES)
    parser.add_argument("--seeds", nargs="+", type=int, help="as many as each scene needs when omitted")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--presets", nargs="+", default=["best", "reference"])
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="applied to preset best")
    parser.add_argument("--json", type=Path, default=CACHE / "report.json")
    options = parser.parse_args()
    runs = []
    for scene in options.scenes:
        for preset in options.presets:
            for seed in options.seeds or seeds_of(scene, preset):
                overrides = tuple(options.set) if preset == "best" else ()
                runs.append(measure(SceneKey(scene, seed, options.size), preset, overrides))
    show(runs, Console(width=220))
    write(runs, options.json)


if __name__ == "__main__":
    main()
