"""Where the detectors are in the focal plane: configured, seen from their places on the sky, or in a tidy grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.monitor.page_settings import CameraLayout

Outline = NDArray[np.float64]
"""Corners of a detector, (4, 2): first pixel, last pixel of the first row, last pixel, first pixel of the last row. The
unit is any; x points to the right and y upwards."""

_GAP = 0.06
"""Space between the detectors of a grid, in units of their size."""


def configured(camera: CameraLayout) -> dict[int, Outline]:
    """Place the detectors as the settings say."""
    if camera.places:
        return {detector: _box(*place) for detector, place in camera.places.items()}
    numbers = range(camera.rows * camera.columns)
    return {number: _cell(*divmod(number, camera.columns)) for number in numbers}


def grid(detectors: Iterable[int]) -> dict[int, Outline]:
    """Place detectors of which only the numbers are known: row by row from the lower left, about as wide as high."""
    numbers = sorted(set(detectors))
    columns = max(1, math.ceil(math.sqrt(len(numbers))))
    return {number: _cell(*divmod(place, columns)) for place, number in enumerate(numbers)}


def from_sky(corners: Mapping[int, ArrayLike]) -> dict[int, Outline]:
    """Place detectors as their corners lie on the sky, turned and mirrored so that the pixels of the first one are upright.

    Parameters
    ----------
    corners
        Right ascension and declination in degrees by detector, (4, 2), in the order of :data:`Outline`.

    Returns
    -------
    dict
        Outlines in degrees, from a tangential projection about the first detector. Detectors that are not on its side
        of the sky, or have corners that are not finite, are left out; empty when the first has no extent.
    """
    finite = {
        detector: points
        for detector in sorted(corners)
        if np.isfinite(points := np.asarray(corners[detector], np.float64)).all()
    }
    if not finite:
        return {}
    center = _unit_vectors(next(iter(finite.values()))).sum(axis=0)
    center /= np.linalg.norm(center)
    projected = {detector: _project(points, center) for detector, points in finite.items()}
    first = next(iter(projected.values()))
    right = first[1] - first[0] + first[2] - first[3]
    length = float(np.hypot(*right))
    if not length:
        return {}
    right /= length
    up = np.array([-right[1], right[0]])
    if up @ (first[3] - first[0]) < 0:
        up = -up
    turned = {
        detector: np.stack([points @ right, points @ up], axis=1) for detector, points in projected.items()
    }
    return {detector: outline for detector, outline in turned.items() if np.isfinite(outline).all()}


def complete(layout: Mapping[int, Outline], detectors: Iterable[int]) -> dict[int, Outline]:
    """Add detectors without a place in a row below the others."""
    missing = sorted(set(detectors) - set(layout))
    if not missing or not layout:
        return dict(layout) or grid(missing)
    points = np.concatenate(list(layout.values()))
    sizes = [np.ptp(outline, axis=0) for outline in layout.values()]
    width, height = np.median(sizes, axis=0)
    left, bottom = points[:, 0].min(), points[:, 1].min() - 1.3 * height
    columns = max(1, int((np.ptp(points[:, 0])) // (width * (1 + _GAP))))
    added = {}
    for place, detector in enumerate(missing):
        row, column = divmod(place, columns)
        added[detector] = _box(
            left + column * width * (1 + _GAP), bottom - row * height * (1 + _GAP), width, height
        )
    return {**layout, **added}


def _project(points: NDArray[np.float64], center: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tangential projection, degrees; NaN for points on the other side of the sky."""
    east = np.cross([0.0, 0.0, 1.0], center)
    length = float(np.linalg.norm(east))
    east = east / length if length > 1e-12 else np.array([0.0, 1.0, 0.0])
    north = np.cross(center, east)
    vectors = _unit_vectors(points)
    depth = vectors @ center
    depth = np.where(depth > 0.1, depth, np.nan)
    return np.degrees(np.stack([vectors @ east / depth, vectors @ north / depth], axis=1))


def _unit_vectors(points: NDArray[np.float64]) -> NDArray[np.float64]:
    ra, dec = np.radians(points).T
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _cell(row: int, column: int) -> Outline:
    return _box(column * (1 + _GAP), row * (1 + _GAP), 1.0, 1.0)


def _box(x: float, y: float, width: float, height: float) -> Outline:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)
