"""Smoothing of an exposure: borders, single pixels, memory, and what lies under the kernel."""

import numpy as np
import pytest
from scipy import ndimage

from streamchar.characterize.smoothing import (
    SmoothingKernelError,
    Workspace,
    convolution,
    gaussian_taps,
    smooth_at,
    spread,
)


def planes(shape, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 10, shape).astype(np.float32), rng.uniform(50, 150, shape).astype(np.float32)


def variance_of(smoothed):
    """The smoothed variance as a plane."""
    y, x = (index.ravel().astype(np.int32) for index in np.indices(smoothed.shape))
    return smoothed.variance_at(x, y).reshape(smoothed.shape)


def test_the_variance_is_smoothed_with_the_squared_kernel():
    image, variance = planes((40, 50))
    smoothed = convolution(image, variance, 1.5, 11).in_memory()
    taps = gaussian_taps(1.5, 11)
    kernel = np.concatenate([taps[:0:-1], taps])
    assert kernel.sum() == pytest.approx(1.0, abs=1e-15)
    inner = np.s_[5:-5, 5:-5]
    expected = ndimage.convolve(image.astype(float), np.outer(kernel, kernel))[inner]
    np.testing.assert_allclose(smoothed.image, expected, atol=1e-5)
    expected = ndimage.convolve(variance.astype(float), np.outer(kernel, kernel) ** 2)[inner]
    np.testing.assert_allclose(variance_of(smoothed), expected, rtol=1e-6)


def test_a_wider_border_leaves_out_more_of_the_same():
    image, variance = planes((40, 50))
    whole, inner = convolution(image, variance, 1.0, 7), convolution(image, variance, 1.0, 7, border=6)
    assert (whole.border, inner.border) == (3, 6)
    assert (whole.shape, inner.shape) == ((34, 44), (28, 38))
    np.testing.assert_array_equal(inner.raw_image, image[3:-3, 3:-3])
    x, y = np.array([0, 37, 9], np.int32), np.array([27, 0, 5], np.int32)
    np.testing.assert_array_equal(inner.variance_at(x, y), whole.variance_at(x + 3, y + 3))
    with pytest.raises(ValueError, match="border of 3"):
        convolution(image, variance, 1.0, 7, border=2)
    with pytest.raises(SmoothingKernelError):
        convolution(image, variance, 1.0, 7, border=20)


def test_single_pixels_are_smoothed_as_the_plane_is():
    image, variance = planes((30, 35))
    smoothed = convolution(image, variance, 2.0, 15).in_memory()
    y, x = np.array([7, 22, 15], np.int32), np.array([7, 27, 20], np.int32)
    np.testing.assert_array_equal(
        smooth_at(image, x, y, gaussian_taps(2.0, 15)), smoothed.image[y - 7, x - 7]
    )
    assert len(smooth_at(image, x[:0], y[:0], gaussian_taps(2.0, 15))) == 0


def test_memory_is_kept_between_exposures():
    workspace = Workspace()
    image, variance = planes((40, 50))
    first = convolution(image, variance, 1.5, 11).in_memory(workspace)
    image, variance = planes((32, 44), seed=2)
    second = convolution(image, variance, 1.5, 11).in_memory(workspace)
    assert np.shares_memory(first.image, second.image)
    np.testing.assert_array_equal(second.image, convolution(image, variance, 1.5, 11).in_memory().image)
    image, variance = planes((60, 70), seed=3)
    third = convolution(image, variance, 1.5, 11).in_memory(workspace)
    np.testing.assert_array_equal(third.image, convolution(image, variance, 1.5, 11).in_memory().image)


def test_an_exposure_that_the_kernel_just_fits_in():
    image, variance = planes((11, 12))
    assert convolution(image, variance, 1.5, 11).shape == (1, 2)
    with pytest.raises(SmoothingKernelError, match="10 x 11"):
        convolution(image[:, :10], variance[:, :10], 1.5, 11)


def test_without_smoothing_the_planes_are_as_they_are():
    image, variance = planes((6, 7))
    same = convolution(image, variance, 2.0, 1)
    assert same.border == 0
    assert same.in_memory() is same
    np.testing.assert_array_equal(same.image, image)
    np.testing.assert_array_equal(variance_of(same), variance)


@pytest.mark.parametrize("border", [0, 1, 4])
def test_flags_spread_over_the_kernel(border):
    flagged = np.random.default_rng(3).random((20, 30)) < 0.02
    expected = ndimage.maximum_filter(flagged, 2 * border + 1, mode="constant")
    inner = np.s_[border : 20 - border, border : 30 - border]
    np.testing.assert_array_equal(spread(flagged, border), expected[inner])
