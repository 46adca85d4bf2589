"""What stands out of a smoothed plane against plain NumPy and SciPy's dilation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from streamchar.kernels import smooth, stand_out


def twin(plane, taps, level, pit, half_widths):
    smoothed = np.empty_like(plane)
    smooth(np.pad(plane, len(taps) - 1, mode="edge"), taps, smoothed)
    with np.errstate(invalid="ignore"):
        flags = (smoothed > level) | (smoothed < np.float32(-pit) * level)
    radius, reach = len(half_widths) - 1, half_widths[0]
    y, x = np.mgrid[-radius : radius + 1, -reach : reach + 1]
    return ndimage.binary_dilation(flags, np.abs(x) <= half_widths[np.abs(y)])


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 21), st.integers(1, 70)),
    half=st.integers(0, 3),
    half_widths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    special=st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 1e20]), max_size=4),
    threshold=st.sampled_from([0.0, 1.0, 2.5, np.inf, np.nan]),
)
def test_stand_out(seed, shape, half, half_widths, special, threshold):
    rng = np.random.default_rng(seed)
    plane = rng.normal(0, 1, shape).astype(np.float32)
    for value in special:
        plane.flat[rng.integers(plane.size)] = value
    taps = rng.uniform(0.1, 0.5, half + 1).astype(np.float32)
    level = (threshold * rng.uniform(0.5, 1, shape)).astype(np.float32)
    widths = np.array(sorted(half_widths, reverse=True), np.int32)
    found = stand_out(plane, taps, level, 1.5, widths)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, twin(plane, taps, level, 1.5, widths))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_an_empty_plane(shape):
    nothing, one = np.empty(shape, np.float32), np.ones(1, np.float32)
    assert stand_out(nothing, one, nothing, 1.0, np.array([2, 1], np.int32)).shape == shape


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"level": np.zeros((3, 3), np.float32)}, "shape"),
        ({"taps": np.zeros(0, np.float32)}, "taps"),
        ({"half_widths": np.zeros(0, np.int32)}, "no rows"),
        ({"half_widths": np.array([-1], np.int32)}, "half widths"),
        ({"half_widths": np.array([1, 2], np.int32)}, "half widths"),
    ],
)
def test_refusals(change, match):
    arguments = {
        "plane": np.zeros((3, 4), np.float32),
        "taps": np.ones(1, np.float32),
        "level": np.zeros((3, 4), np.float32),
        "pit": 1.0,
        "half_widths": np.array([1, 0], np.int32),
    }
    with pytest.raises(ValueError, match=match):
        stand_out(**(arguments | change))
