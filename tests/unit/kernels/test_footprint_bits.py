"""Mask bits of footprints and windows against boolean indexing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamchar.kernels import footprint_bits, footprints_contain, window_bits
from tests.measurement_scenes import footprints_of_masks

MASKS = st.lists(arrays(bool, (6, 7)), max_size=4)


def spans(f):
    return f.span_y, f.span_x0, f.span_x1, f.span_start


@given(MASKS, arrays(np.int32, (6, 7), elements=st.integers(0, 2**30)))
def test_bits_of_footprints(masks, plane):
    expected = [np.bitwise_or.reduce(plane[mask], initial=0) for mask in masks]
    assert footprint_bits(plane, *spans(footprints_of_masks(masks))).tolist() == expected


@given(MASKS, st.data())
def test_footprints_contain(masks, data):
    position = st.floats(-2, 9) | st.just(np.nan) | st.just(np.inf)
    n = len(masks)
    x, y = (np.array(data.draw(st.lists(position, min_size=n, max_size=n)), float) for _ in range(2))
    expected = []
    for mask, px, py in zip(masks, x, y, strict=True):
        column, row = np.floor(px + 0.5), np.floor(py + 0.5)
        inside = 0 <= column < 7 and 0 <= row < 6
        expected.append(bool(inside and mask[int(row), int(column)]))
    assert footprints_contain(*spans(footprints_of_masks(masks)), x, y).tolist() == expected


@given(
    arrays(np.int32, (6, 7), elements=st.integers(0, 2**30)),
    st.integers(-5, 12),
    st.integers(-5, 12),
    st.integers(0, 3),
)
def test_bits_of_windows(plane, x, y, half):
    window = plane[max(y - half, 0) : max(y + half + 1, 0), max(x - half, 0) : max(x + half + 1, 0)]
    some, every = window_bits(plane, np.array([x]), np.array([y]), half)
    assert some[0] == np.bitwise_or.reduce(window, axis=None)
    assert every[0] == np.bitwise_and.reduce(window, axis=None)


def test_wrong_input_is_refused():
    plane, f = np.zeros((6, 7), np.int32), footprints_of_masks([np.ones((8, 7), bool)])
    with pytest.raises(ValueError):
        footprint_bits(plane, *spans(f))
    with pytest.raises(ValueError):
        footprints_contain(*spans(f), np.ones(2), np.ones(2))
    with pytest.raises(ValueError):
        window_bits(plane, np.ones(1, np.int64), np.ones(2, np.int64), 1)
