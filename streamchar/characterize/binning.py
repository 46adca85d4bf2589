"""The bins of a background (reference: background.md section 2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def bin_edges(length: int, bins: int) -> NDArray[np.int64]:
    """First pixel of each of ``bins`` bins over ``length`` pixels and the end of the last, int64 (bins + 1).

    Bin i ends at ⌊((i + 1) length + ⌊bins/2⌋)/bins⌋.
    """
    ends = ((np.arange(bins, dtype=np.int64) + 1) * length + bins // 2) // bins
    return np.concatenate([np.zeros(1, np.int64), np.minimum(ends, length)])


def bin_centres(edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pixel position of the middle of each bin, float64 (bins)."""
    return np.asarray(edges[:-1] + 0.5 * np.diff(edges) - 0.5)
