"""Centroids against the steps of the specification in NumPy, and against true positions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import correlate2d

from streamchar.kernels import sdss_centroid
from tests.measurement_scenes import add_gaussian, bare_scene

EDGE, NO_SECOND_DERIVATIVE, NOT_AT_MAXIMUM, NEAR_EDGE = 1, 2, 4, 8


def gaussian_kernel(size, sigma):
    offsets = np.arange(size) - size // 2
    profile = np.exp(-0.5 * (offsets / sigma) ** 2)
    return np.outer(profile, profile) / profile.sum() ** 2


def binned(plane, x0, y0, width, height, bx, by):
    block = plane[y0 : y0 + height * by, x0 : x0 + width * bx].astype(float)
    return block.reshape(height, by, width, bx).mean(axis=(1, 3))


def quartic(low, middle, high, negative):
    up, down = middle - high, middle - low
    d2, s = up + down, 0.5 * (high - low)
    if not ((d2 < 0 and middle < 0) if negative else (d2 > 0 and middle > 0)):
        return None
    position = s / d2 * (1 + 1.33 * up * down / (d2 * middle))
    return position if abs(position) < 1 else None


def error(noise, s, d, a, k):
    tiny = np.finfo(np.float32).tiny
    if abs(a) < tiny or abs(d) < tiny:
        return 1000.0
    variance = (
        noise[0] * (1 / d + k / (4 * a) * (1 - 12 * s * s / d**2)) ** 2
        + noise[1] * (s / d**2 - 8 * k * s * s / (4 * a * d**3)) ** 2
    )
    return np.sqrt(variance) if not variance < 0 else np.nan


def twin(
    image,
    variance,
    x_start,
    y_start,
    kernel,
    sigma,
    *,
    negative=False,
    bin_max=16,
    peak_min=-1.0,
    wfac=1.5,
    subtract_sky=False,
):
    """Section 3 of measurement.md, steps 1 and 2."""
    failed = (x_start, y_start, np.nan, np.nan)
    height, width = image.shape
    if not (np.isfinite(x_start) and np.isfinite(y_start)):
        return failed, EDGE
    x, y = int(np.floor(x_start + 0.5)), int(np.floor(y_start + 0.5))
    if not (0 <= x < width and 0 <= y < height):
        return failed, EDGE
    flags, bx, by, size, result = 0, 1, 1, 1, None
    while size <= bin_max:
        near_edge = False
        while True:
            kh, kw = kernel.shape
            x0, y0 = x - bx * (2 + kw // 2), y - by * (2 + kh // 2)
            if x0 >= 0 and y0 >= 0 and x0 + bx * (kw + 4) <= width and y0 + by * (kh + 4) <= height:
                break
            if near_edge:
                return failed, flags | EDGE
            kernel, sigma, near_edge = gaussian_kernel(5, 0.5), 0.5, True
        if near_edge:
            flags |= NEAR_EDGE
        s2 = sigma**2
        half_x, half_y = (kw + 4) // 2, (kh + 4) // 2
        data = binned(image, x0, y0, kw + 4, kh + 4, bx, by)
        noise = binned(variance, x0, y0, kw + 4, kh + 4, bx, by) / (bx * by)
        centre = (
            slice(half_y - kh // 2 - 1, half_y - kh // 2 + 2),
            slice(half_x - kw // 2 - 1, half_x - kw // 2 + 2),
        )
        smooth = correlate2d(data, kernel, "valid")[centre]
        smooth_variance = correlate2d(noise, kernel**2, "valid")[centre] * bx * by * 4 * np.pi * s2
        d2x = 2 * smooth[1, 1] - smooth[1, 0] - smooth[1, 2]
        d2y = 2 * smooth[1, 1] - smooth[0, 1] - smooth[2, 1]
        sx, sy = 0.5 * (smooth[1, 2] - smooth[1, 0]), 0.5 * (smooth[2, 1] - smooth[0, 1])
        if d2x == 0 or d2y == 0:
            return failed, flags | NO_SECOND_DERIVATIVE
        if (d2x > 0 or d2y > 0) if negative else (d2x < 0 or d2y < 0):
            return failed, flags | NOT_AT_MAXIMUM
        dx0, dy0 = sx / d2x, sy / d2y
        if abs(dx0) > 10 or abs(dy0) > 10:
            return failed, flags | NO_SECOND_DERIVATIVE
        peak = smooth[1, 1] + 0.5 * (sx * dx0 + sy * dy0)
        mx = [quartic(*smooth[k], negative) for k in range(3)]
        my = [quartic(*smooth[:, k], negative) for k in range(3)]
        good = None not in mx + my
        xc, yc, size_x, size_y = dx0, dy0, peak / d2x, peak / d2y
        if good:
            slope_x, bend_x = 0.5 * (mx[2] - mx[0]), mx[1] - 0.5 * (mx[0] + mx[2])
            slope_y, bend_y = 0.5 * (my[2] - my[0]), my[1] - 0.5 * (my[0] + my[2])
            dx = mx[1] + dy0 * (slope_x - dy0 * bend_x)
            dy = my[1] + dx0 * (slope_y - dx0 * bend_y)
            xc, yc = mx[1] + dy * (slope_x - dy * bend_x), my[1] + dx * (slope_y - dx * bend_y)
            size_x, size_y = size_x - (1 + 6 * dx0**2) / 4, size_y - (1 + 6 * dy0**2) / 4
        tau_x, tau_y = (np.maximum(s2, value - s2) for value in (size_x, size_y))  # NaN stays NaN
        sky, source = (smooth_variance.sum() - smooth_variance[1, 1]) / 8, smooth_variance[1, 1]
        source = max(source - sky, 0.0) if subtract_sky else source
        e = np.exp
        spread = (
            sky / (8 * np.pi * s2) * (1 - e(-1 / s2))
            + source / (12 * np.pi * s2) * (e(-1 / (3 * s2)) - e(-1 / s2)),
            sky / (2 * np.pi * s2) * (3 - 4 * e(-1 / (4 * s2)) + e(-1 / s2))
            + source / (3 * np.pi * s2) * (2 - 3 * e(-1 / (3 * s2)) + e(-1 / s2)),
        )
        k = 1.33 if good else 0.0
        errors = error(spread, sx, d2x, peak, k) * bx, error(spread, sy, d2y, peak, k) * by
        if size > 1:
            xc, yc = (xc + 0.5) * bx - 0.5, (yc + 0.5) * by - 0.5
        tau_x, tau_y = tau_x * bx**2, tau_y * by**2
        result = (x + xc, y + yc, *errors)
        if near_edge:
            break
        fx, fy = wfac * (1 + s2) * bx**2, wfac * (1 + s2) * by**2
        if (
            tau_x < fx
            and tau_y < fy
            and xc**2 < fx
            and yc**2 < fy
            and (size > 1 or peak_min < 0 or peak > peak_min)
        ):
            break
        bx *= 2 if tau_x >= fx or xc**2 >= fx else 1
        by *= 2 if tau_y >= fy or yc**2 >= fy else 1
        size *= 2
    return result, flags


def measure(image, variance, x, y, kernel, sigma, *, negative=False, **options):
    arguments = (np.array([x], float), np.array([y], float), np.array([negative]))
    values, flags = sdss_centroid(
        bare_scene(image),
        variance,
        *arguments,
        np.ascontiguousarray(kernel[None]),
        np.array([sigma]),
        **options,
    )
    return values[0], flags[0]


def assert_equal(found, expected, **tolerance):
    np.testing.assert_allclose(found[0], expected[0], **tolerance)
    assert found[1] == expected[1]


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 10**6),
    st.floats(-1, 91),
    st.floats(-1, 81),
    st.floats(0.8, 6.0),
    st.sampled_from([(11, 1.5), (9, 1.1), (5, 2.0)]),
    st.booleans(),
    st.sampled_from([{}, {"bin_max": 4}, {"peak_min": 1e9}, {"bin_max": 1, "subtract_sky": True}]),
)
def test_equals_twin_on_noisy_sources(seed, x, y, width, psf, negative, options):
    generator = np.random.default_rng(seed)
    image = generator.normal(0, 1, (80, 90)).astype(np.float32)
    sign = -1 if negative else 1
    add_gaussian(image, x, y, sign * 2000.0, width**2, width**2)
    variance = generator.uniform(0.5, 1.5, image.shape).astype(np.float32)
    start = x + generator.uniform(-0.7, 0.7), y + generator.uniform(-0.7, 0.7)
    kernel = gaussian_kernel(*psf)
    arguments = (image, variance, *start, kernel, psf[1])
    assert_equal(
        measure(*arguments, negative=negative, **options),
        twin(*arguments, negative=negative, **options),
        rtol=1e-6,
        atol=1e-6,
    )


VALUES = st.sampled_from([0.0, 1.0, 2.0, -3.0, np.nan, np.inf])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning")
@settings(deadline=None, max_examples=80)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=VALUES),
    st.floats(-2, 13),
    st.floats(-2, 13),
)
def test_equals_twin_on_anything(image, x, y):
    variance = np.ones(image.shape, np.float32)
    kernel = np.zeros((3, 3))
    kernel[1, 1] = 1.0  # exact sums: no rounding decides about a sign
    arguments = (image, variance, x, y, kernel, 0.8)
    (found, flags), (expected, expected_flags) = measure(*arguments), twin(*arguments)
    assert flags == expected_flags
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_finds_the_centre_of_a_star():
    kernel = gaussian_kernel(21, 2.0)
    for x, y in 40 + np.random.default_rng(1).uniform(-0.5, 0.5, (10, 2)):
        image = np.zeros((80, 80), np.float32)
        add_gaussian(image, x, y, 1e4, 4.0, 4.0)
        (xc, yc, _, _), flags = measure(image, np.ones_like(image), 40.0, 40.0, kernel, 2.0)
        assert flags == 0
        assert (xc, yc) == pytest.approx((x, y), abs=2e-3)


def test_binning_helps_wide_sources():
    star, kernel = np.zeros((300, 300), np.float32), gaussian_kernel(11, 1.5)
    add_gaussian(star, 150.3, 149.8, 1e6, 100.0, 100.0, reach=120)
    distances = []
    for seed in range(20):
        image = star + 30 * np.random.default_rng(seed).normal(0, 1, star.shape).astype(np.float32)
        variance = np.full_like(image, 900.0)
        binned_fit, flags = measure(image, variance, 150.0, 150.0, kernel, 1.5)
        plain_fit, _ = measure(image, variance, 150.0, 150.0, kernel, 1.5, bin_max=1)
        assert flags == 0
        distances.append([np.hypot(fit[0] - 150.3, fit[1] - 149.8) for fit in (binned_fit, plain_fit)])
    binned_rms, plain_rms = np.sqrt(np.mean(np.square(distances), axis=0))
    assert binned_rms < 0.2
    assert binned_rms < 0.7 * plain_rms


def test_a_single_kernel_serves_all_sources():
    image = np.zeros((60, 60), np.float32)
    add_gaussian(image, 30.2, 29.7, 1e4, 4.0, 4.0)
    kernel, start = gaussian_kernel(11, 1.5), np.full(3, 30.0)
    arguments = (bare_scene(image), np.ones_like(image), start, start, np.zeros(3, bool))
    one, _ = sdss_centroid(*arguments, kernel[None], np.full(3, 1.5))
    each, _ = sdss_centroid(*arguments, np.repeat(kernel[None], 3, axis=0), np.full(3, 1.5))
    np.testing.assert_array_equal(one, each)


def test_no_source_and_wrong_shapes():
    image, none = np.ones((9, 9), np.float32), np.empty(0)
    scene, kernel = bare_scene(image), gaussian_kernel(5, 1.0)[None]
    values, flags = sdss_centroid(scene, image, none, none, np.empty(0, bool), kernel, none)
    assert values.shape == (0, 4)
    assert flags.shape == (0,)
    two, signs = np.ones(2), np.zeros(2, bool)
    for bad in (
        {"kernels": np.repeat(kernel, 3, axis=0)},
        {"kernels": np.ones((1, 4, 5))},
        {"y": np.ones(3)},
        {"variance": image[:5].copy()},
        {"bin_max": 0},
    ):
        good = {"variance": image, "x": two, "y": two, "negative": signs, "kernels": kernel, "sigma": two}
        with pytest.raises(ValueError):
            sdss_centroid(scene, **{**good, **bad})
