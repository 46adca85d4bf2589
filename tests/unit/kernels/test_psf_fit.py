"""The weighted PSF fit against its formulas in NumPy, and against the Cramer-Rao bound."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import fftconvolve

from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.kernels import Scene, psf_fit
from tests.measurement_scenes import bare_scene

DIFFERENCES = np.array([5 / 6, -5 / 21, 5 / 84, -5 / 504, 1 / 1260])
NONE = np.empty(0, np.int64)


def slopes(stamp):
    """Central differences of tenth order, zero beyond the stamp."""
    padded = np.pad(stamp, 5)
    height, width = stamp.shape
    along_x, along_y = np.zeros_like(stamp), np.zeros_like(stamp)
    for k, c in enumerate(DIFFERENCES, start=1):
        along_x += c * (padded[5:-5, 5 + k : 5 + k + width] - padded[5:-5, 5 - k : 5 - k + width])
        along_y += c * (padded[5 + k : 5 + k + height, 5:-5] - padded[5 - k : 5 - k + height, 5:-5])
    return along_x, along_y


def model_variance(m, v):
    """A constant plus a multiple of the model, weighted by the model over the squared variance, both not negative."""
    w = np.maximum(m, 0) / v**2
    s0, s1, s2, t0, t1 = w.sum(), (w * m).sum(), (w * m * m).sum(), (w * v).sum(), (w * m * v).sum()
    det = s0 * s2 - s1 * s1
    slope = max((s0 * t1 - s1 * t0) / det, 0.0) if det > 1e-9 * s0 * s2 else 0.0
    level = (t0 - slope * s1) / s0
    if level < 0:
        level, slope = 0.0, t1 / s2
    return np.maximum(level + slope * np.maximum(m, 0), 1e-2 * t0 / s0)


def twin(image, variance, mask, bad, stamp, x0, y0, *, position, weighted, spread=0):
    """Flux, error, area, chi2, shift, errors of the shift, light, none rejected, change with position; pixels; clipped.

    Without rejection.
    """
    height, width = stamp.shape
    rows, columns = np.mgrid[y0 : y0 + height, x0 : x0 + width]
    inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
    good = inside.copy()
    at = rows[inside], columns[inside]
    usable = (mask[at] & bad) == 0
    usable &= np.isfinite(image[at]) & np.isfinite(variance[at]) & (variance[at] > 0)
    good[inside] = usable
    spreading = np.zeros((height + 2, width + 2), bool)
    spreading[1:-1, 1:-1][inside] = ~usable & ((mask[at] & bad & spread) != 0)
    for dy in range(3):
        for dx in range(3):
            good &= ~spreading[dy : dy + height, dx : dx + width]
    if not good.any():
        return np.r_[np.full(8, np.nan), 0.0, 0.0, np.nan, np.nan], 0, not inside.all()
    along_x, along_y = (slope[good] for slope in slopes(stamp))
    m, d = stamp[good], image[rows[good], columns[good]].astype(float)
    noise = model_variance(m, variance[rows[good], columns[good]].astype(float))
    w = 1 / noise if weighted else np.ones_like(noise)
    result = np.full(12, np.nan)
    result[9:] = 0.0
    if position:
        # Fewer need not tell the position: the equations then have no solution.
        assume(good.sum() > 40)
        design = np.stack([m, -along_x, -along_y])
        covariance = np.linalg.inv((design * w) @ design.T)
        flux, a, b = covariance @ ((design * w) @ d)
        result[0], result[4:6] = flux, (a / flux, b / flux)
        result[1] = np.sqrt(covariance[0, 0])
        result[6:8] = np.sqrt(np.diag(covariance)[1:]) / abs(flux)
        fitted = flux * m - a * along_x - b * along_y
    else:
        alpha = (w * m * m).sum()
        result[0] = (w * m * d).sum() / alpha
        result[1] = np.sqrt(((w * m) ** 2 * noise).sum()) / alpha
        result[4:6] = 0.0
        result[6:8] = 0.0
        fitted = result[0] * m
        if not good.all():
            result[10:] = [result[0] * (w * m * slope).sum() / alpha for slope in (along_x, along_y)]
    result[2] = m.sum() ** 2 / (m * m).sum()
    result[3] = ((d - fitted) ** 2 / noise).sum()
    result[8] = m.sum()
    return result, good.sum(), not inside.all()


def fit(image, variance, mask, bad, stamp, x0, y0, **options):
    values, pixels, clipped = psf_fit(
        bare_scene(image),
        variance,
        mask,
        bad,
        *np.array([[0]]),
        stamp[None],
        *np.array([[x0], [y0]]),
        **options,
    )
    return values[0], pixels[0], clipped[0]


SHAPE = (9, 10)
PIXELS = st.floats(-100, 100, width=32) | st.sampled_from([np.nan, np.inf])
VARIANCES = st.floats(np.float32(0.01), 100, width=32) | st.sampled_from([np.nan, np.inf, 0.0])


@settings(deadline=None)
@given(
    arrays(np.float32, SHAPE, elements=PIXELS),
    arrays(np.float32, SHAPE, elements=VARIANCES),
    arrays(np.int32, SHAPE, elements=st.sampled_from([0, 0, 0, 1, 2, 3])),
    arrays(np.float64, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.floats(0.001, 1)),
    st.integers(-9, 11),
    st.integers(-9, 11),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
)
def test_the_flux_equals_its_twin(image, variance, mask, stamp, x0, y0, bad, spread, weighted):
    options = {"spread": spread, "weighted": weighted}
    expected, pixels, clipped = twin(image, variance, mask, bad, stamp, x0, y0, position=False, **options)
    values, count, edge = fit(image, variance, mask, bad, stamp, x0, y0, **options)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)
    assert (count, edge) == (pixels, clipped)


@settings(deadline=None, max_examples=50)
@given(
    arrays(np.float32, (24, 25), elements=st.floats(-3, 3, width=32)),
    arrays(np.int32, (24, 25), elements=st.sampled_from([0, 0, 0, 0, 1])),
    st.floats(-0.5, 0.5),
    st.floats(-0.5, 0.5),
    st.floats(0.9, 3.0),
    st.integers(-3, 8),
    st.integers(0, 1),
    st.booleans(),
)
def test_the_shift_equals_its_twin(noise, mask, dx, dy, sigma, x0, spread, weighted):
    psf = GaussianPsf(sigma, 17)
    stamp = psf.images(8.0, 8.0).images[0]
    image = noise + np.float32(0)
    star = 1000 * psf.images(8 + dx, 8 + dy).images[0]
    left, right = max(-x0, 0), min(17, 25 - x0)
    image[3:20, x0 + left : x0 + right] += star[:, left:right].astype(np.float32)
    variance = np.maximum(image, 0).astype(np.float32) + np.float32(4)
    options = {"position": True, "spread": spread, "weighted": weighted}
    expected, pixels, clipped = twin(image, variance, mask, 1, stamp, x0, 3, **options)
    values, count, edge = fit(image, variance, mask, 1, stamp, x0, 3, **options)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-9)
    assert (count, edge) == (pixels, clipped)


def test_pixels_far_from_the_model_are_left_out():
    psf = GaussianPsf(1.7, 21)
    stamp = psf.images(10.0, 10.0).images[0]
    image, mask = (5000 * stamp).astype(np.float32), np.zeros((21, 21), np.int32)
    variance = image + np.float32(25)
    # A track through the core.
    image[8, 7:12] += np.float32(600)
    plain = fit(image, variance, mask, 0, stamp, 0, 0)[0]
    values, pixels, _ = fit(image, variance, mask, 0, stamp, 0, 0, reject=5.0, tolerance=0.1, reject_max=20)
    assert plain[0] > 6000
    assert values[0] == pytest.approx(5000, rel=1e-5)
    assert (values[9], pixels) == (5, 21 * 21 - 5)
    # More outliers than allowed are not outliers.
    values, pixels, _ = fit(image, variance, mask, 0, stamp, 0, 0, reject=5.0, tolerance=0.1, reject_max=4)
    assert values[0] == plain[0]
    assert (values[9], pixels) == (0, 21 * 21)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reject_max", [0, 20])
def test_looking_for_outliers_in_vain_changes_nothing(weighted, reject_max):
    stamp = GaussianPsf(1.7, 21).images(10.0, 10.0).images[0]
    image, mask = (5000 * stamp).astype(np.float32), np.zeros((21, 21), np.int32)
    # Where pixels are missing the flux depends on the place, and so on the weights.
    mask[6:9, 9:12] = 1
    if reject_max == 0:
        image[14, 10] += 600
    arguments = image, image + np.float32(25), mask, 1, stamp, 0, 0
    plain = fit(*arguments, weighted=weighted)[0]
    values = fit(*arguments, weighted=weighted, reject=5.0, tolerance=0.1, reject_max=reject_max)[0]
    assert abs(plain[11]) > 1
    np.testing.assert_array_equal(values, plain)


@pytest.mark.parametrize(("axis_ratio", "radius", "flux"), [(0.2, 2.0, 1e4), (0.5, 1.5, 1.4e4)])
def test_the_outliers_of_a_galaxy_do_not_depend_on_the_weights(axis_ratio, radius, flux):
    """Where the wings decide, a core that does not fit would be left out, and the flux follow the wings all the more."""
    stamp = GaussianPsf(1.7, 31).images(15.0, 15.0).images[0]
    y, x = np.mgrid[-15:16, -15:16]
    galaxy = fftconvolve(np.exp(-1.68 * np.sqrt(x**2 + (y / axis_ratio) ** 2 + 0.1) / radius), stamp, "same")
    light = flux * galaxy / galaxy.sum()
    noise = np.random.default_rng(2).standard_normal(light.shape) * np.sqrt(light + 100)
    image, variance = (light + noise).astype(np.float32), (light + 100).astype(np.float32)
    mask, options = np.zeros(image.shape, np.int32), {"reject": 5.0, "tolerance": 0.03, "reject_max": 40}
    plain, weighted = (
        fit(image, variance, mask, 0, stamp, 0, 0, weighted=chosen, **options)[0] for chosen in (False, True)
    )
    assert weighted[9] == plain[9] > 0
    assert plain[0] < weighted[0] < 1.06 * plain[0]


def field(sigma, snr, sky, *, observed, seed, n=400):
    """Stars on a grid with Poisson noise: image, variance, positions, flux, PSF."""
    random = np.random.default_rng(seed)
    psf, cell = GaussianPsf(sigma, 2 * int(np.ceil(5 * sigma)) + 1), 2 * int(np.ceil(6 * sigma)) + 4
    side = int(np.sqrt(n))
    row, column = np.divmod(np.arange(side * side), side)
    x, y = (line * cell + cell // 2 + random.uniform(-0.5, 0.5, side * side) for line in (column, row))
    area = 4 * np.pi * sigma**2
    flux = (snr**2 + np.sqrt(snr**4 + 4 * snr**2 * area * sky)) / 2
    expected = np.full((side * cell, side * cell), sky)
    stamps = psf.images(x, y)
    for stamp, x0, y0 in zip(stamps.images, stamps.x0, stamps.y0, strict=True):
        expected[y0 : y0 + stamp.shape[0], x0 : x0 + stamp.shape[1]] += flux * stamp
    counts = random.poisson(expected).astype(float)
    variance = (counts if observed else expected).astype(np.float32)
    return (counts - sky).astype(np.float32), variance, x, y, flux, psf


def bound(psf, x, y, flux, sky):
    """Cramer-Rao bounds of x and flux."""
    step = 1e-3
    at = np.floor(x + 0.5)
    right, left = (psf.images(x - at + 1000 + d, y).images for d in (step, -step))
    stamps = psf.images(x, y).images
    weight = 1 / (flux * stamps + sky)
    slope = flux * (right - left) / (2 * step)
    return (weight * slope**2).sum((1, 2)) ** -0.5, (weight * stamps**2).sum((1, 2)) ** -0.5


@pytest.mark.parametrize("sigma", [1.0, 1.7, 3.4])
@pytest.mark.parametrize("snr", [10, 30, 100, 300, 1000])
def test_fits_reach_the_bound_with_honest_errors(sigma, snr):
    sky = 100.0
    image, variance, x, y, flux, psf = field(sigma, snr, sky, observed=snr != 30, seed=int(10 * sigma + snr))
    random = np.random.default_rng(1)
    px, py = (p + random.normal(0, 0.03, len(p)) for p in (x, y))
    mask, rows = np.zeros(image.shape, np.int32), np.arange(len(x))
    for _ in range(2):
        stamps = psf.images(px, py)
        values, _, _ = psf_fit(
            bare_scene(image), variance, mask, 0, rows, stamps.images, stamps.x0, stamps.y0, position=True,
            reject=5.0, tolerance=0.1, reject_max=20,
        )  # fmt: skip
        px, py = px + values[:, 4], py + values[:, 5]
    best_x, best_flux = bound(psf, x, y, flux, sky)
    pulls = np.concatenate([(px - x) / values[:, 6], (py - y) / values[:, 7]])
    flux_pulls = (values[:, 0] - flux) / values[:, 1]
    # 800 and 400 pulls: their widths are known to 2.5 % and 3.5 %.
    assert abs(pulls.mean()) < 0.1
    assert pulls.std() == pytest.approx(1.0, abs=0.1)
    # The largest of all positions is biased by the half of two degrees of freedom: 1/snr standard deviations.
    assert abs(flux_pulls.mean() - 1 / snr) < 0.15
    assert flux_pulls.std() == pytest.approx(1.0, abs=0.12)
    assert np.median(values[:, 6] / best_x) == pytest.approx(1.0, abs=0.02)
    assert np.median(values[:, 1] / best_flux) == pytest.approx(1.0, abs=0.02)


def test_a_model_that_is_too_wide_does_not_give_the_weight_to_the_wings():
    psf, wide = GaussianPsf(1.0, 31), GaussianPsf(1.05, 31)
    flux = 1e6
    image = (flux * psf.images(15.3, 14.8).images[0]).astype(np.float32)
    stamp = wide.images(15.3, 14.8).images[0]
    mask = np.zeros(image.shape, np.int32)
    # Models of pixels are a little negative in places: that is no small variance.
    stamp[np.hypot(*np.mgrid[-15:16, -15:16]) > 8] = -3e-6
    values, _, _ = fit(image, image + np.float32(300), mask, 0, stamp, 0, 0)
    assert values[0] == pytest.approx(flux, rel=0.06)


def test_neighbours_stay_hidden():
    image = np.zeros((20, 20), np.float32)
    image[5, 5], image[5, 14] = 100, 900
    spans = np.array([5, 5], np.int32), np.array([4, 13], np.int32), np.array([6, 15], np.int32)
    scene = Scene(image, *spans, np.array([0, 1, 2]), np.zeros(6, np.float32))
    scene.hide_all()
    stamp = np.full((1, 3, 19), 1 / 57)
    args = np.ones(image.shape, np.float32), np.zeros(image.shape, np.int32), 0
    origin = np.array([0]), np.array([4])
    for row, flux in ((0, 100.0), (1, 900.0)):
        values, _, _ = psf_fit(scene, *args, np.array([row]), stamp, *origin)
        assert values[0, 0] == pytest.approx(flux)
    scene.show_all()
    assert image.sum() == 1000


def test_no_source_no_pixel_and_wrong_shapes():
    image, plane = np.ones(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    mask = np.ones(SHAPE, np.int32)
    scene = bare_scene(image)
    values, pixels, clipped = psf_fit(scene, plane, mask, 0, NONE, np.empty((0, 3, 3)), NONE, NONE)
    assert values.shape == (0, 12)
    assert pixels.shape == clipped.shape == (0,)
    values, pixels, _ = fit(image, plane, mask, 1, np.ones((3, 3)), 2, 2, position=True, reject=5.0)
    assert np.isnan(values[:8]).all()
    assert (values[8], pixels) == (0, 0)
    # One pixel does not tell the position.
    values, pixels, _ = fit(image, plane, mask, 0, np.ones((1, 1)), 2, 2, position=True)
    assert np.isnan(values[[0, 4, 5]]).all()
    one = np.zeros(1, np.int64)
    with pytest.raises(ValueError):
        psf_fit(scene, plane, mask, 0, one, np.ones((2, 3, 3)), one, one)
    with pytest.raises(ValueError):
        psf_fit(scene, plane[:4].copy(), mask, 0, one, np.ones((1, 3, 3)), one, one)
    with pytest.raises(ValueError):
        psf_fit(scene, plane, mask, 0, one - 1, np.ones((1, 3, 3)), one, one)
