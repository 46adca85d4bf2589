"""Bright maxima of small integers, where plateaus are common, against their neighbours."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import bright_maxima


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_bright_maxima(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 6, (12, 100)).astype(np.float32)
    image[rng.random(12) < 0.5, 20:] = 1
    image[rng.random(image.shape) < 0.02] = rng.choice([np.nan, 9])
    y, x = bright_maxima(image, 2.0)
    for b, a in zip(y, x, strict=True):
        around = image[b - 1 : b + 2, a - 1 : a + 2]
        assert image[b, a] > 2
        assert not (around > image[b, a]).any()
    strict = {
        (b, a)
        for b in range(1, 11)
        for a in range(1, 99)
        if image[b, a] > 2 and (image[b - 1 : b + 2, a - 1 : a + 2] < image[b, a]).sum() == 8
    }
    assert strict <= set(zip(y.tolist(), x.tolist(), strict=True))
