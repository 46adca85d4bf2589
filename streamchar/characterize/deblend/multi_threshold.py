"""Multi-threshold deblending by sep (Bertin & Arnouts 1996, section 6): the light choice, in which every pixel has one owner."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.deblend.result import Children
from streamchar.characterize.errors import DeblendingError
from streamchar.characterize.footprints import Footprints, offsets
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure

Numbers = NDArray[np.int64]
Labels = NDArray[np.int32]

GAP = 1
"""Pixels between footprints on the mosaic, so that they do not touch."""
PIXEL_STACK, SUB_OBJECTS = 300_000, 1024
"""What sep reserves at least: pixels, and branches of an object."""


class MultiThresholdConfig(Configuration):
    """Settings of sep's deblending, with its names and, where it has them, its defaults."""

    thresh: float = Field(default=5.0, gt=0)
    """Where branches begin, in standard deviations of a pixel: from lower ones on, in the wings of sources, noise parts."""
    minarea: int = Field(default=5, ge=1)
    """Pixels of a branch."""
    deblend_nthresh: int = Field(default=32, ge=1)
    """Thresholds between the first and the peak, equidistant in the logarithm."""
    deblend_cont: float = Field(default=0.005, ge=0, le=1)
    """Smallest part of the footprint's light that makes a branch a source."""


@frozen
class _Mosaic:
    """The pixels of footprints, each footprint apart from the others on one small plane.

    Attributes
    ----------
    shape
        Of the plane.
    y, x
        int64 (pixels): where each pixel lies on it, footprint after footprint, span after span.
    dy, dx
        int64 (footprints): what was added to rows and columns of the exposure.
    """

    shape: tuple[int, int]
    y: Numbers
    x: Numbers
    dy: Numbers
    dx: Numbers


def divide(exposure: Exposure, blends: Footprints, config: MultiThresholdConfig) -> Children:
    """Divide footprints where raising the threshold parts them.

    Parameters
    ----------
    exposure
        Pixels that are not finite take no part in the thresholds.
    blends
        Without shares.
    config
        Thresholds and the contrast of a source.

    Returns
    -------
    Children
        In the order of the footprints, the brightest peak first; every pixel has one owner: that of the branch it is in, or below the first
        threshold that of a neighbouring pixel. A child's peak is the brightest of the footprint's peaks in it; sep's, with its height
        over the noise of its pixel, when it has none.

    Raises
    ------
    DeblendingError
        When sep cannot divide them.
    """
    if not len(blends):
        return Children.plain(blends, np.zeros(0, np.int64))
    mosaic = _mosaic(blends)
    labels, branches = _extract(exposure, blends, mosaic, config)
    _grow(labels, mosaic)
    owner = blends.pixel_footprint
    count = len(branches) + 1  # a footprint without any branch is a source of label 0
    keys, child = np.unique(owner * count + labels[mosaic.y, mosaic.x], return_inverse=True)
    parent, branch = np.divmod(keys, count)
    children = _with_spans(blends, child, len(keys))
    row = blends.peak_footprint
    at_peaks = labels[blends.peak_y + mosaic.dy[row], blends.peak_x + mosaic.dx[row]]
    peaks = _brightest(blends, np.searchsorted(keys, row * count + at_peaks), len(keys))
    missing = np.flatnonzero(peaks < 0)
    found = _found_peaks(exposure, branches[branch[missing] - 1], mosaic, parent[missing])
    own: tuple[NDArray[Any], ...] = (
        blends.peak_x,
        blends.peak_y,
        blends.peak_value,
        blends.peak_significance,
    )
    x, y, value, significance = (
        _replaced(column[peaks], missing, new) for column, new in zip(own, found, strict=True)
    )
    children = children.with_peaks(x, y, value, np.arange(len(keys) + 1, dtype=np.int64), significance)
    order = np.lexsort((-value, parent))
    return Children.plain(children.select(order), parent[order])


def _replaced(values: NDArray[Any], where: Numbers, by: NDArray[Any]) -> NDArray[Any]:
    values[where] = by
    return values


