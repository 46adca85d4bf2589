"""Sums of a filter over trusted pixels against sums over a padded plane."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamchar.kernels import trusted_sums

SHAPE = (6, 9)


def sums_twin(image, variance, mask, bits, x, y, taps):
    half = len(taps) - 1
    line = np.concatenate([taps[:0:-1], taps])
    kernel = np.outer(line, line)
    trusted = ((mask & bits) == 0) & np.isfinite(image) & (variance > 0)
    rows = []
    for column, row in zip(x, y, strict=True):
        window = np.s_[row + 50 - half : row + 51 + half, column + 50 - half : column + 51 + half]
        used = np.pad(trusted, 50)[window]
        signal, noise = (
            np.where(used, np.pad(plane.astype(float), 50)[window], 0) for plane in (image, variance)
        )
        rows.append([(signal * kernel).sum(), (noise * kernel**2).sum(), (used * kernel**2).sum()])
    return np.array(rows).reshape(-1, 3).T


@given(
    arrays(np.float32, SHAPE, elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, np.inf])),
    arrays(np.float32, SHAPE, elements=st.sampled_from([0.0, -1.0, 1.0, 7.5, np.nan])),
    arrays(np.int32, SHAPE, elements=st.sampled_from([0, 1, 2, 3])),
    st.sampled_from([0, 1, 2, 3]),
    st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), max_size=12),
    st.integers(0, 4),
)
def test_sums(image, variance, mask, bits, places, half):
    x, y = (np.ascontiguousarray(axis) for axis in np.array(places, np.int32).reshape(-1, 2).T)
    taps = 0.7 ** np.arange(half + 1)
    found = trusted_sums(image, variance, mask, bits, x, y, taps)
    np.testing.assert_allclose(
        found, sums_twin(image, variance, mask, bits, x, y, taps), rtol=1e-12, atol=1e-6
    )


def test_wrong_input_is_refused():
    plane, mask, one = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.int32), np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="shape"):
        trusted_sums(plane, plane[:3].copy(), mask, 1, one, one, np.ones(2))
    with pytest.raises(ValueError, match="length"):
        trusted_sums(plane, plane, mask, 1, one, np.zeros(2, np.int32), np.ones(2))
    with pytest.raises(ValueError, match="no taps"):
        trusted_sums(plane, plane, mask, 1, one, one, np.ones(0))
