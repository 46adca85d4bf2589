"""The reference's baseline deblender: a template for every peak, and each pixel divided in proportion (Lupton; reference: deblend-and-streaks.md section 1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.deblend.point_sources import (
    DRAWN,
    PointSourceConfig,
    PointSources,
    find_point_sources,
    psf_of,
)
from streamchar.characterize.deblend.result import Children
from streamchar.characterize.footprints import Footprints, offsets
from streamchar.image import Exposure, Psf
from streamchar.kernels import apportion, symmetric_templates

EDGE_HANDLING = ("clip", "ramp", "noclip")
STRAY_RULES = ("trim", "r_to_peak", "r_to_footprint", "nearest_footprint")
TO_POINT_SOURCES = ("always", "necessary", "never")
"""In the order of the kernels' numbers."""

EDGE_SIGNIFICANCE = 3.0
"""Standard deviations of a template's rim from which it is continued at the edge (the reference's)."""
RAMPED, PATCHED = 1, 2
"""Bits of the kernel."""
BATCH = 512
"""Peaks whose templates are in memory at a time, unless one footprint has more."""

Numbers = NDArray[np.int64]


class BaselineConfig(PointSourceConfig):
    """Settings of the reference's deblender."""

    edge_handling: Literal["clip", "ramp", "noclip"] = "ramp"
    """What a template has where its mirror image lies beyond the edge of the exposure: nothing; the pixels, falling off like the
    PSF from the template's significant rim; or the pixels themselves."""
    median_smooth_template: bool = False
    """Replace templates by their medians of 5 x 5 pixels (the reference does)."""
    max_template_radius: int = Field(default=25, ge=1)
    """Distance from a peak along either axis beyond which it owns nothing, pixels (the reference has no limit)."""
    assign_stray_flux: bool = True
    """Give light that no template claims to the sources, by the rule."""
    stray_flux_rule: Literal["trim", "r_to_peak", "r_to_footprint", "nearest_footprint"] = "trim"
    """``trim`` drops it; it is shared by 1/(1 + r²), r being the distance from the peak or from the nearest pixel of its
    template, in pixels; or the nearest template has it all."""
    stray_flux_to_point_sources: Literal["always", "necessary", "never"] = "necessary"
    """Whether point sources get it: like others, where no other source can have it, or not at all."""
    clip_stray_flux_fraction: float = Field(default=0.001, ge=0, lt=1)
    """Smaller shares of it are dropped."""


def divide(exposure: Exposure, blends: Footprints, config: BaselineConfig) -> Children:
    """Divide the pixels of footprints among their peaks, one child a peak.

    Parameters
    ----------
    exposure
        With a PSF.
    blends
        Without shares; with as many peaks as there shall be children.
    config
        How templates are made, and who gets the pixels that none of them claims.

    Returns
    -------
    Children
        In the order of the peaks. Pixels that are not finite belong to no template.

    Raises
    ------
    MissingPsfError
        When the exposure has no PSF.
    """
    parts = [
        _divide(exposure, blends.part(first, end), first, config)
        for first, end in _batches(blends.peak_start)
    ]
    return Children.of(parts) if parts else Children.plain(blends, np.zeros(0, np.int64))


def _batches(start: Numbers) -> Iterator[tuple[int, int]]:
    first = 0
    while first < len(start) - 1:
        end = int(np.searchsorted(start, start[first] + BATCH, side="right")) - 1
        end = max(end, first + 1)
        yield first, end
        first = end


def _divide(exposure: Exposure, blends: Footprints, number: int, config: BaselineConfig) -> Children:
    points = find_point_sources(exposure, blends, config)
    psf = psf_of(exposure)
    values, start, boxes, treated = symmetric_templates(
        exposure.image,
        exposure.variance,
        exposure.mask,
        exposure.present_bits("EDGE"),
        blends.span_y,
        blends.span_x0,
        blends.span_x1,
        blends.span_start,
        blends.peak_x,
        blends.peak_y,
        blends.peak_start,
        ~points.good,
        config.median_smooth_template,
        config.max_template_radius,
        EDGE_HANDLING.index(config.edge_handling),
        np.ascontiguousarray(psf.kernel_images(*psf.average_position)[0], np.float64),
        EDGE_SIGNIFICANCE,
    )
    values, start, boxes = _with_point_sources(values, start, boxes, points, psf)
    rule = config.stray_flux_rule if config.assign_stray_flux else "trim"
    y, x0, x1, span_start, share, has_stray = apportion(
        exposure.shape[0],
        exposure.shape[1],
        blends.span_y,
        blends.span_x0,
        blends.span_x1,
        blends.span_start,
        blends.peak_x,
        blends.peak_y,
        blends.peak_start,
        values,
        start,
        boxes,
        points.good,
        STRAY_RULES.index(rule),
        TO_POINT_SOURCES.index(config.stray_flux_to_point_sources),
        config.clip_stray_flux_fraction,
        config.max_template_radius,
    )
    children = Footprints(
        blends.shape,
        y,
        x0,
        x1,
        span_start,
        blends.peak_x,
        blends.peak_y,
        blends.peak_value,
        blends.peak_significance,
        np.arange(len(blends.peak_x) + 1, dtype=np.int64),
        share,
    )
    return Children(
        children,
        number + blends.peak_footprint,
        points.good,
        points.x,
        points.y,
        points.flux,
        (treated & RAMPED) != 0,
        (treated & PATCHED) != 0,
        has_stray != 0,
    )


def _with_point_sources(
    values: NDArray[np.float32], start: Numbers, boxes: NDArray[np.int32], points: PointSources, psf: Psf
) -> tuple[NDArray[np.float32], Numbers, NDArray[np.int32]]:
    """Put the fitted PSFs in the places that the templates of point sources left empty."""
    if not points.good.any():
        return values, start, boxes
    height, width = psf.size
    area, boxes = height * width, boxes.copy()
    start = offsets(np.where(points.good, area, np.diff(start)))
    filled, of_points = np.empty(start[-1], np.float32), np.repeat(points.good, np.diff(start))
    filled[~of_points] = values
    rows = np.flatnonzero(points.good)
    for first in range(0, len(rows), DRAWN):
        some = rows[first : first + DRAWN]
        stamps = psf.images(points.x[some], points.y[some])
        pixels = start[some, None] + np.arange(area)
        filled[pixels] = (points.flux[some, None, None] * stamps.images).reshape(len(some), area)
        corners = (stamps.x0, stamps.y0, stamps.x0 + width - 1, stamps.y0 + height - 1)
        boxes[some] = np.stack(corners, axis=1)
    return filled, start, boxes
