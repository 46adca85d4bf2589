"""Adaptive moments against their rule in NumPy, against GalSim and against analytic Gaussians."""

import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamchar.kernels import Scene, hsm_moments, hsm_moments_of_stamps
from tests.measurement_scenes import add_gaussian, bare_scene, footprints_of_masks


def twin(stamp, x, y, sigma, *, round_weight=False, before=None):
    """The iteration of measurement.md section 4; NaN when it fails. Pixel (0, 0) is the origin."""
    rows, columns = np.indices(stamp.shape)
    failed = np.full(6, np.nan)
    start = np.array((x, y, sigma**2, sigma**2, 0.0) if before is None else before)
    if round_weight:
        start[2:] = start[2:4].mean(), start[2:4].mean(), 0.0
    centre, m, s0 = np.array(start[:2], float), np.array(start[2:], float), None
    factor, rounds = 1.0, 0
    with np.errstate(all="ignore"):
        while factor > 1e-6:
            xx, yy, xy = m
            det = xx * yy - xy * xy
            if not (det > 0 and xx > 0 and yy > 0):
                return failed
            dx, dy = columns - centre[0], rows - centre[1]
            rho2 = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / det
            used = rho2 <= -2 * np.log(1e-7)
            w = np.exp(-0.5 * rho2[used]) * stamp[used]
            dx, dy, total = dx[used], dy[used], w.sum()
            minor = 0.5 * (xx + yy) - np.sqrt(0.25 * (xx - yy) ** 2 + xy**2)
            if not minor > 0:
                return failed
            s = np.sqrt(minor)
            s0 = s0 or s
            c = np.array([(w * dx * dx).sum(), (w * dy * dy).sum(), (w * dx * dy).sum()])
            shift = 2 * np.array([(w * dx).sum(), (w * dy).sum()]) / (total * s)
            growth = 4 * (c / total - 0.5 * m) / minor
            if round_weight:
                growth = np.array([growth[:2].mean(), growth[:2].mean(), 0.0])
            steps = np.clip(np.concatenate([shift, growth]), -0.25, 0.25)
            if np.isnan(steps).any():
                return failed
            factor = np.abs(steps).max() * max(1.0, s0 / s)
            centre, m, rounds = centre + s * steps[:2], m + minor * steps[2:], rounds + 1
            if (
                (np.abs(m) > 8000).any()
                or (np.abs(centre - [x, y]) > 15).any()
                or (np.abs(m[:2]) < 1e-8).any()
                or m[0] * m[1] - m[2] ** 2 < 1e-8
                or rounds > 400
            ):
                return failed
    return np.array([*centre, *m, 2 * total])


def measure(image, x, y, sigma, *, mask=None, bad=0, round_weight=False, before=None):
    height, width = image.shape
    boxes = np.array([[0, 0, width - 1, height - 1]], np.int32)
    mask = np.zeros(image.shape, np.int32) if mask is None else mask
    arguments = (np.array([value], float) for value in (x, y, sigma))
    before = None if before is None else np.array([before], float)
    values, converged = hsm_moments(bare_scene(image), mask, bad, boxes, *arguments, round_weight, before)
    assert converged[0] == np.isfinite(values[0]).all()
    return values[0]


def noisy_gaussian(seed, xx, yy, xy, *, noise, shape=(41, 37)):
    image = np.random.default_rng(seed).normal(0, 1, shape) * noise if noise else np.zeros(shape)
    add_gaussian(image, 18.3, 19.6, 1000.0, xx, yy, xy)
    return image.astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.floats(0.6, 20.0),
    st.floats(0.6, 20.0),
    st.floats(-0.8, 0.8),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.booleans(),
)
def test_equals_twin_on_gaussians(seed, xx, yy, correlation, noise, round_weight):
    image = noisy_gaussian(seed, xx, yy, correlation * np.sqrt(xx * yy), noise=noise)
    expected = twin(image.astype(float), 18.0, 20.0, 3.0, round_weight=round_weight)
    found = measure(image, 18.0, 20.0, 3.0, round_weight=round_weight)
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-7)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.tuples(*[st.floats(17.0, 21.0)] * 2, *[st.floats(-1.0, 30.0)] * 2, st.floats(-3.0, 3.0)),
    st.sampled_from([None, np.nan, np.inf, -np.inf]),
    st.integers(0, 4),
    st.booleans(),
)
def test_equals_twin_from_moments_of_before(seed, before, spoiled, which, round_weight):
    image = noisy_gaussian(seed, 5.0, 3.0, 1.0, noise=0.3)
    before = np.array(before)
    if spoiled is not None:
        before[which] = spoiled
    expected = twin(image.astype(float), 18.0, 20.0, 3.0, round_weight=round_weight, before=before)
    if np.isnan(expected).any():
        expected = twin(image.astype(float), 18.0, 20.0, 3.0, round_weight=round_weight)
    found = measure(image, 18.0, 20.0, 3.0, round_weight=round_weight, before=before)
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-7)


