"""Light of sources beyond the edges of their stamps: smooth, so that a coarse plane holds it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from streamchar.telescope.transform import Complex, FrequencyGrid, Real, images

Array = NDArray[np.float64]

TAPER_START = 0.75
"""Where light begins to pass from the stamp to the plane, in half widths of the stamp."""

TAPER_MARGIN = 1.0
"""Pixels at the edge of a stamp that hold no light, so that a shift by less than a pixel moves none across it."""

PLANE_PIXELS = 16
"""Pixels of the plane in the width of a stamp: enough for the taper."""

PLANE_MARGIN = 384
"""Pixels added to the plane's width and height: where the plane wraps around, wings have ended."""

BATCH_PIXELS = 1 << 20
"""Pixels of wide images worked on at a time; bounds the memory."""

WING_KNOTS = 512
"""Radii at which the wings are evaluated, from a stamp's edge to the plane's."""

MIDPOINT = (-1 / 16, 9 / 16, 9 / 16, -1 / 16)
"""Weights of four values half-way between the middle two (cubic convolution, Keys 1981)."""


def stamp_share(radius: Array, width: int) -> Array:
    """Part of the light at a distance from a source that its stamp holds: one inside, zero from the edge on.

    Parameters
    ----------
    radius
        float64: distances in pixels.
    width
        Width of the stamp in pixels.
    """
    start, end = TAPER_START * 0.5 * width, 0.5 * width - TAPER_MARGIN
    phase = np.clip((radius - start) / (end - start), 0.0, 1.0)
    return np.asarray(0.5 * (1.0 + np.cos(np.pi * phase)))


