"""Third and fourth moments against plain sums and against analytic Gaussians."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import inv, sqrtm

from streamchar.kernels import higher_moments
from tests.measurement_scenes import add_gaussian, bare_scene

ORDERS = ((3, 0), (2, 1), (1, 2), (0, 3), (4, 0), (3, 1), (2, 2), (1, 3), (0, 4))


def standardised(shape, x, y, xx, yy, xy):
    """Positions of the pixels of which the weight is a round Gaussian."""
    dy, dx = np.indices(shape, float)
    white = inv(np.real(sqrtm(np.array([[xx, xy], [xy, yy]]))))
    return np.tensordot(white, np.stack([dx - x, dy - y]), 1)


def twin(image, x, y, xx, yy, xy):
    if not (xx * yy - xy * xy > 0 and xx > 0 and np.isfinite(x) and np.isfinite(y)):
        return np.full(9, np.nan)
    u, v = standardised(image.shape, x, y, xx, yy, xy)
    q = u * u + v * v
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        f = np.where(q <= 36, np.exp(-0.5 * q) * image, 0.0)
        return np.array([np.sum(f * u**p * v**r) for p, r in ORDERS]) / f.sum()


def measure(image, *parameters):
    return higher_moments(bare_scene(image), *(np.array([value], float) for value in parameters))[0]


@settings(deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(1, 100, width=32) | st.just(np.nan),
    ),
    st.floats(-5, 12),
    st.floats(-5, 12),
    st.floats(0.5, 9),
    st.floats(0.5, 9),
    st.floats(-0.9, 0.9),
)
def test_equals_twin(image, x, y, xx, yy, correlation):
    parameters = (x, y, xx, yy, correlation * np.sqrt(xx * yy))
    # A pixel just at q = 36 may fall on either side, and it may be the only one or hold no number.
    assume((np.abs(np.square(standardised(image.shape, *parameters)).sum(axis=0) - 36) > 1e-6).all())
    expected, found = twin(image, *parameters), measure(image, *parameters)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("xx", "yy", "xy"), [(4.0, 4.0, 0.0), (9.0, 4.0, 2.0), (20.0, 12.0, -8.0)])
def test_moments_of_a_gaussian(xx, yy, xy):
    image = np.zeros((101, 101), np.float32)
    add_gaussian(image, 50.3, 49.6, 1e4, xx, yy, xy, reach=50)
    expected = [0, 0, 0, 0, 0.75, 0, 0.25, 0, 0.75]
    np.testing.assert_allclose(measure(image, 50.3, 49.6, xx, yy, xy), expected, atol=2e-5)


def test_a_source_turned_by_a_right_angle_has_its_moments_turned():
    image = np.random.default_rng(1).uniform(0, 1, (31, 31)).astype(np.float32)
    add_gaussian(image, 15, 15, 1e3, 6, 4, 1)
    there = measure(image, 15, 15, 6, 4, 1)
    turned = measure(np.ascontiguousarray(np.rot90(image)), 15, 15, 4, 6, -1)
    signs = np.array([-1, 1, -1, 1, 1, -1, 1, -1, 1.0])  # (u, v) becomes (v, -u)
    np.testing.assert_allclose(turned, (there * signs)[[3, 2, 1, 0, 8, 7, 6, 5, 4]], rtol=1e-5, atol=1e-6)


def test_no_source_and_arrays_that_do_not_fit():
    image = np.ones((5, 5), np.float32)
    none = np.empty(0)
    assert higher_moments(bare_scene(image), none, none, none, none, none).shape == (0, 9)
    with pytest.raises(ValueError, match="differ in length"):
        higher_moments(bare_scene(image), np.ones(2), np.ones(2), np.ones(2), np.ones(1), np.ones(2))


@pytest.mark.parametrize(
    "parameters",
    [
        (np.nan, 2, 1, 1, 0),
        (2, np.inf, 1, 1, 0),
        (2, 2, np.nan, 1, 0),
        (2, 2, 1, 1, 1),
        (2, 2, -1, -1, 0),
        (90, 2, 1, 1, 0),
    ],
)
def test_what_cannot_be_measured_is_nan(parameters):
    assert np.isnan(measure(np.ones((5, 5), np.float32), *parameters)).all()
