"""Compact cosmic-ray hits: peaks that a spot of charge a pixel wide fits better than the PSF at its best place.

In good seeing a hit spread over two by two pixels passes every test of single pixels against their neighbours: a star between
four pixels has such a core, too. It is betrayed by the light that a star would have around it, in all directions at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamchar.image import Psf
from streamchar.kernels import bright_maxima

Array = NDArray[np.float64]
Pixels = NDArray[np.int64]

REACH = 2
"""Pixels on either side of a peak that are compared."""

PARTS = 4
"""Parts of the exposure along either axis for which the PSF is evaluated anew."""

PLACES = np.linspace(-0.5, 0.5, 5)
"""Places of the centre in the peak's pixel along either axis."""

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

LATTICE = 61
"""Rows and columns between the pixels whose median variance is taken as that of the sky."""


@dataclass(frozen=True, slots=True)
class SpotLimits:
    """Which peaks are spots.

    Attributes
    ----------
    height
        Least height of the peak above the sky, standard deviations of the sky.
    improvement
        Least difference of chi-square between the best star and the best spot.
    width
        Width of the sharpest star in units of the PSF's.
    growth
        Least height of the pixels beside the peak that belong to the spot, in standard deviations of each.
    counts
        Least sum of a spot's pixels above the sky, image units.
    """

    height: float
    improvement: float
    width: float
    growth: float
    counts: float


def find_spots(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    variance: NDArray[np.float32],
    psf: Psf,
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
    y, x, data, weight = _peaks(image, mask, variance, level, excluded, limits.height)
    if not len(y):
        return []
    height, width = image.shape
    part = (y * PARTS // height) * PARTS + x * PARTS // width
    spots, long_spots = _spots(ROUND_WIDTHS), _spots(LONG_WIDTHS)
    chosen = np.zeros(len(y), np.bool_)
    numbers = np.unique(part)
    row, column = np.divmod(numbers, PARTS)
    centre_x, centre_y = (column + 0.5) * width / PARTS - 0.5, (row + 0.5) * height / PARTS - 0.5
    for number, stars in zip(numbers, _stars(psf, centre_x, centre_y, limits.width), strict=True):
        inside = part == number
        compact = inside.copy()
        # Bright stars need no comparison: their light is spread as the PSF says.
        compact[inside] = _surroundings(data[inside]) < _surroundings(stars[: len(PLACES) ** 2]).min()
        star, spot = (_explained(data[compact], weight[compact], models) for models in (stars, spots))
        nearly = spot > star - LONG_GAIN
        long = np.flatnonzero(compact)[nearly]
        spot[nearly] = np.maximum(spot[nearly], _explained(data[long], weight[long], long_spots))
        chosen[compact] = (spot - star > limits.improvement) & (spot > (1.0 + ADVANTAGE) * star)
    found = (
        _footprint(*peak, width=width, limits=limits)
        for peak in zip(y[chosen].tolist(), x[chosen].tolist(), data[chosen], weight[chosen], strict=True)
    )
    return [pixels for pixels in found if len(pixels)]


def _peaks(
    image: NDArray[np.float32],
    mask: NDArray[np.int32],
    variance: NDArray[np.float32],
    level: float,
    excluded: int,
    height: float,
) -> tuple[Pixels, Pixels, Array, Array]:
    """Places of peaks (n), and the pixels around them above the level with their inverse variance: (n, pixels)."""
    side = 2 * REACH + 1
    nothing = np.empty(0, np.int64)
    sample = variance[::LATTICE, ::LATTICE]
    sample = sample[sample > 0]
    if sample.size == 0 or min(image.shape) <= side:
        return nothing, nothing, np.empty((0, side * side)), np.empty((0, side * side))
    rows, columns = bright_maxima(image, level + height * float(np.sqrt(np.median(sample))))
    y, x = rows.astype(np.int64), columns.astype(np.int64)
    far = (np.minimum(y, image.shape[0] - 1 - y) >= REACH) & (np.minimum(x, image.shape[1] - 1 - x) >= REACH)
    y, x = y[far], x[far]
    offset = np.arange(-REACH, REACH + 1)
    around = (
        y[:, None, None] + offset[:, None],
        x[:, None, None] + offset,
    )
    data = image[around].reshape(len(y), side * side).astype(np.float64) - level
    spread = variance[around].reshape(len(y), side * side).astype(np.float64)
    usable = ((mask[around].reshape(len(y), side * side) & excluded) == 0) & np.isfinite(data) & (spread > 0)
    good = usable.all(axis=1)
    return y[good], x[good], data[good], 1.0 / spread[good]


def _stars(psf: Psf, x: Array, y: Array, width: float) -> Array:
    """Images of stars near n positions, in all places of a pixel, as sharp as the PSF and sharper: (n, models, pixels)."""
    count = len(PLACES) ** 2
    column, row = (np.repeat(np.rint(centre), count) for centre in (x, y))
    dx, dy = (np.tile(axis.ravel(), len(x)) for axis in np.meshgrid(PLACES, PLACES))
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
    dx, dy = (axis.ravel()[:, None, None] for axis in np.meshgrid(PLACES, PLACES))
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
    square = images.reshape(-1, side, side)
    inner = square[:, 1:-1, 1:-1].sum(axis=(1, 2))
    return np.asarray((square.sum(axis=(1, 2)) - inner) / np.maximum(inner, 1e-30))


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
