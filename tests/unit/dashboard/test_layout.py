"""Focal planes: configured, from the sky however it is turned and mirrored, or a grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.dashboard import layout, summaries
from streamchar.monitor.page_settings import CameraLayout


def unit_box(x, y, size=1.0):
    return np.array([[x, y], [x + size, y], [x + size, y + size], [x, y + size]])


def on_sky(box, ra, dec, angle, mirrored, scale=0.2):
    """Corners of a flat box on the sky near (ra, dec), turned and perhaps mirrored."""
    x, y = scale * (box - 1.5).T
    if mirrored:
        x = -x
    xi, eta = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    a0, d0 = np.radians([ra, dec])
    xi, eta = np.radians([xi, eta])
    depth = np.cos(d0) - eta * np.sin(d0)
    found_ra = a0 + np.arctan2(xi, depth)
    found_dec = np.arctan2(np.sin(d0) + eta * np.cos(d0), np.hypot(xi, depth))
    return np.degrees(np.stack([found_ra, found_dec], axis=1))


@given(st.floats(0, 360), st.floats(-89.9, 89.9), st.floats(0, 6.28), st.booleans())
def test_the_sky_gives_back_the_focal_plane(ra, dec, angle, mirrored):
    boxes = {3: unit_box(0, 0), 5: unit_box(1.1, 0), 9: unit_box(0, 1.1), 11: unit_box(2.2, 2.2, 0.5)}
    found = layout.from_sky({n: on_sky(box, ra, dec, angle, mirrored) for n, box in boxes.items()})
    assert found.keys() == boxes.keys()
    shift = found[3][0]
    for number, box in boxes.items():
        np.testing.assert_allclose((found[number] - shift) / 0.2, box, atol=2e-3)


def test_corners_that_are_no_place_are_left_out():
    good = on_sky(unit_box(0, 0), 10.0, 20.0, 0.0, False)
    assert set(layout.from_sky({1: good, 2: np.full((4, 2), np.nan), 3: np.add(good, [180.0, 0.0])})) == {1}
    assert layout.from_sky({}) == {}
    assert layout.from_sky({1: np.full((4, 2), 10.0)}) == {}


def test_a_grid_is_row_by_row_from_the_lower_left():
    found = layout.grid([7, 1, 4, 2, 9])
    assert list(found) == [1, 2, 4, 7, 9]
    assert found[1][0].tolist() == [0, 0]
    assert found[2][0][0] > 1
    assert found[7][0][1] > 1
    assert layout.grid([]) == {}


def test_settings_place_detectors():
    found = layout.configured(CameraLayout(rows=2, columns=3))
    assert set(found) == set(range(6))
    assert found[3][0][1] > found[0][2][1]
    placed = layout.configured(CameraLayout(places={4: (1.0, 2.0, 3.0, 4.0)}))
    assert placed[4].tolist() == [[1, 2], [4, 2], [4, 6], [1, 6]]


@given(st.sets(st.integers(0, 400), max_size=60))
def test_detectors_without_a_place_are_below_and_nothing_overlaps(missing):
    base = {1000: unit_box(0, 0), 1001: unit_box(1.1, 0)}
    found = layout.complete(base, missing)
    assert set(found) == missing | set(base)
    corners = sorted(map(tuple, (box[0].round(6) for box in found.values())))
    assert len(set(corners)) == len(found)
    for number in missing:
        assert found[number][2][1] < 0


def test_outlines_are_scaled_to_a_thousand():
    found = summaries.outlines({1: unit_box(5, 5), 2: unit_box(6.5, 5)})
    assert found["1"][:2] == [0, 0]
    assert max(found["2"]) == 1000
    assert summaries.outlines({}) == {}


@pytest.mark.parametrize("places", [{-1: (0, 0, 1, 1)}, {1: (0, 0, 0, 1)}])
def test_impossible_places_are_refused(places):
    with pytest.raises(ValueError, match="places"):
        CameraLayout(places=places)