def test_what_was_found_is_found_again_in_a_step():
    image = noisy_gaussian(1, 5.0, 3.0, 1.0, noise=0.3)
    first = measure(image, 18.0, 20.0, 3.0)
    again = measure(image, 18.0, 20.0, np.nan, before=first[:5])
    np.testing.assert_allclose(again, first, rtol=1e-6, atol=1e-6)


ODD_PIXELS = st.sampled_from([0.0, 1.0, -1.0, 30.0, np.nan, np.inf, -np.inf])


@settings(deadline=None, max_examples=100)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(3, 7), st.integers(3, 9)),
        elements=ODD_PIXELS | st.floats(0, 9, width=32),
    )
)
def test_equals_twin_on_anything(image):
    expected, found = twin(image.astype(float), 1.0, 1.0, 1.5), measure(image, 1.0, 1.0, 1.5)
    # Rounding may end an ill-conditioned fit this or that side of a limit: then one of the two is NaN.
    both = np.isfinite(expected) & np.isfinite(found)
    np.testing.assert_allclose(found[both], expected[both], rtol=1e-4, atol=1e-4)
    if not np.isfinite(image[:3, :3]).all():
        assert np.isnan(found).all()


def galsim_moments(image, sigma, x, y):
    picture = galsim.Image(image.astype(np.float64), xmin=0, ymin=0)
    guess = galsim.PositionD(x, y)
    return galsim.hsm.FindAdaptiveMom(
        picture, guess_sig=sigma, guess_centroid=guess, precision=1e-7, use_sky_coords=False
    )


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("xx", "yy", "xy"), [(1.1, 1.1, 0.0), (4.0, 3.0, 0.7), (9.0, 4.0, -3.0), (12.0, 20.0, 5.0)]
)
def test_equals_galsim(xx, yy, xy, noise):
    for seed in range(5):
        image = noisy_gaussian(seed, xx, yy, xy, noise=noise)
        truth = galsim_moments(image, 3.0, 18.0, 20.0)
        x, y, a, b, c, amplitude = measure(image, 18.0, 20.0, 3.0)
        det = a * b - c * c
        assert det**0.25 == pytest.approx(truth.moments_sigma, rel=1e-5)
        assert (a - b) / (a + b) == pytest.approx(truth.observed_e1, abs=1e-4)
        assert 2 * c / (a + b) == pytest.approx(truth.observed_e2, abs=1e-4)
        assert (x, y) == pytest.approx((truth.moments_centroid.x, truth.moments_centroid.y), abs=1e-5)
        assert amplitude == pytest.approx(truth.moments_amp, rel=1e-4)


def test_recovers_analytic_gaussians():
    image = np.zeros((61, 61), np.float32)
    add_gaussian(image, 30.21, 29.64, 5000.0, 6.0, 4.0, 1.5)
    x, y, xx, yy, xy, flux = measure(image, 30.0, 30.0, 3.0)
    assert (x, y) == pytest.approx((30.21, 29.64), abs=1e-5)
    assert (xx, yy, xy) == pytest.approx((6.0, 4.0, 1.5), rel=1e-5)
    assert flux == pytest.approx(5000.0, rel=1e-5)


def test_bad_pixels_are_zero():
    image = noisy_gaussian(1, 4.0, 4.0, 0.0, noise=0.0)
    spoiled, mask = image.copy(), np.zeros(image.shape, np.int32)
    spoiled[15, 15], mask[15, 15] = np.nan, 2
    image[15, 15] = 0.0
    np.testing.assert_allclose(
        measure(spoiled, 18, 20, 3, mask=mask, bad=3), measure(image, 18, 20, 3), rtol=1e-9
    )
    assert np.isnan(measure(spoiled, 18, 20, 3, mask=mask, bad=1)).all()
    assert np.isnan(measure(spoiled, 18, 20, 3, mask=np.full_like(mask, 1), bad=1)).all()


