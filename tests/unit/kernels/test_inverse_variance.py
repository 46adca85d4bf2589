"""inverse_variance against its definition in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import inverse_variance


def weights_twin(model, usable, flux, sky, slope, accuracy):
    light = np.maximum(flux[:, None, None] * model, 0.0)
    with np.errstate(invalid="ignore"):
        variance = sky[:, None, None] + slope[:, None, None] * light + (accuracy * light) ** 2
        return np.where(usable, 1.0 / variance, 0.0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([0.0, 1e-3, 0.5]),
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0]),
)
def test_weights_equal_twin(seed, shape, accuracy, odd):
    rng = np.random.default_rng(seed)
    model, usable = rng.normal(size=shape), rng.uniform(size=shape) < 0.7
    model[rng.uniform(size=shape) < 0.1] = odd
    flux, sky, slope = rng.uniform(1e-3, 1e4, (3, shape[0]))
    noise = usable, flux, sky, slope, accuracy
    np.testing.assert_allclose(inverse_variance(model, *noise), weights_twin(model, *noise), rtol=1e-13)


def test_shapes_must_agree():
    model, usable, one = np.zeros((2, 3, 3)), np.ones((2, 3, 3), np.bool_), np.ones(2)
    with pytest.raises(ValueError, match="shape"):
        inverse_variance(model, usable[:, :2].copy(), one, one, one, 0.1)
    with pytest.raises(ValueError, match="length"):
        inverse_variance(model, usable, one[:1].copy(), one, one, 0.1)
