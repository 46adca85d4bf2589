"""Footprints chosen by number, and sets of footprints joined to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.footprints import Footprints

Numbers = NDArray[np.int64]

BLOCK = 512
"""Footprints of which the pixels are numbered at a time."""


def select(footprints: Footprints, chosen: Numbers) -> Footprints:
    """Footprints of the given numbers, in that order, with their peaks and shares."""
    spans, span_start = members(footprints.span_start, chosen)
    peaks, peak_start = members(footprints.peak_start, chosen)
    share = footprints.share
    if share is not None:
        share = _shares(share, offsets(footprints.area), chosen)
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


def _shares(share: NDArray[np.float32], start: Numbers, chosen: Numbers) -> NDArray[np.float32]:
    """Shares of the chosen footprints' pixels, some footprints at a time: the numbers of all pixels would take more memory."""
    parts = np.array_split(chosen, 1 + len(chosen) // BLOCK)
    return np.concatenate([share[members(start, part)[0]] for part in parts])


def joined(sets: Sequence[Footprints]) -> Footprints:
    """Footprints of at least one set, set after set; when some divide their pixels, those of the other sets own theirs whole."""

    def all_of(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(each, name) for each in sets])

    def starts(name: str) -> Numbers:
        return offsets(np.concatenate([np.diff(getattr(each, name)) for each in sets]))

    share = None
    if any(each.share is not None for each in sets):
        share = np.concatenate(
            [np.ones(int(each.area.sum()), np.float32) if each.share is None else each.share for each in sets]
        )
    return Footprints(
        sets[0].shape,
        all_of("span_y"),
        all_of("span_x0"),
        all_of("span_x1"),
        starts("span_start"),
        all_of("peak_x"),
        all_of("peak_y"),
        all_of("peak_value"),
        all_of("peak_significance"),
        starts("peak_start"),
        share,
    )


def offsets(lengths: NDArray[np.integer[Any]]) -> Numbers:
    """Where each of some runs of elements begins, and the end of the last: int64 (n + 1)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def members(start: Numbers, chosen: Numbers) -> tuple[Numbers, Numbers]:
    """Elements ``start[i]:start[i + 1]`` of the chosen i, one after the other, and where each begins."""
    length = (start[1:] - start[:-1])[chosen]
    begin = offsets(length)
    found = np.arange(begin[-1]) + np.repeat(start[:-1][chosen] - begin[:-1], length)
    return found, begin
