"""Pixels of elliptical rings against NumPy over the whole image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import Scene, ellipse_pixels
from tests.measurement_scenes import bare_scene, footprints_of_disks


def twin(image, mask, bad, x, y, xx, yy, xy, inner, outer):
    """Pixels of one ring, row by row; none where the position or the ellipse is not usable."""
    det = xx * yy - xy * xy
    if not (np.isfinite([x, y, xx, yy, xy]).all() and xx > 0 and yy > 0 and det > 0):
        return image[:0, 0]
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    dx, dy = columns - x, rows - y
    q = yy * dx * dx - 2.0 * xy * dx * dy + xx * dy * dy
    inside = (q <= outer**2 * det) & ((q > inner**2 * det) if inner > 0 else True)
    return image[inside & ((mask & bad) == 0)]


def sources(rng, n, height, width):
    x, y = rng.uniform(-4, width + 4, n), rng.uniform(-4, height + 4, n)
    xx, yy = rng.uniform(0.1, 9, (2, n))
    xy = rng.uniform(-1.1, 1.1, n) * np.sqrt(xx * yy)
    for values in (x, y, xx):
        values[rng.random(n) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    return x, y, xx, yy, xy


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    count=st.integers(0, 6),
    bad=st.sampled_from([0, 1, 3]),
    radii=st.sampled_from([(0.0, 1.0), (0.0, 5.0), (1.5, 4.0), (3.0, 3.0)]),
    spoiled=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_equals_twin(seed, shape, count, bad, radii, spoiled):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=shape).astype(np.float32)
    image[rng.random(shape) < spoiled] = rng.choice([np.nan, np.inf])
    mask = rng.integers(0, 4, shape).astype(np.int32)
    places = sources(rng, count, *shape)
    values, start = ellipse_pixels(bare_scene(image), mask, bad, *places, *radii)
    assert (values.dtype, start.dtype, len(start), start[0]) == (np.float32, np.int64, count + 1, 0)
    for i, place in enumerate(zip(*places, strict=True)):
        np.testing.assert_array_equal(values[start[i] : start[i + 1]], twin(image, mask, bad, *place, *radii))
    assert start[-1] == len(values)


def test_all_masked_and_ten_thousand_sources():
    rng = np.random.default_rng(2)
    image, mask = rng.normal(size=(60, 70)).astype(np.float32), np.ones((60, 70), np.int32)
    places = sources(rng, 10_000, 60, 70)
    values, start = ellipse_pixels(bare_scene(image), mask, 1, *places, 0.0, 3.0)
    assert len(values) == 0
    assert not start.any()
    values, start = ellipse_pixels(bare_scene(image), mask, 2, *places, 0.0, 3.0)
    for i in range(0, 10_000, 997):
        place = [values[i] for values in places]
        np.testing.assert_array_equal(values[start[i] : start[i + 1]], twin(image, mask, 2, *place, 0.0, 3.0))


def test_every_source_is_shown_alone():
    rng = np.random.default_rng(3)
    image = rng.normal(size=(40, 60)).astype(np.float32)
    whole, x, y = image.copy(), np.array([20.0, 32.0]), np.array([20.0, 20.0])
    footprints = footprints_of_disks(image.shape, x, y, 5)
    scene = Scene(
        image,
        footprints.span_y,
        footprints.span_x0,
        footprints.span_x1,
        footprints.span_start,
        np.full(footprints.area.sum(), -50, np.float32),
    )
    scene.hide_all()
    hidden = image.copy()
    ones, none = np.ones(2), np.zeros(2)
    mask = np.zeros(image.shape, np.int32)
    values, start = ellipse_pixels(scene, mask, 0, x, y, ones, ones, none, 0.0, 10.0)
    for i, part in enumerate(footprints.part(i, i + 1) for i in range(2)):
        shown = np.where(part.label_image() > 0, whole, hidden)
        expected = twin(shown, mask, 0, x[i], y[i], 1.0, 1.0, 0.0, 0.0, 10.0)
        np.testing.assert_array_equal(values[start[i] : start[i + 1]], expected)
    np.testing.assert_array_equal(image, hidden)


def test_wrong_input_is_refused():
    image, mask, one = np.zeros((3, 4), np.float32), np.zeros((3, 4), np.int32), np.ones(1)
    with pytest.raises(ValueError, match="differ in length"):
        ellipse_pixels(bare_scene(image), mask, 0, one, one, one, one, np.ones(2), 0.0, 1.0)
    with pytest.raises(ValueError, match="differ in shape"):
        ellipse_pixels(bare_scene(image), mask[1:], 0, one, one, one, one, 0 * one, 0.0, 1.0)
    for outer in (0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="outer"):
            ellipse_pixels(bare_scene(image), mask, 0, one, one, one, one, 0 * one, 0.0, outer)
