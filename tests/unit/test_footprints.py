"""Footprints: areas, boxes, painting, placing."""

from dataclasses import replace

import numpy as np
import pytest

from streamchar.characterize.footprints import Footprints

SHAPE = (6, 10)


@pytest.fixture
def two():
    """An L of four pixels and a bar of three, with two peaks and one."""
    return (
        Footprints.empty(SHAPE)
        .with_spans(
            np.array([1, 2, 4], np.int32),
            np.array([2, 2, 5], np.int32),
            np.array([2, 4, 7], np.int32),
            np.array([0, 2, 3]),
        )
        .with_peaks(
            np.array([2, 4, 6], np.int32),
            np.array([1, 2, 4], np.int32),
            np.array([9, 8, 7], np.float32),
            np.array([0, 2, 3]),
        )
    )


def test_nothing_is_a_valid_set():
    nothing = Footprints.empty(SHAPE)
    assert len(nothing) == 0
    assert nothing.area.tolist() == []
    assert nothing.boxes.shape == (0, 4)
    assert nothing.peak_count.tolist() == []
    assert not nothing.label_image().any()


def test_sizes(two):
    assert len(two) == 2
    assert two.area.tolist() == [4, 3]
    assert two.boxes.tolist() == [[2, 1, 4, 2], [5, 4, 7, 4]]
    assert two.peak_count.tolist() == [2, 1]
    assert two.span_footprint.tolist() == [0, 0, 1]
    assert two.peak_significance.tolist() == [0, 0, 0]


def test_painting(two):
    labels = two.label_image()
    expected = np.zeros(SHAPE, np.int32)
    expected[1, 2] = expected[2, 2:5] = 1
    expected[4, 5:8] = 2
    np.testing.assert_array_equal(labels, expected)
    mask = np.full(SHAPE, 1, np.int32)
    two.set_bits(mask, 32)
    np.testing.assert_array_equal(mask, np.where(expected > 0, 33, 1))


def test_placing_moves_pixels_and_peaks(two):
    placed = two.placed(3, 1, (9, 20))
    expected = np.zeros((9, 20), np.int32)
    expected[1:7, 3:13] = two.label_image()
    np.testing.assert_array_equal(placed.label_image(), expected)
    assert placed.peak_x.tolist() == [5, 7, 9]
    assert placed.peak_y.tolist() == [2, 3, 5]
    assert placed.span_y.dtype == placed.peak_x.dtype == np.int32
    assert placed.peak_value is two.peak_value


def test_parts_keep_their_shares(two):
    shared = replace(two, share=np.arange(7, dtype=np.float32))
    assert shared.take(np.array([False, True])).share.tolist() == [4, 5, 6]
    assert shared.part(1, 2).share.tolist() == [4, 5, 6]
    assert shared.part(0, 1).share.tolist() == [0, 1, 2, 3]
