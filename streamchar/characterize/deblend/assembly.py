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
        share=None if footprints.share is None else _shares([footprints], chosen),
    )


def joined(sets: Sequence[Footprints], order: Numbers | None = None) -> Footprints:
    """Footprints of several sets; when some divide their pixels, those of the other sets own theirs whole.

    Parameters
    ----------
    sets
        At least one.
    order
        int64 (n): the footprints by their number when the sets are counted one after the other; in that order when omitted.
    """

    def all_of(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(each, name) for each in sets])

    def starts(name: str) -> Numbers:
        return offsets(np.concatenate([np.diff(getattr(each, name)) for each in sets]))

    together = Footprints(
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
    )
    if order is None:
        order = np.arange(len(together))
    else:
        together = select(together, order)
    if all(each.share is None for each in sets):
        return together
    return replace(together, share=_shares(sets, order))


def _shares(sets: Sequence[Footprints], order: Numbers) -> NDArray[np.float32]:
    """Shares of the footprints in that order, written in place: lists of all pixels' numbers or values would take more memory."""
    area = np.concatenate([each.area for each in sets])
    result = np.ones(int(area[order].sum()), np.float32)
    into, first = offsets(area[order]), 0
    for each in sets:
        own = np.flatnonzero((order >= first) & (order < first + len(each)))
        start, share = offsets(each.area), each.share
        first += len(each)
        if share is None:
            continue
        for some in np.array_split(own, 1 + len(own) // BLOCK):
            result[members(into, some)[0]] = share[members(start, order[some] - first + len(each))[0]]
    return result


def offsets(lengths: NDArray[np.integer[Any]]) -> Numbers:
    """Where each of some runs of elements begins, and the end of the last: int64 (n + 1)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def members(start: Numbers, chosen: Numbers) -> tuple[Numbers, Numbers]:
    """Elements ``start[i]:start[i + 1]`` of the chosen i, one after the other, and where each begins."""
    length = (start[1:] - start[:-1])[chosen]
    begin = offsets(length)
    found = np.arange(begin[-1]) + np.repeat(start[:-1][chosen] - begin[:-1], length)
    return found, begin
