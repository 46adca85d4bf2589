"""The sky around PSF stars: neither do the model's wings take it in, nor does it take the wings."""

from dataclasses import replace

import numpy as np
import pytest

from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.sky import without_sky
from streamchar.characterize.psf.forward.start import constant_model
from streamchar.characterize.psf.pixel_fit import Grid
from streamchar.characterize.psf.quintic_splines import SPLINE
from streamchar.characterize.psf.samples import Samples

STAMP, FWHM, NOISE, SKY = 31, 3.8, 10.0, 3.0
OFFSET = np.arange(STAMP) - STAMP // 2
OUTER = np.hypot(OFFSET[:, None], OFFSET)


def moffat(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Moffat profile of exponent 2.5: wings of 1e-5 a pixel at the edge of the stamp."""
    scale = FWHM / (2 * np.sqrt(2 ** (1 / 2.5) - 1))
    return 1.5 / np.pi / scale**2 * (1 + (x**2 + y**2) / scale**2) ** -2.5


def stars(count: int, seed: int, neighbours: float = 0.0) -> Samples:
    """Stars of all fluxes on the same sky, some with an undetected neighbour in the outer part of the stamp."""
    rng = np.random.default_rng(seed)
    flux = 2e4 * rng.uniform(size=count) ** -0.5
    dx, dy = rng.uniform(-0.5, 0.5, (2, count))
    x, y = (OFFSET[None, :] - shift[:, None] for shift in (dx, dy))
    pixels = flux[:, None, None] * moffat(x[:, None, :], y[:, :, None])
    angle, far = rng.uniform(0, 2 * np.pi, count), rng.uniform(12, 15, count)
    nx, ny = x - (far * np.cos(angle))[:, None], y - (far * np.sin(angle))[:, None]
    has = rng.uniform(size=count) < neighbours
    pixels += (has * 15 * NOISE * FWHM)[:, None, None] * moffat(nx[:, None, :], ny[:, :, None])
    pixels += SKY + rng.normal(0, NOISE, pixels.shape)
    place = rng.uniform(0, 4000, (2, count))
    everywhere = np.full(count, NOISE**2)
    usable = np.broadcast_to(OUTER < 15.5, pixels.shape).copy()
    pixels = np.where(usable, pixels, 0.0)
    return Samples(
        np.arange(count), *place, dx, dy, flux, pixels, usable, everywhere, np.zeros(count)
    )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_sky_is_neither_in_the_model_nor_in_the_stars(seed: int) -> None:
    config = PixelBasisConfig()
    samples = stars(400, seed)
    grid = Grid.covering(STAMP, FWHM / config.samples_per_fwhm, SPLINE)
    wide = constant_model(grid, samples, config)
    found = without_sky(grid, wide, wide.draw(grid), config)
    ring = (OUTER > 12) & (OUTER < 14)
    truth = moffat(OFFSET[None, :], OFFSET[:, None])[ring].mean()
    zero = np.zeros(1)
    before, after = (
        grid.draw(state.components, np.ones((1, 1)), zero, zero)[0][ring].mean() for state in (wide, found)
    )
    assert before - truth > 5e-6
    assert abs(after - truth) < 0.3 * (before - truth)
    taken = (samples.pixels - found.samples.pixels)[:, STAMP // 2, STAMP // 2]
    assert np.median(taken) == pytest.approx(SKY, abs=0.3)
    bright = samples.flux > np.quantile(samples.flux, 0.8)
    assert taken[bright].mean() == pytest.approx(taken[~bright].mean(), abs=0.5)


def test_neighbours_are_not_counted_as_sky() -> None:
    config = PixelBasisConfig()
    skies = []
    for share in (0.0, 0.5):
        samples = stars(400, 4, share)
        grid = Grid.covering(STAMP, FWHM / config.samples_per_fwhm, SPLINE)
        wide = constant_model(grid, samples, config)
        found = without_sky(grid, wide, wide.draw(grid), config)
        skies.append(float((samples.pixels - found.samples.pixels)[:, STAMP // 2, STAMP // 2].mean()))
    light = 0.5 * 15 * NOISE * FWHM / np.count_nonzero((OUTER > 0.375 * STAMP) & (OUTER < 15.5))
    assert abs(skies[1] - skies[0]) < 0.3 * light


def test_few_stars_keep_their_model() -> None:
    config = PixelBasisConfig()
    samples = stars(30, 5)
    grid = Grid.covering(STAMP, FWHM / config.samples_per_fwhm, SPLINE)
    wide = constant_model(grid, samples, config)
    found = without_sky(grid, wide, wide.draw(grid), config)
    np.testing.assert_array_equal(found.components, wide.components)
    nothing = replace(wide, samples=samples.take(slice(0, 0)))
    assert len(without_sky(grid, nothing, nothing.draw(grid), config).samples) == 0