def _mosaic(blends: Footprints) -> _Mosaic:
    """Put the boxes on shelves, the highest first."""
    x0, y0, x1, y1 = blends.boxes.astype(np.int64).T
    width, height = x1 - x0 + 1 + GAP, y1 - y0 + 1 + GAP
    side = max(int(width.max()), int(np.ceil(np.sqrt((width * height).sum()))))
    left, top = np.empty(len(blends), np.int64), np.empty(len(blends), np.int64)
    column = row = shelf = 0
    for i in np.argsort(-height, kind="stable").tolist():
        if column + width[i] > side:
            column, row, shelf = 0, row + shelf, 0
        left[i], top[i] = column, row
        column, shelf = column + int(width[i]), max(shelf, int(height[i]))
    dy, dx = top + GAP - y0, left + GAP - x0
    owner = blends.pixel_footprint
    rows, columns = blends.pixels()
    return _Mosaic((row + shelf + GAP, side + GAP), rows + dy[owner], columns + dx[owner], dy, dx)


def _extract(
    exposure: Exposure, blends: Footprints, mosaic: _Mosaic, config: MultiThresholdConfig
) -> tuple[Labels, NDArray[Any]]:
    """Number of the branch of every pixel of the mosaic, 0 for none, and sep's table of branches."""
    import sep

    pixels, cells = blends.pixels(), (mosaic.y, mosaic.x)
    data, noise = np.zeros(mosaic.shape, np.float32), np.ones(mosaic.shape, np.float32)
    unused = np.ones(mosaic.shape, np.bool_)
    values, variances = exposure.image[pixels], exposure.variance[pixels]
    usable = np.isfinite(values) & np.isfinite(variances) & (variances > 0)
    data[cells] = np.where(usable, values, 0.0)
    noise[cells] = np.sqrt(np.where(usable, variances, 1.0))
    unused[cells] = ~usable
    sep.set_extract_pixstack(max(PIXEL_STACK, len(values)))
    sep.set_sub_object_limit(max(SUB_OBJECTS, int(blends.area.max()) // config.minarea))
    try:
        branches, labels = sep.extract(
            data,
            config.thresh,
            err=noise,
            mask=unused,
            minarea=config.minarea,
            filter_type="conv",
            deblend_nthresh=config.deblend_nthresh,
            deblend_cont=config.deblend_cont,
            clean=False,
            segmentation_map=True,
        )
    except Exception as error:  # sep raises nothing more specific
        raise DeblendingError(footprints=len(blends), pixels=len(values), detail=str(error)) from error
    labels[mosaic.y[~usable], mosaic.x[~usable]] = 0
    inside = np.zeros(mosaic.shape, np.bool_)
    inside[cells] = True
    return np.where(inside, labels, 0).astype(np.int32), branches


def _grow(labels: Labels, mosaic: _Mosaic) -> None:
    """Give the pixels without a label that of a neighbour, ring after ring around those that have one."""
    width = labels.shape[1]
    flat, cells = labels.reshape(-1), mosaic.y * width + mosaic.x
    open_cells = np.zeros(flat.size, np.bool_)
    open_cells[cells] = flat[cells] == 0
    rim = cells[~open_cells[cells]]
    while len(rim):
        reached = []
        for step in (1, -1, width, -width, width + 1, width - 1, 1 - width, -1 - width):
            here = open_cells[rim + step]
            found = rim[here] + step
            flat[found] = flat[rim[here]]
            open_cells[found] = False
            reached.append(found)
        rim = np.concatenate(reached)


def _with_spans(blends: Footprints, child: Numbers, children: int) -> Footprints:
    """Footprints of the pixels of each child."""
    rows, columns = blends.pixels()
    order = np.argsort(child, kind="stable")
    child, rows, columns = child[order], rows[order], columns[order]
    begins = np.ones(len(child), np.bool_)
    begins[1:] = (np.diff(child) != 0) | (np.diff(rows) != 0) | (np.diff(columns) != 1)
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(child)) - 1
    start = offsets(np.bincount(child[first], minlength=children))
    y, x0, x1 = (values.astype(np.int32) for values in (rows[first], columns[first], columns[last]))
    return blends.with_spans(y, x0, x1, start)


def _brightest(blends: Footprints, child: Numbers, children: int) -> Numbers:
    """The brightest peak of the footprints in each child, -1 for none."""
    peaks = np.full(children, -1)
    order = np.argsort(blends.peak_value, kind="stable")
    peaks[child[order]] = order
    return peaks


def _found_peaks(
    exposure: Exposure, branches: NDArray[Any], mosaic: _Mosaic, parent: Numbers
) -> tuple[NDArray[Any], ...]:
    """Position, value and significance of sep's peaks."""
    x, y = branches["xcpeak"] - mosaic.dx[parent], branches["ycpeak"] - mosaic.dy[parent]
    noise = np.sqrt(exposure.variance[y, x].astype(np.float64))
    return x, y, branches["cpeak"], branches["cpeak"] / noise
