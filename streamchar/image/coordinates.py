"""World coordinates from a header, and into one without losing a bit."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from streamchar.image.cards import PlainHeader
from streamchar.image.errors import InvalidExposureError, UnreadableExposureError
from streamchar.image.opening import FitsHeader, card_value, reading
from streamchar.image.profiles.model import Coordinates
from streamchar.image.sky import AstropyCoordinates, SkyCoordinates, tangent_coordinates

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

_MAX_AXES = 4
_MAX_SIP_ORDER = 9
_SIP = ("A", "B", "AP", "BP")
_WCS_KEY = re.compile(
    r"WCSAXES|CRPIX\d|PC\d_\d|CDELT\d|CUNIT\d|CTYPE\d|CRVAL\d|P[VS]\d_\d+|LONPOLE|LATPOLE|RADESYS|EQUINOX|"
    r"(A|B|AP|BP)_(ORDER|DMAX|\d_\d)"
)
"""Keys of coordinates; wcslib adds times and places, rounded, which are not its business."""


def read_coordinates(header: FitsHeader, rules: Coordinates, path: str) -> SkyCoordinates | None:
    """Return the celestial coordinates that a header describes, or ``None``.

    TAN, TAN-SIP, TPV and whatever else wcslib knows.

    Raises
    ------
    InvalidExposureError
        The keys make no sense.
    """
    if not rules.use or not card_value(header, "CTYPE1"):
        return None
    if isinstance(header, PlainHeader) and not (rules.rename or rules.drop):
        _check(header, path)
        known = tangent_coordinates(header, partial(_read_celestial, header, path))
        if known is not None:
            return known
    wcs = _read_wcs(_prepared(header, rules), path)
    return None if wcs is None else AstropyCoordinates(wcs)


def _read_celestial(header: PlainHeader, path: str) -> WCS:
    wcs = _read_wcs(_as_astropy(header), path)
    assert wcs is not None  # of a gnomonic projection
    return wcs


def _read_wcs(header: Header, path: str) -> WCS | None:
    from astropy.wcs import WCS, FITSFixedWarning

    _check(header, path)
    hint = "(a profile may ignore keys with wcs.drop)"
    try:
        with warnings.catch_warnings(), _quiet(), reading(path):
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = WCS(header, naxis=2)
            celestial = wcs.has_celestial
            if celestial:
                wcs.wcs.set()
    except (UnreadableExposureError, MemoryError) as error:  # wcslib calls a lack of tables a lack of memory
        reason = str(error).strip().removeprefix(f"{path}: is damaged: ").splitlines()[0]
        detail = f"the world coordinates cannot be read: {reason} {hint}"
        raise InvalidExposureError(path=path, detail=detail) from error
    return wcs if celestial else None


def _as_astropy(header: FitsHeader) -> Header:
    if not isinstance(header, PlainHeader):
        return header
    from astropy.io.fits import Header

    return Header.fromstring(header.to_text())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep astropy from printing what it thinks of a header."""
    import logging  # only where astropy is: a worker does without

    logger = logging.getLogger("astropy")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _prepared(original: FitsHeader, rules: Coordinates) -> Header:
    header = _as_astropy(original)
    if not rules.rename and not rules.drop:
        return header
    changed = header.copy()
    for old, new in rules.rename.items():
        if old in changed and new not in changed:
            changed.rename_keyword(old, new)
    for key in [key for key in changed if any(fnmatch.fnmatchcase(key, pattern) for pattern in rules.drop)]:
        changed.remove(key, ignore_missing=True, remove_all=True)
    return changed


def _check(header: FitsHeader, path: str) -> None:
    # wcslib and astropy allocate squares of these numbers.
    bounds = {"WCSAXES": _MAX_AXES, **{f"{name}_ORDER": _MAX_SIP_ORDER for name in _SIP}}
    for key, bound in bounds.items():
        value = card_value(header, key) or 0
        if not isinstance(value, int) or not 0 <= value <= bound:
            raise InvalidExposureError(
                path=path, detail=f"the world coordinates cannot be read: {key} is {str(value)[:30]!r}"
            )


def wcs_cards(wcs: WCS) -> list[Any]:
    """Describe coordinates in header cards with all digits: reading them gives the same numbers, bit by bit.

    astropy's own header rounds to 12 to 16 digits; FITS allows more in free format.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = wcs.to_header(relax=True)
    exact = _exact_values(wcs)
    cards = [
        exact_card(card.keyword, exact.pop(card.keyword, card.value), card.comment)
        for card in header.cards
        if _WCS_KEY.fullmatch(card.keyword)
    ]
    return cards + [exact_card(key, value) for key, value in exact.items()]


def _exact_values(wcs: WCS) -> dict[str, Any]:
    inner = wcs.wcs
    values: dict[str, Any] = {}
    matrix, steps = inner.get_pc(), inner.get_cdelt()
    for i in range(wcs.naxis):
        values[f"CRPIX{i + 1}"] = float(inner.crpix[i])
        values[f"CRVAL{i + 1}"] = float(inner.crval[i])
        values[f"CDELT{i + 1}"] = float(steps[i])
        for j in range(wcs.naxis):
            values[f"PC{i + 1}_{j + 1}"] = float(matrix[i][j])
    for axis, number, value in inner.get_pv():
        values[f"PV{axis}_{number}"] = float(value)
    if wcs.sip is not None:
        for name in _SIP:
            coefficients = getattr(wcs.sip, name.lower())
            if coefficients is None:
                continue
            values[f"{name}_ORDER"] = len(coefficients) - 1
            for i, j in zip(*coefficients.nonzero(), strict=True):
                values[f"{name}_{i}_{j}"] = float(coefficients[i, j])
    return values


def exact_card(key: str, value: Any, comment: str = "") -> Any:
    """Return a header card that holds all digits of a float.

    Anything else becomes an ordinary card.
    """
    from astropy.io import fits

    if not isinstance(value, float):
        return fits.Card(key, value, comment)
    name = f"{key:<8}= " if len(key) <= 8 else f"HIERARCH {key} = "
    text = f"{name}{repr(value).upper():>20}"
    if comment and len(text) + 3 + len(comment) <= 80:
        text += f" / {comment}"
    return fits.Card.fromstring(text.ljust(80))
