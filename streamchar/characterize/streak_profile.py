"""The cross profile of a streak, measured on its own pixels, and its subtraction.

The profile is no formula: it is the median of the pixels at every distance from the line, which stars under the streak do not
move, and it may change along the line. What the subtraction leaves is measured too, and added to the variance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.line_search import GAUSSIAN_IQR, Line, Strip, reach, take_strip
from streamchar.frozen import frozen
from streamchar.image import Exposure
from streamchar.kernels import group_quartiles

Array = NDArray[np.float64]
Plane = NDArray[np.float32]

LOWEST_LEVEL = 0.1
"""The profile ends where the fit falls below so many standard deviations of a pixel."""

SKY_WIDTH = 12.0
"""Width in pixels of the sky on either side that the profile stands on."""

BRIGHT = 3.0
"""Standard deviations of a pixel by which a streak must be brighter for every further section along it."""

SECTION_LENGTH, MAX_SECTIONS = 512, 8
"""Shortest section in pixels, and most of them."""

SHARPENED = 10.0
"""Brightness in standard deviations of a pixel above which the nodes' flattening is more than their noise."""

CLIP = 2.0
"""Standard deviations beyond which pixels do not count in the second medians."""

LEAST_COVERED = 0.25
"""Pixels of a node, as a fraction of the fullest node's, below which another section's value is taken: where a streak leaves the
image, one of its sides is missing."""

SMALLEST_EXCESS = 0.1
"""Excess of the residuals' variance, relative to the pixels', below which it is only an error of its measurement."""


@frozen
class CrossProfile:
    """The light of a streak over the distance from its line.

    Attributes
    ----------
    step
        Distance between two nodes, pixels.
    radius
        Distance beyond which there is no light, pixels.
    t
        float64 (sections): middle of the sections along the line.
    values
        float64 (sections, nodes): image units at distances -radius, -radius + step, ... radius.
    """

    step: float
    radius: float
    t: Array
    values: Array

    def at(self, t: Array, distance: Plane) -> Plane:
        """Light at positions t along (n) and distances (n, m) from the line: float32 (n, m), linear between nodes."""
        table = self._along(t).astype(np.float32)
        place = (distance + np.float32(self.radius)) * np.float32(1.0 / self.step)
        lit = (place >= 0) & (place <= table.shape[1] - 1)
        place = np.where(lit, place, np.float32(0.0))
        node = np.minimum(place.astype(np.int64), table.shape[1] - 2)
        rest = place - node.astype(np.float32)
        below = np.take_along_axis(table, node, axis=1)
        above = np.take_along_axis(table, node + 1, axis=1)
        return np.where(lit, below + rest * (above - below), np.float32(0.0))

    def _along(self, t: Array) -> Array:
        if len(self.t) == 1:
            return np.repeat(self.values, len(t), axis=0)
        section = np.clip(np.searchsorted(self.t, t) - 1, 0, len(self.t) - 2)
        part = np.clip((t - self.t[section]) / (self.t[section + 1] - self.t[section]), 0.0, 1.0)[:, None]
        return np.asarray(self.values[section] * (1.0 - part) + self.values[section + 1] * part)


