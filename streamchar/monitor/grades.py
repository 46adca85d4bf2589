"""Quality grades: green, yellow, orange or red, from limits configured for each instrument and band. Pure."""

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from streamchar.configuration import Configuration
from streamchar.frozen import frozen

Grade = Literal["green", "yellow", "orange", "red", "unknown"]

DEFAULT = "default"
_SEVERITY: tuple[Grade, ...] = ("green", "yellow", "orange", "red")


class GradeLimits(Configuration):
    """Limits of one quantity. Increasing limits: large values are bad. Decreasing limits: small values are bad."""

    yellow: float
    """From here on the grade is yellow."""

    orange: float
    """From here on the grade is orange."""

    red: float
    """From here on the grade is red."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        rising = self.yellow <= self.orange <= self.red
        falling = self.yellow >= self.orange >= self.red
        if not (rising or falling) or self.yellow == self.red:
            raise ValueError("yellow, orange and red must increase, or decrease, and not all be equal")
        return self

    def grade(self, value: float) -> tuple[Grade, float]:
        """Grade of a finite value and the limit it reached; NaN as limit for green."""
        sign = 1.0 if self.red > self.yellow else -1.0
        limits: tuple[tuple[Grade, float], ...] = (
            ("red", self.red),
            ("orange", self.orange),
            ("yellow", self.yellow),
        )
        for name, limit in limits:
            if sign * value >= sign * limit:
                return name, limit
        return "green", math.nan


Limits = Mapping[str, Mapping[str, GradeLimits]]
"""Limits by quantity, by ``default``, instrument, or ``instrument/band``."""


@frozen
class Exceeded:
    """A quantity that is not green.

    Attributes
    ----------
    quantity, value
        What it is.
    limit
        The limit it reached.
    grade
        The grade that follows.
    """

    quantity: str
    value: float
    limit: float
    grade: Grade


@frozen
class Assessment:
    """The grade of an exposure.

    Attributes
    ----------
    grade
        The worst of all quantities; "unknown" when none with limits is known.
    exceeded
        What is not green, worst first.
    """

    grade: Grade
    exceeded: tuple[Exceeded, ...] = ()


def limits_for(limits: Limits, instrument: str, band: str | None) -> dict[str, GradeLimits]:
    """Limits that apply: the defaults, overridden by the instrument's, overridden by the band's."""
    found: dict[str, GradeLimits] = {}
    for name in (DEFAULT, instrument, f"{instrument}/{band}"):
        found.update(limits.get(name, {}))
    return found


def assess(values: Mapping[str, Any], limits: Mapping[str, GradeLimits]) -> Assessment:
    """Grade an exposure.

    Parameters
    ----------
    values
        Measured quantities by name; what is no finite number is not known and does not count.
    limits
        From :func:`limits_for`.
    """
    graded = []
    for quantity, limit in limits.items():
        value = values.get(quantity)
        if isinstance(value, (int, float)) and math.isfinite(value):
            grade, reached = limit.grade(value)
            graded.append(Exceeded(quantity, float(value), reached, grade))
    if not graded:
        return Assessment("unknown")
    graded.sort(key=lambda item: -_SEVERITY.index(item.grade))
    return Assessment(graded[0].grade, tuple(item for item in graded if item.grade != "green"))
