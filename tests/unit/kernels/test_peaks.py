"""Peaks against maximum filters and hand-made examples."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from streamchar.kernels import detect, find_peaks, merge_peaks, refresh_peaks, smooth

PIXELS = st.sampled_from([0, 1, 2, 3, 5, 6, 7, 8, -5, -6, -7, np.nan, np.inf])
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 12))


def spans(image, value=4.0, negative=False):
    return detect(image, None, value, 1.0, 1, True)[negative]


def pixels_of(found, i):
    y, x0, x1, start = found
    return [(y[k], x) for k in range(start[i], start[i + 1]) for x in range(x0[k], x1[k] + 1)]


def twin(image, found, negative):
    """Local maxima by a maximum filter that ignores NaN, off the ring, or the first extreme pixel."""
    upward = -image if negative else image
    filled = np.where(np.isnan(upward), -np.inf, upward)
    is_peak = upward >= ndimage.maximum_filter(filled, size=3, mode="constant", cval=-np.inf)
    is_peak[[0, -1]] = is_peak[:, [0, -1]] = False
    result = []
    for i in range(len(found[3]) - 1):
        pixels = pixels_of(found, i)
        peaks = [(x, y, image[y, x]) for y, x in pixels if is_peak[y, x]]
        if not peaks:
            y, x = max(pixels, key=lambda p: upward[p])
            peaks = [(x, y, image[y, x])]
        result.append(sorted(peaks, key=lambda p: (-p[2], p[0], p[1])))
    return result


def as_lists(peaks):
    x, y, value, start = peaks
    assert (x.dtype, y.dtype, value.dtype, start.dtype) == (np.int32, np.int32, np.float32, np.int64)
    rows = list(zip(x.tolist(), y.tolist(), value.tolist(), strict=True))
    return [rows[a:b] for a, b in itertools.pairwise(start)]


@given(data=st.data(), shape=SHAPES, negative=st.booleans())
def test_equals_the_maximum_filter(data, shape, negative):
    image = data.draw(arrays(np.float32, shape, elements=PIXELS))
    found = spans(image, negative=negative)
    assert as_lists(find_peaks(image, *found, negative)) == twin(image, found, negative)


def test_all_pixels_of_a_plateau_are_peaks_in_order_of_x_then_y():
    image = np.zeros((6, 6), np.float32)
    image[2:4, 2:4] = 9
    assert as_lists(find_peaks(image, *spans(image), False)) == [[(2, 2, 9), (2, 3, 9), (3, 2, 9), (3, 3, 9)]]


def test_a_greater_neighbour_outside_the_footprint_disqualifies():
    image = np.zeros((5, 7), np.float32)
    image[2, 2:5] = [5, 6, 9]
    only = (np.array([2], np.int32), np.array([2], np.int32), np.array([3], np.int32), np.array([0, 1]))
    # No local maximum is left, so the brightest pixel of the footprint stands in.
    assert as_lists(find_peaks(image, *only, False)) == [[(3, 2, 6)]]


def test_a_footprint_on_the_ring_has_its_first_brightest_pixel():
    image = np.zeros((5, 7), np.float32)
    image[0, 2:5] = [7, 8, 8]
    assert as_lists(find_peaks(image, *spans(image), False)) == [[(3, 0, 8)]]


def test_the_faintest_pit_comes_first():
    image = np.zeros((5, 9), np.float32)
    image[2, 2:7] = [-9, -5, -6, -5, -7]
    assert as_lists(find_peaks(image, *spans(image, negative=True), True)) == [
        [(4, 2, -6), (6, 2, -7), (2, 2, -9)]
    ]


@given(
    data=st.data(),
    shape=SHAPES,
    negative=st.booleans(),
    border=st.integers(0, 2),
    max_simple=st.integers(0, 2),
)
def test_refreshing_is_detecting_in_the_box_of_each_footprint(data, shape, negative, border, max_simple):
    image = data.draw(arrays(np.float32, shape, elements=PIXELS))
    wide = (shape[0] + 2 * border, shape[1] + 2 * border)
    level = data.draw(arrays(np.float32, wide, elements=st.sampled_from([0.0, 1.0, 3.0, -1.0])))
    found = spans(image, negative=negative)
    old = find_peaks(image, *found, negative)
    variance = np.ones(shape, np.float32)
    fresh = refresh_peaks(image, variance, level, border, 4.0, 1.0, 1, negative, *found, *old, max_simple)
    with np.errstate(invalid="ignore"):
        flat = image - level[border : border + shape[0], border : border + shape[1]]
    expected = []
    for i, peaks in enumerate(as_lists(old)):
        if len(peaks) <= max_simple:
            expected.append(peaks)
            continue
        pixels = pixels_of(found, i)
        (y0, x0), (y1, x1) = np.min(pixels, axis=0), np.max(pixels, axis=0)
        box = np.ascontiguousarray(flat[y0 : y1 + 1, x0 : x1 + 1])
        parts = as_lists(find_peaks(box, *spans(box, negative=negative), negative))
        new = [(x + x0, y + y0, v) for part in parts for x, y, v in part if (y + y0, x + x0) in pixels]
        expected.append(new or peaks[:1])
    assert as_lists(fresh) == expected


def test_refreshing_uses_the_variance_of_the_box():
    image = np.zeros((7, 12), np.float32)
    image[3, 3:9] = [9, 6, 9, 6, 9, 6]
    variance = np.ones((7, 12), np.float32)
    found = detect(image, variance, 5.0, 1.0, 1, False)[0]
    old = find_peaks(image, *found, False)
    assert [p[0] for p in as_lists(old)[0]] == [3, 5, 7]
    level = np.full((7, 12), 1.5, np.float32)
    variance[3, 5] = 4.0
    fresh = refresh_peaks(image, variance, level, 0, 5.0, 1.0, 1, False, *found, *old, 1)
    # The box is one row high, so its ring is everything: each part has its brightest pixel.
    assert as_lists(fresh) == [[(3, 3, 7.5), (7, 3, 7.5)]]
    wide, centre_only = np.pad(variance, 2, constant_values=9.0), np.array([1, 0, 0], np.float32)
    again = refresh_peaks(image, wide, level, 0, 5.0, 1.0, 1, False, *found, *old, 1, centre_only)
    assert as_lists(again) == as_lists(fresh)


@pytest.mark.parametrize("half", [0, 1, 4])
@pytest.mark.parametrize("negative", [False, True])
def test_with_taps_the_image_is_smoothed_around_the_footprints(half, negative):
    rng = np.random.default_rng(half)
    raw = rng.normal(0, 3, (40 + 2 * half, 60 + 2 * half)).astype(np.float32)
    taps = (0.8 ** np.arange(half + 1)).astype(np.float32)
    image = np.empty((40, 60), np.float32)
    smooth(raw, taps, image)
    level = float(np.abs(image).mean())
    found = detect(image, None, level, 1.0, 1, True)[int(negative)]
    assert len(found[3]) > 5
    old = find_peaks(image, *found, negative)
    for one, other in zip(find_peaks(raw, *found, negative, taps), old, strict=True):
        np.testing.assert_array_equal(one, other)
    arguments = (np.full((40, 60), 0.1 * level, np.float32), 0, level, 1.0, 1, negative, *found, *old, 1)
    again = refresh_peaks(raw, None, *arguments, None, taps)
    for one, other in zip(again, refresh_peaks(image, None, *arguments), strict=True):
        np.testing.assert_array_equal(one, other)


@given(
    lists=st.lists(st.lists(st.sampled_from([1, 2, 3, 5, 8, 13]), min_size=0, max_size=4), max_size=6),
    data=st.data(),
)
def test_merging_equals_merging_sorted_lists_one_after_the_other(lists, data):
    lists = [sorted(values, reverse=True) for values in lists]
    owners = data.draw(st.integers(1, 3))
    owner = np.array([data.draw(st.integers(0, owners - 1)) for _ in lists], np.int64)
    value = np.array([v for values in lists for v in values], np.float32)
    start = np.cumsum([0] + [len(values) for values in lists], dtype=np.int64)
    x = np.arange(len(value), dtype=np.int32)
    order, new_start = merge_peaks(x, x, value, start, owner, owners)
    number = np.repeat(owner, np.diff(start))
    np.testing.assert_array_equal(order, np.lexsort([x, -value, number]))
    np.testing.assert_array_equal(np.diff(new_start), np.bincount(number, minlength=owners))


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ([5, 9], [7], [5, 9, 7]),
        ([5, 9], [7, 6], [7, 6, 5, 9]),
        ([9], [5, 7], [9, 5, 7]),
        ([6, 9, 5], [7], [6, 9, 7, 5]),
    ],
)
def test_lists_that_are_not_sorted_merge_from_the_shorter_side(first, second, merged):
    value = np.array(first + second, np.float32)
    x = np.arange(len(value), dtype=np.int32)
    start = np.array([0, len(first), len(value)])
    order, _ = merge_peaks(x, x, value, start, np.zeros(2, np.int64), 1)
    assert value[order].tolist() == merged


def test_refuses_inconsistent_arrays():
    image = np.zeros((4, 4), np.float32)
    one = np.array([0], np.int32)
    with pytest.raises(ValueError, match="outside"):
        find_peaks(image, np.array([4], np.int32), one, one, np.array([0, 1]), False)
    with pytest.raises(ValueError, match="cover"):
        find_peaks(image, one, one, one, np.array([0, 2]), False)
    with pytest.raises(ValueError, match="owner"):
        merge_peaks(one, one, np.zeros(1, np.float32), np.array([0, 1]), np.array([1]), 1)
