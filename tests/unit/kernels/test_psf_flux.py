"""The amplitude fit against its formulas in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamchar.kernels import psf_flux
from tests.measurement_scenes import bare_scene


def twin(image, variance, mask, bad, stamp, x0, y0):
    """Section 7 of measurement.md: flux, error, area, chi2, pixels, clipped."""
    height, width = stamp.shape
    rows, columns = np.mgrid[y0 : y0 + height, x0 : x0 + width]
    inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
    good = inside.copy()
    good[inside] = (mask[rows[inside], columns[inside]] & bad) == 0
    m, d, v = (
        stamp[good],
        image[rows[good], columns[good]].astype(float),
        variance[rows[good], columns[good]].astype(float),
    )
    with np.errstate(all="ignore"):
        alpha = np.float64((m * m).sum())
        flux = (m * d).sum() / alpha
        error = np.sqrt((m * m * v).sum()) / alpha
        chi2 = ((d - flux * m) ** 2 / v).sum() if len(d) else np.nan
        return (flux, error, m.sum() ** 2 / alpha, chi2), good.sum(), not inside.all()


SHAPE = (8, 9)
PIXELS = st.floats(-100, 100, width=32) | st.sampled_from([np.nan, np.inf])


@settings(deadline=None)
@given(
    arrays(np.float32, SHAPE, elements=PIXELS),
    arrays(np.float32, SHAPE, elements=st.floats(np.float32(0.01), 100, width=32) | st.just(np.nan)),
    arrays(np.int32, SHAPE, elements=st.sampled_from([0, 0, 0, 1, 2, 3])),
    arrays(np.float64, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.floats(0.001, 1)),
    st.integers(-9, 11),
    st.integers(-9, 11),
    st.sampled_from([0, 1, 3]),
)
def test_equals_twin(image, variance, mask, stamp, x0, y0, bad):
    (expected, pixels, clipped) = twin(image, variance, mask, bad, stamp, x0, y0)
    values, count, edge = psf_flux(
        bare_scene(image), variance, mask, bad, stamp[None], np.array([x0]), np.array([y0])
    )
    np.testing.assert_allclose(values[0], expected, rtol=1e-6, atol=1e-6)
    assert (count[0], edge[0]) == (pixels, clipped)


def test_noise_is_not_counted_where_pixels_are_left_out():
    image, mask = np.full(SHAPE, 7.0, np.float32), np.zeros(SHAPE, np.int32)
    image[3, 3], mask[3, 3] = np.nan, 4
    stamp = np.full((1, 5, 5), 0.04)
    values, count, _ = psf_flux(
        bare_scene(image), np.ones(SHAPE, np.float32), mask, 4, stamp, *np.array([[2], [2]])
    )
    assert values[0, 0] == pytest.approx(175.0)
    assert values[0, 3] == pytest.approx(0.0, abs=1e-9)
    assert count[0] == 24


def test_no_source_and_wrong_shapes():
    scene, plane, mask = (
        bare_scene(np.ones(SHAPE, np.float32)),
        np.ones(SHAPE, np.float32),
        np.zeros(SHAPE, np.int32),
    )
    none = np.empty(0, np.int64)
    values, pixels, clipped = psf_flux(scene, plane, mask, 0, np.empty((0, 3, 3)), none, none)
    assert values.shape == (0, 4)
    assert pixels.shape == clipped.shape == (0,)
    with pytest.raises(ValueError):
        psf_flux(scene, plane, mask, 0, np.ones((2, 3, 3)), *np.zeros((2, 1), np.int64))
    with pytest.raises(ValueError):
        psf_flux(scene, plane[:4].copy(), mask, 0, np.ones((1, 3, 3)), *np.zeros((2, 1), np.int64))