def within_stamp(values: Complex, finest: FrequencyGrid, factor: int) -> Complex:
    """Transforms of the share of the light that a narrower stamp holds, so that nothing wraps around its edges.

    Taking fewer frequencies adds the light beyond the edges at the opposite ones. That light, and what is not the
    stamp's share, is smooth: it is taken away from the frequencies below Nyquist's.

    Parameters
    ----------
    values
        complex64 (n, 2 reach + 1, reach + 1) on the grid ``finest``.
    finest
        Frequencies of the wide image.
    factor
        How many times narrower the stamp is.

    Returns
    -------
    ndarray
        complex64 on the grid of the stamp.
    """
    grid, window = finest.coarser(factor)
    result = np.ascontiguousarray(values[:, *window])
    step = max(1, BATCH_PIXELS // finest.size**2)
    for start in range(0, len(values), step):
        batch = slice(start, start + step)
        _take_away_surplus(result[batch], grid, values[batch].copy(), finest)
    return result


def _take_away_surplus(values: Complex, grid: FrequencyGrid, wide: Complex, finest: FrequencyGrid) -> None:
    nothing = np.zeros(len(values), np.float32)
    middle = slice((finest.size - grid.size) // 2, (finest.size + grid.size) // 2)
    offset = np.arange(grid.size) - grid.size // 2
    share = stamp_share(np.hypot(offset[:, None], offset), grid.size).astype(np.float32)
    surplus = images(values.copy(), grid, nothing, nothing)
    surplus -= share * images(wide, finest, nothing, nothing)[:, middle, middle]
    spectrum = fft.rfft2(surplus)
    count = min(grid.reach, grid.size // 2 - 1)
    order = np.arange(-count, count + 1)
    # The origin is the middle of the stamp.
    sign = ((-1.0) ** (order[:, None] + np.arange(count + 1))).astype(np.float32)
    place = slice(grid.reach - count, grid.reach + count + 1)
    values[:, place, : count + 1] -= spectrum[:, order, : count + 1] * sign


class FarLight:
    """Gathers the light beyond stamps of several widths and adds it to an image.

    Sources of each width go on a plane with ``PLANE_PIXELS`` to that width; its convolution with what is outside of
    the stamp is the far light. Of the point-spread function only the round wings of the atmosphere count there.

    Parameters
    ----------
    shape
        Height and width of the image.
    widths
        Widths of the stamps, each twice the one before.
    brightness
        Surface brightness of the wings per unit flux at radii in pixels.
    """

    def __init__(
        self, shape: tuple[int, int], widths: list[int], brightness: Callable[[Array], Array]
    ) -> None:
        self._shape = shape
        self._widths = widths
        self._brightness = brightness
        coarsest = widths[-1] // PLANE_PIXELS
        self._size = tuple(
            coarsest * fft.next_fast_len(-(-(side + PLANE_MARGIN) // coarsest)) for side in shape
        )
        self._planes: list[Real | None] = [None] * len(widths)

    def gather(self, tier: int, x: Array, y: Array, flux: Array) -> None:
        """Add what n sources with stamps of one width have outside of them; each float64 (n)."""
        if not len(x):
            return
        width = self._widths[tier]
        step = width // PLANE_PIXELS
        height, length = (side // step for side in self._size)
        transform = fft.rfft2(_spread(x / step, y / step, flux, (height, length)))
        transform *= fft.rfft2(self._outside(width, step, (height, length)))
        # The sources were spread over their neighbouring pixels by a triangle; undo its response.
        transform /= (
            np.sinc(fft.fftfreq(height))[:, None].astype(np.float32) ** 2
            * np.sinc(fft.rfftfreq(length)).astype(np.float32) ** 2
        )
        self._planes[tier] = fft.irfft2(transform, s=(height, length))

    def add_to(self, image: Real) -> None:
        """Add the far light of all widths, the widest first, each plane refined to the next one's pixels."""
        light: Real | None = None
        for plane in reversed(self._planes):
            if light is not None:
                light = _refined(_refined(light).T).T
                light = light if plane is None else light + plane
            else:
                light = plane
        if light is None:
            return
        step = self._widths[0] // PLANE_PIXELS
        # What is interpolated needs two neighbours on either side.
        rows, columns = (np.arange(-2, -(-side // step) + 2) for side in self._shape)
        light = light.take(rows, axis=0, mode="wrap").take(columns, axis=1, mode="wrap")
        first = 2 * step
        while step > 1:
            light = _refined(_refined(light).T).T
            step //= 2
        height, width = self._shape
        image += light[first : first + height, first : first + width]

    def _outside(self, width: int, step: int, shape: tuple[int, int]) -> Real:
        y, x = (np.minimum(np.arange(side), side - np.arange(side)) * float(step) for side in shape)
        farthest = float(np.hypot(y.max(), x.max())) + 1.0
        knots = np.geomspace(0.5 * TAPER_START * width, farthest, WING_KNOTS)
        radii = np.linspace(0.0, farthest, 4 * max(shape))
        # Linear between the knots, which lie 1 % apart.
        profile = np.interp(np.maximum(radii, knots[0]), knots, self._brightness(knots))
        profile *= 1.0 - stamp_share(radii, width)
        return np.asarray(np.interp(np.hypot(y[:, None], x), radii, profile), np.float32)


def _spread(x: Array, y: Array, flux: Array, shape: tuple[int, int]) -> Real:
    """Share fluxes between the four nearest pixels of a plane that wraps around."""
    height, width = shape
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, up = x - column, y - row
    place = [((row + j) % height) * width + (column + i) % width for j in (0, 1) for i in (0, 1)]
    share = [(up if j else 1.0 - up) * (right if i else 1.0 - right) * flux for j in (0, 1) for i in (0, 1)]
    plane = np.bincount(np.concatenate(place), np.concatenate(share), height * width)
    return plane.reshape(shape).astype(np.float32)


def _refined(plane: Real) -> Real:
    """Twice as many rows; the first and the last ones' neighbours are those at the other end."""
    result = np.empty((2 * len(plane), *plane.shape[1:]), np.float32)
    result[::2] = plane
    between = result[1::2]
    between[:] = 0.0
    for shift, weight in zip((1, 0, -1, -2), MIDPOINT, strict=True):
        between += np.float32(weight) * np.roll(plane, shift, axis=0)
    return result
