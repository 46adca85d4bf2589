"""Finding lines of light across a whole image, before sources and PSF are known.

Pixels are limited to a standard deviation and averaged in blocks, so that stars count little; the sums along all lines
come from the fast discrete Radon transform (Götz & Druckmüller 1996; Brady 1998; for streaks Nir, Zackay & Ofek 2018, AJ 156,
229). A promising line is then judged on its own pixels: medians of short segments along it, at every distance from it, leave
nothing of stars, and a streak must show in most segments.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.statistics import quartiles
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.kernels import block_means, line_scores, line_sums, smooth
from streamchar.robust import scatter

Array = NDArray[np.float64]
Plane = NDArray[np.float32]
Mask = NDArray[np.int32]

GAUSSIAN_IQR = 0.7413
"""Standard deviation of a Gaussian over its interquartile range."""

PIXEL_LIMIT, BLOCK_LIMIT = 1.0, 1.5
"""Standard deviations to which pixels and blocks are limited: so low because stars, not noise, hide faint streaks. In a dense field
the sums of a streak stand out twice as much as with limits of 3, in a sparse one a quarter more."""

MIN_BLOCKS, SMALLEST_BLOCK = 512, 4
"""Blocks along the longer side of the image below which they are made smaller, and the side in pixels below which they are not: streaks
are as wide, so that smaller blocks show nothing more of them, and directions are told apart by the number of blocks along a side."""

SMOOTHING = 17
"""Side in blocks of the box whose mean is the background of a block."""

HALF_WIDTH = 44
"""Half width in pixels of the strip on which a candidate is judged."""

SEGMENTS = 64
"""Segments that a line is cut into, at most."""

SHORTEST_SEGMENT = 16
"""Pixels."""

PROFILE_POWER = 2.5
"""Exponent of the cross profile (1 + d²/σ²)^-2.5 (reference: deblend-and-streaks.md section 2.2 step 5)."""

LOWEST_LIMIT = 4.0
"""Standard deviations to which the segments are limited at first when a line is placed, against stars."""

PLACE_ROUNDS = 20
"""Times that limit may rise."""

FIT_ROUNDS = 12
"""Gauss-Newton steps, enough for a relative change of 1e-6 from a start within the streak."""


class LineSearchConfig(Configuration):
    """Which lines are streaks."""

    block_size: int = Field(default=8, ge=1, le=64)
    """Pixels along the side of a block; halved, but not below 4, until the image has at least 512 blocks along its longer side."""
    significance: float = Field(default=6.0, gt=0)
    """Smallest sum along a line, in standard deviations of all sums, to be looked at."""
    min_length: int = Field(default=200, ge=64)
    """Shortest line inside the image, pixels."""
    min_visible: float = Field(default=0.7, gt=0, le=1)
    """Smallest fraction of the line's segments that show the streak."""
    min_signal_to_noise: float = Field(default=8.0, gt=0)
    """Smallest brightness in units of its error."""
    max_width: float = Field(default=15.0, gt=0)
    """Largest width of the cross profile, pixels."""
    max_streaks: int = Field(default=16, ge=0)
    """Streaks to find at most."""
    max_rejected: int = Field(default=12, ge=0)
    """Candidates that may fail before the search ends."""


@frozen
class Line:
    """A straight line with its cross profile, in the coordinates that suit its direction.

    Along the longer axis t runs from 0 to the image's length - 1, and the other coordinate is ``start + slope t``.

    Attributes
    ----------
    steep
        Whether t is y (else x).
    start, slope
        Pixels, and pixels per pixel between -1 and 1.
    width
        σ of the profile F (1 + d²/σ²)^-2.5 over the distance d, pixels.
    brightness
        F, image units.
    error
        Of F, image units.
    """

    steep: bool
    start: float
    slope: float
    width: float = 0.0
    brightness: float = 0.0
    error: float = np.inf

    @property
    def cosine(self) -> float:
        """Distance from the line over the difference of the coordinate."""
        return float(1.0 / np.hypot(1.0, self.slope))

    def at(self, t: Array) -> Array:
        """Coordinate across at t."""
        return np.asarray(self.start + self.slope * t)


