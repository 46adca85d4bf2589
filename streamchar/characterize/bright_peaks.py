"""Bright local maxima of an image: where stars and compact hits have their peaks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen
from streamchar.kernels import bright_maxima, cut_windows
from streamchar.robust import median

LATTICE = 61
"""Rows and columns between the pixels whose median variance is taken as that of the sky."""

REACH = 2
"""Pixels on either side of a peak that are kept with it."""

SIDE = 2 * REACH + 1


@frozen(eq=False)
class BrightPeaks:
    """Local maxima above a level.

    Attributes
    ----------
    y, x
        int32 (n): pixel of each, off the border, in reading order.
    height
        float64 (n): above the sky.
    around
        float32 (n, SIDE²): pixels about each, row by row, NaN beyond the image.
    noise
        Standard deviation of the sky; NaN when no variance is positive, and there are then no peaks.
    """

    y: NDArray[np.int32]
    x: NDArray[np.int32]
    height: NDArray[np.float64]
    around: NDArray[np.float32]
    noise: float

    @classmethod
    def none(cls) -> BrightPeaks:
        """No peak."""
        none = np.empty(0, np.int32)
        return cls(none, none, np.empty(0), np.empty((0, SIDE**2), np.float32), float("nan"))

    def above(self, significance: float) -> BrightPeaks:
        """Those higher than ``significance`` standard deviations of the sky."""
        chosen = self.height > significance * self.noise
        if chosen.all():
            return self
        return BrightPeaks(
            self.y[chosen], self.x[chosen], self.height[chosen], self.around[chosen], self.noise
        )


def find_bright_peaks(
    image: NDArray[np.float32], variance: NDArray[np.float32], *, background: float, min_significance: float
) -> BrightPeaks:
    """Find pixels that no neighbour exceeds; NaN pixels and their neighbours are none.

    Parameters
    ----------
    image, variance
        Planes (height, width) of one exposure; not modified.
    background
        Sky level.
    min_significance
        Least height above it in standard deviations of the sky.
    """
    sample = variance[::LATTICE, ::LATTICE]
    sample = sample[sample > 0]
    if sample.size == 0:
        return BrightPeaks.none()
    noise = float(np.sqrt(median(sample.astype(np.float64))))
    y, x = bright_maxima(image, background + min_significance * noise)
    around = cut_windows(image, x.astype(np.int64), y.astype(np.int64), REACH)
    return BrightPeaks(y, x, around[:, SIDE**2 // 2].astype(np.float64) - background, around, noise)
