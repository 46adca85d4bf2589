"""Compact cosmic-ray hits: peaks that a spot of charge a pixel wide fits better than the PSF at its best place.

In good seeing a hit spread over two by two pixels passes every test of single pixels against their neighbours: a star between
four pixels has such a core, too. It is betrayed by the light that a star would have around it, in all directions at once.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.bright_peaks import BrightPeaks
from streamchar.frozen import frozen
from streamchar.image import Psf
from streamchar.kernels import cut_windows, window_bits

Array = NDArray[np.float64]
Pixels = NDArray[np.int64]

REACH = 2
"""Pixels on either side of a peak that are compared."""

PART = 1024
"""Pixels, about, along the side of the parts of the exposure for which the PSF is evaluated anew."""

PLACES = np.linspace(-0.5, 0.5, 5)
"""Places of the centre in the peak's pixel along either axis."""

_CENTRES = tuple(axis.ravel() for axis in np.meshgrid(PLACES, PLACES))
"""Places of the centre in the peak's pixel: x and y of each."""

ROUND_WIDTHS = ((0.35, 0.35), (0.5, 0.5), (0.65, 0.65))
LONG_WIDTHS = ((0.65, 0.3), (0.9, 0.4))
"""Standard deviations of spots along and across, pixels: charge diffuses by 0.1 to 0.4 pixels, from a short track."""

LONG_GAIN = 10.0
"""What long spots explain more than round ones, at most, to be worth the comparison."""

SPOT_ANGLES = np.arange(4) * (np.pi / 4.0)
"""Directions of those that are not round, radians."""

FINE = 5
"""Points in a pixel, along either axis, at which a spot is drawn."""

ADVANTAGE = 0.02
"""Least relative advantage of the spot in what it explains of the pixels' chi-square: an error of the PSF has less."""


@frozen
class SpotLimits:
    """Which peaks are spots.

    Attributes
    ----------
    improvement
        Least difference of chi-square between the best star and the best spot.
    width
        Width of the sharpest star in units of the PSF's.
    growth
        Least height of the pixels beside the peak that belong to the spot, in standard deviations of each.
    counts
        Least sum of a spot's pixels above the sky, image units.
    """

    improvement: float
    width: float
    growth: float
    counts: float