def measure_profile(strip: Strip, line: Line, noise: float, max_radius: float) -> CrossProfile:
    """Measure the cross profile of a streak.

    Parameters
    ----------
    strip
        Pixels beside the line, at least ``SKY_WIDTH`` beyond the streak's light, in the rows that it crosses.
    line
        With its fitted profile.
    noise
        Standard deviation of a pixel without the streak.
    max_radius
        Where the profile ends at the latest, pixels.

    Returns
    -------
    CrossProfile
        One section for a faint or short streak. A node with few pixels in a section is that of the nearest section with enough,
        or else the one on the other side of the line; zero when there is none either.
    """
    contrast = line.brightness / noise
    step = 0.25 if contrast > BRIGHT else 0.5
    radius = step * np.ceil(min(max(reach(line, LOWEST_LEVEL * noise), 4.0), max_radius) / step)
    sections = int(np.clip(min(contrast / BRIGHT, len(strip.t) / SECTION_LENGTH), 1, MAX_SECTIONS))
    nodes = 2 * round(radius / step) + 1
    section = np.arange(len(strip.t)) * sections // len(strip.t)
    node = np.rint((strip.distance + radius) / step).astype(np.int64)
    # One more group holds the sky on both sides.
    sky = (np.abs(strip.distance) > radius + 1.0) & (np.abs(strip.distance) < radius + 1.0 + SKY_WIDTH)
    group = np.where((node >= 0) & (node < nodes), node, -1)
    group[sky] = nodes
    group = np.where(group >= 0, group + section[:, None] * (nodes + 1), -1)
    group = group.astype(np.int32).ravel()
    pixels = strip.values.ravel()
    quartiles, _ = group_quartiles(pixels, group, sections * (nodes + 1))
    # Stars lift the medians a little: once more without what stands out.
    spread = GAUSSIAN_IQR * (quartiles[:, 2] - quartiles[:, 0])
    with np.errstate(invalid="ignore"):
        outlier = np.abs(pixels - quartiles[group, 1]) > CLIP * spread[group]
    used = np.where(outlier | np.isnan(pixels), np.int32(-1), group)
    quartiles, counts = group_quartiles(pixels, used, len(quartiles))
    median, count = quartiles[:, 1].reshape(sections, nodes + 1), counts.reshape(sections, nodes + 1)
    covered = count >= max(LEAST_COVERED * float(count[:, :nodes].max()), 1.0)
    sky_level = np.nan_to_num(_from_nearest_section(median[:, nodes:], covered[:, nodes:]))
    values, covered = median[:, :nodes] - sky_level, covered[:, :nodes]
    for gap in np.flatnonzero(_has_gap(covered)):
        inside = (used >= gap * (nodes + 1)) & (used < gap * (nodes + 1) + nodes)
        total = np.bincount(used[inside] - gap * (nodes + 1), strip.distance.ravel()[inside], minlength=nodes)
        _close_gaps(values[gap], covered[gap], total / np.maximum(count[gap, :nodes], 1), radius)
    values = _from_nearest_section(values, covered)
    values = np.nan_to_num(np.where(np.isfinite(values), values, values[:, ::-1]))
    if contrast > SHARPENED:
        # Medians over a bin and lines between nodes flatten the profile by an eighth of its second difference.
        values[:, 1:-1] -= 0.125 * np.diff(values, 2, axis=1)
    middle = np.array([strip.t[section == i].mean() for i in range(sections)])
    return CrossProfile(step, float(radius), middle, values)


