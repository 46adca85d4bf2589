"""Statistics of what is known star by star, over the stars of one exposure or of several, with their standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Literal["median", "width", "rms", "percent"]

FEWEST: dict[Statistic, int] = {"median": 5, "width": 5, "rms": 1, "percent": 1}
"""Values that a statistic needs; of fewer it is unknown."""

CENTRAL = (15.865, 84.135)
"""Percentiles one standard deviation below and above the median of a Gaussian."""

RESAMPLED = 200
"""Samples drawn anew to find a standard error: then it is known to 5 %."""

ENOUGH_EXPOSURES = 3
"""From so many exposures their scatter tells how far stars of one exposure err together."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its standard error, NaN where that is not known."""

    value: float
    error: float = np.nan


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of one exposure, one for each star (or source, or hit), and what is asked of them.

    ``median``; ``width``: half of the central 68.3 %; ``rms``: root mean square; ``percent`` of true ones.
    """

    statistic: Statistic
    values: Array

    @property
    def value(self) -> float:
        """The statistic of this exposure alone."""
        return _value(self.statistic, self.values)


def pooled(samples: Sequence[Sample]) -> Estimate:
    """The statistic of all values together.

    Its error is that of independent values, from samples drawn anew (Efron 1979), or what the exposures' own figures
    scatter by if that is more: stars of one exposure share the errors of its PSF model, its sky and its calibration.
    """
    statistic = samples[0].statistic
    values = np.concatenate([sample.values for sample in samples])
    error = _error(statistic, values) if len(values) else np.nan
    own = np.array([sample.value for sample in samples])
    own = own[np.isfinite(own)]
    if len(own) >= ENOUGH_EXPOSURES:
        error = max(error, float(own.std(ddof=1)) / len(own) ** 0.5)
    return Estimate(_value(statistic, values), error)


def _error(statistic: Statistic, values: Array) -> float:
    random = np.random.default_rng(len(values))
    found = [_value(statistic, random.choice(values, len(values))) for _ in range(RESAMPLED)]
    return float(np.std(found))


def _value(statistic: Statistic, values: Array) -> float:
    if len(values) < FEWEST[statistic]:
        return np.nan
    if statistic == "median":
        return float(np.median(values))
    if statistic == "rms":
        return float(np.sqrt(np.mean(values**2)))
    if statistic == "percent":
        return 100.0 * float(values.mean())
    low, high = np.percentile(values, CENTRAL)
    return 0.5 * float(high - low)
