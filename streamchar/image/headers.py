"""Values of an exposure from headers and tables, by the rules of an instrument profile."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from streamchar.frozen import frozen
from streamchar.image.cards import PlainHeader
from streamchar.image.errors import InvalidExposureError
from streamchar.image.opening import FitsFile, FitsHeader, card_value
from streamchar.image.profiles.model import IMAGE_FILE, Keys, Table, Value

_LONGEST = 200
_JD_OF_MJD_0 = 2_400_000.5
_MJD_0 = datetime(1858, 11, 17, tzinfo=UTC)

Scalar = str | int | float


@frozen
class Sources:
    """Where values may come from.

    Attributes
    ----------
    header
        Header of the image, completed by the primary header.
    files
        Open files by role.
    names
        Names of these files, for messages.
    """

    header: FitsHeader
    files: Mapping[str, FitsFile]
    names: Mapping[str, str]


def merged(primary: FitsHeader, image: FitsHeader) -> FitsHeader:
    """Return the image's header completed by the keys that only the primary header has; cards stay as they are."""
    if image is primary:
        return image
    if isinstance(image, PlainHeader):
        return image.completed_by(primary)
    assert not isinstance(primary, PlainHeader)  # of the same file
    from astropy.io.fits import Header

    present = set(image.keys())
    cards = [card for card in primary.cards if card.keyword not in present and card.keyword]
    return Header([*cards, *image.cards])


def text(sources: Sources, value: Value | None) -> str | None:
    """Return a value as text; ``None`` when there is none."""
    found = None if value is None else resolve(sources, value)
    return None if found is None else str(found).strip()[:_LONGEST] or None


def number(sources: Sources, value: Value | None, *, minimum: float | None = None) -> float | None:
    """Return a value as a finite number at or above ``minimum``; ``None`` when it is none."""
    found = None if value is None else resolve(sources, value)
    result = _float(found)
    if result is None or not math.isfinite(result) or (minimum is not None and result < minimum):
        return None
    return result


def natural(sources: Sources, value: Value | None) -> int:
    """Return a value as an integer at or above zero; 0 when it is none."""
    found = None if value is None else resolve(sources, value)
    try:
        result = int(found) if found is not None else 0
    except (TypeError, ValueError, OverflowError):
        return 0
    return result if 0 <= result < 1 << 63 else 0


def resolve(sources: Sources, value: Value) -> Scalar | None:
    """Return what a rule finds, ``None`` when it finds nothing.

    Raises
    ------
    InvalidExposureError
        A table that the rule names does not hold the cell.
    """
    found: Scalar | None = _from_keys(sources.header, value)
    if found is None and value.table is not None:
        found = _cell(sources, value.table)
    if found is None:
        found = value.value
    if found is None:
        return None
    if value.pattern:
        match = re.search(value.pattern, str(found)[:_LONGEST])
        if match is None:
            return None
        found = "".join(group or "" for group in match.groups()) or match.group()
    if str(found).strip() in value.map:
        found = value.map[str(found).strip()]
    return _converted(found, value)


def _from_keys(header: FitsHeader, value: Value) -> Scalar | None:
    found = [(key, _plain(header, key)) for key in value.keys]
    if value.combine == "first":
        return next((item for _, item in found if item is not None), None)
    numbers = [_float(item) for _, item in found]
    if not numbers or any(item is None for item in numbers):
        return None
    factors = value.factors or (1.0,) * len(numbers)
    scaled = [item * factor for item, factor in zip(numbers, factors, strict=True) if item is not None]
    combined: Mapping[str, Callable[[list[float]], float]] = {
        "mean": lambda values: sum(values) / len(values),
        "min": min,
        "max": max,
        "sum": sum,
    }
    result = combined[value.combine](scaled)
    return int(result) if math.isfinite(result) and result == int(result) else result


def _plain(header: FitsHeader, key: str) -> Scalar | None:
    value = card_value(header, key)
    if isinstance(value, str):
        return value.strip() or None
    return value if isinstance(value, int | float) else None


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _converted(found: Scalar, value: Value) -> Scalar | None:
    if value.time == "iso":
        return _mjd(str(found))
    if value.time == "" and value.multiply == 1.0 and value.add == 0.0:
        return found
    amount = _float(found)
    if amount is None:
        return None
    amount = amount * value.multiply + value.add
    if value.time == "jd":
        amount -= _JD_OF_MJD_0
    return int(amount) if math.isfinite(amount) and amount == int(amount) else amount


def _mjd(date: str) -> float | None:
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - _MJD_0).total_seconds() / 86_400.0


def _cell(sources: Sources, table: Table) -> float | None:
    if table.file not in sources.files:
        return None
    path = sources.names[table.file]

    def missing(detail: str) -> InvalidExposureError:
        return InvalidExposureError(path=path, detail=detail)

    try:
        hdu = sources.files[table.file][table.hdu]
    except (KeyError, IndexError):
        raise missing(f"has no extension {table.hdu}, which holds the table with {table.column}") from None
    if table.column not in (hdu.columns.names if hasattr(hdu, "columns") else ()):
        raise missing(f"extension {table.hdu} has no column '{table.column}'")
    if not len(hdu.data):
        raise missing(f"the table in extension {table.hdu} is empty")
    values = hdu.data[table.column][0]
    if not table.element_key:
        return float(values)
    which = str(_plain(sources.header, table.element_key))
    if which not in table.elements:
        known = ", ".join(table.elements)
        raise InvalidExposureError(
            path=sources.names[IMAGE_FILE],
            detail=f"key {table.element_key} is {which[:30]!r}, not one of {known}",
        )
    if len(values) != len(table.elements):
        raise missing(f"column '{table.column}' has {len(values)} elements, not {len(table.elements)}")
    return float(values[table.elements.index(which)])


def key_names(keys: Keys, name: str) -> str:
    """Return the header keys that a profile reads for a quantity, for messages."""
    value: Value | None = getattr(keys, name)
    return " or ".join(value.keys) if value is not None and value.keys else ""
