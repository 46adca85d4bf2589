"""Which footprints are left alone because of their size, their form or their mask (reference: deblend-and-streaks.md section 1.1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.footprints import Footprints
from streamchar.image import Exposure
from streamchar.kernels import footprint_bits

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

PIXEL = 1.0 / 12.0
"""Second moment of a pixel along an axis, pixel²."""


def too_big(footprints: Footprints, *, area: int, size: int, axis_ratio: float) -> Flags:
    """Footprints of more pixels than ``area``, longer than ``size`` or thinner than ``axis_ratio``, bool (n); 0 for no limit."""
    found = np.zeros(len(footprints), np.bool_)
    if area:
        found |= footprints.area > area
    if size:
        x0, y0, x1, y1 = footprints.boxes.T
        found |= np.maximum(x1 - x0, y1 - y0) + 1 > size
    if axis_ratio:
        found |= axis_ratios(footprints) < axis_ratio
    return found


def axis_ratios(footprints: Footprints) -> Array:
    """Minor over major axis of the ellipses with the second moments of the footprints' pixels, float64 (n)."""
    rows, columns = (axis.astype(np.float64) for axis in footprints.pixels())
    area, n = footprints.area, len(footprints)
    number = footprints.pixel_footprint

    def mean(values: Array) -> Array:
        return np.bincount(number, values, n) / area

    y, x = rows - mean(rows)[number], columns - mean(columns)[number]
    xx, yy, xy = mean(x * x) + PIXEL, mean(y * y) + PIXEL, mean(x * y)
    middle, spread = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
    return np.asarray(np.sqrt((middle - spread) / (middle + spread)))


def too_masked(exposure: Exposure, footprints: Footprints, limits: Mapping[str, float]) -> Flags:
    """Footprints of which a larger fraction than the limit has one of the planes, bool (n); planes the exposure does not have are ignored."""
    masked = np.zeros(len(footprints), np.bool_)
    planes = [plane for plane in limits if plane in exposure.planes]
    spans = (footprints.span_y, footprints.span_x0, footprints.span_x1, footprints.span_start)
    touched = np.flatnonzero(footprint_bits(exposure.mask, *spans) & exposure.bits(*planes))
    if not len(touched):
        return masked
    some = footprints.select(touched)
    bits = exposure.mask[some.pixels()]
    number = some.pixel_footprint
    for plane in planes:
        count = np.bincount(number, (bits & exposure.bits(plane)) != 0, len(some))
        masked[touched] |= count > limits[plane] * some.area
    return masked
