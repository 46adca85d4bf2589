"""monomials against their definition in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import monomials


def monomials_twin(x, y, degree, x_offset, y_offset, x_scale, y_scale):
    u, v = (x - x_offset) / x_scale, (y - y_offset) / y_scale
    along_x, along_y = [np.ones(len(u))], [np.ones(len(v))]
    for _ in range(degree):
        along_x.append(along_x[-1] * u)
        along_y.append(along_y[-1] * v)
    powers = [(i, j) for j in range(degree + 1) for i in range(degree + 1 - j)]
    return np.stack([along_x[i] * along_y[j] for i, j in powers], axis=1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 9),
    st.integers(0, 8),
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0]),
)
def test_monomials_equal_twin(seed, count, degree, odd):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-100, 4000, (2, count))
    x[:1] = odd
    scaling = *rng.uniform(0, 2000, 2), *rng.uniform(1, 4000, 2)
    with np.errstate(invalid="ignore"):
        expected = monomials_twin(x, y, degree, *scaling)
    np.testing.assert_array_equal(monomials(x, y, degree, *scaling), expected)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="length"):
        monomials(np.zeros(2), np.zeros(3), 1, 0.0, 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="degree"):
        monomials(np.zeros(2), np.zeros(2), -1, 0.0, 0.0, 1.0, 1.0)
