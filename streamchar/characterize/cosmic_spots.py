"""Compact cosmic-ray hits: peaks that a spot of charge a pixel wide fits better than the PSF at its best place.

In good seeing a hit spread over two by two pixels passes every test of single pixels against their neighbours: a star between
four pixels has such a core, too. It is betrayed by the light that a star would have around it, in all directions at once.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.bright_peaks import REACH, SIDE, BrightPeaks
from streamchar.characterize.exposure_parts import ExposureParts
from streamchar.characterize.psf.narrowed import narrowed
from streamchar.frozen import frozen
from streamchar.image import Psf
from streamchar.image.psf import cut_middle
from streamchar.kernels import compact_spots

Array = NDArray[np.float64]
Models = NDArray[np.float32]

PART = 1024
"""Pixels, about, along the side of the parts of the exposure for which the PSF is evaluated anew."""

PLACES = np.linspace(-0.499, 0.499, 5)
"""Places of the centre in the peak's pixel along either axis: a hair from its edges, so that no other pixel is the nearest."""

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


@frozen(eq=False)
class Spots:
    """Pixels of compact hits.

    Attributes
    ----------
    y, x
        int32 (pixels): those of each spot in reading order; none of them is excluded.
    start
        int64 (n + 1): the pixels of spot i are ``start[i]:start[i + 1]``.
    """

    y: NDArray[np.int32]
    x: NDArray[np.int32]
    start: NDArray[np.int64]

    @classmethod
    def none(cls) -> Spots:
        """No spot."""
        none = np.empty(0, np.int32)
        return cls(none, none, np.zeros(1, np.int64))

    @property
    def pixels(self) -> int:
        """Number of pixels in any of them; neighbours share some."""
        return len(set(zip(self.y.tolist(), self.x.tolist(), strict=True)))


def find_spots(
    peaks: BrightPeaks,
    mask: NDArray[np.int32],
    variance: NDArray[np.float32],
    psf: Psf,
    *,
    level: float,
    excluded: int,
    limits: SpotLimits,
) -> Spots:
    """Find peaks that are sharper than stars.

    Parameters
    ----------
    peaks
        Peaks of an exposure that may be spots.
    mask, variance
        Planes (height, width) of that exposure; not modified.
    psf
        Of its stars.
    level
        Sky level.
    excluded
        Peaks with any of these bits, a NaN, or the border within two pixels are left out.
    limits
        What a spot is.
    """
    parts = ExposureParts.of(mask.shape, PART)
    stars = _stars(psf, parts)
    # A Gaussian's ratio to its maximum scales as a power.
    models = np.concatenate([stars, stars ** (1.0 / limits.width**2)], axis=1)
    y, x, start = compact_spots(
        mask,
        variance,
        peaks.y,
        peaks.x,
        peaks.around,
        level,
        excluded,
        _pixel_by_pixel(models).reshape(*parts.shape, -1, models.shape[1]),
        _surroundings(stars).min(axis=1).reshape(parts.shape),
        _spots(ROUND_WIDTHS),
        _spots(LONG_WIDTHS),
        limits.improvement,
        ADVANTAGE,
        LONG_GAIN,
        limits.growth,
        limits.counts,
    )
    return Spots(y, x, start)


def _stars(psf: Psf, parts: ExposureParts) -> Array:
    """Images of stars near the middle of each part, in all places of a pixel: (parts, places, pixels), not negative; of any sum."""
    x, y = (
        np.rint(middle)[:, None] + places for middle, places in zip((parts.x, parts.y), _CENTRES, strict=True)
    )
    stamps = narrowed(psf, REACH).images(x.ravel(), y.ravel())
    return np.maximum(cut_middle(stamps.images, REACH), 0.0).reshape(*x.shape, -1)


@cache
def _spots(widths: tuple[tuple[float, float], ...]) -> Models:
    """Images of spots in all places of a pixel, round or along four directions: (pixels, models), read-only."""
    fine = (np.arange(-REACH * FINE - FINE // 2, REACH * FINE + FINE // 2 + 1)) / FINE
    dx, dy = (places[:, None, None] for places in _CENTRES)
    u, v = fine - dx, fine[:, None] - dy
    models = []
    for long, short in widths:
        for angle in SPOT_ANGLES if long > short else SPOT_ANGLES[:1]:
            along = (u * np.cos(angle) + v * np.sin(angle)) / long
            across = (v * np.cos(angle) - u * np.sin(angle)) / short
            light = np.exp(-0.5 * (along**2 + across**2))
            pixels = light.reshape(len(light), SIDE, FINE, SIDE, FINE).sum(axis=(2, 4))
            models.append(pixels.reshape(len(light), -1))
    found = _pixel_by_pixel(np.concatenate(models))
    found.flags.writeable = False
    return found


def _pixel_by_pixel(models: Array) -> Models:
    """Models (..., models, pixels) as the kernel takes them, (..., pixels, models), in single precision."""
    # Half as many bytes: what the few bright peaks lose is a millionth.
    return np.ascontiguousarray(models.swapaxes(-1, -2), np.float32)


def _surroundings(images: Array) -> Array:
    """Light of the outermost pixels (..., pixels) over that of the inner ones: (...)."""
    inner = images.reshape(*images.shape[:-1], SIDE, SIDE)[..., 1:-1, 1:-1].sum(axis=(-2, -1))
    return np.asarray((images.sum(axis=-1) - inner) / np.maximum(inner, 1e-30))
