"""Replacing every footprint by noise, so that each source is measured as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.footprints import Footprints
from streamchar.characterize.statistics import clipped, median
from streamchar.configuration import Configuration
from streamchar.image import Exposure
from streamchar.image.exposure import Image
from streamchar.kernels import Scene

NoiseSource = Literal["measure", "meta", "variance", "variance_median"]

SAMPLE = 30_000
"""Pixels from which the noise is measured: all of a small image, whole rows of a larger one, some columns of some rows of a
large one. They give mean and deviation to half a percent of a pixel's noise, far below what a footprint's noise has by chance;
more would only cost time."""
SAMPLED_ROWS = 32
"""Rows that they lie in at least, unless there are fewer: no few rows that are unlike the others matter."""

DRAWN = 1 << 16
"""Pixels whose noise is drawn; further ones get the same again. Pixels that far apart in the catalogue's order are hardly ever
around one source, and so few stay in the processor's cache."""


class NoiseReplacerConfig(Configuration):
    """Noise that takes the place of the other sources."""

    noise_source: NoiseSource = "measure"
    """``measure``: clipped mean and deviation of the image; ``variance``: the variance plane, pixel by pixel; ``variance_median``: its
    median; ``meta``: variance BGMEAN of the exposure metadata, or ``measure`` without it."""
    noise_offset: float = 0.0
    """Added to the mean, in image units."""
    noise_seed_multiplier: int = Field(default=1, ge=0)
    """Times the exposure id makes the seed; 0 uses the same seed for every exposure."""

    def seed(self, exposure_id: int) -> int:
        """Seed of the generator for an exposure."""
        return exposure_id * self.noise_seed_multiplier or self.noise_seed_multiplier


@contextmanager
def neighbours_replaced(
    exposure: Exposure, footprints: Footprints, config: NoiseReplacerConfig | None, exposure_id: int = 0
) -> Iterator[Scene]:
    """Hide all footprints in the image by noise while the context lasts, and restore the image after it.

    Parameters
    ----------
    exposure
        Its image is modified in place; mask and variance are not.
    footprints
        Where the sources are. Where two overlap the later one's noise wins.
    config, exposure_id
        What kind of noise, and from which seed: equal ids give equal noise. Without settings there is none, only the sky's zero.

    Yields
    ------
    Scene
        To show and hide single sources; measuring kernels take it.
    """
    if config is None:
        noise = np.zeros(min(len(footprints.span_y), 1), np.float32)
    else:
        noise = draw_noise(exposure, footprints, config, exposure_id)
    scene = Scene(
        exposure.image,
        footprints.span_y,
        footprints.span_x0,
        footprints.span_x1,
        footprints.span_start,
        noise,
        footprints.share,
    )
    scene.hide_all()
    try:
        yield scene
    finally:
        scene.show_all()


def undisturbed(plane: Image) -> Scene:
    """Return a scene of any plane in which nothing is ever hidden."""
    none = np.empty(0, np.int32)
    return Scene(plane, none, none, none, np.zeros(1, np.int64), np.empty(0, np.float32))


def draw_noise(
    exposure: Exposure, footprints: Footprints, config: NoiseReplacerConfig, exposure_id: int
) -> NDArray[np.float32]:
    """Noise for the pixels of all footprints, span after span: float32, repeated when it is shorter."""
    pixels = int(footprints.area.sum())
    generator = np.random.Generator(np.random.SFC64(config.seed(exposure_id)))
    noise = generator.standard_normal(min(pixels, DRAWN), dtype=np.float32)
    mean, sigma = _distribution(exposure, footprints, config)
    if isinstance(sigma, np.ndarray):
        noise = np.resize(noise, pixels)
    noise *= sigma
    noise += np.float32(mean)
    return noise


def _distribution(
    exposure: Exposure, footprints: Footprints, config: NoiseReplacerConfig
) -> tuple[float, np.float32 | NDArray[np.float32]]:
    source, offset = config.noise_source, config.noise_offset
    if source == "variance":
        variances = exposure.variance[footprints.pixels()]
        return offset, np.sqrt(np.maximum(variances, 0.0, dtype=np.float32))
    if source == "variance_median":
        return offset, np.float32(np.sqrt(median(exposure.variance)))
    background = exposure.metadata.get("BGMEAN")
    if source == "meta" and background is not None and background > 0:
        return offset, np.float32(np.sqrt(background))
    statistics = clipped(sampled(exposure.image))
    return offset + statistics.mean, np.float32(statistics.standard_deviation)


def sampled(image: Image) -> Image:
    """Return some 15,000 to 75,000 pixels, a view, or all when there are fewer."""
    step = max(image.size // SAMPLE, 1)
    row = min(step, max(len(image) // SAMPLED_ROWS, 1))
    # Of columns an odd step: even and odd ones may come from different amplifiers.
    return image[::row, :: step // row | 1]
