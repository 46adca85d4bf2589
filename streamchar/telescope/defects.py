"""What the detector does to the charge: full wells that bleed, columns that are broken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.telescope.config import CameraConfig

Real = NDArray[np.float32]

HOT_ELECTRONS = 4000.0
"""Charge that a hot column adds to each of its pixels, electrons."""

DEAD_RESPONSE = 0.15
"""Part of the light that a dead column keeps."""


def bleed(image: Real, full_well: float) -> NDArray[np.bool_]:
    """Spill charge above the full well up and down the column until all of it is held or has left the detector.

    Parameters
    ----------
    image
        Electrons, float32 (height, width), modified.
    full_well
        Electrons.

    Returns
    -------
    ndarray
        bool (height, width): the pixels that are full.
    """
    for column in np.flatnonzero((image > full_well).any(axis=0)):
        image[:, column] = _bleed_column(image[:, column].astype(np.float64), full_well)
    return np.asarray(image >= np.float32(full_well))


def _bleed_column(charge: NDArray[np.float64], full_well: float) -> NDArray[np.float64]:
    while True:
        full = charge > full_well
        if not full.any():
            return charge
        edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
        first, end = int(edges[0]), int(edges[1])
        excess = float((charge[first:end] - full_well).sum())
        charge[first:end] = full_well
        _fill(charge[end:], 0.5 * excess, full_well)
        _fill(charge[:first][::-1], 0.5 * excess, full_well)


def _fill(charge: NDArray[np.float64], excess: float, full_well: float) -> None:
    """Fill pixels in order with what is spilled; pixels that are overfull themselves pass it on untouched."""
    room = np.maximum(full_well - charge, 0.0)
    before = np.cumsum(room) - room
    charge += np.clip(excess - before, 0.0, room)


def bad_columns(camera: CameraConfig, detector: int) -> list[tuple[int, int, int, bool]]:
    """Defective columns of a detector, always the same ones: (column, first row, last row + 1, hot)."""
    random = np.random.default_rng([camera.height, camera.width, detector])
    chosen = random.choice(camera.width, min(camera.bad_columns, camera.width), replace=False)
    columns = []
    for column in sorted(int(value) for value in chosen):
        whole, up, hot = random.uniform(size=3) < 0.5
        split = int(random.integers(camera.height // 8, camera.height - camera.height // 8))
        low, high = (0, camera.height) if whole else (0, split) if up else (split, camera.height)
        columns.append((column, low, high, bool(hot)))
    return columns


def spoil_columns(image: Real, columns: list[tuple[int, int, int, bool]]) -> NDArray[np.bool_]:
    """Make columns hot or dead in an image in electrons (modified) and return where: bool (height, width)."""
    bad = np.zeros(image.shape, bool)
    for column, low, high, hot in columns:
        bad[low:high, column] = True
        if hot:
            image[low:high, column] += HOT_ELECTRONS
        else:
            image[low:high, column] *= DEAD_RESPONSE
    return bad
