"""An exposure in equal parts, for what varies so slowly that its value in the middle of each will do."""

from __future__ import annotations

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
        float64 (rows * columns), row by row: the middle of each, in pixels.
    """

    shape: tuple[int, int]
    x: Array
    y: Array

    @classmethod
    def of(cls, shape: tuple[int, int], side: float) -> ExposureParts:
        """Divide an exposure of ``shape`` into parts of about ``side`` by ``side`` pixels, at least one."""
        rows, columns = (max(round(length / side), 1) for length in shape)
        x, y = (
            (np.arange(count) + 0.5) * length / count - 0.5
            for count, length in ((columns, shape[1]), (rows, shape[0]))
        )
        return cls((rows, columns), np.tile(x, rows), np.repeat(y, columns))
