"""Gaussian-weighted sums against the rule pixel by pixel and against analytic Gaussians."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamchar.kernels import gaussian_flux
from tests.measurement_scenes import add_gaussian, bare_scene


def twin(image, x, y, xx, yy, xy):
    """Sections 5 and 6 of measurement.md, with the sub-pixel sum divided by its 16 positions."""
    det = xx * yy - xy * xy
    if not (det > 0 and xx > 0 and np.isfinite(x) and np.isfinite(y)):
        return np.nan
    reach = min(4 * np.sqrt(max(xx, yy)), 1000)
    fine = xx < 0.25 or yy < 0.25 or det < 0.0625

    def q(dx, dy):
        return (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / det

    total = 0.0
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            if not (np.ceil(x - reach - 0.5) <= column <= np.floor(x + reach + 0.5)):
                continue
            if not (np.ceil(y - reach - 0.5) <= row <= np.floor(y + reach + 0.5)):
                continue
            dx, dy = column - x, row - y
            if fine:
                corners = [q(dx + a, dy + b) for a in (-0.375, 0.375) for b in (-0.375, 0.375)]
                if max(corners) <= 9:
                    steps = (-0.375, -0.125, 0.125, 0.375)
                    weights = [np.exp(-0.5 * q(dx + a, dy + b)) for a in steps for b in steps]
                    total += np.mean(weights) * image[row, column]
            elif q(dx, dy) <= 14:
                total += np.exp(-0.5 * q(dx, dy)) * image[row, column]
    return total


def measure(image, *parameters):
    return gaussian_flux(bare_scene(image), *(np.array([value], float) for value in parameters))[0]


PIXELS = st.floats(-100, 100, width=32) | st.sampled_from([np.nan, np.inf])


@settings(deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=PIXELS),
    st.floats(-5, 12),
    st.floats(-5, 12),
    st.floats(0.02, 9),
    st.floats(0.02, 9),
    st.floats(-0.95, 0.95),
)
def test_equals_twin(image, x, y, xx, yy, correlation):
    parameters = (x, y, xx, yy, correlation * np.sqrt(xx * yy))
    with np.errstate(invalid="ignore"):
        expected = twin(image.astype(float), *parameters)
    np.testing.assert_allclose(measure(image, *parameters), expected, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize(("xx", "yy", "xy"), [(1.0, 1.0, 0.0), (9.0, 4.0, 2.0), (100.0, 60.0, -40.0)])
def test_half_the_flux_of_a_matched_gaussian(xx, yy, xy):
    image = np.zeros((121, 121), np.float32)
    add_gaussian(image, 60.2, 59.7, 1e4, xx, yy, xy, reach=60)
    assert 2 * measure(image, 60.2, 59.7, xx, yy, xy) == pytest.approx(1e4, rel=2e-5)


@pytest.mark.parametrize(
    "parameters",
    [
        (np.nan, 2, 1, 1, 0),
        (2, np.nan, 1, 1, 0),
        (2, 2, np.nan, 1, 0),
        (2, 2, 1, 1, 1),
        (2, 2, -1, -1, 0),
        (np.inf, 2, 1, 1, 0),
    ],
)
def test_unusable_parameters_give_nan(parameters):
    assert np.isnan(measure(np.ones((5, 5), np.float32), *parameters))


def test_no_source_and_wrong_lengths():
    scene = bare_scene(np.ones((5, 5), np.float32))
    assert gaussian_flux(scene, *np.empty((5, 0))).shape == (0,)
    with pytest.raises(ValueError):
        gaussian_flux(scene, *np.ones((4, 2)), np.ones(3))
