"""Interpolating over defective pixels, row by row (reference: repair.md section 5).

Each run of bad pixels in a row is predicted from at most two good pixels on either side, by noise-free
ordinary kriging with the covariance exp(−d²/4) of a Gaussian point-spread function of one pixel sigma.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize import statistics
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure

FallbackType = Literal["mean", "median", "meanclip", "user"]
Plane = NDArray[np.float32]
Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]

EDGE_RUN = 6
"""Pixels of a longer run at the image edge that are interpolated; the others get the fallback value."""

_SIDES = np.array([-2, -1, 1, 2])
"""Good pixels of a run: second and first to the left, first and second to the right."""


class InterpolateConfig(Configuration):
    """How defective pixels are interpolated."""

    use_fallback_value_at_edge: bool = True
    """Long runs at the image edge taper to the fallback value."""

    fallback_value_type: FallbackType = "meanclip"
    """Statistic of the whole plane that is the fallback value, or the user's value."""

    fallback_user_value: float = 0.0
    """Fallback value of type user."""

    negative_fallback_allowed: bool = True
    """Keep a negative fallback value instead of zero."""

    transpose: bool = False
    """Interpolate along columns instead of rows."""


def kriging_weights(good: NDArray[np.float64], bad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the good pixels in the prediction of each bad one: float64 (bad, good), rows of unit sum.

    Parameters
    ----------
    good, bad
        float64 (g), (b): positions along a line in pixels, g at least 1.
    """
    n = len(good)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = _covariance(good[:, None] - good)
    system[n, n] = 0.0
    right = np.ones((n + 1, len(bad)))
    right[:n] = _covariance(good[:, None] - bad)
    return np.asarray(np.linalg.solve(system, right)[:n].T, np.float64)


def _covariance(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.25 * distance**2), np.float64)


def defect_pixels(shape: tuple[int, int], boxes: NDArray[np.integer]) -> Bools:
    """Paint boxes (n, 4) of x0, y0, x1, y1 (inclusive), clipped to the image: bool of ``shape``."""
    bad = np.zeros(shape, bool)
    for x0, y0, x1, y1 in np.asarray(boxes, np.int64).reshape(-1, 4):
        bad[max(y0, 0) : max(y1 + 1, 0), max(x0, 0) : max(x1 + 1, 0)] = True
    return bad


def interpolate_defects(exposure: Exposure, bad: Bools, config: InterpolateConfig) -> int:
    """Replace the bad pixels of image and variance with the same weights, and set INTRP on them.

    A row without any good pixel gets the fallback value. Where a prediction is NaN, because a good pixel
    is, the mean of the two nearest good pixels stands in. One deviation from the reference: no pattern
    clamps negative results.

    Parameters
    ----------
    exposure
        All three planes are modified, in place.
    bad
        bool of the exposure's shape.
    config
        Direction and fallback value.

    Returns
    -------
    int
        Number of bad pixels.
    """
    if not bad.any():
        return 0
    oriented = np.ascontiguousarray(bad.T) if config.transpose else bad
    runs = _find_runs(oriented)
    for plane in (exposure.image, exposure.variance):
        fallback = _fallback(plane, config)
        _interpolate_plane(plane.T if config.transpose else plane, oriented, runs, fallback, config)
    exposure.planes = exposure.planes.including("INTRP")
    exposure.set_plane("INTRP", bad)
    return int(bad.sum())


@frozen
class _Runs:
    """Runs of bad pixels: row, first column, number of pixels, each an array."""

    y: Indices
    first: Indices
    length: Indices

    def __getitem__(self, chosen: Bools) -> _Runs:
        return _Runs(self.y[chosen], self.first[chosen], self.length[chosen])


def _find_runs(bad: Bools) -> _Runs:
    rows = np.flatnonzero(bad.any(axis=1))
    edges = np.diff(np.pad(bad[rows], ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(edges == 1)
    _, end = np.nonzero(edges == -1)
    return _Runs(rows[row], first, end - first)


def _fallback(plane: Plane, config: InterpolateConfig) -> float:
    value = {
        "mean": lambda: statistics.moments(plane).mean,
        "median": lambda: statistics.median(plane),
        "meanclip": lambda: statistics.clipped(plane).mean,
        "user": lambda: config.fallback_user_value,
    }[config.fallback_value_type]()
    return value if config.negative_fallback_allowed else max(value, 0.0)


def _interpolate_plane(
    plane: Plane, bad: Bools, runs: _Runs, fallback: float, config: InterpolateConfig
) -> None:
    width = plane.shape[1]
    at_left, at_right = runs.first == 0, runs.first + runs.length == width
    whole = at_left & at_right
    for y in runs.y[whole]:
        plane[y] = fallback
    rest = runs[~whole]
    usable = _usable_sides(bad, rest)
    if config.use_fallback_value_at_edge:
        rest, usable = _taper(plane, rest, usable, fallback)
    # Runs of one length with the same good pixels share their weights.
    key = rest.length * 16 + usable @ np.array([1, 2, 4, 8])
    for pattern in np.unique(key):
        chosen = key == pattern
        _predict(plane, rest[chosen], usable[np.argmax(chosen)])


def _usable_sides(bad: Bools, runs: _Runs) -> Bools:
    """Say which of the pixels at ``_SIDES`` are inside the image and good: bool (runs, 4)."""
    columns = _side_columns(runs)
    inside = (columns >= 0) & (columns < bad.shape[1])
    good = inside & ~bad[runs.y[:, None], np.clip(columns, 0, bad.shape[1] - 1)]
    # Beyond a nearer bad pixel there is none to speak of: a run ends at a good pixel or at the edge.
    good[:, 0] &= good[:, 1]
    good[:, 3] &= good[:, 2]
    return np.asarray(good)


def _side_columns(runs: _Runs) -> Indices:
    last = runs.first + runs.length - 1
    return np.asarray(np.where(_SIDES < 0, runs.first[:, None], last[:, None]) + _SIDES)


def _taper(plane: Plane, runs: _Runs, usable: Bools, fallback: float) -> tuple[_Runs, Bools]:
    """Fill all but the inner pixels of long runs at the edge; what remains reaches to the image."""
    first, length, usable = runs.first.copy(), runs.length.copy(), usable.copy()
    width = plane.shape[1]
    for k in np.flatnonzero(runs.length > EDGE_RUN):
        filled = int(runs.length[k]) - EDGE_RUN
        if runs.first[k] == 0:
            plane[runs.y[k], :filled] = fallback
            first[k], length[k] = filled, EDGE_RUN
            usable[k, :2] = filled >= 2, True
        elif runs.first[k] + runs.length[k] == width:
            plane[runs.y[k], width - filled :] = fallback
            length[k] = EDGE_RUN
            usable[k, 2:] = True, filled >= 2
    return _Runs(runs.y, first, length), usable


def _predict(plane: Plane, runs: _Runs, usable: Bools) -> None:
    """Predict runs of one length and one pattern of good pixels."""
    length = int(runs.length[0])
    positions = np.where(_SIDES < 0, 0, length - 1) + _SIDES
    weights = kriging_weights(positions[usable].astype(np.float64), np.arange(length, dtype=np.float64))
    rows = runs.y[:, None]
    good = plane[rows, _side_columns(runs)[:, usable]].astype(np.float64)
    predicted = good @ weights.T
    nearest = np.isin(_SIDES[usable], (-1, 1))
    stand_in = np.broadcast_to(good[:, nearest].mean(axis=1, keepdims=True), predicted.shape)
    plane[rows, runs.first[:, None] + np.arange(length)] = np.where(np.isnan(predicted), stand_in, predicted)
