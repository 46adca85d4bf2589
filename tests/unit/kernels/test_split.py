"""Splitting footprints: which summits stand alone, by flooding level by level, and what every part must fulfil."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from streamchar.kernels import detect, smooth, split_footprints

EIGHT = np.ones((3, 3))


def heights(image, border):
    """Heights on the exposure: NaN low, and beyond the border falling with the distance."""
    known = np.where(np.isnan(image), -1e29, image).astype(np.float32)
    padded = np.pad(known, border)
    rows, columns = np.indices(padded.shape)
    outside_y = np.maximum(np.maximum(border - rows, rows - border - image.shape[0] + 1), 0)
    outside_x = np.maximum(np.maximum(border - columns, columns - border - image.shape[1] + 1), 0)
    distance = np.maximum(outside_y, outside_x)
    return np.where(distance > 0, np.float32(-1e30) * distance.astype(np.float32), padded)


def uphill(height, inside, y, x):
    """First of the greatest among a pixel and its neighbours in the footprint, in reading order."""
    near = [(y + dy, x + dx) for dy, dx in itertools.product((-1, 0, 1), repeat=2)]
    near = [p for p in near if 0 <= p[0] < inside.shape[0] and 0 <= p[1] < inside.shape[1] and inside[p]]
    return max(near, key=lambda p: height[p])


def summits_standing_alone(height, noise, inside, significance, prominence, contrast):
    pixels = list(zip(*np.nonzero(inside), strict=True))
    summits = [p for p in pixels if uphill(height, inside, *p) == p]
    alone = set()
    for p in summits:
        levels = np.unique(height[inside & (height <= height[p])])[::-1]
        saddle = None
        for level in levels:
            labels, _ = ndimage.label(inside & (height >= level), EIGHT)
            if (height[labels == labels[p]] > height[p]).any():
                saddle = level
                break
        if saddle is None:
            alone.add(p)
            continue
        rise = height[p] - saddle
        enough = height[p] >= significance * noise[p] and rise >= prominence * noise[p]
        if enough and rise >= contrast * max(saddle, 0):
            alone.add(p)
    return alone


def paint(y, x0, x1, start, i, shape):
    plane = np.zeros(shape, bool)
    for k in range(start[i], start[i + 1]):
        assert not plane[y[k], x0[k] : x1[k] + 1].any()
        plane[y[k], x0[k] : x1[k] + 1] = True
    return plane


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(3, 9), st.integers(3, 12)),
    border=st.integers(0, 2),
    density=st.sampled_from([0.5, 0.8, 1.0]),
    limits=st.sampled_from(
        [(0.0, 0.0, 0.0), (0.0, 2.0, 0.0), (3.0, 1.0, 0.0), (2.0, 0.5, 0.5), (100.0, 0.0, 0.0)]
    ),
    holes=st.integers(0, 2),
)
def test_parts_are_the_basins_of_the_summits_that_stand_alone(seed, shape, border, density, limits, holes):
    rng = np.random.default_rng(seed)
    image = rng.permutation(shape[0] * shape[1]).reshape(shape).astype(np.float32) / 7
    image.flat[rng.integers(0, image.size, holes)] = np.nan
    variance = rng.uniform(0.5, 2, shape).astype(np.float32)
    full = (shape[0] + 2 * border, shape[1] + 2 * border)
    spans = detect((rng.random(full) < density).astype(np.float32), None, 0.5, 1.0, 1, False)[0]
    y, x0, x1, start, peak_x, peak_y, value, origin = split_footprints(
        image, variance, border, *spans, *limits
    )
    height, noise = heights(image, border), np.pad(np.sqrt(variance), border, mode="edge")
    assert len(start) - 1 == len(peak_x) == len(origin)
    assert (np.diff(origin) >= 0).all()
    for footprint in range(len(spans[3]) - 1):
        inside = paint(*spans, footprint, full)
        members = np.flatnonzero(origin == footprint)
        owner = np.zeros(full, int)
        for number, part in enumerate(members, start=1):
            plane = paint(y, x0, x1, start, part, full)
            assert not owner[plane].any()
            owner[plane] = number
            assert ndimage.label(plane, EIGHT)[1] == 1
            assert owner[peak_y[part], peak_x[part]] == number
            assert value[part] == height[peak_y[part], peak_x[part]]
        np.testing.assert_array_equal(owner > 0, inside)
        assert (np.diff(value[members]) <= 0).all()
        for p in zip(*np.nonzero(inside), strict=True):
            assert owner[p] == owner[uphill(height, inside, *p)]
        distinct = len(np.unique(height[inside])) == inside.sum()
        if distinct:
            found = {(peak_y[i], peak_x[i]) for i in members}
            assert found == summits_standing_alone(height, noise, inside, *limits)


def test_a_summit_that_does_not_stand_out_joins_the_basin_at_its_highest_saddle():
    #                 9 stands    bump of 5 touches the right basin higher   7 stands
    image = np.array([[9, 6, 2, 3, 5, 4.5, 6, 7]], np.float32)
    ones = np.ones_like(image)
    zero, last = np.array([0], np.int32), np.array([7], np.int32)
    y, x0, x1, start, peak_x, _, value, origin = split_footprints(
        image, ones, 0, zero, zero, last, np.array([0, 1]), 1.0, 2.0, 0.0
    )
    assert (x0.tolist(), x1.tolist()) == ([0, 3], [2, 7])
    assert peak_x.tolist() == [0, 7]
    assert value.tolist() == [9, 7]
    assert (start.tolist(), origin.tolist(), y.tolist()) == ([0, 1, 2], [0, 0], [0, 0])


def test_with_taps_the_variance_is_smoothed_at_the_summits():
    rng = np.random.default_rng(4)
    image = rng.normal(0, 1, (40, 50)).astype(np.float32)
    wide = rng.uniform(0.1, 4, (46, 56)).astype(np.float32)
    taps = np.array([0.5, 0.3, 0.1, 0.05], np.float32)
    plane = np.empty_like(image)
    smooth(wide, taps, plane)
    spans = detect(np.ones((40, 50), np.float32), None, 0.5, 1.0, 1, False)[0]
    expected = split_footprints(image, plane, 0, *spans, 1.0, 0.5, 0.0)
    found = split_footprints(image, wide, 0, *spans, 1.0, 0.5, 0.0, None, taps)
    assert len(expected[3]) > 10
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("half", "border"), [(0, 0), (2, 2), (2, 5), (14, 14)])
def test_with_taps_the_image_is_smoothed_on_the_footprints(half, border):
    rng = np.random.default_rng(5)
    wide = rng.normal(0, 1, (40 + 2 * half, 50 + 2 * half)).astype(np.float32)
    wide[half + 7, half + 30] = np.nan
    taps = rng.uniform(0.1, 0.3, half + 1).astype(np.float32)
    plane = np.empty((40, 50), np.float32)
    smooth(wide, taps, plane)
    full = (40 + 2 * border, 50 + 2 * border)
    spans = detect((rng.random(full) < 0.6).astype(np.float32), None, 0.5, 1.0, 1, False)[0]
    ones = np.ones_like(plane)
    expected = split_footprints(plane, ones, border, *spans, 0.5, 0.1, 0.0)
    found = split_footprints(wide, ones, border, *spans, 0.5, 0.1, 0.0, taps)
    assert len(expected[3]) > 3
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_plateau_is_one_summit():
    image = np.zeros((5, 7), np.float32)
    image[2, 2:5] = 9
    zero = np.arange(5, dtype=np.int32)
    *_, peak_x, peak_y, _, _ = split_footprints(
        image, np.ones_like(image), 0, zero, 0 * zero, 0 * zero + 6, np.array([0, 5]), 0.0, 0.0, 0.0
    )
    assert (2, 2) in set(zip(peak_x.tolist(), peak_y.tolist(), strict=True))
    assert not {(3, 2), (4, 2)} & set(zip(peak_x.tolist(), peak_y.tolist(), strict=True))


def test_refuses_planes_of_different_shape():
    none, start = np.zeros(0, np.int32), np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="differ in shape"):
        split_footprints(
            np.zeros((3, 4), np.float32), np.zeros((4, 3), np.float32), 0, none, none, none, start, 1, 1, 0
        )
