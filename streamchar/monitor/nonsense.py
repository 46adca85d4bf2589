"""The nonsense detector: measured values that no telescope can have delivered. Pure.

A grade says how good an exposure is; this says that it cannot be: the stars are not stars, the pixels are not the
sky's, or the software is wrong. Such results are published, graded red, and count for the breaker as dead letters do.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

from pydantic import model_validator

from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.monitor.grades import DEFAULT


class PlausibleRange(Configuration):
    """Values of one quantity that are possible at all, limits included."""

    least: float | None = None
    """Smallest possible value; absent: no limit."""

    most: float | None = None
    """Largest possible value; absent: no limit."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError("least must not be above most")
        return self

    def contains(self, value: float) -> bool:
        """Say whether a value is possible; NaN is not known and therefore not impossible."""
        too_small = self.least is not None and value < self.least
        too_large = self.most is not None and value > self.most
        return not (too_small or too_large)


Ranges = Mapping[str, Mapping[str, PlausibleRange]]
"""Ranges by ``default``, instrument or ``instrument/band``, then by quantity."""

POSSIBLE: Mapping[str, PlausibleRange] = MappingProxyType(
    {
        "psf_fwhm": PlausibleRange(least=0.7, most=60.0),
        "seeing": PlausibleRange(least=0.01, most=60.0),
        "star_e_median": PlausibleRange(least=0.0, most=0.9),
        "cosmic_ray_fraction": PlausibleRange(least=0.0, most=0.2),
    }
)
"""What holds where nothing is configured. Stars narrower than 0.7 pixels are cosmic rays or hot pixels."""


@frozen
class Implausible:
    """A quantity with an impossible value.

    Attributes
    ----------
    quantity, value
        What it is.
    possible
        What it could have been.
    """

    quantity: str
    value: float
    possible: PlausibleRange


def ranges_for(ranges: Ranges, instrument: str, band: str | None) -> dict[str, PlausibleRange]:
    """Ranges that apply: :data:`POSSIBLE`, overridden by the defaults, the instrument's, the band's."""
    found = dict(POSSIBLE)
    for name in (DEFAULT, instrument, f"{instrument}/{band}"):
        found.update(ranges.get(name, {}))
    return found


def implausible(values: Mapping[str, Any], ranges: Mapping[str, PlausibleRange]) -> tuple[Implausible, ...]:
    """Find the quantities with impossible values.

    Parameters
    ----------
    values
        Measured quantities by name; what is no number, or NaN, is not known and does not count.
    ranges
        From :func:`ranges_for`.
    """
    return tuple(
        Implausible(quantity, float(value), possible)
        for quantity, possible in ranges.items()
        if isinstance(value := values.get(quantity), (int, float)) and not possible.contains(float(value))
    )
