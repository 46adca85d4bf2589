"""The smoothing kernel against a convolution written out in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from streamchar.kernels import smooth, smooth_at


def twin(plane, taps):
    """Sum of shifted planes, along x and then y, valid pixels only."""
    half = len(taps) - 1
    weights = np.concatenate([taps[:0:-1], taps]).astype(float)
    result = plane.astype(float)
    for axis in (1, 0):
        length = result.shape[axis] - 2 * half
        shifted = [np.take(result, np.arange(k, k + length), axis=axis) for k in range(2 * half + 1)]
        with np.errstate(invalid="ignore"):
            result = sum(weight * part for weight, part in zip(weights, shifted, strict=True))
    return result


def smoothed(plane, taps):
    half = len(taps) - 1
    out = np.full((plane.shape[0] - 2 * half, plane.shape[1] - 2 * half), 7.0, np.float32)
    smooth(plane, taps, out)
    return out


def gaussian(half, sigma=2.0):
    taps = np.exp(-0.5 * (np.arange(half + 1) / sigma) ** 2)
    return (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)


@given(
    half=st.integers(0, 15),
    extra=st.tuples(st.integers(1, 12), st.integers(1, 40)),
    specials=st.lists(
        st.tuples(st.integers(0, 100), st.integers(0, 100), st.sampled_from([np.nan, np.inf, -np.inf, 1e20])),
        max_size=3,
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_sum_of_shifted_planes(half, extra, specials, seed):
    shape = (2 * half + extra[0], 2 * half + extra[1])
    plane = np.random.default_rng(seed).normal(100, 30, shape).astype(np.float32)
    for y, x, value in specials:
        plane[y % shape[0], x % shape[1]] = value
    taps = gaussian(half)
    expected, found = twin(plane, taps), smoothed(plane, taps)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    finite = np.isfinite(expected)
    scale = np.abs(plane[np.isfinite(plane)]).max(initial=1.0)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=0, atol=1e-6 * scale)
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(found[infinite], expected[infinite])


@pytest.mark.parametrize("width", [4106, 4107, 8202, 8250])
def test_strips_join_without_a_seam(width):
    plane = np.random.default_rng(1).normal(0, 10, (15, width)).astype(np.float32)
    taps = gaussian(5)
    expected = ndimage.convolve(
        plane.astype(float), np.outer(*[np.concatenate([taps[:0:-1], taps]).astype(float)] * 2)
    )[5:-5, 5:-5]
    np.testing.assert_allclose(smoothed(plane, taps), expected, atol=1e-5)


def test_nan_spreads_over_the_kernel_only():
    plane = np.zeros((31, 33), np.float32)
    plane[15, 16] = np.nan
    bad = np.isnan(smoothed(plane, gaussian(3)))
    expected = np.zeros_like(bad)
    expected[9:16, 10:17] = True
    np.testing.assert_array_equal(bad, expected)


@pytest.mark.parametrize(("shape", "out"), [((4, 9), (0, 5)), ((9, 9), (4, 5)), ((9, 9), (5, 6))])
def test_refuses_shapes_that_do_not_fit(shape, out):
    with pytest.raises(ValueError):
        smooth(np.zeros(shape, np.float32), gaussian(2), np.zeros(out, np.float32))


def test_refuses_an_empty_kernel():
    with pytest.raises(ValueError, match="no taps"):
        smooth(np.zeros((3, 3), np.float32), np.zeros(0, np.float32), np.zeros((3, 3), np.float32))


@settings(max_examples=30, deadline=None)
@given(
    half=st.sampled_from([0, 1, 6, 14]),
    special=st.sampled_from([0.0, np.nan, np.inf]),
    seed=st.integers(0, 99),
)
def test_single_pixels_equal_those_of_the_plane(half, special, seed):
    plane = np.random.default_rng(seed).normal(0, 9, (2 * half + 9, 2 * half + 12)).astype(np.float32)
    plane[half, half + 2] += np.float32(special)
    inside = twin(plane, gaussian(half))
    y, x = (index.ravel().astype(np.int32) for index in np.indices(inside.shape))
    found = smooth_at(plane, gaussian(half), x + np.int32(half), y + np.int32(half))
    np.testing.assert_allclose(found, inside.ravel(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found, smoothed(plane, gaussian(half)).ravel())
    assert len(smooth_at(plane, gaussian(half), x[:0], y[:0])) == 0


def test_refuses_pixels_near_the_border():
    plane = np.zeros((9, 9), np.float32)
    for x, y in ((1, 4), (4, 1), (7, 4), (4, 7), (-1, 4)):
        with pytest.raises(ValueError, match="leaves the plane"):
            smooth_at(plane, gaussian(2), np.array([x], np.int32), np.array([y], np.int32))
    with pytest.raises(ValueError, match="differ in length"):
        smooth_at(plane, gaussian(2), np.zeros(2, np.int32), np.zeros(1, np.int32))
    with pytest.raises(ValueError, match="no taps"):
        smooth_at(plane, gaussian(2)[:0], np.zeros(0, np.int32), np.zeros(0, np.int32))
