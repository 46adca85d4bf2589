"""Detection thresholds: what a smoothed pixel must reach, and by how much it did (reference: detection.md sections 4 and 8)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.statistics import clipped
from streamchar.frozen import frozen

ThresholdType = Literal["pixel_stdev", "stdev", "variance", "value"]

STATISTICAL_THRESHOLDS = ("stdev", "variance")
"""Types of threshold that need statistics of the whole smoothed image."""


@frozen
class Threshold:
    """A level, scaled pixel by pixel or not.

    Attributes
    ----------
    value
        Multiplies the standard deviation of each pixel when ``scaled``, else the level itself in image units.
    scaled
        Whether the level is a multiple of the pixel's own standard deviation.
    noise
        Standard deviation that a peak's significance refers to, NaN when the pixel's own or none does.
    """

    value: float
    scaled: bool
    noise: float = float("nan")

    def significance(
        self, peak_value: NDArray[np.float32], peak_variance: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Peak values over their standard deviation, float64; 0 for levels that know no noise."""
        if self.scaled:
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(peak_value / np.sqrt(peak_variance.astype(np.float64)))
        if np.isfinite(self.noise):
            return np.asarray(peak_value / np.float64(self.noise))
        return np.zeros(len(peak_value))

    def reached(
        self, peak_value: NDArray[np.float32], peak_variance: NDArray[np.float32], multiplier: float
    ) -> NDArray[np.bool_]:
        """Whether peaks reach ``multiplier`` times the level; never where the variance is not positive."""
        if not self.scaled:
            return np.asarray(peak_value >= multiplier * self.value)
        return self.significance(peak_value, peak_variance) >= multiplier * self.value


def make_threshold(
    kind: ThresholdType, value: float, image: NDArray[np.float32] | None, ignored: NDArray[np.bool_] | None
) -> Threshold:
    """Make the threshold of a smoothed image.

    Parameters
    ----------
    kind
        ``pixel_stdev``: multiples of each pixel's standard deviation. ``stdev``: multiples of the clipped standard
        deviation of the image. ``variance``: multiples of its square, measured on all pixels. ``value``: image units.
    value
        The multiple or level.
    image
        Smoothed image, float32 (height, width); types without statistics need none.
    ignored
        Pixels left out of the ``stdev`` statistics, or ``None``.
    """
    if kind == "pixel_stdev":
        return Threshold(value, scaled=True)
    if kind == "value":
        return Threshold(value, scaled=False)
    assert image is not None
    if kind == "variance":
        return Threshold(value * clipped(image).variance, scaled=False)
    noise = clipped(image if ignored is None else image[~ignored]).standard_deviation
    return Threshold(value * noise, scaled=False, noise=noise)
