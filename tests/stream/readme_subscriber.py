"""The subscriber of the README as a process, its address replaced."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
LINE = re.compile(r"SIMCAM/(\d+/\d+): (\d+) sources, \d+ PSF stars, brightest \d+ ct")
"""What it prints about a catalogue of the demo."""


def program() -> str:
    """The first Python program of the section Subscribers."""
    section = README.read_text().partition("\n## Subscribers\n")[2]
    return section.partition("```python\n")[2].partition("```")[0]


class Printed:
    """What the subscriber has printed into two files."""

    def __init__(self, folder: Path) -> None:
        self.output, self.errors = folder / "subscriber.out", folder / "subscriber.err"

    @property
    def catalogues(self) -> dict[str, int]:
        """Number of sources of each catalogue by exposure and detector; fails on any other line and on repeats."""
        lines = self.output.read_text().splitlines()
        matches = [LINE.fullmatch(line) for line in lines]
        assert all(matches), f"{self.output.read_text()}\n{self.errors.read_text()}"
        found = {match[1]: int(match[2]) for match in matches if match is not None}
        assert len(found) == len(lines)
        return found


@contextlib.contextmanager
def running(address: str, folder: Path) -> Iterator[Printed]:
    """Run it until the end of the block."""
    printed = Printed(folder)
    with printed.output.open("wb") as output, printed.errors.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", program().replace("localhost:9092", address)], stdout=output, stderr=errors
        )
        try:
            yield printed
        finally:
            process.terminate()
            process.wait(30)
