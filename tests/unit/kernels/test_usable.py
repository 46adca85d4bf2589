"""Counting usable pixels, and those with some bits, against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.kernels import count_bits, count_usable

VALUES = np.array([0, 1, -1, 1e-45, -0.0, 3.4e38, np.nan, np.inf, -np.inf], np.float32)


@given(st.tuples(st.integers(0, 9), st.integers(0, 80)), st.integers(0, 2**32 - 1))
def test_count_twin(shape, seed):
    image, variance = np.random.default_rng(seed).choice(VALUES, (2, *shape))
    finite = np.isfinite(image)
    usable = finite & np.isfinite(variance) & (variance > 0)
    assert count_usable(image, variance) == (finite.sum(), usable.sum())


def test_planes_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        count_usable(np.zeros((3, 4), np.float32), np.zeros((4, 3), np.float32))


@given(st.tuples(st.integers(0, 9), st.integers(0, 80)), st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1))
def test_bits_twin(shape, bits, seed):
    mask = np.random.default_rng(seed).choice(np.int32([0, 1, 2, 6, 1 << 30, -1]), shape)
    assert count_bits(mask, bits) == np.count_nonzero(mask & np.int32(bits))
