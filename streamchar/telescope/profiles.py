"""Radial profiles of GalSim as tables of their Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.telescope.errors import MissingSimulatorError

Array = NDArray[np.float32]

TABLE_SIZE = 8192
"""Entries of a table; with linear interpolation it is exact to 1e-6."""


@dataclass(frozen=True, slots=True, eq=False)
class RadialTable:
    """A function of radius q, tabulated evenly in the square root of q and zero beyond the last entry.

    Attributes
    ----------
    values
        float32 (n), the first at q = 0.
    limit
        Radius of the last entry.
    """

    values: Array
    limit: float

    @classmethod
    def of(cls, function: Callable[[NDArray[np.float64]], ArrayLike], limit: float) -> RadialTable:
        """Tabulate a function of radius up to ``limit``."""
        radii = np.linspace(0.0, np.sqrt(limit), TABLE_SIZE) ** 2
        values = np.asarray(function(radii), np.float64).astype(np.float32)
        values[-1] = 0.0
        return cls(values, limit)

    def at_square(self, q_squared: Array) -> Array:
        """Values at radii given by their squares, float32 of the same shape."""
        position = np.sqrt(np.sqrt(q_squared))
        position *= np.float32((len(self.values) - 1) / np.sqrt(self.limit))
        np.minimum(position, np.float32(len(self.values) - 1.001), out=position)
        index = position.astype(np.int32)
        position -= index
        left = self.values[index]
        index += 1
        right = self.values[index]
        right -= left
        right *= position
        right += left
        return right


@lru_cache(maxsize=16)
def atmosphere(profile: str, beta: float) -> tuple[RadialTable, Callable[[float], float]]:
    """Tabulate an atmospheric profile of unit FWHM and unit flux.

    Returns
    -------
    tuple
        The transform as a function of angular frequency times FWHM, and the surface brightness as a function of radius
        over FWHM.

    Raises
    ------
    MissingSimulatorError
        Without GalSim.
    """
    galsim = _galsim()
    shape = galsim.Kolmogorov(fwhm=1.0) if profile == "kolmogorov" else galsim.Moffat(beta=beta, fwhm=1.0)
    limit = 1.0
    while abs(_transform(shape, limit)) > TRANSFORM_LIMIT and limit < MAX_TRANSFORM_RADIUS:
        limit *= 1.02

    def brightness(radius: float) -> float:
        return float(shape.xValue(radius, 0.0))

    return RadialTable.of(lambda k: [_transform(shape, float(value)) for value in k], limit), brightness


TRANSFORM_LIMIT = 2e-6
"""Where the transform of the atmosphere is cut off."""

MAX_TRANSFORM_RADIUS = 100.0
"""Largest angular frequency times FWHM that is tabulated."""

GALAXY_TRANSFORM_RADIUS = 1000.0
"""Largest angular frequency times half-light radius that is tabulated."""


@lru_cache(maxsize=16)
def sersic(index: float) -> RadialTable:
    """Transform of a Sersic profile of unit half-light radius and unit flux.

    Raises
    ------
    MissingSimulatorError
        Without GalSim.
    """
    shape = _galsim().Sersic(n=index, half_light_radius=1.0)
    return RadialTable.of(lambda k: [_transform(shape, float(value)) for value in k], GALAXY_TRANSFORM_RADIUS)


def _transform(shape: Any, k: float) -> float:
    return float(shape.kValue(k, 0.0).real)


def _galsim() -> Any:
    try:
        import galsim
    except ImportError as error:
        raise MissingSimulatorError from error
    return galsim
