"""Footprints: the connected pixels of detected sources as row spans, with their peaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen

Numbers = NDArray[np.int64]

BLOCK = 512
"""Footprints whose pixels are numbered at a time."""


@frozen
class Footprints:
    """Spans and peaks of n footprints, stored one after the other.

    The spans of footprint ``i`` are rows ``span_start[i]:span_start[i + 1]`` of the span arrays, ordered by (y, x);
    its peaks are ``peak_start[i]:peak_start[i + 1]`` of the peak arrays, brightest first. (Where the peaks of a complex
    footprint were found anew, each connected part of it lists its own in turn: reference detection.md section 6.)

    Attributes
    ----------
    shape
        Height and width of the exposure.
    span_y, span_x0, span_x1
        int32 (spans): row, first and last column (inclusive).
    span_start
        int64 (n + 1).
    peak_x, peak_y
        int32 (peaks): pixel of the peak.
    peak_value
        float32 (peaks): smoothed pixel value there.
    peak_significance
        float64 (peaks): value over its standard deviation.
    peak_start
        int64 (n + 1); every footprint has at least one peak.
    share
        float32 (pixels), span after span: the fraction of the pixel's light that is the footprint's, where footprints that
        overlap divide it among them; ``None`` when every footprint owns all of its pixels.
    """

    shape: tuple[int, int]
    span_y: NDArray[np.int32]
    span_x0: NDArray[np.int32]
    span_x1: NDArray[np.int32]
    span_start: NDArray[np.int64]
    peak_x: NDArray[np.int32]
    peak_y: NDArray[np.int32]
    peak_value: NDArray[np.float32]
    peak_significance: NDArray[np.float64]
    peak_start: NDArray[np.int64]
    share: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.span_start) - 1

    def __repr__(self) -> str:
        return f"Footprints({len(self)} footprints, {len(self.span_y)} spans, {len(self.peak_x)} peaks)"

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Footprints:
        """No footprint on an exposure of ``shape``."""
        none, start = np.empty(0, np.int32), np.zeros(1, np.int64)
        significance = np.empty(0, np.float64)
        return cls(shape, none, none, none, start, none, none, none.astype(np.float32), significance, start)

    def with_spans(
        self,
        y: NDArray[np.int32],
        x0: NDArray[np.int32],
        x1: NDArray[np.int32],
        start: NDArray[np.int64],
    ) -> Footprints:
        """Return footprints of other pixels, all their own, with the same peaks."""
        return replace(self, span_y=y, span_x0=x0, span_x1=x1, span_start=start, share=None)

    def with_peaks(
        self,
        x: NDArray[np.int32],
        y: NDArray[np.int32],
        value: NDArray[np.float32],
        start: NDArray[np.int64],
        significance: NDArray[np.float64] | None = None,
    ) -> Footprints:
        """Return footprints of the same pixels with other peaks; significances are 0 when omitted."""
        if significance is None:
            significance = np.zeros(len(x))
        spans = self.span_y, self.span_x0, self.span_x1, self.span_start
        return Footprints(self.shape, *spans, x, y, value, significance, start, self.share)

    def placed(self, x: int, y: int, shape: tuple[int, int]) -> Footprints:
        """Return the same footprints on a larger exposure whose pixel (x, y) is the first pixel of this one.

        Parameters
        ----------
        x, y
            Where to place them, not negative.
        shape
            Height and width of the larger exposure.
        """
        right, down = np.int32(x), np.int32(y)
        return Footprints(
            shape,
            self.span_y + down,
            self.span_x0 + right,
            self.span_x1 + right,
            self.span_start,
            self.peak_x + right,
            self.peak_y + down,
            self.peak_value,
            self.peak_significance,
            self.peak_start,
            self.share,
        )

    def part(self, first: int, end: int) -> Footprints:
        """Footprints ``first`` to ``end - 1``; spans and peaks are views."""
        spans = slice(int(self.span_start[first]), int(self.span_start[end]))
        peaks = slice(self.peak_start[first], self.peak_start[end])
        return Footprints(
            self.shape,
            self.span_y[spans],
            self.span_x0[spans],
            self.span_x1[spans],
            self.span_start[first : end + 1] - self.span_start[first],
            self.peak_x[peaks],
            self.peak_y[peaks],
            self.peak_value[peaks],
            self.peak_significance[peaks],
            self.peak_start[first : end + 1] - self.peak_start[first],
            self._share_of(spans),
        )

    def take(self, chosen: NDArray[np.bool_]) -> Footprints:
        """Return the footprints where ``chosen``, bool (n), in order."""
        return self if chosen.all() else self.select(np.flatnonzero(chosen))

    def select(self, chosen: Numbers) -> Footprints:
        """Return the footprints of the given numbers, in that order."""
        spans, span_start = members(self.span_start, chosen)
        peaks, peak_start = members(self.peak_start, chosen)
        return Footprints(
            self.shape,
            self.span_y[spans],
            self.span_x0[spans],
            self.span_x1[spans],
            span_start,
            self.peak_x[peaks],
            self.peak_y[peaks],
            self.peak_value[peaks],
            self.peak_significance[peaks],
            peak_start,
            None if self.share is None else shares([self], chosen),
        )

    def _share_of(self, spans: slice) -> NDArray[np.float32] | None:
        """Shares of the pixels of some spans, a view."""
        if self.share is None:
            return None
        first, end = (
            int((self.span_x1[:span] - self.span_x0[:span]).sum()) + span
            for span in (spans.start, spans.stop)
        )
        return self.share[first:end]

    @property
    def area(self) -> NDArray[np.int64]:
        """Pixels of each footprint, int64 (n)."""
        return _sum_by_start(self.span_x1.astype(np.int64) - self.span_x0 + 1, self.span_start)

    @property
    def boxes(self) -> NDArray[np.int32]:
        """Bounding boxes, int32 (n, 4): x0, y0, x1, y1, all inclusive."""
        if len(self) == 0:
            return np.empty((0, 4), np.int32)
        first = self.span_start[:-1]
        boxes = np.empty((len(self), 4), np.int32)
        boxes[:, 0] = np.minimum.reduceat(self.span_x0, first)
        boxes[:, 1] = self.span_y[first]
        boxes[:, 2] = np.maximum.reduceat(self.span_x1, first)
        boxes[:, 3] = self.span_y[self.span_start[1:] - 1]
        return boxes

    @property
    def peak_count(self) -> NDArray[np.int64]:
        """Peaks of each footprint, int64 (n)."""
        return _lengths(self.peak_start)

    @property
    def span_footprint(self) -> NDArray[np.int64]:
        """Footprint number of each span, int64 (spans)."""
        return np.repeat(np.arange(len(self)), _lengths(self.span_start))

    @property
    def peak_footprint(self) -> NDArray[np.int64]:
        """Footprint number of each peak, int64 (peaks)."""
        return np.repeat(np.arange(len(self)), self.peak_count)

    @property
    def pixel_footprint(self) -> NDArray[np.int64]:
        """Footprint number of each pixel, int64 (pixels), span after span."""
        return np.repeat(np.arange(len(self)), self.area)

    def pixels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of every pixel, span after span."""
        lengths = self.span_x1.astype(np.int64) - self.span_x0 + 1
        ends = np.cumsum(lengths)
        columns = np.arange(lengths.sum()) + np.repeat(self.span_x0 - (ends - lengths), lengths)
        return np.repeat(self.span_y.astype(np.int64), lengths), columns

    def label_image(self) -> NDArray[np.int32]:
        """Paint the footprints: 0 outside, footprint number + 1 inside; later footprints win overlaps."""
        from streamchar.kernels import paint_spans

        labels = np.zeros(self.shape, np.int32)
        numbers = (self.span_footprint + 1).astype(np.int32)
        paint_spans(labels, self.span_y, self.span_x0, self.span_x1, numbers)
        return labels

    def set_bits(self, mask: NDArray[np.int32], bits: int) -> None:
        """Set ``bits`` of ``mask`` (in place) on every pixel of every footprint."""
        from streamchar.kernels import or_spans

        or_spans(mask, self.span_y, self.span_x0, self.span_x1, bits)


def _lengths(start: Numbers) -> Numbers:
    result: Numbers = start[1:] - start[:-1]
    return result


def offsets(lengths: NDArray[np.integer[Any]]) -> Numbers:
    """Where each of some runs of elements begins, and the end of the last: int64 (n + 1)."""
    start = np.zeros(len(lengths) + 1, np.int64)
    lengths.cumsum(out=start[1:])
    return start


def members(start: Numbers, chosen: Numbers) -> tuple[Numbers, Numbers]:
    """Elements ``start[i]:start[i + 1]`` of the chosen i, one after the other, and where each begins."""
    length = _lengths(start)[chosen]
    begin = offsets(length)
    found = np.arange(begin[-1]) + (start[chosen] - begin[:-1]).repeat(length)
    return found, begin


def shares(sets: Sequence[Footprints], order: Numbers) -> NDArray[np.float32]:
    """Share of each pixel of the footprints with the numbers ``order``, when those of all sets are counted one after the other.

    Written in place: lists of all pixels' numbers or values would take more memory.
    """
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


def _sum_by_start(values: Numbers, start: Numbers) -> Numbers:
    total = offsets(values)
    result: Numbers = total[start[1:]] - total[start[:-1]]
    return result
