"""The background between the sources against analytic skies."""

import numpy as np
import pytest

from streamchar.characterize.background import BackgroundConfig, fit_background
from streamchar.characterize.chebyshev import ChebyshevField, Lattice, design_matrix
from streamchar.characterize.errors import BackgroundFitError, TooManyMaskedPixelsError

NOISE = 10.0
SHAPE = (1030, 897)


def fit(image, mask=None, bits=0, **settings):
    mask = np.zeros(image.shape, np.int32) if mask is None else mask
    return fit_background(image, mask, bits, BackgroundConfig(**settings))


def slope(shape=SHAPE, steep=1.0):
    y, x = np.indices(shape)
    u, v = 2 * x / shape[1] - 1, 2 * y / shape[0] - 1
    return 500 + steep * (60 * u - 40 * v + 30 * u * u + 25 * u * v - 20 * v**3)


def sky_with(sources, seed=1, shape=SHAPE, steep=1.0):
    rng = np.random.default_rng(seed)
    return (slope(shape, steep) + sources + rng.normal(0, NOISE, shape)).astype(np.float32)


def field_of_stars(count, seed, shape=SHAPE, fwhm=4.0, reach=60):
    """Moffat profiles with wings; a third as many for every 1.2 magnitudes brighter than the noise of a pixel."""
    rng = np.random.default_rng(seed)
    scale = fwhm / (2 * np.sqrt(2 ** (1 / 3.0) - 1))
    image = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach))
    rows, columns = np.indices((2 * reach + 1, 2 * reach + 1)) - reach
    for flux in NOISE * 10 ** rng.exponential(1.0, count):
        x, y = rng.integers(0, shape[1]), rng.integers(0, shape[0])
        light = 2 / np.pi / scale**2 * (1 + (columns**2 + rows**2) / scale**2) ** -3
        image[y : y + 2 * reach + 1, x : x + 2 * reach + 1] += flux * light
    return image[reach:-reach, reach:-reach]


def errors(model, truth):
    residual = (model.image() - truth) / NOISE
    return residual.mean(), residual.std()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pure_sky_is_recovered(seed):
    mean, rms = errors(fit(sky_with(0, seed)), slope())
    assert abs(mean) < 0.015
    assert rms < 0.015


@pytest.mark.parametrize("steep", [0.0, 3.0, 10.0])
def test_gradients_are_no_sources(steep):
    mean, rms = errors(fit(sky_with(0, 4, steep=steep)), slope(steep=steep))
    assert abs(mean) < 0.015
    assert rms < 0.015


@pytest.mark.parametrize(("amplitude", "width"), [(3, 250), (10, 400), (-3, 300)])
def test_the_order_rises_for_scattered_light(amplitude, width):
    y, x = np.indices((1536, 1536))
    ghost = amplitude * NOISE * np.exp(-((x - 900) ** 2 + (y - 600) ** 2) / (2 * width**2))
    image = sky_with(ghost + field_of_stars(1000, 13, x.shape), 14, x.shape)
    model = fit(image)
    assert model.order > 6
    mean, rms = errors(model, ghost + slope(x.shape))
    assert abs(mean) < 0.03
    assert rms < 0.08
    assert fit(sky_with(field_of_stars(1000, 13, x.shape), 14, x.shape)).order == 6


@pytest.mark.parametrize(("count", "seed"), [(300, 5), (1500, 5), (4000, 5), (4000, 8), (4000, 10)])
def test_sources_do_not_raise_the_sky(count, seed):
    image = sky_with(field_of_stars(count, seed), seed)
    mean, rms = errors(fit(image), slope())
    assert abs(mean) < 0.03
    assert rms < 0.03
    clipped, _ = errors(fit(image, mask_sources=False), slope())
    assert abs(mean) < 0.3 * clipped


def test_masked_and_wild_pixels_do_not_count():
    image, mask = sky_with(field_of_stars(300, 7), 7), np.zeros(SHAPE, np.int32)
    image[100:300, 100:400] += 300
    mask[100:300, 100:400] = 4
    image[:, 600:603] = np.nan
    image[500] = np.inf
    image[700:703] = -1e6
    image[:, 20] = 1e7
    mean, rms = errors(fit(image, mask, 4), slope())
    assert abs(mean) < 0.02
    assert rms < 0.03


def test_the_sample_of_pixels_may_be_masked():
    """Every sixteenth row and column, from which the spread of the pixels is guessed."""
    image, mask = sky_with(0, 7, (1024, 1024)), np.zeros((1024, 1024), np.int32)
    mask[::16] = mask[:, ::16] = 4
    mean, rms = errors(fit(image, mask, 4), slope((1024, 1024)))
    assert abs(mean) < 0.015
    assert rms < 0.02


def test_the_model_can_be_interpolated():
    model = fit(sky_with(field_of_stars(300, 8), 8), use_approx=False)
    assert model.polynomial is None
    mean, rms = errors(model, slope())
    assert abs(mean) < 0.02
    assert rms < 0.08  # every bin has its own noise
    assert np.nanmedian(model.errors) == pytest.approx(NOISE / 112 / np.sqrt(0.8), rel=0.3)


def test_bins_hold_the_sky():
    model = fit(sky_with(field_of_stars(300, 9), 9))
    y, x = np.meshgrid(*model.centres, indexing="ij")
    pulls = (model.values - model.polynomial.evaluate(x, y)) / model.errors
    assert pulls.std() == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (64, 300), (131, 129)])
def test_small_exposures(shape):
    image = np.random.default_rng(10).normal(100, NOISE, shape).astype(np.float32)
    assert fit(image).image().mean() == pytest.approx(100, abs=4 * NOISE / np.sqrt(image.size) + 0.2)


def test_integers_coarser_than_their_noise():
    image = np.round(np.random.default_rng(11).normal(7, 0.3, SHAPE)).astype(np.float32)
    assert fit(image).image().mean() == pytest.approx(7, abs=0.02)


def test_nothing_to_fit():
    with pytest.raises(TooManyMaskedPixelsError):
        fit(sky_with(0), np.ones(SHAPE, np.int32), 1)
    with pytest.raises(TooManyMaskedPixelsError):
        fit(np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(BackgroundFitError):
        fit(np.full(SHAPE, 3.0, np.float32))


def test_half_an_exposure_lowers_the_order():
    image, mask = sky_with(0, 12, steep=0.1), np.zeros(SHAPE, np.int32)
    mask[:, 200:] = 1
    model = fit(image, mask, 1)
    assert model.order < 6
    assert abs((model.image() - slope(steep=0.1))[:, :200]).max() < 0.2 * NOISE


def test_a_field_on_a_grid():
    field = ChebyshevField(np.random.default_rng(1).normal(size=(4, 4)), 300, 200)
    x, y = np.linspace(-3, 310, 17), np.linspace(0, 199, 11)
    expected = field.evaluate(*np.meshgrid(x, y))
    lattice = Lattice.at(y, x, order=6, width=300, height=200)
    np.testing.assert_allclose(lattice.evaluate(field), expected, rtol=1e-12, atol=1e-12)
    plane = np.ones((11, 17), np.float32)
    lattice.add(field, plane, -2.0)
    np.testing.assert_allclose(plane, 1 - 2 * expected, atol=1e-5)
    everywhere = design_matrix(
        *(places.ravel() for places in np.meshgrid(x, y)), order=6, width=300, height=200
    )
    np.testing.assert_allclose(lattice.design(), everywhere, rtol=1e-12, atol=1e-12)
