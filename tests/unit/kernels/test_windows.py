"""Windows of a plane against slices of a padded one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamchar.kernels import cut_windows, largest_in_windows


@given(
    arrays(np.float32, (6, 7), elements=st.floats(width=32)),
    st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), max_size=30),
    st.integers(0, 8),
)
def test_windows(plane, places, half):
    x, y = np.array(places, np.int64).reshape(-1, 2).T
    padded = np.pad(plane, 50, constant_values=np.nan)
    expected = [
        padded[b + 50 - half : b + 51 + half, a + 50 - half : a + 51 + half].ravel() for a, b in places
    ]
    found = cut_windows(plane, np.ascontiguousarray(x), np.ascontiguousarray(y), half)
    assert found.shape == (len(places), (2 * half + 1) ** 2)
    np.testing.assert_array_equal(found, np.array(expected, np.float32).reshape(found.shape))


def largest_twin(plane, x, y, half):
    windows = cut_windows(plane, x, y, half)
    return np.where(np.isfinite(windows), windows, -np.inf).max(axis=1)


@given(
    arrays(np.float32, (6, 23), elements=st.floats(width=32)),
    st.lists(st.tuples(st.integers(-20, 40), st.integers(-20, 20)), max_size=30),
    st.integers(0, 8),
)
def test_largest_finite_pixel(plane, places, half):
    x, y = (np.ascontiguousarray(axis) for axis in np.array(places, np.int64).reshape(-1, 2).T)
    np.testing.assert_array_equal(largest_in_windows(plane, x, y, half), largest_twin(plane, x, y, half))


def test_wrong_input_is_refused():
    plane, one = np.zeros((3, 4), np.float32), np.ones(1, np.int64)
    for kernel in (cut_windows, largest_in_windows):
        with pytest.raises(ValueError, match="length"):
            kernel(plane, one, np.ones(2, np.int64), 1)
        with pytest.raises(ValueError, match="half"):
            kernel(plane, one, one, -1)
