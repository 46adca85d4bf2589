"""Deblending: the light of a footprint divided among its peaks (reference: deblend-and-streaks.md section 1).

The baseline method of the reference from its step 2 on: a template for every peak that is symmetric about it and falls outward,
and every pixel divided in proportion to the templates. Not here are the test whether a peak is a point source (step 1), the
treatment of templates cut by the image's edge (step 3), and light that no template claims, which is dropped (rule "trim").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.base import Task
from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.footprints import Footprints
from streamchar.configuration import Configuration
from streamchar.image import Exposure
from streamchar.kernels import apportion

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]

DEBLEND_COLUMNS = (
    Column("deblend_nPeaks", "<i4", "", "peaks of the source's own footprint"),
    Column("deblend_parentNPeaks", "<i4", "", "peaks of the footprint that the source was detected in"),
    flag("deblend_skipped", "the footprint has several peaks and was not deblended"),
    flag("deblend_parentTooBig", "not deblended because the footprint is too large"),
    flag("deblend_masked", "not deblended because too much of the footprint is masked"),
)
"""Columns that :meth:`Deblending.columns` fills."""


class SourceDeblendConfig(Configuration):
    """Settings of :class:`SourceDeblend`."""

    max_number_of_peaks: int = Field(default=0, ge=0)
    """Brightest peaks of a footprint that are kept; 0 keeps all."""
    max_footprint_area: int = Field(default=0, ge=0)
    """Footprints of more pixels are left alone; 0 for no limit (the reference: 10000)."""
    max_footprint_size: int = Field(default=0, ge=0)
    """Footprints longer than this along an axis are left alone; 0 for no limit."""
    not_deblended_mask: str = "NOT_DEBLENDED"
    """Plane set on footprints that are left alone, added when the exposure does not have it; empty for none."""
    mask_limits: Mapping[str, float] = {"NO_DATA": 0.25}
    """Largest fraction of a footprint's pixels with a plane."""
    median_smooth_template: bool = False
    """Replace templates by their medians of 5 x 5 pixels (the reference does)."""
    max_template_radius: int = Field(default=25, ge=1)
    """Distance from a peak along either axis beyond which it owns nothing, pixels (the reference has no limit)."""


@dataclass(frozen=True, slots=True)
class Deblending:
    """What became of detected footprints.

    Attributes
    ----------
    footprints
        One for each source: the children of deblended footprints, with one peak each and the shares of their pixels, and
        the others as they were; in the order of the footprints given, children by their peaks.
    parent
        int64 (n): number of the footprint given that each comes from.
    parent_peaks
        int64 (n): peaks of that footprint.
    too_big, masked
        bool (n): the footprint has several peaks and was left alone for this reason.
    """

    footprints: Footprints
    parent: Numbers
    parent_peaks: Numbers
    too_big: Flags
    masked: Flags

    def __len__(self) -> int:
        return len(self.footprints)

    @property
    def separated(self) -> Flags:
        """Sources whose pixels were divided, bool (n)."""
        return (self.parent_peaks > 1) & ~self.too_big & ~self.masked

    def columns(self) -> dict[str, NDArray[np.int64] | Flags]:
        """Values of :data:`DEBLEND_COLUMNS`."""
        return {
            "deblend_nPeaks": self.footprints.peak_count,
            "deblend_parentNPeaks": self.parent_peaks,
            "deblend_skipped": self.too_big | self.masked,
            "deblend_parentTooBig": self.too_big,
            "deblend_masked": self.masked,
        }


