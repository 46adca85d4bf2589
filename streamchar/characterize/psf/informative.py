"""Which stars a PSF fit needs: the brightest hold nearly all that all of them tell, and are the least contaminated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

CELLS = 6
"""The field is divided into so many cells along each axis, none of which is left without its stars."""
STARS_PER_CELL = 3
FEW = 200
"""So many stars are all used."""
BRIGHTEST = 300.0
"""Signal to noise beyond which a star tells hardly more: its own neighbours and the model then limit it."""


def most_informative(x: Array, y: Array, ratio: Array, *, fraction: float, most: int) -> Rows:
    """Choose the fewest stars that hold a fraction of what all tell about the PSF, and some in every part of the field.

    A star's information grows with the square of its signal to noise. Light of undetected neighbours, a bias that
    does not average out, is a smaller part of brighter stars.

    Parameters
    ----------
    x, y, ratio
        float64 (n): positions, and signal to noise; stars of unknown ratio count as the faintest.
    fraction
        Of the information, 0 to 1.
    most
        At most so many stars, beside those of the cells.

    Returns
    -------
    int64, ascending: numbers of the chosen stars.
    """
    count = len(x)
    if count <= FEW:
        return np.arange(count)
    with np.errstate(invalid="ignore"):
        square = np.where(np.isfinite(ratio) & (ratio > 0), ratio, 0.0) ** 2
    information = square / (1.0 + square / BRIGHTEST**2)
    order = np.argsort(-square, kind="stable")
    total = np.cumsum(information[order])
    needed = int(np.searchsorted(total, fraction * total[-1])) + 1
    kept = np.zeros(count, np.bool_)
    kept[order[: max(FEW, min(needed, most))]] = True
    kept[order[_rank_in_cell(_cells(x, y)[order]) < STARS_PER_CELL]] = True
    return np.flatnonzero(kept)


def _cells(x: Array, y: Array) -> Rows:
    number = np.zeros(len(x), np.int64)
    for axis in (x, y):
        finite = np.isfinite(axis)
        low, high = axis[finite].min(initial=np.inf), axis[finite].max(initial=-np.inf)
        scaled = (np.where(finite, axis, low) - low) / (high - low) if high > low else np.zeros(len(axis))
        number = number * CELLS + np.minimum((CELLS * scaled).astype(np.int64), CELLS - 1)
    return number


def _rank_in_cell(cell: Rows) -> Rows:
    """Return how many before each are in the same cell."""
    order = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[order], cell[order])
    rank = np.empty(len(cell), np.int64)
    rank[order] = np.arange(len(cell)) - first
    return rank
