"""Values that tasks keep with an exposure, as JSON in the bytes of an extension: every digit and type comes back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamchar.image.errors import InvalidExposureError
from streamchar.image.opening import FitsFile, card_value

EXTENSION = "METADATA"
"""Name of the extension."""

_MAX_BYTES = 16 << 20
_MAX_DEPTH = 20
_SPECIAL = "$float"


def metadata_hdu(metadata: Mapping[str, Any]) -> Any:
    """Return the extension that holds plain values: text, numbers, truth values, nothing, lists and maps of them.

    Raises
    ------
    TypeError
        A value is of another type.
    """
    from astropy.io import fits

    text = json.dumps(_plain(metadata), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    hdu = fits.ImageHDU(np.frombuffer(text.encode(), np.uint8), name=EXTENSION)
    hdu.header["CONTENT"] = ("application/json", "what the bytes are")
    return hdu


def metadata_of(file: FitsFile, path: str) -> dict[str, Any]:
    """Return the values of the extension, empty without one.

    Raises
    ------
    InvalidExposureError
        It holds something else.
    """
    hdu = next((hdu for hdu in file if hdu.name == EXTENSION and hdu.is_image and len(hdu.shape) == 1), None)
    if hdu is None or card_value(hdu.header, "CONTENT") != "application/json":
        return {}
    if hdu.shape[0] > _MAX_BYTES:
        raise InvalidExposureError(path=path, detail=f"{EXTENSION} holds {hdu.shape[0]} bytes of values")
    try:
        tree = _restored(json.loads(np.asarray(hdu.data, np.uint8).tobytes().decode()), 0)
    except (ValueError, TypeError, RecursionError) as error:
        detail = f"{EXTENSION} holds no values: {str(error)[:100]}"
        raise InvalidExposureError(path=path, detail=detail) from error
    if not isinstance(tree, dict):
        raise InvalidExposureError(path=path, detail=f"{EXTENSION} holds no map of values")
    return tree


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_SPECIAL: repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    raise TypeError(f"a value of type {type(value).__name__} cannot be kept with an exposure")


def _restored(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError("the values are nested too deep")
    if isinstance(value, dict):
        if set(value) == {_SPECIAL}:
            return float(value[_SPECIAL])
        return {key: _restored(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item, depth + 1) for item in value]
    return value
