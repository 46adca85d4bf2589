"""Sinc-weighted sums against the rule in NumPy, and the weights against their defining sum and analytic fluxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j1

from streamchar.characterize.measurement.sinc import bessel_j1, sinc_coefficients
from streamchar.kernels import sinc_aperture
from tests.measurement_scenes import add_gaussian, bare_scene


def lanczos_taps(offset):
    centre = 5 if offset > 0 else 4
    u = np.arange(10) - centre + offset
    taps = np.sinc(u) * np.sinc(u / 5)
    return taps / taps.sum(), centre


def shifted(coefficients, fx, fy):
    """Section 8.2 of measurement.md: pixels whose taps do not fit stay as they are."""
    size = len(coefficients)
    (tx, cx), (ty, cy) = lanczos_taps(fx), lanczos_taps(fy)
    out = coefficients.astype(float)
    for row in range(cy, size - 9 + cy):
        for column in range(cx, size - 9 + cx):
            block = coefficients[row - cy : row - cy + 10, column - cx : column - cx + 10]
            out[row, column] = ty @ block @ tx
    return out


def twin(image, variance, x, y, coefficients, radius):
    half = len(coefficients) // 2
    x32, y32 = float(np.float32(x)), float(np.float32(y))
    ix, iy = int(np.floor(x32 + 0.5)), int(np.floor(y32 + 0.5))
    weights = shifted(coefficients, x32 - ix, y32 - iy)
    rows, columns = np.mgrid[iy - half : iy + half + 1, ix - half : ix + half + 1]
    height, width = image.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    bits = 0 if inside.all() else 1
    kept = (rows[inside], columns[inside])
    limits = [
        np.ceil(x - radius - 0.5),
        np.ceil(y - radius - 0.5),
        np.floor(x + radius + 0.5),
        np.floor(y + radius + 0.5),
    ]
    if (
        not inside.any()
        or limits[0] < kept[1].min()
        or limits[1] < kept[0].min()
        or limits[2] > kept[1].max()
        or limits[3] > kept[0].max()
    ):
        return (np.nan, np.nan), bits | 2
    w = weights[inside]
    return ((w * image[kept]).sum(), (w * w * variance[kept]).sum()), bits


GENERATOR = np.random.default_rng(3)
IMAGE = GENERATOR.normal(10, 3, (44, 50)).astype(np.float32)
VARIANCE = GENERATOR.uniform(1, 2, IMAGE.shape).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(st.floats(-12, 62), st.floats(-12, 56), st.sampled_from([1.0, 3.0, 4.5]))
def test_equals_twin(x, y, radius):
    coefficients = sinc_coefficients(radius)
    values, bits = sinc_aperture(
        bare_scene(IMAGE), VARIANCE, np.array([x]), np.array([y]), coefficients, radius
    )
    expected, expected_bits = twin(IMAGE, VARIANCE, x, y, coefficients, radius)
    np.testing.assert_allclose(values[0], expected, rtol=1e-5, atol=1e-3)
    assert bits[0] == expected_bits


def test_bessel_function():
    z = np.concatenate([np.linspace(0, 60, 1001), [300.0, 1000.0]])
    np.testing.assert_allclose(bessel_j1(z), j1(z), atol=3e-13)
    np.testing.assert_allclose(bessel_j1(z[:50]), j1(z[:50]), atol=3e-13)


def test_the_weights_are_the_defining_sum():
    radius, half = 3.0, 8
    coefficients = sinc_coefficients(radius)
    assert coefficients.shape == (15, 15)
    wave = np.arange(-(half - 1), half)
    k = np.hypot(*np.meshgrid(wave, wave)) / 15
    with np.errstate(invalid="ignore"):
        transform = np.where(k > 0, radius * j1(2 * np.pi * radius * k) / k, np.pi * radius**2)
    for dx, dy in ((0, 0), (3, 0), (-2, 5), (7, 7)):
        phase = np.cos(2 * np.pi * (wave[None, :] * dx + wave[:, None] * dy) / 15)
        assert coefficients[7 + dy, 7 + dx] == pytest.approx((transform * phase).sum() / 225, abs=1e-6)
    assert [len(sinc_coefficients(r)) for r in (4.5, 6.0, 9.0)] == [31, 31, 63]


@pytest.mark.parametrize(
    ("radius", "smallest", "tolerance"),
    [(3.0, 8, 1.7e-2), (3.0, 16, 2e-3), (4.5, 16, 6e-4), (6.0, 16, 1.5e-3), (9.0, 16, 3e-4)],
)
@pytest.mark.parametrize("sigma", [1.2, 2.0])
def test_enclosed_flux_of_gaussians(radius, smallest, tolerance, sigma):
    """With half width 8 (the reference) the weights of radius 3 are cut short; the rest is Lanczos interpolation."""
    generator = np.random.default_rng(2)
    image = np.zeros((151, 151), np.float32)
    errors = []
    for x, y in 75 + generator.uniform(-0.5, 0.5, (10, 2)):
        image[:] = 0
        add_gaussian(image, x, y, 1.0, sigma**2, sigma**2, reach=50)
        values, bits = sinc_aperture(
            bare_scene(image),
            image,
            np.array([x]),
            np.array([y]),
            sinc_coefficients(radius, smallest),
            radius,
        )
        assert bits[0] == 0
        errors.append(values[0, 0] - (1 - np.exp(-0.5 * (radius / sigma) ** 2)))
    assert np.abs(errors).max() < tolerance
    if smallest == 16:
        assert abs(np.mean(errors)) < 1e-3


def test_nan_pixels_propagate_and_nan_positions_are_truncated():
    image = np.full((64, 64), np.nan, np.float32)
    scene, coefficients = bare_scene(image), sinc_coefficients(3.0)
    values, bits = sinc_aperture(scene, image, np.array([30.0]), np.array([30.0]), coefficients, 3.0)
    assert np.isnan(values).all()
    assert bits[0] == 0
    positions = np.array([np.nan, np.inf, 1e300])
    assert (sinc_aperture(scene, image, positions, positions, coefficients, 3.0)[1] == 3).all()


def test_no_source_and_wrong_weights():
    image, none = np.ones((9, 9), np.float32), np.empty(0)
    assert sinc_aperture(bare_scene(image), image, none, none, sinc_coefficients(3.0), 3.0)[0].shape == (0, 2)
    for shape in ((4, 4), (3, 5)):
        with pytest.raises(ValueError):
            sinc_aperture(bare_scene(image), image, none, none, np.ones(shape, np.float32), 3.0)
