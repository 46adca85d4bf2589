"""Splitting crowded footprints: one footprint per prominent peak (a deviation from the reference, which has none).

The reference measures a footprint of several objects once, at its first peak, and so loses the others. Here every pixel is
led uphill to a summit of a lightly smoothed image, and a summit is an object of its own when it stands out from the highest
saddle to a brighter one (its topological prominence) by more than noise and the shape of a bright star's wings explain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.footprints import Footprints
from streamchar.characterize.smoothing import Convolution
from streamchar.configuration import Configuration
from streamchar.kernels import split_footprints


class SplittingConfig(Configuration):
    """When a peak of a footprint is an object of its own.

    The defaults leave single stars (signal to noise 10 to 5000) and elongated galaxies whole, and separate two stars, one of
    half the other's flux, from 1.5 FWHM on at signal to noise 200 and from 2 FWHM on at 50.
    """

    smoothing: float = Field(default=0.5, gt=0, le=1)
    """Width of the Gaussian that the image is smoothed with to find the summits, in PSF sigma."""
    min_significance: float = Field(default=5.0, ge=0)
    """Smallest value of the peak, in standard deviations of its smoothed pixel."""
    min_prominence: float = Field(default=4.0, ge=0)
    """Smallest height of the peak above its highest saddle to a brighter one, in the same standard deviations."""
    min_contrast: float = Field(default=0.02, ge=0)
    """Smallest height of the peak above that saddle, as a fraction of the saddle's value."""


def split_by_peak(
    footprints: Footprints, smoothing: Convolution, config: SplittingConfig | None = None
) -> tuple[Footprints, NDArray[np.int64]]:
    """Make every prominent peak a footprint.

    Parameters
    ----------
    footprints
        On the exposure, normally grown; they may reach into the border.
    smoothing
        Of the exposure by ``config.smoothing`` times the PSF. A NaN pixel counts as lower than all others.
    config
        When a peak counts; the brightest of a footprint always does.

    Returns
    -------
    parts
        In the order of the footprints they are parts of, the brightest part first, each with one peak and its value on
        the smoothed exposure; significances are 0. Parts of one footprint do not overlap and together are the footprint.
    whole
        int64 (parts): the footprint that each is a part of.
    """
    config = config or SplittingConfig()
    y, x0, x1, start, peak_x, peak_y, value, whole = split_footprints(
        smoothing.raw_image,
        smoothing.raw_variance,
        smoothing.border,
        footprints.span_y,
        footprints.span_x0,
        footprints.span_x1,
        footprints.span_start,
        config.min_significance,
        config.min_prominence,
        config.min_contrast,
        smoothing.image_taps,
        smoothing.variance_taps,
    )
    significance = np.zeros(len(peak_x))
    parts = Footprints(
        footprints.shape, y, x0, x1, start, peak_x, peak_y, value, significance, np.arange(len(start))
    )
    return parts, whole
