"""Median and scatter of arrays, against NumPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from streamchar.robust import MAD_TO_SIGMA, median, median_of_sorted, scatter

VALUES = arrays(np.float64, array_shapes(max_dims=3, max_side=12), elements=st.floats(-1e9, 1e9))


@given(values=VALUES)
def test_median_along_the_first_axis_is_numpys(values):
    np.testing.assert_array_equal(median(values), np.median(values, axis=0))
    np.testing.assert_array_equal(median_of_sorted(np.sort(values, axis=0)), median(values))


@given(values=VALUES)
def test_scatter_is_the_scaled_median_absolute_deviation(values):
    middle = np.median(values, axis=0)
    expected = MAD_TO_SIGMA * np.median(np.abs(values - middle), axis=0)
    np.testing.assert_array_equal(scatter(values), expected)
    np.testing.assert_array_equal(scatter(values, about=0.0), MAD_TO_SIGMA * median(np.abs(values)))


def test_scatter_of_normal_errors_is_their_standard_deviation():
    values = np.random.default_rng(1).normal(3.0, 2.5, 100_000)
    values[:1000] = 1e6
    assert scatter(values) == pytest.approx(2.5, rel=0.02)


def test_nothing_has_no_median_and_nan_counts_as_the_largest():
    assert np.isnan(median(np.empty(0)))
    assert np.isnan(scatter(np.empty(0)))
    assert median(np.empty((0, 4))).shape == (4,)
    assert median(np.array([3.0, np.nan, 1.0])) == 3.0
