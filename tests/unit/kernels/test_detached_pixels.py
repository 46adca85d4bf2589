"""detached_pixels against SciPy's connected components."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from streamchar.kernels import detached_pixels


def detached_twin(stamp):
    middle = len(stamp) // 2
    seeded = stamp.copy()
    seeded[middle, middle] = True
    areas = label(seeded, np.ones((3, 3)))[0]
    return stamp & (areas != areas[middle, middle])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 4),
    st.sampled_from([1, 3, 9, 31]),
    st.sampled_from([0, 0.2, 0.5, 1]),
)
def test_detached_pixels_equal_twin(seed, count, size, density):
    stamps = np.random.default_rng(seed).uniform(size=(count, size, size)) < density
    before = stamps.copy()
    expected = np.array([detached_twin(stamp) for stamp in stamps], np.bool_).reshape(stamps.shape)
    np.testing.assert_array_equal(detached_pixels(stamps), expected)
    np.testing.assert_array_equal(stamps, before)


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 5, 3), (1, 0, 0)])
def test_stamps_have_a_middle(shape):
    with pytest.raises(ValueError, match="odd"):
        detached_pixels(np.zeros(shape, np.bool_))
