"""The effective width of PSF images against analytic truth."""

import numpy as np
import pytest

from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM, GaussianPsf
from streamchar.characterize.psf.width import effective_fwhm

OFFSETS = np.arange(-30, 31)
SQUARE = (OFFSETS**2 + OFFSETS[:, None] ** 2).astype(float)


@pytest.mark.parametrize("sigma", [0.9, 1.2, 2.0, 4.0])
def test_a_gaussian_has_its_own_width(sigma):
    (image,) = GaussianPsf(sigma, 61).kernel_images(0.0, 0.0)
    assert effective_fwhm(image) == pytest.approx(sigma * SIGMA_TO_FWHM, rel=2e-3)


def test_two_gaussians_have_the_width_of_their_effective_area():
    image = np.exp(-SQUARE / (2 * 1.2**2)) + 0.1 * np.exp(-SQUARE / (2 * 3.0**2))
    area = image.sum() ** 2 / np.square(image).sum()
    assert effective_fwhm(image) == pytest.approx(SIGMA_TO_FWHM * np.sqrt(area / (4 * np.pi)), rel=1e-3)


def test_noise_in_the_wings_does_not_widen_it():
    (image,) = GaussianPsf(1.5, 61).kernel_images(0.0, 0.0)
    noisy = image + np.random.default_rng(1).normal(0, 0.01 * image.max(), image.shape)
    area = noisy.sum() ** 2 / np.square(noisy).sum()
    assert effective_fwhm(noisy) == pytest.approx(1.5 * SIGMA_TO_FWHM, rel=0.02)
    assert abs(np.sqrt(area / (4 * np.pi)) / 1.5 - 1) > 0.03


@pytest.mark.parametrize("image", [np.zeros((21, 21)), np.full((21, 21), np.nan), -np.ones((21, 21))])
def test_no_core_has_no_width(image):
    assert np.isnan(effective_fwhm(image))