def test_start_outside_the_box_and_nan_starts_fail():
    image = noisy_gaussian(1, 4.0, 4.0, 0.0, noise=0.0)
    for x, y in ((-0.6, 20.0), (36.6, 20.0), (18.0, 40.6), (np.nan, 20.0)):
        assert np.isnan(measure(image, x, y, 3.0)).all()
    assert np.isnan(measure(image, 18.0, 20.0, np.nan)).all()


def test_sees_only_its_box_and_its_own_source():
    image = np.zeros((40, 80), np.float32)
    add_gaussian(image, 20.2, 20.1, 1000.0, 4.0, 4.0, reach=10)
    add_gaussian(image, 45.0, 20.0, 1e5, 4.0, 4.0, reach=10)
    masks = [np.zeros(image.shape, bool) for _ in range(2)]
    masks[0][10:31, 10:31] = masks[1][10:31, 35:56] = True
    f = footprints_of_masks(masks)
    alone = image.copy()
    alone[masks[1]] = 0.0
    scene = Scene(image, f.span_y, f.span_x0, f.span_x1, f.span_start, np.zeros(f.area.sum(), np.float32))
    scene.hide_all()
    boxes = np.array([[5, 5, 60, 35], [30, 5, 60, 35]], np.int32)
    mask = np.zeros(image.shape, np.int32)
    values, converged = hsm_moments(scene, mask, 0, boxes, *np.array([[20, 45], [20, 20], [3, 3]], float))
    assert converged.all()
    np.testing.assert_allclose(values[0], twin(alone.astype(float), 20, 20, 3), rtol=1e-6, atol=1e-7)
    assert values[1, 5] == pytest.approx(1e5, rel=1e-4)


def test_stamps():
    stamps = np.zeros((2, 25, 25))
    add_gaussian(stamps[0], 12.0, 12.0, 1.0, 2.0, 3.0, 0.5)
    stamps[1] = np.nan
    values, converged = hsm_moments_of_stamps(stamps, np.array([2.0, 2.0]))
    np.testing.assert_allclose(values[0], [12, 12, 2.0, 3.0, 0.5, 1.0], rtol=1e-5)
    assert converged.tolist() == [True, False]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 15), st.integers(1, 15)),
    spoiled=st.sampled_from([None, np.nan, np.inf]),
)
def test_stamps_equal_twin(seed, shape, spoiled):
    rng = np.random.default_rng(seed)
    stamps = rng.normal(0, 0.01, shape)
    for stamp in stamps:
        add_gaussian(stamp, (shape[2] - 1) / 2, (shape[1] - 1) / 2, 1.0, 2.0, 3.0, 0.5)
    if spoiled is not None and stamps.size:
        stamps.flat[rng.integers(stamps.size)] = spoiled
    values, converged = hsm_moments_of_stamps(stamps, np.full(shape[0], 2.0))
    assert values.shape == (shape[0], 6)
    for found, good, stamp in zip(values, converged, stamps, strict=True):
        expected = twin(stamp, shape[2] // 2, shape[1] // 2, 2.0)
        # Rounding may end an ill-conditioned fit this or that side of a limit: then one of the two is NaN.
        both = np.isfinite(expected) & np.isfinite(found)
        np.testing.assert_allclose(found[both], expected[both], rtol=1e-4, atol=1e-4)
        assert good == np.isfinite(found).all()


def test_no_source():
    values, converged = hsm_moments(
        bare_scene(np.zeros((5, 5), np.float32)),
        np.zeros((5, 5), np.int32),
        0,
        np.empty((0, 4), np.int32),
        *np.empty((3, 0)),
    )
    assert values.shape == (0, 6)
    assert converged.shape == (0,)


def test_wrong_shapes_are_refused():
    scene, mask = bare_scene(np.zeros((5, 5), np.float32)), np.zeros((5, 5), np.int32)
    one, box = np.ones(1), np.array([[0, 0, 4, 4]], np.int32)
    with pytest.raises(ValueError):
        hsm_moments(scene, mask, 0, np.array([[0, 0, 5, 4]], np.int32), one, one, one)
    with pytest.raises(ValueError):
        hsm_moments(scene, mask[:3].copy(), 0, box, one, one, one)
    with pytest.raises(ValueError):
        hsm_moments(scene, mask, 0, box, one, one, np.ones(2))
    for shape in ((1, 4), (2, 5)):
        with pytest.raises(ValueError):
            hsm_moments(scene, mask, 0, box, one, one, one, False, np.ones(shape))
    with pytest.raises(ValueError):
        hsm_moments_of_stamps(np.zeros((1, 3, 3)), np.ones(2))
