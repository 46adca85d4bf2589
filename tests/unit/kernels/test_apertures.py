"""Circular sums against the rule pixel by pixel and against photutils."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from photutils.aperture import CircularAperture, aperture_photometry

from streamchar.kernels import circular_apertures
from tests.measurement_scenes import bare_scene


def twin(plane, x, y, radius):
    """Section 8.4 of measurement.md."""
    height, width = plane.shape
    inside = np.ceil(x - radius - 0.5) >= 0 and np.ceil(y - radius - 0.5) >= 0
    inside = inside and np.floor(x + radius + 0.5) <= width - 1 and np.floor(y + radius + 0.5) <= height - 1
    if not inside:
        return np.nan
    rows, columns = np.indices(plane.shape)
    return plane[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2].astype(float).sum()


PIXELS = st.floats(-100, 100, width=32) | st.sampled_from([np.nan, np.inf])
# Off the grid where a pixel centre lies on the circle: there rounding may decide either way.
POSITIONS = st.floats(-3, 20).map(lambda v: v + 1e-3 * np.pi)


@settings(deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 16), st.integers(1, 17)), elements=PIXELS),
    POSITIONS,
    POSITIONS,
    st.lists(st.floats(0.3, 7.9).map(lambda v: v + 1e-3 * np.e), min_size=1, max_size=4).map(sorted),
)
def test_equals_twin(image, x, y, radii):
    variance = np.abs(image) + 1
    flux, square, pixels = circular_apertures(
        bare_scene(image), variance, np.array([x]), np.array([y]), np.array(radii)
    )
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(flux[0], [twin(image, x, y, r) for r in radii], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(square[0], [twin(variance, x, y, r) for r in radii], rtol=1e-9)
        expected = np.nan_to_num([twin(np.ones_like(image), x, y, r) for r in radii], nan=-1)
    np.testing.assert_array_equal(pixels[0], expected)


def test_equals_photutils():
    generator = np.random.default_rng(5)
    image = generator.normal(5, 1, (200, 210)).astype(np.float32)
    x, y = generator.uniform(75, 125, (2, 20))
    radii = np.array([3.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0])
    flux, _, _ = circular_apertures(bare_scene(image), image, x, y, radii)
    apertures = [CircularAperture(np.transpose([x, y]), r) for r in radii]
    table = aperture_photometry(image.astype(float), apertures, method="center")
    expected = np.transpose([table[f"aperture_sum_{k}"] for k in range(len(radii))])
    np.testing.assert_allclose(flux, expected, rtol=1e-9)


def test_the_last_pixels_of_the_image_are_safe_to_read():
    image = np.ones((7, 7), np.float32)
    flux, _, _ = circular_apertures(
        bare_scene(image), image, np.array([5.0]), np.array([5.0]), np.array([1.0])
    )
    assert flux[0, 0] == 5.0


def test_equal_radii_and_no_source_and_no_radius():
    image = np.ones((9, 9), np.float32)
    scene, four = bare_scene(image), np.array([4.0])
    flux, _, _ = circular_apertures(scene, image, four, four, np.array([1.0, 1.0, 2.0]))
    assert flux[0].tolist() == [5.0, 5.0, 13.0]
    none = np.empty(0)
    assert circular_apertures(scene, image, none, none, np.array([1.0]))[0].shape == (0, 1)
    assert circular_apertures(scene, image, four, four, none)[0].shape == (1, 0)
    assert np.isnan(circular_apertures(scene, image, np.array([np.nan]), four, np.array([1.0]))[0]).all()


@pytest.mark.parametrize("radii", [[2.0, 1.0], [0.0], [-1.0], [np.nan], [np.inf]])
def test_wrong_radii_are_refused(radii):
    image = np.ones((9, 9), np.float32)
    with pytest.raises(ValueError):
        circular_apertures(bare_scene(image), image, np.ones(1), np.ones(1), np.array(radii))
