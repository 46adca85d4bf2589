"""Sky coordinates of pixels: the gnomonic projection with its usual distortions here, all others by astropy.

astropy.wcs takes a fifth of a second to import; it is asked only for what stands here in no other way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.frozen import frozen

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from streamchar.image.cards import PlainHeader

Array = NDArray[np.float64]

_ARCSECONDS = 3600.0
_MAX_SIP_ORDER = 9
_KINDS = ("RA---TAN", "RA---TAN-SIP", "RA---TPV")
_OTHERS = re.compile(
    r"CROTA\d+|PS\d+_\d+|PC\d{6}|CD\d{6}|PROJP\d+|LONGPOLE|(CPDIS|CQDIS|DP|DQ)\d+|D2IM.*|AXISCORR|CPERR\d+|"
    r"(CTYPE|CRPIX|CRVAL|CDELT|CUNIT)[03-9]|(PC|CD)(\d+_[03-9]|[03-9]_\d+)"
)
"""Keys that change coordinates in ways which are left to astropy."""
_OURS = re.compile(
    r"WCSAXES|LONPOLE|(CTYPE|CRPIX|CRVAL|CDELT|CUNIT)[12]|(PC|CD)[12]_[12]|PV\d+_\d+|[AB]P?_(ORDER|\d_\d)"
)
_PV = re.compile(r"PV\d+_\d+")
_TPV_TERMS = tuple(
    term
    for degree in range(8)
    for term in (
        *((degree - power, power, 0) for power in range(degree + 1)),
        *([(0, 0, degree)] if degree % 2 else []),
    )
)
"""Powers of the two intermediate coordinates and of their distance from the reference point, in the order of the PV keys."""


class SkyCoordinates(Protocol):
    """Where the pixels of an exposure look."""

    @property
    def pixel_scale(self) -> float:
        """Arcseconds per pixel at the reference point."""
        ...

    @property
    def wcs(self) -> WCS:
        """The same coordinates as astropy has them."""
        ...

    def to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Return right ascension and declination.

        Parameters
        ----------
        x, y
            Pixels, the centre of the first one at (0, 0); of any equal shape.

        Returns
        -------
        tuple of float64 ndarray
            Degrees, of the shape of ``x``; NaN where a position is NaN.
        """
        ...


@frozen
class AstropyCoordinates:
    """Coordinates of any kind that astropy knows.

    Attributes
    ----------
    wcs
        astropy's object.
    """

    wcs: WCS

    @property
    def pixel_scale(self) -> float:
        """Arcseconds per pixel at the reference point."""
        return float(np.sqrt(abs(np.linalg.det(self.wcs.pixel_scale_matrix))) * _ARCSECONDS)

    def to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Return right ascension and declination in degrees; see :meth:`SkyCoordinates.to_sky`."""
        ra, dec = self.wcs.all_pix2world(x, y, 0)
        return np.asarray(ra, np.float64), np.asarray(dec, np.float64)


@dataclass(frozen=True)
class TangentCoordinates:
    """The gnomonic projection (Calabretta & Greisen 2002, section 5.1.3), with SIP or TPV distortion or none.

    SIP: Shupe et al. 2005. TPV: the FITS registry's TPV convention. Equal to astropy's to 1e-9 degrees.

    Attributes
    ----------
    reference_pixel
        (x, y), counted from 1.
    reference_sky
        Right ascension and declination, degrees.
    matrix
        float64 (2, 2): degrees per pixel.
    sip
        Coefficients of u^p v^q for x and y, float64 (order + 1, order + 1) each; ``None`` without.
    tpv
        Coefficients of both axes by number of their PV key, float64 (40) each; ``None`` without.
    make
        Makes astropy's object of the same coordinates.
    """

    reference_pixel: tuple[float, float]
    reference_sky: tuple[float, float]
    matrix: Array
    sip: tuple[Array, Array] | None
    tpv: tuple[Array, Array] | None
    make: Callable[[], WCS]

    @property
    def pixel_scale(self) -> float:
        """Arcseconds per pixel at the reference point."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))) * _ARCSECONDS)

    @cached_property
    def wcs(self) -> WCS:
        """The object of astropy, made when it is first asked for."""
        return self.make()

    def to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Return right ascension and declination in degrees; see :meth:`SkyCoordinates.to_sky`."""
        u = np.asarray(x, np.float64) + 1.0 - self.reference_pixel[0]
        v = np.asarray(y, np.float64) + 1.0 - self.reference_pixel[1]
        if self.sip is not None:
            u, v = (place + _polynomial(terms, u, v) for place, terms in zip((u, v), self.sip, strict=True))
        xi, eta = (row[0] * u + row[1] * v for row in self.matrix.tolist())
        if self.tpv is not None:
            xi, eta = _tpv(self.tpv[0], xi, eta), _tpv(self.tpv[1], eta, xi)
        return self._from_plane(np.radians(xi), np.radians(eta))

    def _from_plane(self, xi: Array, eta: Array) -> tuple[Array, Array]:
        ra, dec = self.reference_sky
        sine, cosine = np.sin(np.radians(dec)), np.cos(np.radians(dec))
        towards_pole = cosine - eta * sine
        turn = np.degrees(np.arctan2(xi, towards_pole))
        height = np.arctan2(sine + eta * cosine, np.hypot(xi, towards_pole))
        return np.asarray((ra + turn) % 360.0), np.asarray(np.degrees(height))


def _polynomial(coefficients: Array, u: Array, v: Array) -> Array:
    """Sum of c[p, q] u^p v^q, by Horner's rule in both."""
    total = np.zeros_like(u)
    for row in coefficients[::-1].tolist():
        inner = np.zeros_like(v)
        for value in row[::-1]:
            inner = inner * v + value
        total = total * u + inner
    return total


