"""Numbers with reversed bytes against NumPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.kernels import copy_swapped


@given(st.integers(0, 200), st.sampled_from([1, 2, 4, 8]), st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_swapped_twin(n, size, offset, seed):
    memory = np.random.default_rng(seed).integers(0, 256, n * size + offset, np.uint8)
    source, out = memory[offset:], np.zeros(n * size + 1, np.uint8)
    before = source.copy()
    copy_swapped(source, size, out[1:])
    np.testing.assert_array_equal(out[1:].reshape(n, size), before.reshape(n, size)[:, ::-1])
    np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize(
    ("length", "size", "out"), [(8, 4, 4), (6, 4, 6), (8, 3, 8), (8, 0, 8), (8, -4, 8), (0, 16, 0)]
)
def test_what_is_no_row_of_numbers(length, size, out):
    with pytest.raises(ValueError, match=r"differ in length|have 1, 2, 4 or 8 bytes"):
        copy_swapped(np.zeros(length, np.uint8), size, np.zeros(out, np.uint8))


def test_other_outputs_are_refused():
    with pytest.raises(TypeError):
        copy_swapped(np.zeros(4, np.uint8), 4, np.zeros(4, np.int8))
