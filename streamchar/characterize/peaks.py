"""Footprints above a threshold and their peaks (reference: detection.md sections 4 to 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.footprints import Footprints
from streamchar.characterize.smoothing import Convolution
from streamchar.characterize.thresholds import Threshold
from streamchar.kernels import detect, find_peaks, refresh_peaks

Spans = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]


def find_footprints(
    smoothed: Convolution, threshold: Threshold, include_multiplier: float, min_pixels: int, *, negative: bool
) -> tuple[Footprints, Footprints]:
    """Find the footprints above and below the threshold, with their peaks.

    Footprints are 8-connected, in the order of the reference: by their root, which is mostly their first pixel in
    reading order. Peak significances are 0; see :func:`with_significance`.

    Parameters
    ----------
    smoothed
        The exposure to search.
    threshold
        A pixel is in when it reaches the level; NaN pixels and pixels of NaN or negative variance never are.
    include_multiplier
        A footprint is kept when one pixel reaches this multiple of the level there.
    min_pixels
        Fewest pixels of a footprint.
    negative
        Search for pits too; otherwise the second result is empty.

    Returns
    -------
    positive, negative
        In the coordinates of what is smoothed.
    """
    found = detect(
        smoothed.raw_image,
        smoothed.raw_variance if threshold.scaled else None,
        threshold.value,
        include_multiplier,
        min_pixels,
        negative,
        smoothed.variance_taps,
        smoothed.image_taps,
    )
    hills, pits = found
    below = _with_peaks(smoothed, pits, True) if negative else Footprints.empty(smoothed.shape)
    return _with_peaks(smoothed, hills, False), below


def flatten_peaks(
    footprints: Footprints,
    smoothed: Convolution,
    level: NDArray[np.float32],
    threshold: Threshold,
    include_multiplier: float,
    min_pixels: int,
    *,
    negative: bool,
    max_simple: int,
) -> Footprints:
    """Find the peaks of complex footprints anew after a local background was removed.

    Parameters
    ----------
    footprints
        In the coordinates of ``smoothed``; their pixels stay as they are.
    smoothed
        What they were found on.
    level
        Local background of the whole exposure, float32, wider than the smoothed planes by their border.
    threshold, include_multiplier, min_pixels, negative
        What the footprints were found with.
    max_simple
        Footprints with at most this many peaks keep them with their values.

    Notes
    -----
    The new peaks are listed part by part of the footprint, brightest first within each part only.
    """
    found = refresh_peaks(
        smoothed.raw_image,
        smoothed.raw_variance if threshold.scaled else None,
        level,
        smoothed.border,
        threshold.value,
        include_multiplier,
        min_pixels,
        negative,
        footprints.span_y,
        footprints.span_x0,
        footprints.span_x1,
        footprints.span_start,
        footprints.peak_x,
        footprints.peak_y,
        footprints.peak_value,
        footprints.peak_start,
        max_simple,
        smoothed.variance_taps,
        smoothed.image_taps,
    )
    return footprints.with_peaks(*found)


def with_significance(
    footprints: Footprints, smoothed: Convolution, threshold: Threshold, *, negative: bool
) -> Footprints:
    """Fill in the peaks' significances: value over standard deviation, positive for real pits too."""
    if not len(footprints):
        return footprints
    x, y, value = footprints.peak_x, footprints.peak_y, footprints.peak_value
    significance = threshold.significance(value, smoothed.variance_at(x, y))
    return footprints.with_peaks(
        x, y, value, footprints.peak_start, -significance if negative else significance
    )


def _with_peaks(smoothed: Convolution, spans: Spans, negative: bool) -> Footprints:
    x, y, value, start = find_peaks(smoothed.raw_image, *spans, negative, smoothed.image_taps)
    return Footprints(smoothed.shape, *spans, x, y, value, np.zeros(len(x)), start)
