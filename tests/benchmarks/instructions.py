"""Instructions that the main kernels execute on fixed inputs, against the stored figures: a guard that no load disturbs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.processes import CACHE, run

STORED = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.05

COLLECTOR = """
#include <valgrind/callgrind.h>
extern "C" void start() { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
extern "C" void stop(const char* name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""
"""Counting starts and stops by requests from inside: the kernels' symbols are stripped."""

_TRIGGER = re.compile(r"^desc: Trigger: Client Request: (.+)$", re.MULTILINE)
_TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


class CountingError(Exception):
    """Instructions cannot be counted here; the message says why."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Instructions by kernel, and what they depend on.

    Attributes
    ----------
    build
        Compiler, C library and processor generation as valgrind shows it: counts of other builds do not compare.
    kernels
        Instructions of one call.
    """

    build: str
    kernels: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Change:
    """A kernel's count beside the stored one.

    Attributes
    ----------
    name
        Of the kernel.
    found, stored
        Instructions; None when there is none.
    """

    name: str
    found: int | None
    stored: int | None

    @property
    def ratio(self) -> float:
        """Found over stored, NaN when either is missing."""
        return self.found / self.stored if self.found and self.stored else float("nan")

    @property
    def ok(self) -> bool:
        """Whether the count is at most 5 % above the stored one; fewer, or nothing stored, is no failure."""
        return self.stored is None or self.ratio <= 1 + TOLERANCE

    @property
    def stale(self) -> bool:
        """Whether the kernel became so much cheaper that the stored figure should be recorded anew."""
        return self.ratio < 1 - TOLERANCE


def count() -> Counts:
    """Count the instructions of every kernel call under callgrind.

    Raises
    ------
    CountingError
        Without valgrind or a compiler.
    """
    if shutil.which("valgrind") is None:
        raise CountingError("valgrind is not installed (on Debian: apt-get install valgrind)")
    library = _build_collector()
    folder = CACHE / "callgrind"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out"]
    module = [sys.executable, "-m", "tests.benchmarks.kernel_calls", json.dumps({"library": str(library)})]
    names = json.loads(run([*command, *module]).output.splitlines()[-1])
    found = {}
    for file in sorted(folder.iterdir()):
        text = file.read_text()
        trigger, total = _TRIGGER.search(text), _TOTAL.search(text)
        if trigger and total:
            found[trigger.group(1).strip()] = int(total.group(1))
    if set(found) != set(names):
        raise CountingError(f"no counts of {', '.join(sorted(set(names) - set(found)))}")
    return Counts(_describe_build(), {name: found[name] for name in names})


def compare(found: Counts, stored: Counts) -> list[Change]:
    """Put the counts side by side, kernels of either."""
    names = dict.fromkeys([*stored.kernels, *found.kernels])
    return [Change(name, found.kernels.get(name), stored.kernels.get(name)) for name in names]


def read_stored() -> Counts | None:
    """Return the stored counts, if there are any."""
    if not STORED.exists():
        return None
    return Counts(**json.loads(STORED.read_text()))


def store(found: Counts) -> None:
    """Make these counts the ones to compare with."""
    STORED.write_text(json.dumps({"build": found.build, "kernels": dict(found.kernels)}, indent=2) + "\n")


def _build_collector() -> Path:
    source, library = CACHE / "collector.cpp", CACHE / "collector.so"
    source.write_text(COLLECTOR)
    command = ["c++", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CountingError(f"the collector cannot be compiled: {done.stderr.strip()[:300]}")
    return library


def _describe_build() -> str:
    compiler = _first_line("c++", "-dumpfullversion")
    tool = _first_line("valgrind", "--version")
    flags = Path("/proc/cpuinfo").read_text()
    generation = "x86-64-v3" if " avx2 " in flags and " fma " in flags else "baseline"
    return f"c++ {compiler}, {tool}, {generation}"


def _first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
