"""An exposure in equal parts, for what varies so slowly that its value in the middle of each will do."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen

Array = NDArray[np.float64]


@frozen(eq=False)
class ExposureParts:
    """Rows and columns of equal rectangles.

    Attributes
    ----------
    shape
        Number of rows and of columns.
    x, y
        float64 (rows * columns), read-only, row by row: the middle of each, in pixels.
    """

    shape: tuple[int, int]
    x: Array
    y: Array

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, shape: tuple[int, int], side: float) -> ExposureParts:
        """Divide an exposure of ``shape`` into parts of about ``side`` by ``side`` pixels, at least one."""
        rows, columns = (max(round(length / side), 1) for length in shape)
        row, column = np.divmod(np.arange(rows * columns), columns)
        x, y = (column + 0.5) * shape[1] / columns - 0.5, (row + 0.5) * shape[0] / rows - 0.5
        x.flags.writeable = y.flags.writeable = False
        return cls((rows, columns), x, y)
