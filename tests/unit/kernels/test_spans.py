"""Painting spans against NumPy slices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.kernels import clear_bits, clear_spans, or_spans, paint_spans

SHAPE = (5, 9)
SPANS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8), st.integers(0, 8)), max_size=24)


def columns(spans):
    ordered = [(y, min(a, b), max(a, b)) for y, a, b in spans]
    return tuple(np.array([span[k] for span in ordered], np.int32) for k in range(3))


@given(spans=SPANS)
def test_later_spans_win(spans):
    y, x0, x1 = columns(spans)
    plane, expected = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.int32)
    paint_spans(plane, y, x0, x1, np.arange(1, len(y) + 1, dtype=np.int32))
    for i in range(len(y)):
        expected[y[i], x0[i] : x1[i] + 1] = i + 1
    np.testing.assert_array_equal(plane, expected)


@given(spans=SPANS, bits=st.sampled_from([0, 1, 32, 96]))
def test_bits_are_added(spans, bits):
    y, x0, x1 = columns(spans)
    plane = np.full(SHAPE, 3, np.int32)
    expected = plane.copy()
    or_spans(plane, y, x0, x1, bits)
    for i in range(len(y)):
        expected[y[i], x0[i] : x1[i] + 1] |= bits
    np.testing.assert_array_equal(plane, expected)
    clear_spans(plane, y, x0, x1, bits)
    for i in range(len(y)):
        expected[y[i], x0[i] : x1[i] + 1] &= ~bits
    np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize("span", [(5, 0, 0), (-1, 0, 0), (0, -1, 0), (0, 3, 1), (0, 0, 9)])
def test_refuses_spans_outside_the_plane(span):
    y, x0, x1 = (np.array([value], np.int32) for value in span)
    with pytest.raises(ValueError, match="outside"):
        or_spans(np.zeros(SHAPE, np.int32), y, x0, x1, 1)
    with pytest.raises(ValueError, match="outside"):
        clear_spans(np.zeros(SHAPE, np.int32), y, x0, x1, 1)


def test_refuses_arrays_of_different_length():
    one, two = np.zeros(1, np.int32), np.zeros(2, np.int32)
    with pytest.raises(ValueError, match="length"):
        paint_spans(np.zeros(SHAPE, np.int32), one, one, two, one)
    with pytest.raises(ValueError, match="length"):
        paint_spans(np.zeros(SHAPE, np.int32), one, one, one, two)


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(0, 9), st.integers(0, 90)),
    bits=st.sampled_from([0, 8, 3, -1]),
)
def test_bits_are_cleared(seed, shape, bits):
    mask = np.random.default_rng(seed).integers(-16, 16, shape).astype(np.int32)
    expected = mask & ~np.int32(bits)
    clear_bits(mask, bits)
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 6), np.int32).T, np.zeros((6, 8)), np.zeros((6, 8), np.int32)[:, ::2]]
)
def test_a_plane_to_be_cleared_is_never_converted(wrong):
    """A conversion would modify a copy, silently."""
    with pytest.raises(TypeError):
        clear_bits(wrong, 8)
