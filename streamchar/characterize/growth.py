"""Growing footprints into the wings of their sources (reference: detection.md section 7)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.footprints import Footprints
from streamchar.kernels import grow_each, grow_merging, merge_peaks


def growth_radius(sigma: float, n_sigma: float) -> int:
    """Radius in pixels: ⌊n_sigma·sigma + ½⌋."""
    return int(np.floor(n_sigma * sigma + 0.5))


def structuring_element(radius: int, *, isotropic: bool) -> NDArray[np.int32]:
    """Half widths of the element's rows 0 to ``radius`` away from its centre: a disk, or a diamond."""
    rows = np.arange(radius + 1)
    half_widths = np.floor(np.sqrt(radius**2 - rows**2)) if isotropic else radius - rows
    return half_widths.astype(np.int32)


def grow(footprints: Footprints, radius: int, *, isotropic: bool, combined: bool) -> Footprints:
    """Dilate footprints, clipped to the exposure.

    Parameters
    ----------
    footprints
        On the exposure.
    radius
        Pixels; 0 changes nothing.
    isotropic
        Grow by a disk rather than a diamond.
    combined
        Join footprints that touch after growing; the new one lists the peaks of all its members, each member's list
        merged in by brightness. (The reference loses the peaks of a footprint that two others paint over; here
        none is lost.) Otherwise every footprint grows on its own and may overlap others.

    Notes
    -----
    Peak significances are carried along.
    """
    if radius == 0 or len(footprints) == 0:
        return footprints
    element = structuring_element(radius, isotropic=isotropic)
    spans = (footprints.span_y, footprints.span_x0, footprints.span_x1, footprints.span_start)
    if not combined:
        return footprints.with_spans(*grow_each(*spans, *footprints.shape, element))
    y, x0, x1, start, owner = grow_merging(*spans, *footprints.shape, element)
    order, peak_start = merge_peaks(
        footprints.peak_x,
        footprints.peak_y,
        footprints.peak_value,
        footprints.peak_start,
        owner,
        len(start) - 1,
    )
    return Footprints(
        footprints.shape,
        y,
        x0,
        x1,
        start,
        footprints.peak_x[order],
        footprints.peak_y[order],
        footprints.peak_value[order],
        footprints.peak_significance[order],
        peak_start,
    )