@frozen
class Strip:
    """The pixels beside a line.

    Attributes
    ----------
    t
        int64 (n): positions along the line for which it is inside the image.
    first
        int64 (n): coordinate across of the first pixel of each row of ``values``.
    values
        float32 (n, 2 half + 1): pixels, NaN where unusable or outside the image.
    distance
        float32 (n, 2 half + 1): signed distances from the line, pixels.
    crossed
        Rows of ``values`` whose pixel on the line itself is inside the image; beyond them only the light beside it is.
    """

    t: NDArray[np.int64]
    first: NDArray[np.int64]
    values: Plane
    distance: Plane
    crossed: slice

    def within(self) -> Strip:
        """The rows that the line itself crosses inside the image."""
        rows = self.crossed
        crossed = slice(0, rows.stop - rows.start)
        return Strip(self.t[rows], self.first[rows], self.values[rows], self.distance[rows], crossed)


def find_lines(
    image: Plane, mask: Mask, bad_bits: int, config: LineSearchConfig | None = None
) -> tuple[Line, ...]:
    """Find streaks that cross the image, the most conspicuous first.

    Parameters
    ----------
    image
        float32 (height, width), background subtracted; not modified. NaN pixels are left out.
    mask
        int32 (height, width).
    bad_bits
        Pixels with any of these bits are left out.
    config
        What counts as a streak.

    Returns
    -------
    tuple of Line
        With fitted profiles; empty for an image without noise or too small for a line.
    """
    config = config or LineSearchConfig()
    level = quartiles(image[:: max(1, image.shape[0] // 64)], mask[:: max(1, image.shape[0] // 64)], bad_bits)
    noise = GAUSSIAN_IQR * level.interquartile_range
    if not noise > 0 or max(image.shape) < config.min_length:
        return ()
    blocks = _Blocks.of(image, mask, bad_bits, level.median, noise, config)
    found: list[Line] = []
    rejected: list[tuple[int, int, int]] = []
    while len(found) < config.max_streaks and len(rejected) <= config.max_rejected:
        candidate = blocks.best(rejected)
        if candidate is None:
            break
        line = judge(image, mask, bad_bits, blocks.line(*candidate), 2 * blocks.size, config)
        if line is None:
            rejected.append(candidate)
            continue
        found.append(line)
        blocks.erase(line, reach(line, 0.05 * noise))
    return tuple(found)


def reach(line: Line, level: float) -> float:
    """Distance at which the profile has fallen to ``level`` image units, pixels."""
    ratio = max(line.brightness / level, 1.0)
    return float(line.width * np.sqrt(ratio ** (1.0 / PROFILE_POWER) - 1.0))


class _Blocks:
    """The limited, averaged image, and the sums along its lines."""

    def __init__(
        self, values: NDArray[np.int16], used: NDArray[np.int16], size: int, config: LineSearchConfig
    ):
        self.values = values
        self.used = used
        self.size = size
        self.threshold = config.significance
        self.counts = _counts(used)
        self.shortest = [_rows_crossed(config.min_length / size, len(counts)) for counts in self.counts]

    @classmethod
    def of(
        cls,
        image: Plane,
        mask: Mask,
        bad_bits: int,
        level: float,
        noise: float,
        config: LineSearchConfig,
    ) -> _Blocks:
        size = config.block_size
        while size > SMALLEST_BLOCK and max(image.shape) // size < MIN_BLOCKS:
            size = max(size // 2, SMALLEST_BLOCK)
        low, high = level - PIXEL_LIMIT * noise, level + PIXEL_LIMIT * noise
        mean, count = block_means(image, mask, bad_bits, size, low, high)
        used = count > 0
        mean -= np.float32(level)
        if used.all():
            mean -= _running_mean(mean)
        else:
            mean *= used
            mean -= _running_mean(mean) / np.maximum(_running_mean(used.astype(np.float32)), 1e-3) * used
        # Where few pixels are usable the mean is noisier: weight by the square root of their number.
        mean *= np.sqrt(count.astype(np.float32)) * np.float32(1.0 / size)
        scatter = GAUSSIAN_IQR * quartiles(mean).interquartile_range
        rows = 1 << (max(mean.shape) - 1).bit_length()
        steps = min(64, np.iinfo(np.int16).max // rows)
        mean *= np.float32(steps / (BLOCK_LIMIT * scatter)) if scatter > 0 else np.float32(0.0)
        np.clip(np.rint(mean, out=mean), -steps, steps, out=mean)
        return cls(mean.astype(np.int16), used.astype(np.int16), size, config)

    def best(self, rejected: list[tuple[int, int, int]]) -> tuple[int, int, int] | None:
        """View, shift and column of the most significant line that is not close to a rejected one."""
        scores = [
            line_scores(line_sums(view), counts, shortest)
            for view, counts, shortest in zip(_views(self.values), self.counts, self.shortest, strict=True)
        ]
        scatter = _scatter(scores)
        if not scatter > 0:
            return None
        for number, shift, column in rejected:
            scores[number][max(shift - 6, 0) : shift + 7, max(column - 6, 0) : column + 7] = 0.0
        best = int(np.argmax([score.max() for score in scores]))
        if scores[best].max() < self.threshold * scatter:
            return None
        shift, column = divmod(int(scores[best].argmax()), scores[best].shape[1])
        return best, shift, column

    def line(self, view: int, shift: int, column: int) -> Line:
        """The line of an element of a view's sums, in pixels of the image."""
        steep, mirrored = view < 2, view % 2 == 1
        rows = self.counts[view].shape[0]
        columns = self.values.shape[1] if steep else self.values.shape[0]
        start, slope = float(column - rows + 1), shift / max(rows - 1, 1)
        if mirrored:
            start, slope = columns - 1 - start, -slope
        centre = 0.5 * (self.size - 1)
        return Line(steep, start * self.size + centre - slope * centre, slope)

    def erase(self, line: Line, distance: float) -> None:
        """Leave the blocks out that a line lights up."""
        centre = 0.5 * (self.size - 1)
        y, x = (np.arange(n, dtype=np.float64) * self.size + centre for n in self.values.shape)
        along, across = (y[:, None], x) if line.steep else (x, y[:, None])
        lit = np.abs(across - line.at(along)) * line.cosine < distance + self.size
        self.values[lit] = 0
        self.used[lit] = 0
        self.counts = _counts(self.used)


def _running_mean(plane: Plane) -> Plane:
    """Means of squares of SMOOTHING pixels, the plane being mirrored at its borders."""
    half = SMOOTHING // 2
    means = np.empty_like(plane)
    smooth(np.pad(plane, half, mode="symmetric"), np.full(half + 1, 1.0 / SMOOTHING, np.float32), means)
    return means


def _views(plane: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    """The four planes in which every line goes down by rows and to the right by at most a column per row."""
    across = np.ascontiguousarray(plane.T)
    return [plane, np.ascontiguousarray(plane[:, ::-1]), across, np.ascontiguousarray(across[:, ::-1])]


def _counts(used: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    """Used blocks on every line of the four views."""
    if used.all():  # the plane is its own mirror image
        down, across = line_sums(used), line_sums(np.ascontiguousarray(used.T))
        return [down, down, across, across]
    return [line_sums(view) for view in _views(used)]


def _rows_crossed(length: float, rows: int) -> Plane:
    """How many rows a line of a length crosses that shifts by 0, 1, ... rows - 1 columns along all of them: float32 (rows)."""
    slope = np.arange(rows) / max(rows - 1, 1)
    return (length / np.sqrt(1.0 + slope**2)).astype(np.float32)


def _scatter(scores: list[Plane]) -> float:
    sample = np.concatenate([score[::8, ::8].ravel() for score in scores])
    sample = sample[sample != 0]
    return GAUSSIAN_IQR * quartiles(sample).interquartile_range if len(sample) else 0.0


def take_strip(
    image: Plane, mask: Mask, bad_bits: int, line: Line, half: int, *, beyond: float = 0.0
) -> Strip:
    """Gather the pixels within ``half`` pixels of a line, across the longer axis.

    Rows are those where the line is inside the image or at most ``beyond`` pixels (across) outside it.
    """
    plane, bits = (image, mask) if line.steep else (image.T, mask.T)
    length, width = plane.shape
    t = np.arange(length)
    centre = line.at(t.astype(np.float64))
    near = (centre > -0.5 - beyond) & (centre < width - 0.5 + beyond)
    t, centre = t[near], centre[near]
    # The line is straight: it is inside the image in one run of rows.
    inside = np.flatnonzero((centre > -0.5) & (centre < width - 0.5))
    crossed = slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)
    first = np.floor(centre + 0.5).astype(np.int64) - half
    across = first[:, None] + np.arange(2 * half + 1)
    column = np.clip(across, 0, width - 1)
    values = plane[t[:, None], column]
    unusable = (bits[t[:, None], column] & bad_bits) != 0
    values[unusable | (across != column)] = np.nan
    distance = ((across - centre[:, None]) * line.cosine).astype(np.float32)
    return Strip(t, first, values, distance, crossed)


@frozen
class _Table:
    """Medians of segments along a line.

    ``median`` (segments, columns), NaN where too few pixels are usable; ``t`` (segments) middle of each; ``distance`` (segments,
    columns) mean distance; ``noise`` standard deviation of a median.
    """

    median: Array
    t: Array
    distance: Array
    noise: float


def judge(
    image: Plane, mask: Mask, bad_bits: int, line: Line, search: int, config: LineSearchConfig
) -> Line | None:
    """Place a line exactly and fit its profile; ``None`` when it is no streak.

    Parameters
    ----------
    image, mask, bad_bits
        As in :func:`find_lines`.
    line
        Start, with an error of at most ``search`` pixels at either end.
    search
        Pixels.
    config
        What counts as a streak.
    """
    strip = take_strip(image, mask, bad_bits, line, HALF_WIDTH)
    if len(strip.t) < config.min_length * line.cosine:
        return None
    table = _tabulate(strip)
    if table is None:
        return None
    moved = _place(table, line, search)
    # Cut the segments along the corrected line: along a wrong slope they blur the profile.
    table = _tabulate(take_strip(image, mask, bad_bits, moved, HALF_WIDTH))
    fitted = None if table is None else _fit(table, moved, config.max_width)
    if fitted is None:
        return None
    table = _tabulate(take_strip(image, mask, bad_bits, fitted, HALF_WIDTH))
    return fitted if table is not None and _is_streak(table, fitted, config) else None


def _tabulate(strip: Strip) -> _Table | None:
    length = max(len(strip.t) // SEGMENTS, SHORTEST_SEGMENT)
    segments = len(strip.t) // length
    if segments < 4:
        return None
    used = segments * length
    shape = (segments, length, -1)
    values = np.sort(strip.values[:used].reshape(shape), axis=1)
    count = np.isfinite(values).sum(axis=1)
    middle = np.take_along_axis(values, np.maximum(count - 1, 0)[:, None] // 2, axis=1)[:, 0]
    median = np.where(2 * count >= length, middle, np.nan).astype(np.float64)
    known = np.isfinite(median).sum(axis=1) > median.shape[1] // 2
    if known.sum() < 4:
        return None
    median[~known] = np.nan
    median[known] -= np.nanmedian(median[known], axis=1)[:, None]
    low, high = np.nanpercentile(median[known], (25, 75))
    noise = GAUSSIAN_IQR * float(high - low)
    if not noise > 0:
        return None
    t = strip.t[:used].reshape(segments, length).mean(axis=1)
    distance = strip.distance[:used].reshape(shape).mean(axis=1, dtype=np.float64)
    return _Table(median[known], t[known], distance[known], noise)


def _place(table: _Table, line: Line, search: int) -> Line:
    """Shift both ends of a line to where the medians along it are greatest, to a pixel."""
    box = 5
    known = np.isfinite(table.median)
    sums = _box_sum(np.where(known, table.median, 0.0), box)
    signal = sums / (table.noise * np.sqrt(np.maximum(_box_sum(known.astype(float), box), 1.0)))
    shifts = np.arange(-search, search + 1)
    begin, end = (grid.ravel() for grid in np.meshgrid(shifts, shifts, indexing="ij"))
    span = table.t[-1] - table.t[0]
    part = (table.t - table.t[0]) / span
    column = HALF_WIDTH + np.rint(begin[:, None] + (end - begin)[:, None] * part).astype(np.int64)
    beside = np.take_along_axis(signal.T, column, axis=0)
    limit, best = LOWEST_LIMIT, -1
    for _ in range(PLACE_ROUNDS):
        # Where all of a bright streak exceeds the limit its middle is found with a higher one.
        previous, best = best, int(np.clip(beside, -limit, limit).sum(axis=1).argmax())
        if best == previous:
            break
        limit = max(limit, 1.5 * float(np.median(beside[best])))
    slope = float((end[best] - begin[best]) / span)
    start = float(line.start + begin[best] - slope * table.t[0])
    return replace(line, start=start, slope=_at_most_one(line.slope + slope))


def _at_most_one(slope: float) -> float:
    return float(np.clip(slope, -1.05, 1.05))


def _box_sum(values: Array, box: int) -> Array:
    total = np.cumsum(np.pad(values, ((0, 0), (box // 2 + 1, box // 2))), axis=1)
    return np.asarray(total[:, box:] - total[:, :-box])


def _fit(table: _Table, line: Line, max_width: float) -> Line | None:
    """Fit position, direction, width and brightness of the profile to the segments' medians, robustly."""
    known = np.isfinite(table.median)
    values, distance = table.median[known], table.distance[known]
    middle = 0.5 * (table.t[0] + table.t[-1])
    half = 0.5 * (table.t[-1] - table.t[0])
    place = np.broadcast_to(((table.t - middle) / half)[:, None], table.median.shape)[known]
    shift, tilt = 0.0, 0.0
    width = _first_width(table)
    step = np.zeros(5)
    covariance = np.full((5, 5), np.inf)
    for _ in range(FIT_ROUNDS):
        offset = distance - shift - tilt * place
        scaled = 1.0 + (offset / width) ** 2
        profile = scaled**-PROFILE_POWER
        near = np.abs(offset) < max(5.0 * width, 6.0)
        amplitude = _amplitude(values[near], profile[near])
        gradient = amplitude * 2.0 * PROFILE_POWER * scaled ** (-PROFILE_POWER - 1.0) * offset / width**2
        design = np.stack(
            [profile, np.ones_like(profile), gradient, gradient * place, gradient * offset / width], axis=1
        )[near]
        residual = values[near] - amplitude * profile[near]
        spread = max(table.noise, float(scatter(residual)))
        weight = 1.0 / (1.0 + (residual / (3.0 * spread)) ** 2)
        normal = design.T @ (design * weight[:, None])
        if not np.linalg.cond(normal) < 1e14:
            return None
        covariance = np.linalg.inv(normal)
        step = covariance @ (design.T @ (residual * weight))
        shift += float(np.clip(step[2], -3.0, 3.0))
        tilt += float(np.clip(step[3], -3.0, 3.0))
        width = float(np.clip(width + np.clip(step[4], -0.3 * width, 0.5 * width), 0.3, 2.0 * max_width))
    amplitude += step[0]
    if not amplitude > 0 or abs(shift) > HALF_WIDTH / 2 or abs(tilt) > HALF_WIDTH / 2:
        return None
    slope = float(tilt / half / line.cosine)
    start = float(line.start + shift / line.cosine - slope * middle)
    error = table.noise * float(np.sqrt(covariance[0, 0]))
    return Line(line.steep, start, _at_most_one(line.slope + slope), width, float(amplitude), error)


def _amplitude(values: Array, profile: Array) -> float:
    """Brightness and constant by least squares; the brightness."""
    mean = profile.mean()
    return float(((profile - mean) @ values) / max(((profile - mean) ** 2).sum(), 1e-12))


def _first_width(table: _Table) -> float:
    """σ from the half width of the median profile about the line."""
    # Along the border there are no pixels on one side.
    known = np.isfinite(table.median).any(axis=0)
    profile = np.zeros(table.median.shape[1])
    profile[known] = np.nanmedian(table.median[:, known], axis=0)
    profile[known] -= np.median(profile[known])
    near = profile[HALF_WIDTH - 3 : HALF_WIDTH + 4].max()
    lit = profile > 0.5 * near
    right = int(np.argmin(lit[HALF_WIDTH:]))
    left = int(np.argmin(lit[HALF_WIDTH::-1]))
    return float(np.clip((right + left) / 1.13, 1.0, 10.0))


def _is_streak(table: _Table, line: Line, config: LineSearchConfig) -> bool:
    near = np.abs(table.distance) < max(0.8 * line.width, 0.75)
    known = np.isfinite(table.median)
    sides = [
        known & (side * table.distance > 3.0 * line.width) & (side * table.distance < 3.0 * line.width + 12.0)
        for side in (-1, 1)
    ]
    inside = known & near
    level = [_row_means(table.median, where) for where in (inside, *sides)]
    usable = np.isfinite(level[0]) & np.isfinite(level[1]) & np.isfinite(level[2])
    if usable.sum() < 4:
        return False
    core, left, right = (values[usable] for values in level)
    contrast = min(float(np.median(core - left)), float(np.median(core - right)))
    visible = float((core - 0.5 * (left + right) > 0.2 * line.brightness).mean())
    # Detector columns and rows are narrower than any PSF and exactly along an axis.
    along_axis = abs(line.slope) * (table.t[-1] - table.t[0]) < 3.0 and line.width < 1.3
    return (
        line.brightness > config.min_signal_to_noise * line.error
        and 0.6 < line.width < config.max_width
        and contrast > 0.3 * line.brightness
        and visible >= config.min_visible
        and not along_axis
    )


def _row_means(values: Array, where: NDArray[np.bool_]) -> Array:
    count = where.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(where, values, 0.0).sum(axis=1) / count)