class SourceDeblend(Task[SourceDeblendConfig]):
    """Divide footprints with several peaks into children that share their pixels."""

    config_class = SourceDeblendConfig
    default_name = "deblend"

    def run(self, exposure: Exposure, footprints: Footprints, parts: Footprints | None = None) -> Deblending:
        """Deblend footprints.

        Parameters
        ----------
        exposure
            Image in which the footprints were detected. Only the plane of footprints left alone is changed, in its mask.
        footprints
            Without shares; their peaks make the children.
        parts
            The footprints as :func:`~streamchar.characterize.splitting.split_by_peak` cuts them, or some of those parts in
            their order. When given, the parts' peaks make the children, and footprints that are left alone become their parts.

        Returns
        -------
        Deblending
            Empty for no footprint.
        """
        with self.timer("run"):
            base = footprints if parts is None else parts
            origin = _origin(footprints, base)
            peaks = np.bincount(origin, base.peak_count, len(footprints)).astype(np.int64)
            blended = peaks > 1
            too_big = blended & self._too_big(footprints)
            masked = blended & ~too_big & self._masked(exposure, footprints)
            divided = np.flatnonzero(blended & ~too_big & ~masked)
            self._mark(exposure, footprints, np.flatnonzero(too_big | masked))
            children, child_origin = self._divide(exposure, footprints, base, origin, divided)
            kept = np.flatnonzero(~np.isin(origin, divided))
            joined = _joined(select(base, kept), children)
            parent = np.concatenate([origin[kept], child_origin])
            order = np.argsort(parent, kind="stable")
            parent = parent[order]
            self.record("parents", len(divided))
            self.record("children", len(children))
            self.record("skipped", int((too_big | masked).sum()))
            return Deblending(select(joined, order), parent, peaks[parent], too_big[parent], masked[parent])

    def _too_big(self, footprints: Footprints) -> Flags:
        area, size = self.config.max_footprint_area, self.config.max_footprint_size
        too_big = np.zeros(len(footprints), np.bool_)
        if area:
            too_big |= footprints.area > area
        if size:
            boxes = footprints.boxes
            too_big |= np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) + 1 > size
        return too_big

    def _masked(self, exposure: Exposure, footprints: Footprints) -> Flags:
        masked = np.zeros(len(footprints), np.bool_)
        bits = exposure.mask[footprints.pixels()]
        number = np.repeat(np.arange(len(footprints)), footprints.area)
        for plane, limit in self.config.mask_limits.items():
            if plane in exposure.planes:
                count = np.bincount(number, (bits & exposure.bits(plane)) != 0, len(footprints))
                masked |= count > limit * footprints.area
        return masked

    def _mark(self, exposure: Exposure, footprints: Footprints, skipped: Numbers) -> None:
        plane = self.config.not_deblended_mask
        if not plane:
            return
        exposure.planes = exposure.planes.including(plane)
        exposure.clear_planes(plane)
        select(footprints, skipped).set_bits(exposure.mask, exposure.bits(plane))

    def _divide(
        self, exposure: Exposure, footprints: Footprints, base: Footprints, origin: Numbers, divided: Numbers
    ) -> tuple[Footprints, Numbers]:
        """One child per peak of the footprints, and the footprint each comes from."""
        owner = np.repeat(origin, base.peak_count)
        chosen = np.flatnonzero(np.isin(owner, divided))
        if self.config.max_number_of_peaks:
            chosen = _brightest(owner, base, chosen, self.config.max_number_of_peaks)
        parents = select(footprints, divided)
        count = np.bincount(np.searchsorted(divided, owner[chosen]), minlength=len(divided))
        y, x0, x1, start, share = apportion(
            exposure.image,
            parents.span_y,
            parents.span_x0,
            parents.span_x1,
            parents.span_start,
            base.peak_x[chosen],
            base.peak_y[chosen],
            np.concatenate([np.zeros(1, np.int64), np.cumsum(count)]),
            self.config.median_smooth_template,
            self.config.max_template_radius,
        )
        children = Footprints(
            footprints.shape,
            y,
            x0,
            x1,
            start,
            base.peak_x[chosen],
            base.peak_y[chosen],
            base.peak_value[chosen],
            base.peak_significance[chosen],
            np.arange(len(chosen) + 1, dtype=np.int64),
            share,
        )
        return children, owner[chosen]


def select(footprints: Footprints, chosen: Numbers) -> Footprints:
    """Footprints of the given numbers, in that order, with their peaks and shares."""
    spans, span_start = _members(footprints.span_start, chosen)
    peaks, peak_start = _members(footprints.peak_start, chosen)
    share = footprints.share
    if share is not None:
        pixel_start = np.concatenate([np.zeros(1, np.int64), np.cumsum(footprints.area)])
        share = share[_members(pixel_start, chosen)[0]]
    return replace(
        footprints,
        span_y=footprints.span_y[spans],
        span_x0=footprints.span_x0[spans],
        span_x1=footprints.span_x1[spans],
        span_start=span_start,
        peak_x=footprints.peak_x[peaks],
        peak_y=footprints.peak_y[peaks],
        peak_value=footprints.peak_value[peaks],
        peak_significance=footprints.peak_significance[peaks],
        peak_start=peak_start,
        share=share,
    )


def _members(start: Numbers, chosen: Numbers) -> tuple[Numbers, Numbers]:
    """Elements start[i]:start[i + 1] of the chosen i, one after the other, and where each begins."""
    length = (start[1:] - start[:-1])[chosen]
    begin = np.concatenate([np.zeros(1, np.int64), np.cumsum(length)])
    members = np.arange(begin[-1]) + np.repeat(start[:-1][chosen] - begin[:-1], length)
    return members, begin


def _joined(first: Footprints, second: Footprints) -> Footprints:
    """Footprints of two sets, one after the other; those without shares own their pixels."""
    shares = [
        np.ones(int(each.area.sum()), np.float32) if each.share is None else each.share
        for each in (first, second)
    ]

    def both(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(first, name), getattr(second, name)])

    return Footprints(
        shape=first.shape,
        span_y=both("span_y"),
        span_x0=both("span_x0"),
        span_x1=both("span_x1"),
        span_start=np.concatenate([first.span_start, second.span_start[1:] + first.span_start[-1]]),
        peak_x=both("peak_x"),
        peak_y=both("peak_y"),
        peak_value=both("peak_value"),
        peak_significance=both("peak_significance"),
        peak_start=np.concatenate([first.peak_start, second.peak_start[1:] + first.peak_start[-1]]),
        share=np.concatenate(shares),
    )


def _origin(footprints: Footprints, base: Footprints) -> Numbers:
    """The footprint that each of its parts lies in; footprints do not overlap."""
    key = footprints.span_y.astype(np.int64) * footprints.shape[1] + footprints.span_x0
    order = np.argsort(key)
    first = base.span_start[:-1]
    place = base.span_y[first].astype(np.int64) * footprints.shape[1] + base.span_x0[first]
    return footprints.span_footprint[order[np.searchsorted(key[order], place, side="right") - 1]]


def _brightest(owner: Numbers, base: Footprints, chosen: Numbers, most: int) -> Numbers:
    order = np.lexsort((chosen, -base.peak_value[chosen], owner[chosen]))
    first = np.searchsorted(owner[chosen][order], owner[chosen][order])
    return np.sort(chosen[order[np.arange(len(order)) - first < most]])