def find_spots(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    variance: NDArray[np.float32],
    psf: Psf,
    peaks: BrightPeaks,
    *,
    level: float,
    excluded: int,
    limits: SpotLimits,
) -> list[Pixels]:
    """Find peaks that are sharper than stars.

    Parameters
    ----------
    image, mask, variance
        Planes (height, width) of one exposure; not modified.
    psf
        Of the stars.
    peaks
        Peaks of the image that may be spots.
    level
        Sky level.
    excluded
        Peaks with any of these bits, a NaN, or the border within two pixels are left out.
    limits
        What a spot is.

    Returns
    -------
    list of ndarray of int64
        Pixels (y * width + x, ascending) of each spot; they do not touch excluded pixels.
    """
    y, x = peaks.y.astype(np.int64), peaks.x.astype(np.int64)
    if not len(y):
        return []
    height, width = image.shape
    data = cut_windows(image, x, y, REACH).astype(np.float64) - level
    rows, columns = (max(round(length / PART), 1) for length in image.shape)
    numbers, part = np.unique((y * rows // height) * columns + x * columns // width, return_inverse=True)
    row, column = np.divmod(numbers, columns)
    centre_x, centre_y = (column + 0.5) * width / columns - 0.5, (row + 0.5) * height / rows - 0.5
    stars = _stars(psf, centre_x, centre_y, limits.width)
    # Bright stars need no comparison: their light is spread as the PSF says.
    sharpest = np.array([_surroundings(models[: len(PLACES) ** 2]).min() for models in stars])
    compact = np.flatnonzero(_surroundings(data) < sharpest[part])
    weight = _inverse_variance(mask, variance, x[compact], y[compact], excluded)
    usable = ((weight >= 0) & np.isfinite(data[compact])).all(axis=1)
    compact, weight = compact[usable], weight[usable]
    y, x, part, data = y[compact], x[compact], part[compact], data[compact]
    chosen = np.zeros(len(y), np.bool_)
    for number in np.flatnonzero(np.bincount(part)):
        inside = part == number
        chosen[inside] = _sharper(data[inside], weight[inside], stars[number], limits.improvement)
    found = (
        _footprint(*peak, width=width, limits=limits)
        for peak in zip(y[chosen].tolist(), x[chosen].tolist(), data[chosen], weight[chosen], strict=True)
    )
    return [pixels for pixels in found if len(pixels)]


def _inverse_variance(
    mask: NDArray[np.int32], variance: NDArray[np.float32], x: Pixels, y: Pixels, excluded: int
) -> Array:
    """Of the pixels around peaks, (n, pixels); NaN where it is not known, and all around those near an excluded pixel."""
    spread = cut_windows(variance, x, y, REACH).astype(np.float64)
    near, _ = window_bits(mask, x, y, REACH)
    known = (spread > 0) & ((near & excluded) == 0)[:, None]
    return np.divide(1.0, spread, out=np.full_like(spread, np.nan), where=known)


def _sharper(data: Array, weight: Array, stars: Array, improvement: float) -> NDArray[np.bool_]:
    """Whether the best spot explains pixels so much better than the best star: bool (n)."""
    star, spot = (_explained(data, weight, models) for models in (stars, _spots(ROUND_WIDTHS)))
    nearly = spot > star - LONG_GAIN
    spot[nearly] = np.maximum(spot[nearly], _explained(data[nearly], weight[nearly], _spots(LONG_WIDTHS)))
    return np.asarray((spot - star > improvement) & (spot > (1.0 + ADVANTAGE) * star))


def _stars(psf: Psf, x: Array, y: Array, width: float) -> Array:
    """Images of stars near n positions, in all places of a pixel, as sharp as the PSF and sharper: (n, models, pixels)."""
    count = len(PLACES) ** 2
    column, row = (np.repeat(np.rint(centre), count) for centre in (x, y))
    dx, dy = (np.tile(places, len(x)) for places in _CENTRES)
    stamps = psf.images(column + dx, row + dy)
    images = np.pad(stamps.images, ((0, 0), (REACH, REACH), (REACH, REACH)))
    offset = np.arange(2 * REACH + 1)
    rows = (row.astype(np.int64) - stamps.y0)[:, None] + offset
    columns = (column.astype(np.int64) - stamps.x0)[:, None] + offset
    cut = images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
    models = np.maximum(cut.reshape(len(x), count, -1), 0.0)
    # A Gaussian's ratio to its maximum scales as a power.
    return np.concatenate([models, models ** (1.0 / width**2)], axis=1)


@cache
def _spots(widths: tuple[tuple[float, float], ...]) -> Array:
    """Images of spots in all places of a pixel, round or along four directions: (models, pixels)."""
    fine = (np.arange(-REACH * FINE - FINE // 2, REACH * FINE + FINE // 2 + 1)) / FINE
    dx, dy = (places[:, None, None] for places in _CENTRES)
    u, v = fine - dx, fine[:, None] - dy
    models = []
    for long, short in widths:
        for angle in SPOT_ANGLES if long > short else SPOT_ANGLES[:1]:
            along = (u * np.cos(angle) + v * np.sin(angle)) / long
            across = (v * np.cos(angle) - u * np.sin(angle)) / short
            light = np.exp(-0.5 * (along**2 + across**2))
            pixels = light.reshape(len(light), 2 * REACH + 1, FINE, 2 * REACH + 1, FINE).sum(axis=(2, 4))
            models.append(pixels.reshape(len(light), -1))
    return np.concatenate(models)


def _surroundings(images: Array) -> Array:
    """Light of the outermost pixels over that of the inner ones."""
    side = 2 * REACH + 1
    inner = images.reshape(-1, side, side)[:, 1:-1, 1:-1].sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        return np.asarray((images.sum(axis=1) - inner) / np.maximum(inner, 1e-30))


def _explained(data: Array, weight: Array, models: Array) -> Array:
    """What the best of the models, at its best brightness, takes from the chi-square of each (n)."""
    if len(data) == 0:
        return np.empty(0)
    # Half as many bytes: what the few bright peaks lose is a millionth.
    single = models.T.astype(np.float32)
    amplitude = np.maximum((data * weight).astype(np.float32) @ single, 0.0)
    amplitude *= amplitude
    amplitude /= weight.astype(np.float32) @ single**2
    return np.asarray(amplitude.max(axis=1), np.float64)


def _footprint(y: int, x: int, data: Array, weight: Array, *, width: int, limits: SpotLimits) -> Pixels:
    """Pixels around a peak that are bright and connected with it; none when their light is too little."""
    side = 2 * REACH + 1
    bright = (data * np.sqrt(weight) > limits.growth).reshape(side, side)
    bright[REACH, REACH] = True
    connected = _connected(bright)
    if data.reshape(side, side)[connected].sum() < limits.counts:
        return np.empty(0, np.int64)
    rows, columns = np.nonzero(connected)
    return np.asarray((y - REACH + rows) * width + x - REACH + columns, np.int64)


def _connected(bright: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels that are connected with the middle one, which is bright, by sides or corners: bool (side, side)."""
    # With a ring of False around them, so that steps to neighbours need no care at the border.
    found = np.zeros((len(bright) + 2, len(bright) + 2), np.bool_)
    found[REACH + 1, REACH + 1] = True
    inside = found[1:-1, 1:-1]
    while True:
        rows = found[:-2] | found[1:-1] | found[2:]
        grown = (rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]) & bright
        if (grown == inside).all():
            return grown
        inside[:] = grown
