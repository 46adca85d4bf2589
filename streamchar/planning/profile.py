"""What one exposure costs: seconds of a worker, memory, bytes on the wire; measured by ``make bench`` or told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from streamchar.frozen import frozen
from streamchar.planning.errors import ProfileError


@frozen
class ServiceProfile:
    """Cost of an exposure as a straight line over its megapixels.

    Attributes
    ----------
    fixed, per_megapixel
        Seconds of a worker.
    scatter
        Standard deviation of the logarithm of the time: crowded and sparse fields, good and bad seeing.
    overhead
        Seconds from a finished characterization to its products being readable, and from the announcement to a free worker.
    memory_fixed, memory_per_megapixel
        Bytes of a worker.
    bytes_fixed, bytes_per_megapixel
        Bytes of all messages of an exposure.
    origin
        Where the figures come from.
    """

    fixed: float = 0.02
    per_megapixel: float = 0.05
    scatter: float = 0.25
    overhead: float = 0.03
    memory_fixed: float = 80e6
    memory_per_megapixel: float = 15.5e6
    bytes_fixed: float = 280e3
    bytes_per_megapixel: float = 28e3
    origin: str = "built in: a 2-core cloud machine, 2026-11"

    def seconds(self, megapixels: float) -> float:
        """Median time of a worker for an exposure."""
        return self.fixed + self.per_megapixel * megapixels

    def draw(self, megapixels: float, count: int, random: np.random.Generator) -> np.ndarray:
        """Times of ``count`` exposures, log-normally scattered about the median: float64 (count)."""
        return np.asarray(self.seconds(megapixels) * np.exp(self.scatter * random.standard_normal(count)))

    def memory(self, megapixels: float) -> float:
        """Bytes of a worker."""
        return self.memory_fixed + self.memory_per_megapixel * megapixels

    def message_bytes(self, megapixels: float) -> float:
        """Bytes that an exposure publishes."""
        return self.bytes_fixed + self.bytes_per_megapixel * megapixels


def read_profile(path: Path, *, scatter: float = 0.25) -> ServiceProfile:
    """Take the profile from a report of ``make bench``: lines through its cases of the default configuration.

    Raises
    ------
    ProfileError
        When the file is no such report.
    """
    try:
        report = json.loads(path.read_text())
        cases = {name: case for name, case in report["cases"].items() if name.endswith(" normal")}
        shapes = [[int(length) for length in name.split()[0].split("x")] for name in cases]
        megapixels = np.array([height * width / 1e6 for height, width in shapes])
        seconds = np.array([float(np.median(case["cpu"])) for case in cases.values()])
        memory = np.array([float(case["peak_bytes"]) for case in cases.values()])
        size = np.array([float(case["bytes"]) for case in cases.values()])
        date = str(report["date"])
    except OSError as error:
        raise ProfileError(path=str(path), detail=f"cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProfileError(path=str(path), detail=f"is not a report of the benchmark ({error!r})") from error
    if len(set(megapixels.tolist())) < 2:
        raise ProfileError(path=str(path), detail="has fewer than two sizes of the case 'normal'")
    lines = [_line(megapixels, values) for values in (seconds, memory, size)]
    return ServiceProfile(
        fixed=lines[0][0],
        per_megapixel=lines[0][1],
        scatter=scatter,
        memory_fixed=lines[1][0],
        memory_per_megapixel=lines[1][1],
        bytes_fixed=lines[2][0],
        bytes_per_megapixel=lines[2][1],
        origin=f"{path.name} of {date}",
    )


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Intercept and slope through the points, neither negative."""
    slope, intercept = np.polyfit(x, y, 1)
    if intercept < 0:
        return 0.0, float((x * y).sum() / (x * x).sum())
    return float(intercept), float(max(slope, 0.0))
