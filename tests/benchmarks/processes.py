"""Child processes whose CPU seconds and peak memory are measured."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamchar.frozen import frozen

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "bench"


class ProcessError(Exception):
    """A measured process failed; what it said is the message."""


@frozen
class Usage:
    """What a finished process used.

    Attributes
    ----------
    user
        Seconds in the program itself.
    system
        Seconds in the kernel, which include what it takes to provide memory.
    peak_bytes
        Largest resident size.
    output
        What it wrote to its standard output.
    """

    user: float
    system: float
    peak_bytes: int
    output: str

    @property
    def cpu(self) -> float:
        """User and system seconds."""
        return self.user + self.system


def run(command: Sequence[str], folder: Path = ROOT) -> Usage:
    """Run a command in the environment of a worker; its CPU seconds are those of the whole process, from start to exit.

    Raises
    ------
    ProcessError
        It ended with another status than 0.
    """
    # Costs the measured processes, which import this module, a twentieth of their start.
    import subprocess

    from streamchar.stream.process import WORKER_ENVIRONMENT

    log = CACHE / f"stderr-{os.getpid()}.txt"
    with log.open("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**_inherited(), **WORKER_ENVIRONMENT},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        with process.stdout:
            output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read()
    log.unlink()
    if process.returncode:
        raise ProcessError(f"{' '.join(command)[:200]}: status {process.returncode}\n{said[-3000:]}")
    return Usage(usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024, output)


def _inherited() -> dict[str, str]:
    """Environment in which Python keeps what it compiled, as it is with an installed package."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run_module(module: str, /, **arguments: Any) -> tuple[dict[str, Any], Usage]:
    """Run a module of this folder with arguments as JSON; return what it printed last, as JSON, and what it used."""
    usage = run([sys.executable, "-m", f"tests.benchmarks.{module}", json.dumps(arguments)])
    found: dict[str, Any] = json.loads(usage.output.splitlines()[-1])
    return found, usage


def answer(found: Mapping[str, Any]) -> None:
    """Print a measured module's answer for :func:`run_module`."""
    print(json.dumps(found))


def peak_bytes() -> int:
    """Largest resident size of this process since it started its program or since :func:`forget_peak`."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Let :func:`peak_bytes` start from the present size."""
    Path("/proc/self/clear_refs").write_text("5")


def read_through(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(16 << 20):
            pass