def _has_gap(covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether nodes between covered ones are not covered, for each section: those of a streak along the rows or columns."""
    between = np.maximum.accumulate(covered, axis=1)
    between &= np.maximum.accumulate(covered[:, ::-1], axis=1)[:, ::-1]
    return np.asarray((between & ~covered).any(axis=1))


def _close_gaps(values: Array, covered: NDArray[np.bool_], place: Array, radius: float) -> None:
    """Interpolate a section's profile (nodes) from where the pixels of its covered nodes are, in place."""
    from scipy.interpolate import PchipInterpolator

    known = np.flatnonzero(covered)
    if len(known) < 2:
        return
    span = slice(int(known[0]), int(known[-1]) + 1)
    nodes = np.linspace(-radius, radius, len(values))[span]
    nodes = np.clip(nodes, place[known[0]], place[known[-1]])
    values[span] = PchipInterpolator(place[known], values[known])(nodes)
    covered[span] = True


def _from_nearest_section(values: Array, covered: NDArray[np.bool_]) -> Array:
    """Replace what is not covered by the values of the nearest section (row) in which it is; NaN where there is none."""
    sections = np.arange(len(values))
    away = np.abs(sections[:, None] - sections)[:, :, None] + np.where(covered, 0, len(values))
    nearest = away.argmin(axis=1)
    return np.where(covered.any(axis=0), np.take_along_axis(values, nearest, axis=0), np.nan)


def subtract_line(
    exposure: Exposure, line: Line, bad_bits: int, noise: float, *, max_radius: float, max_excess: float
) -> NDArray[np.bool_]:
    """Subtract one streak from an exposure's image and add what is left of it to the variance, in place.

    Parameters
    ----------
    exposure
        Background subtracted.
    line
        The streak.
    bad_bits
        Pixels with any of these bits tell nothing about the profile; it is subtracted from them all the same.
    noise
        Standard deviation of a pixel without the streak, image units.
    max_radius
        Where the profile ends at the latest, pixels.
    max_excess
        Largest variance of the residuals, beyond that of the pixels and relative to it, with which pixels stay usable.

    Returns
    -------
    ndarray of bool (height, width)
        Where the residuals exceed that.
    """
    light = min(max(reach(line, LOWEST_LEVEL * noise), 4.0), max_radius)
    half = int(np.ceil((light + SKY_WIDTH + 2.0) / line.cosine))
    # Beside the border the light reaches into the image where the line itself does not.
    beyond = (light + 1.0) / line.cosine
    strip = take_strip(exposure.image, exposure.mask, bad_bits, line, half, beyond=beyond)
    profile = measure_profile(strip.within(), line, noise, max_radius)
    model = profile.at(strip.t.astype(np.float64), strip.distance)
    variance = take_strip(exposure.variance, exposure.mask, bad_bits, line, half, beyond=beyond).values
    excess = _excess(strip, model, variance, profile.radius)
    ring = np.rint(np.abs(strip.distance)).astype(np.int64)
    lit = ring < len(excess)
    ratio = np.where(lit, excess[np.minimum(ring, len(excess) - 1)], 0.0)
    core = np.zeros(exposure.shape, np.bool_)
    inside = _place(exposure.shape, strip, line)
    for plane, change in (
        (exposure.image, -model),
        (exposure.variance, (ratio * variance).astype(np.float32)),
    ):
        _add(plane, inside, line, np.nan_to_num(change))
    view = core if line.steep else core.T
    rows, columns, valid = inside
    masked = valid & (ratio > max_excess)
    view[np.broadcast_to(rows, columns.shape)[masked], columns[masked]] = True
    return core


def _excess(strip: Strip, model: Plane, variance: Plane, radius: float) -> Array:
    """Variance of the residuals beyond the pixels', relative to it, in rings a pixel wide around the line."""
    rings = int(radius) + 1
    ring = np.rint(np.abs(strip.distance)).astype(np.int64)
    sky = (strip.distance > radius + 1.0) | (strip.distance < -radius - 1.0)
    group = np.where(ring < rings, ring, -1)
    group[sky] = rings
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = np.asarray((strip.values - model) / np.sqrt(variance), np.float32)
    quartiles, count = group_quartiles(residual.ravel(), group.astype(np.int32).ravel(), rings + 1)
    scatter = (GAUSSIAN_IQR * (quartiles[:, 2] - quartiles[:, 0])) ** 2
    # Faint sources and correlated noise change the scatter of the sky too: what counts is what the streak adds.
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = scatter[:rings] / scatter[rings] - 1.0
    significant = excess > np.maximum(SMALLEST_EXCESS, 5.0 / np.sqrt(np.maximum(count[:rings], 1)))
    return np.where(np.isfinite(excess) & significant, excess, 0.0)


_Places = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]


def _place(shape: tuple[int, int], strip: Strip, line: Line) -> _Places:
    """Rows (n, 1) and columns (n, m) of a strip's pixels across the line, and which are inside the image."""
    width = shape[1] if line.steep else shape[0]
    columns = strip.first[:, None] + np.arange(strip.values.shape[1])
    return strip.t[:, None], columns, (columns >= 0) & (columns < width)


def _add(plane: Plane, places: _Places, line: Line, change: Plane) -> None:
    view = plane if line.steep else plane.T
    rows, columns, inside = places
    view[np.broadcast_to(rows, columns.shape)[inside], columns[inside]] += change[inside]
