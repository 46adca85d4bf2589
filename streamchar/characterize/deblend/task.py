"""The deblending task: which footprints are divided, by what, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.base import Task
from streamchar.characterize.deblend.baseline import BaselineConfig
from streamchar.characterize.deblend.deblenders import DEBLENDERS
from streamchar.characterize.deblend.limits import too_big, too_masked
from streamchar.characterize.deblend.multi_threshold import MultiThresholdConfig
from streamchar.characterize.deblend.result import Children, Deblending
from streamchar.characterize.footprints import Footprints, members, offsets
from streamchar.configuration import Configuration
from streamchar.image import Exposure

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class SourceDeblendConfig(Configuration):
    """Settings of :class:`SourceDeblend`."""

    name: Literal["baseline", "sep"] = "baseline"
    """Deblender: the reference's, which shares pixels in proportion to templates; or sep's thresholds, which give each to one source."""
    baseline: BaselineConfig = BaselineConfig()
    """Settings of the reference's deblender."""
    sep: MultiThresholdConfig = MultiThresholdConfig()
    """Settings of sep's."""
    max_number_of_peaks: int = Field(default=0, ge=0)
    """Brightest peaks of a footprint that the baseline deblender takes; 0 takes all."""
    max_footprint_area: int = Field(default=0, ge=0)
    """Footprints of more pixels are left alone; 0 for no limit (the reference: 10000)."""
    max_footprint_size: int = Field(default=0, ge=0)
    """Footprints longer than this along an axis are left alone; 0 for no limit."""
    min_footprint_axis_ratio: float = Field(default=0.0, ge=0, le=1)
    """Footprints of a smaller ratio of minor to major axis are left alone."""
    not_deblended_mask: str = "NOT_DEBLENDED"
    """Plane set on footprints that are left alone, added when the exposure does not have it; empty for none."""
    mask_limits: Mapping[str, float] = {"NO_DATA": 0.25}
    """Largest fraction of a footprint's pixels with a plane."""


class SourceDeblend(Task[SourceDeblendConfig]):
    """Divide footprints with several peaks into children."""

    config_class = SourceDeblendConfig
    default_name = "deblend"

    def run(self, exposure: Exposure, footprints: Footprints, parts: Footprints | None = None) -> Deblending:
        """Deblend footprints.

        Parameters
        ----------
        exposure
            Image in which the footprints were detected, with a PSF. Only the plane of footprints left alone is changed, in its mask.
        footprints
            Without shares.
        parts
            The footprints as :func:`~streamchar.characterize.splitting.split_by_peak` cuts them, or some of those parts in
            their order. When given, the parts' peaks make the children of the baseline deblender, footprints that are left
            alone become their parts, and those without any part are left out.

        Returns
        -------
        Deblending
            Empty for no footprint.

        Raises
        ------
        MissingPsfError
            When footprints are to be divided by the baseline deblender and the exposure has no PSF.
        DeblendingError
            When sep cannot divide them.
        """
        with self.timer("run"):
            base = footprints if parts is None else parts
            origin, deblender = _origin(footprints, base), DEBLENDERS[self.config.name]
            peaks = np.bincount(origin, base.peak_count, len(footprints)).astype(np.int64)
            if deblender.finds_sources:
                peaks = np.where(peaks > 0, footprints.peak_count, 0)
            big, masked, too_many, own = np.zeros((4, len(footprints)), np.bool_)
            blended = np.flatnonzero(peaks > 1)
            blends = footprints.select(blended)
            big[blended], masked[blended] = self._left_alone(exposure, blends)
            left = (big | masked)[blended]
            divided, blends = blended[~left], blends.take(~left)
            own[divided] = True
            own = own[origin]
            if not deblender.finds_sources:
                blends = _with_peaks(blends, base, np.flatnonzero(own), peaks[divided])
                if self.config.max_number_of_peaks:
                    too_many[divided] = peaks[divided] > self.config.max_number_of_peaks
                    blends = _with_brightest(blends, self.config.max_number_of_peaks)
            found = deblender.divide(exposure, blends, self.config)
            self.record("parents", len(divided))
            self.record("children", len(found))
            self.record("skipped", len(blended) - len(divided))
            children = _joined(base, origin, ~own, replace(found, parent=divided[found.parent]))
            parent = children.parent
            return Deblending(children, peaks[parent], big[parent], masked[parent], too_many[parent])

    def _left_alone(self, exposure: Exposure, blends: Footprints) -> tuple[Flags, Flags]:
        """Which of the blends are too big, and which others are masked too much; they get their mask plane."""
        config = self.config
        big = too_big(
            blends,
            area=config.max_footprint_area,
            size=config.max_footprint_size,
            axis_ratio=config.min_footprint_axis_ratio,
        )
        masked = too_masked(exposure, blends, config.mask_limits) & ~big
        if config.not_deblended_mask:
            if config.not_deblended_mask in exposure.planes:
                exposure.clear_planes(config.not_deblended_mask)
            else:
                exposure.planes = exposure.planes.including(config.not_deblended_mask)
            left = big | masked
            if left.any():
                blends.take(left).set_bits(exposure.mask, exposure.bits(config.not_deblended_mask))
        return big, masked


def _with_peaks(blends: Footprints, base: Footprints, parts: Numbers, count: Numbers) -> Footprints:
    """The footprints with the peaks of their parts, so many each."""
    peaks, _ = members(base.peak_start, parts)
    return blends.with_peaks(
        base.peak_x[peaks],
        base.peak_y[peaks],
        base.peak_value[peaks],
        offsets(count),
        base.peak_significance[peaks],
    )


def _with_brightest(blends: Footprints, most: int) -> Footprints:
    """The footprints with no more peaks than that."""
    owner = blends.peak_footprint
    order = np.lexsort((-blends.peak_value, owner))
    kept = np.sort(order[np.arange(len(order)) - blends.peak_start[owner] < most])
    return blends.with_peaks(
        blends.peak_x[kept],
        blends.peak_y[kept],
        blends.peak_value[kept],
        offsets(np.minimum(blends.peak_count, most)),
        blends.peak_significance[kept],
    )


def _joined(base: Footprints, origin: Numbers, kept: Flags, found: Children) -> Children:
    """The children that were found among those footprints that are kept, in the order of the footprints they come from."""
    chosen = np.concatenate([np.flatnonzero(kept), len(base) + np.arange(len(found))])
    parent = np.concatenate([origin, found.parent])[chosen]
    return Children.of([Children.plain(base, origin), found], chosen[np.argsort(parent, kind="stable")])


def _origin(footprints: Footprints, base: Footprints) -> Numbers:
    """The footprint that each of its parts lies in; footprints do not overlap."""
    key = footprints.span_y.astype(np.int64) * footprints.shape[1] + footprints.span_x0
    order = np.argsort(key)
    first = base.span_start[:-1]
    place = base.span_y[first].astype(np.int64) * footprints.shape[1] + base.span_x0[first]
    return footprints.span_footprint[order[np.searchsorted(key[order], place, side="right") - 1]]
