"""Noise of a PSF's variation on scales finer than the pixels: taken out where it is noise, and only there."""

import numpy as np
import pytest

from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.fine_structure import without_fine_noise
from streamchar.characterize.psf.pixel_fit import Grid
from streamchar.characterize.psf.quintic_splines import SPLINE

PER_FWHM = PixelBasisConfig().samples_per_fwhm


def grid_for(fwhm):
    return Grid.covering(31, fwhm / PER_FWHM, SPLINE)


def components(grid, fwhm, noise, seed=1):
    """A Gaussian, how it changes with its width and along one axis, and white noise on all three."""
    offset = (np.arange(grid.size) - grid.size // 2) * grid.step
    sigma = fwhm / 2.3548
    image = np.exp(-0.5 * (offset[:, None] ** 2 + offset**2) / sigma**2)
    image /= image.sum()
    along = (offset / sigma) ** 2 - 1
    parts = np.stack(
        [image, 0.05 * image * (along + along[:, None]), 0.02 * image * (along - along[:, None])]
    )
    return parts, parts + noise * np.random.default_rng(seed).normal(size=parts.shape)


def spectrum(grid, images):
    frequency = np.fft.fftfreq(grid.size, grid.step)
    return np.hypot(frequency[:, None], frequency), np.abs(np.fft.fft2(images))


def test_the_mean_and_what_pixels_tell_stay():
    grid = grid_for(2.3)
    _, noisy = components(grid, 2.3, 1e-5)
    found = without_fine_noise(grid, noisy, 2.3)
    np.testing.assert_array_equal(found[0], noisy[0])
    frequency, difference = spectrum(grid, found - noisy)
    assert difference[:, frequency <= 0.5].max() < 1e-12
    assert difference[1, frequency > 0.7].max() > 1e-5


def test_noise_finer_than_the_pixels_goes_and_signal_stays():
    grid = grid_for(2.3)
    clean, noisy = components(grid, 2.3, 1e-5)
    frequency, before = spectrum(grid, noisy - clean)
    _, after = spectrum(grid, without_fine_noise(grid, noisy, 2.3) - clean)
    dark = frequency > 1.75 / 2.3
    assert (after[1:, dark] ** 2).mean() < 0.1 * (before[1:, dark] ** 2).mean()
    fine = frequency > 0.5
    assert (after[1:, fine] ** 2).sum() < 0.6 * (before[1:, fine] ** 2).sum()


def test_without_noise_nothing_is_lost():
    grid = grid_for(2.3)
    clean, _ = components(grid, 2.3, 0.0)
    assert np.abs(without_fine_noise(grid, clean, 2.3) - clean).max() < 1e-4 * clean[0].max()


@pytest.mark.parametrize("fwhm", [6.0, 9.0])
def test_a_grid_as_coarse_as_the_pixels_is_left_alone(fwhm):
    grid = grid_for(fwhm)
    _, noisy = components(grid, fwhm, 1e-4)
    assert without_fine_noise(grid, noisy, fwhm) is noisy


def test_a_constant_model_is_left_alone():
    grid = grid_for(2.3)
    mean = components(grid, 2.3, 1e-4)[1][:1]
    assert without_fine_noise(grid, mean, 2.3) is mean
