"""Weighted sums for blendedness against the rule pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import erfc

from streamchar.kernels import blend_sums
from tests.measurement_scenes import add_gaussian, bare_scene


def bias(pixel, variance):
    """Section 11 of measurement.md."""
    tail = 0.5 * erfc(-pixel / np.sqrt(2 * variance))
    mu = np.where(
        tail > 0,
        pixel
        + np.sqrt(variance / (2 * np.pi))
        * np.exp(-(pixel**2) / (2 * variance))
        / np.where(tail > 0, tail, 1),
        0.0,
    )
    return np.sqrt(2 * variance / np.pi) * np.exp(-(mu**2) / (2 * variance)) - mu * erfc(
        mu / np.sqrt(2 * variance)
    )


def twin(image, variance, x, y, xx, yy, xy):
    dy, dx = np.indices(image.shape, float)
    dx, dy = dx - x, dy - y
    q = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / (xx * yy - xy * xy)
    w = np.where(q <= 9, np.exp(-0.5 * q), 0.0)
    found = []
    for d in (image, np.abs(image) - bias(image, variance)):
        with np.errstate(invalid="ignore", divide="ignore"):
            found += [w.sum() * (w * d).sum() / (w * w).sum()]
            found += [2 * (w * d * m).sum() / (w * d).sum() for m in (dx * dx, dy * dy, dx * dy)]
    return np.array(found)


def measure(image, variance, *parameters):
    return blend_sums(bare_scene(image), variance, *(np.array([value], float) for value in parameters))[0]


@settings(deadline=None)
@given(
    arrays(np.float32, (9, 8), elements=st.floats(-100, 100, width=32)),
    st.floats(0.5, 400),
    st.floats(-2, 10),
    st.floats(-2, 10),
    st.floats(0.5, 9),
    st.floats(0.5, 9),
    st.floats(-0.9, 0.9),
)
def test_equals_twin(image, variance, x, y, xx, yy, correlation):
    plane = np.full(image.shape, variance, np.float32)
    parameters = (x, y, xx, yy, correlation * np.sqrt(xx * yy))
    found = measure(image, plane, *parameters)
    expected = twin(image.astype(float), float(np.float32(variance)), *parameters)
    np.testing.assert_allclose(found[[0, 4]], expected[[0, 4]], rtol=1e-6, atol=1e-4)
    if abs(expected[0]) > 1 and abs(expected[4]) > 1:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-2)


def test_flux_and_moments_of_a_gaussian():
    image = np.zeros((61, 61), np.float32)
    add_gaussian(image, 30.2, 29.7, 1e4, 9, 4, 2)
    found = measure(image, np.full_like(image, 1e-6), 30.2, 29.7, 9, 4, 2)
    # The weight is cut at three sigma: its own sum lacks exp(-9/2), the sums of the source exp(-9).
    np.testing.assert_allclose(found, [1e4, 9, 4, 2] * 2, rtol=0.03)
    assert found[0] == pytest.approx(1e4 * (1 - np.exp(-4.5)), rel=2e-3)


def test_noise_alone_has_less_absolute_flux_than_without_the_bias():
    noise = np.random.default_rng(2).normal(0, 10, (400, 400)).astype(np.float32)
    y, x = (np.indices((30, 30)) * 13 + 10.0).reshape(2, -1)
    same = np.full(900, 4.0)
    sums = blend_sums(bare_scene(noise), np.full_like(noise, 100.0), x, y, same, same, np.zeros(900))
    naive = blend_sums(bare_scene(np.abs(noise)), np.full_like(noise, 1e-9), x, y, same, same, np.zeros(900))
    # Only part: the bias is computed as if what is there were the noisy pixel itself, and not below zero.
    assert 0 < sums[:, 4].mean() < 0.75 * naive[:, 4].mean()
    assert abs(sums[:, 0].mean()) < 5 * sums[:, 0].std() / 30


@pytest.mark.parametrize("parameters", [(np.nan, 2, 1, 1, 0), (2, 2, 1, 1, 1), (2, 2, -1, -1, 0)])
def test_what_cannot_be_measured_is_nan(parameters):
    image = np.ones((5, 5), np.float32)
    assert np.isnan(measure(image, image, *parameters)).all()


def test_planes_must_fit():
    one = np.ones(1)
    with pytest.raises(ValueError, match="variance and image"):
        blend_sums(
            bare_scene(np.ones((5, 5), np.float32)), np.ones((5, 6), np.float32), one, one, one, one, 0 * one
        )
