"""The scene against copies of the image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamchar.kernels import Scene, circular_apertures
from tests.measurement_scenes import bare_scene, footprints_of_masks

MASKS = st.lists(arrays(bool, (6, 7)), max_size=4)


def make(image, footprints, noise):
    return Scene(
        image, footprints.span_y, footprints.span_x0, footprints.span_x1, footprints.span_start, noise
    )


@given(MASKS, st.integers(1, 42))
def test_one_source_at_a_time(masks, period):
    original = np.arange(42, dtype=np.float32).reshape(6, 7)
    image, footprints = original.copy(), footprints_of_masks(masks)
    pixels = footprints.area.sum()
    drawn = -1 - np.arange(min(period, pixels), dtype=np.float32)
    noise = np.resize(drawn, pixels)
    scene = make(image, footprints, drawn)
    assert scene.footprints == len(masks)

    hidden, ends = original.copy(), np.cumsum(footprints.area)
    for mask, end in zip(masks, ends, strict=True):
        hidden[mask] = noise[end - mask.sum() : end]
    scene.hide_all()
    np.testing.assert_array_equal(image, hidden)

    expected = hidden.copy()
    for i, (mask, end) in enumerate(zip(masks, ends, strict=True)):
        scene.show(i)
        np.testing.assert_array_equal(image, np.where(mask, original, expected))
        scene.hide(i)
        expected[mask] = noise[end - mask.sum() : end]
        np.testing.assert_array_equal(image, expected)
    scene.show_all()
    np.testing.assert_array_equal(image, original)


def test_non_finite_pixels_come_back():
    image = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    scene = make(image, footprints_of_masks([np.ones((1, 3), bool)]), np.zeros(3, np.float32))
    scene.hide_all()
    assert not image.any()
    scene.show_all()
    np.testing.assert_array_equal(image, np.array([[np.nan, np.inf, -np.inf]], np.float32))


def test_kernels_measure_the_chosen_footprints():
    image = np.arange(64, dtype=np.float32).reshape(8, 8)
    masks = [np.zeros((8, 8), bool) for _ in range(3)]
    for k, mask in enumerate(masks):
        mask[2 * k + 1, 2:6] = True
    footprints = footprints_of_masks(masks)
    scene = make(image, footprints, np.zeros(footprints.area.sum(), np.float32))
    np.testing.assert_array_equal(scene.sources, [0, 1, 2])
    scene.hide_all()
    scene.sources = np.array([2, 0])
    np.testing.assert_array_equal(scene.sources, [2, 0])
    x, y, radii = np.array([4.0, 4.0]), np.array([5.0, 1.0]), np.array([0.5])
    flux, _, _ = circular_apertures(scene, np.ones_like(image), x, y, radii)
    np.testing.assert_array_equal(flux[:, 0], [44, 12])
    with pytest.raises(ValueError, match="footprints"):
        circular_apertures(scene, np.ones_like(image), np.ones(3), np.ones(3), radii)
    with pytest.raises(ValueError, match="footprint"):
        scene.sources = np.array([3])


def test_nothing_to_hide():
    image = np.ones((2, 3), np.float32)
    scene = bare_scene(image)
    scene.hide_all()
    assert scene.footprints == 0
    assert image.all()
    with pytest.raises(IndexError):
        scene.show(0)


def test_the_image_is_not_copied():
    image = np.ones((2, 3), np.float32)
    assert np.shares_memory(bare_scene(image).image, image)
    with pytest.raises(TypeError):
        bare_scene(image.astype(np.float64))


@pytest.mark.parametrize(
    ("spans", "start", "noise"),
    [
        (([0], [0], [3]), [0, 1], 4),
        (([2], [0], [1]), [0, 1], 2),
        (([0], [1], [0]), [0, 1], 0),
        (([0], [0], [1]), [0, 1], 3),
        (([0], [0], [1]), [0, 1], 0),
        (([0], [0], [1]), [0, 2], 2),
        (([0, 1], [0, 0], [0, 0]), [0, 2, 1, 2], 2),
        (([0], [0], [1]), [], 2),
        (([0, 0], [0], [1]), [0, 1], 2),
    ],
)
def test_wrong_spans_are_refused(spans, start, noise):
    image = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError):
        Scene(
            image,
            *(np.array(s, np.int32) for s in spans),
            np.array(start, np.int64),
            np.zeros(noise, np.float32),
        )


def test_shared_pixels_are_shown_in_part_and_restored_whole():
    image = np.arange(12, dtype=np.float32).reshape(2, 6)
    original = image.copy()
    y, x0, x1 = (np.array(v, np.int32) for v in ([0, 0], [0, 2], [3, 5]))
    share = np.array([1, 1, 0.25, 0.5, 0.75, 0.5, 1, 1], np.float32)
    noise = np.full(8, -1, np.float32)
    scene = Scene(image, y, x0, x1, np.array([0, 1, 2]), noise, share)
    scene.hide_all()
    scene.show(0)
    np.testing.assert_array_equal(image[0], [0, 1, 0.5, 1.5, -1, -1])
    scene.hide(0)
    scene.show(1)
    np.testing.assert_array_equal(image[0], [-1, -1, 1.5, 1.5, 4, 5])
    scene.hide(1)
    scene.show_all()
    np.testing.assert_array_equal(image, original)
    with pytest.raises(ValueError, match="share"):
        Scene(image, y, x0, x1, np.array([0, 1, 2]), noise, share[1:])
