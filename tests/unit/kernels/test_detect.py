"""Thresholding and labelling against the reference's rule applied pixel by pixel, and against scipy's labels."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from streamchar.kernels import detect, smooth


def label_pixel_by_pixel(inside):
    """The rule of detection.md section 4: labels in the order of their roots, from 1."""
    height, width = inside.shape
    ids = np.zeros((height + 2, width + 2), int)
    alias = [0]

    def root(i):
        while alias[i] != i:
            i = alias[i]
        return i

    for y in range(1, height + 1):
        for x in range(1, width + 1):
            if not inside[y - 1, x - 1]:
                continue
            near = (ids[y, x - 1], ids[y - 1, x - 1], ids[y - 1, x], ids[y - 1, x + 1])
            number = next((i for i in near if i), 0)
            if not number:
                number = len(alias)
                alias.append(number)
            corner = ids[y - 1, x + 1]
            if corner and corner != number:
                alias[root(corner)] = root(number)
                number = corner
            ids[y, x] = number
    roots = sorted({root(i) for i in range(1, len(alias))})
    number_of = {r: k + 1 for k, r in enumerate(roots)}
    lookup = np.array([0] + [number_of[root(i)] for i in range(1, len(alias))])
    return lookup[ids[1:-1, 1:-1]]


def spans_of(labels, number):
    """Spans of one label in the order (y, x)."""
    spans = []
    for y, row in enumerate(labels == number):
        change = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        spans += [(y, a, b - 1) for a, b in change.reshape(-1, 2)]
    return spans


def twin(image, variance, value, include, min_pixels):
    with np.errstate(invalid="ignore", over="ignore"):
        level = np.float32(value) * (np.float32(1) if variance is None else np.sqrt(variance))
        level = np.broadcast_to(level, image.shape)
        labels = label_pixel_by_pixel(image >= level)
        far = image >= np.float32(include) * level
    kept = [
        k
        for k in range(1, labels.max(initial=0) + 1)
        if far[labels == k].any() and (labels == k).sum() >= min_pixels
    ]
    return [spans_of(labels, k) for k in kept]


def as_lists(found):
    y, x0, x1, start = found
    assert y.dtype == x0.dtype == x1.dtype == np.int32
    assert start.dtype == np.int64
    rows = list(zip(y.tolist(), x0.tolist(), x1.tolist(), strict=True))
    return [rows[a:b] for a, b in itertools.pairwise(start)]


PIXELS = st.sampled_from([0, 0, 0, 1, 4.9, 5, 6, 12, 60, -5, -6, -60, np.nan, np.inf, -np.inf])
VARIANCES = st.sampled_from([1, 1, 1, 0.25, 4, 0, -1, np.nan, np.inf])
SHAPES = st.tuples(st.integers(0, 9), st.integers(0, 30))


@given(
    data=st.data(),
    shape=SHAPES,
    value=st.sampled_from([0.0, 1.0, 5.0]),
    include=st.sampled_from([0.5, 1.0, 2.0, 10.0]),
    min_pixels=st.integers(0, 4),
    scaled=st.booleans(),
)
def test_equals_the_pixel_rule(data, shape, value, include, min_pixels, scaled):
    image = data.draw(arrays(np.float32, shape, elements=PIXELS))
    variance = data.draw(arrays(np.float32, shape, elements=VARIANCES)) if scaled else None
    positive, negative = detect(image, variance, value, include, min_pixels, True)
    assert as_lists(positive) == twin(image, variance, value, include, min_pixels)
    assert as_lists(negative) == twin(-image, variance, value, include, min_pixels)


@given(
    data=st.data(),
    width=st.integers(60, 140),
    value=st.sampled_from([0.0, 5.0, -1.0]),
    include=st.sampled_from([0.5, 2.0]),
)
def test_few_pixels_of_wide_rows(data, width, value, include):
    """Rows are passed over in blocks where nothing reaches the threshold, by however little."""
    image, variance = np.zeros((3, width), np.float32), np.ones((3, width), np.float32)
    places = st.tuples(st.integers(0, 2), st.integers(0, width - 1))
    just = np.nextafter(np.float32(5), np.float32(0)).item()
    pixels = st.tuples(
        places,
        st.sampled_from([5, just, -5, -just, 1e19, 3e38, 4e-38, 1e-45, np.nan, np.inf]),
        st.sampled_from([1, 4e36, 1e-45, 1e-38, 0, -1, np.nan, np.inf]),
    )
    for place, pixel, noise in data.draw(st.lists(pixels, max_size=6)):
        image[place], variance[place] = pixel, noise
    positive, negative = detect(image, variance, value, include, 1, True)
    assert as_lists(positive) == twin(image, variance, value, include, 1)
    assert as_lists(negative) == twin(-image, variance, value, include, 1)


@pytest.mark.parametrize("density", [0.1, 0.35, 0.5, 0.8])
@pytest.mark.parametrize("shape", [(40, 61), (1, 300), (300, 1)])
def test_labels_random_noise_as_the_pixel_rule_and_scipy(density, shape):
    image = (np.random.default_rng(3).random(shape) < density).astype(np.float32)
    found = as_lists(detect(image, None, 0.5, 1.0, 1, False)[0])
    assert found == twin(image, None, 0.5, 1.0, 1)
    _, count = ndimage.label(image > 0, np.ones((3, 3)))
    assert len(found) == count


def test_a_component_joined_from_the_right_takes_the_later_root():
    # The middle component starts in row 0, but its bottom row begins to the left of it with a number of its own:
    # the root is that later number, so the lone pixel of row 1 comes first.
    image = np.array(
        [
            [0, 0, 0, 1, 0, 0, 0],
            [0, 0, 0, 1, 0, 0, 1],
            [1, 1, 1, 1, 0, 0, 0],
        ],
        np.float32,
    )
    found = as_lists(detect(image, None, 0.5, 1.0, 1, False)[0])
    assert found == [[(1, 6, 6)], [(0, 3, 3), (1, 3, 3), (2, 0, 3)]]


def test_only_the_asked_polarity():
    image = np.array([[9, 0, -9]], np.float32)
    positive, negative = detect(image, None, 5.0, 1.0, 1, False)
    assert as_lists(positive) == [[(0, 0, 0)]]
    assert as_lists(negative) == []


@pytest.mark.parametrize("half", [0, 1, 5, 13])
def test_with_taps_the_variance_is_smoothed_under_way(half):
    rng = np.random.default_rng(half)
    image = rng.normal(0, 1, (31, 1100)).astype(np.float32)
    wide = rng.uniform(0.2, 2, (31 + 2 * half + 4, 1100 + 2 * half + 6)).astype(np.float32)
    wide[5, 7] = np.nan
    box = wide[2:-2, 3:-3]
    taps = (0.8 ** np.arange(half + 1) / 3).astype(np.float32)
    plane = np.empty_like(image)
    smooth(box, taps, plane)
    for found, expected in zip(
        detect(image, box, 1.5, 1.2, 1, True, taps), detect(image, plane, 1.5, 1.2, 1, True), strict=True
    ):
        assert as_lists(found) == as_lists(expected)
    raw = rng.normal(0, 9, wide.shape).astype(np.float32)[2:-2, 3:-3]
    smooth(raw, taps, image)
    for found, expected in zip(
        detect(raw, box, 3.0, 1.2, 1, True, taps, taps), detect(image, plane, 3.0, 1.2, 1, True), strict=True
    ):
        assert as_lists(found) == as_lists(expected)
    with pytest.raises(ValueError, match="differ in shape"):
        detect(image, box[1:], 1.5, 1.2, 1, True, taps)
    with pytest.raises(ValueError, match="smaller than the kernel"):
        detect(raw[: 2 * half], None, 1.5, 1.2, 1, True, None, np.ones(half + 2, np.float32))
    with pytest.raises(ValueError, match="no taps"):
        detect(image, image, 1.5, 1.2, 1, True, taps[:0])


def test_refuses_planes_of_different_shape():
    with pytest.raises(ValueError, match="differ in shape"):
        detect(np.zeros((3, 4), np.float32), np.zeros((4, 3), np.float32), 5.0, 1.0, 1, False)
