"""Growing against scipy's dilation of the painted footprints."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from streamchar.kernels import detect, grow_each, grow_merging


def element(half_widths):
    radius, widest = len(half_widths) - 1, max(half_widths)
    rows, columns = np.mgrid[-radius : radius + 1, -widest : widest + 1]
    return np.abs(columns) <= np.asarray(half_widths)[np.abs(rows)]


def paint(spans, shape, i):
    y, x0, x1, start = spans
    plane = np.zeros(shape, bool)
    for k in range(start[i], start[i + 1]):
        plane[y[k], x0[k] : x1[k] + 1] = True
    return plane


@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 150)),
    half_widths=st.lists(st.integers(0, 5), min_size=1, max_size=5),
)
def test_growing_equals_dilating_and_labelling(data, shape, half_widths):
    image = data.draw(
        arrays(np.float32, shape, elements=st.sampled_from([0.0] * 9 + [1.0]), fill=st.just(0.0))
    )
    spans = detect(image, None, 0.5, 1.0, 1, False)[0]
    count = len(spans[3]) - 1
    widths = np.array(half_widths, np.int32)

    each = grow_each(*spans, *shape, widths)
    dilated = [ndimage.binary_dilation(paint(spans, shape, i), element(half_widths)) for i in range(count)]
    assert len(each[3]) - 1 == count
    for i in range(count):
        np.testing.assert_array_equal(paint(each, shape, i), dilated[i])

    *merged, owner = grow_merging(*spans, *shape, widths)
    together = np.any(dilated, axis=0) if dilated else np.zeros(shape, bool)
    expected = detect(together.astype(np.float32), None, 0.5, 1.0, 1, False)[0]
    for ours, theirs in zip(merged, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(owner) == count
    for i in range(count):
        assert (paint(merged, shape, owner[i]) & paint(spans, shape, i)).sum() == paint(spans, shape, i).sum()


def test_words_of_bits_join_without_a_seam():
    one = np.array([5], np.int32)
    for x in range(200):
        at = np.array([x], np.int32)
        y, x0, x1, start, owner = grow_merging(
            one, at, at, np.array([0, 1]), 11, 200, np.array([64, 3, 1], np.int32)
        )
        assert y.tolist() == [3, 4, 5, 6, 7]
        assert x0.tolist() == [max(x - w, 0) for w in (1, 3, 64, 3, 1)]
        assert x1.tolist() == [min(x + w, 199) for w in (1, 3, 64, 3, 1)]
        assert (start.tolist(), owner.tolist()) == ([0, 5], [0])


def test_nothing_grows_to_nothing():
    none, start = np.zeros(0, np.int32), np.zeros(1, np.int64)
    y, _, _, grown_start, owner = grow_merging(none, none, none, start, 10, 10, np.array([1, 0], np.int32))
    assert (len(y), grown_start.tolist(), len(owner)) == (0, [0], 0)


@pytest.mark.parametrize("half_widths", [[], [-1], [2, -1]])
def test_refuses_elements_without_extent(half_widths):
    one = np.array([0], np.int32)
    with pytest.raises(ValueError):
        grow_merging(one, one, one, np.array([0, 1]), 3, 3, np.array(half_widths, np.int32))
