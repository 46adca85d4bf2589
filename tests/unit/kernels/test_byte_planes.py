"""Byte planes against NumPy's transposition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.kernels import join_bytes, split_bytes


@given(st.integers(0, 100), st.sampled_from([2, 3, 4, 8, 9]), st.integers(0, 2**32 - 1))
def test_transposed_and_back(n, k, seed):
    elements = np.random.default_rng(seed).integers(0, 256, (n, k), np.uint8)
    low, high = split_bytes(elements)
    assert low == elements.T[: k - 2].tobytes()
    assert high == elements.T[k - 2 :].tobytes()
    back = np.empty((n, k), np.uint8)
    join_bytes(np.frombuffer(low, np.uint8), np.frombuffer(high, np.uint8), back)
    np.testing.assert_array_equal(back, elements)


def test_read_only_input():
    elements = np.frombuffer(bytes(range(48)), np.uint8).reshape(6, 8)
    assert b"".join(split_bytes(elements)) == elements.T.tobytes()


def test_elements_of_one_byte_have_no_planes():
    with pytest.raises(ValueError, match="two bytes"):
        split_bytes(np.zeros((3, 1), np.uint8))


@pytest.mark.parametrize(("low", "high"), [(5, 4), (4, 3), (0, 8), (5, 3)])
def test_planes_of_another_size_are_refused(low, high):
    with pytest.raises(ValueError, match="planes"):
        join_bytes(np.zeros(low, np.uint8), np.zeros(high, np.uint8), np.zeros((2, 4), np.uint8))


def test_other_arrays_are_refused():
    with pytest.raises(TypeError):
        split_bytes(np.zeros(4, np.uint8))
    with pytest.raises(TypeError):
        join_bytes(np.zeros(4, np.uint8), np.zeros(4, np.uint8), np.zeros((2, 8), np.uint8)[:, ::2])