def _tpv(coefficients: Array, along: Array, across: Array) -> Array:
    distance = np.hypot(along, across)
    total = np.zeros_like(along)
    for value, (i, j, k) in zip(coefficients.tolist(), _TPV_TERMS, strict=True):
        if value:
            total += value * along**i * across**j * distance**k
    return total


class _UnusualError(Exception):
    """The header holds something that is for astropy to judge."""


def tangent_coordinates(header: PlainHeader, make: Callable[[], WCS]) -> TangentCoordinates | None:
    """Read a gnomonic projection from a header; ``None`` when anything in it is for astropy to judge.

    Parameters
    ----------
    header
        With the keys of the coordinates.
    make
        Makes astropy's object of the same header.
    """
    kind = header.get("CTYPE1")
    units = {header.get(f"CUNIT{axis}", "deg") for axis in (1, 2)}
    if (
        kind not in _KINDS
        or header.get("CTYPE2") != f"DEC{kind[3:]}"
        or units != {"deg"}
        or header.get("WCSAXES", 2) != 2
        or any(map(_OTHERS.fullmatch, header))
        or _has_repeated(header)
    ):
        return None
    try:
        return _read(header, kind, make)
    except _UnusualError:
        return None


def _has_repeated(header: PlainHeader) -> bool:
    """Whether a key of coordinates stands there twice: wcslib takes the last one."""
    keys = [key for key in header if _OURS.fullmatch(key)]
    return len(keys) > len(set(keys))


def _read(header: PlainHeader, kind: str, make: Callable[[], WCS]) -> TangentCoordinates:
    ra, dec = (_number(header, f"CRVAL{axis}") for axis in (1, 2))
    if not 0.0 <= ra < 360.0 or abs(dec) >= 90.0 or _number(header, "LONPOLE", 180.0) != 180.0:
        raise _UnusualError
    x, y = (_number(header, f"CRPIX{axis}") for axis in (1, 2))
    sip, tpv = _read_sip(header, kind), _read_tpv(header, kind)
    return TangentCoordinates((x, y), (ra, dec), _read_matrix(header), sip, tpv, make)


def _number(header: PlainHeader, key: str, missing: float | None = None) -> float:
    value = header.get(key, missing)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _UnusualError
    return float(value)


def _read_matrix(header: PlainHeader) -> Array:
    names = [f"{i}_{j}" for i in (1, 2) for j in (1, 2)]
    described = {kind for kind in ("PC", "CD") if any(kind + name in header for name in names)}
    if described == {"CD"}:
        matrix = np.array([_number(header, f"CD{name}", 0.0) for name in names]).reshape(2, 2)
    elif "CD" not in described:
        unity = (1.0, 0.0, 0.0, 1.0)
        rotation = [_number(header, f"PC{name}", one) for name, one in zip(names, unity, strict=True)]
        steps = [[_number(header, f"CDELT{axis}", 1.0)] for axis in (1, 2)]
        matrix = np.array(rotation).reshape(2, 2) * steps
    else:
        raise _UnusualError
    if matrix[0, 0] * matrix[1, 1] == matrix[0, 1] * matrix[1, 0]:
        raise _UnusualError
    return matrix


def _read_sip(header: PlainHeader, kind: str) -> tuple[Array, Array] | None:
    if not kind.endswith("-SIP"):
        if any(f"{name}_ORDER" in header for name in ("A", "B", "AP", "BP")):
            raise _UnusualError
        return None
    return _sip_terms(header, "A"), _sip_terms(header, "B")


def _sip_terms(header: PlainHeader, name: str) -> Array:
    order = header.get(f"{name}_ORDER")
    inverse = {f"{letter}P_ORDER" in header for letter in "AB"}
    if type(order) is not int or not 1 < order <= _MAX_SIP_ORDER or len(inverse) > 1:
        raise _UnusualError
    terms = np.zeros((order + 1, order + 1))
    for i in range(order + 1):
        for j in range(order + 1 - i):
            terms[i, j] = _number(header, f"{name}_{i}_{j}", 0.0)
    return terms


def _read_tpv(header: PlainHeader, kind: str) -> tuple[Array, Array] | None:
    given = [key for key in header if _PV.match(key)]
    known = {f"PV{axis}_{number}" for axis in (1, 2) for number in range(len(_TPV_TERMS))}
    if not set(given) <= (known if kind.endswith("TPV") else set()):
        raise _UnusualError
    if not kind.endswith("TPV"):
        return None
    if any(header.get(f"CDELT{axis}", 1.0) != 1.0 for axis in (1, 2)):  # wcslib distorts before it scales
        raise _UnusualError
    first, second = (
        np.array(
            [
                _number(header, f"PV{axis}_{number}", None if number == 1 else 0.0)
                for number in range(len(_TPV_TERMS))
            ]
        )
        for axis in (1, 2)
    )
    return first, second
