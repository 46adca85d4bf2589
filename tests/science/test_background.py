"""Backgrounds against analytic skies and the formulas of the reference specification."""

from itertools import pairwise

import numpy as np
import pytest

from streamchar.characterize import statistics
from streamchar.characterize.background import (
    BackgroundConfig,
    BackgroundList,
    BackgroundModel,
    SubtractBackground,
    fit_background,
)
from streamchar.characterize.binning import bin_centres, bin_edges
from streamchar.characterize.chebyshev import ChebyshevField, terms
from streamchar.characterize.errors import BackgroundFitError, TooFewBinsError, TooManyMaskedPixelsError
from streamchar.errors import ConfigurationError
from streamchar.image import Exposure, UnknownMaskPlaneError

SHAPE = (700, 900)


def config(*overrides):
    """As the reference does it: sources are not looked for."""
    return BackgroundConfig(mask_sources=False).with_overrides(*overrides)


def polynomial(order, seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    degree = np.add(*np.indices((order + 1, order + 1)))
    coefficients = np.where(degree <= order, rng.normal(0, 30, degree.shape) * 0.3**degree, 0)
    coefficients[0, 0] = 500
    return ChebyshevField(coefficients, shape[1], shape[0])


def noisy(sky, noise=10.0, seed=1):
    rng = np.random.default_rng(seed)
    return (sky + rng.normal(0, noise, sky.shape)).astype(np.float32)


def no_mask(shape=SHAPE):
    return np.zeros(shape, np.int32)


@pytest.mark.parametrize(("length", "bins"), [(4096, 32), (2048, 16), (1489, 12), (100, 7), (10, 10), (5, 1)])
def test_bin_edges(length, bins):
    edges = bin_edges(length, bins)
    ends = [min(((i + 1) * length + bins // 2) // bins, length) for i in range(bins)]
    np.testing.assert_array_equal(edges, [0, *ends])
    assert edges[-1] == length
    assert np.ptp(np.diff(edges)) <= 1
    np.testing.assert_allclose(bin_centres(edges), [(a + b - 1) / 2 for a, b in pairwise(edges)])


@pytest.mark.parametrize("order", [0, 1, 3, 6])
@pytest.mark.parametrize("statistic", ["meanclip", "mean", "median"])
def test_polynomial_sky_is_recovered(order, statistic):
    """A polynomial of the model's order is recovered to the noise of the bins."""
    truth = polynomial(order).image()
    settings = config(f"approx_order_x={order}", "bin_size=32", f"statistics_property='{statistic}'")
    model = fit_background(noisy(truth), no_mask(), 0, settings)
    assert model.order == order
    residual = model.image() - truth
    # terms coefficients are measured with all pixels; a bin's curvature adds a little at order 6.
    allowed = 10.0 * np.sqrt(terms(order) / truth.size) * (1.25 if statistic == "median" else 1.0)
    assert residual.std() < 2 * allowed + 0.05 * (order > 3)
    assert np.abs(residual).max() < 0.7


def test_bins_of_a_plane_are_exact():
    """Plain means of a noiseless plane are its values at the bin centres, so the fit is exact."""
    y, x = np.indices(SHAPE)
    truth = 100 + 0.25 * x - 0.125 * y
    settings = config("statistics_property='mean'", "weighting=false", "approx_order_x=1")
    model = fit_background(truth.astype(np.float32), no_mask(), 0, settings)
    np.testing.assert_allclose(model.image(), truth, atol=1e-3)
    settings = config("statistics_property='mean'", "use_approx=false")
    np.testing.assert_allclose(
        fit_background(truth.astype(np.float32), no_mask(), 0, settings).image(), truth, atol=1e-3
    )


def test_weights_are_inverse_errors():
    image = noisy(polynomial(2).image())
    image[:, 450:] += np.random.default_rng(3).normal(0, 60, (700, 450)).astype(np.float32)
    model = fit_background(image, no_mask(), 0, config("approx_order_x=2"))
    y, x = np.meshgrid(*model.centres, indexing="ij")
    u, v = 2 * (x - 449.5) / 900, 2 * (y - 349.5) / 700
    design = np.stack([np.ones_like(u), u, v, 2 * u * u - 1, u * v, 2 * v * v - 1], axis=-1).reshape(-1, 6)
    weights, z = 1 / model.errors.astype(float).ravel(), model.values.astype(float).ravel()
    solution = np.linalg.solve((design.T * weights) @ design, (design.T * weights) @ z)
    c = model.polynomial.coefficients
    np.testing.assert_allclose([c[0, 0], c[0, 1], c[1, 0], c[0, 2], c[1, 1], c[2, 0]], solution, rtol=1e-8)


def test_errors_are_those_of_the_statistic():
    image = noisy(np.full(SHAPE, 50.0))
    mean = fit_background(image, no_mask(), 0, config("statistics_property='mean'"))
    part = image[:117, :113].astype(float)
    assert mean.values[0, 0] == pytest.approx(part.mean(), rel=1e-6)
    assert mean.errors[0, 0] == pytest.approx(part.std(ddof=1) / np.sqrt(part.size), rel=1e-6)
    clip = fit_background(image, no_mask(), 0, config())
    assert clip.errors[0, 0] == pytest.approx(statistics.clipped(part).error, rel=1e-6)
    median = fit_background(image, no_mask(), 0, config("statistics_property='median'"))
    assert median.errors[0, 0] == pytest.approx(mean.errors[0, 0] * np.sqrt(np.pi / 2), rel=1e-6)


def test_masked_and_non_finite_pixels_do_not_count():
    truth = polynomial(3).image()
    image, mask = noisy(truth), no_mask()
    image[200:260, 100:400] += 3000
    mask[200:260, 100:400] = 4
    image[:, 500:505] = np.nan
    image[300] = np.inf
    image[:117, :113] = np.nan
    model = fit_background(image, mask, 4, config("approx_order_x=3"))
    assert np.isnan(model.values[0, 0])
    inside = np.s_[117:, 113:]
    assert np.abs(model.image() - truth)[inside].max() < 0.6


def test_constant_bins_are_skipped():
    image = noisy(np.full(SHAPE, 20.0))
    image[:233, :225] = 1e4  # exactly 2 x 2 bins
    model = fit_background(image, no_mask(), 0, config("approx_order_x=1"))
    assert model.image()[400:, 400:].mean() == pytest.approx(20, abs=0.2)
    with pytest.raises(BackgroundFitError):
        fit_background(np.full(SHAPE, 7.0, np.float32), no_mask(), 0, config())


def test_everything_masked():
    with pytest.raises(TooManyMaskedPixelsError) as caught:
        fit_background(np.ones(SHAPE, np.float32), no_mask() + 2, 2, config())
    assert caught.value.values["pixels"] == 630_000
    with pytest.raises(TooManyMaskedPixelsError):
        fit_background(np.full(SHAPE, np.nan, np.float32), no_mask(), 0, config())


def test_too_few_bins():
    image = noisy(np.full((200, 300), 10.0))
    mask = no_mask(image.shape)
    assert fit_background(image, mask, 0, config()).order == 1
    assert fit_background(image, mask, 0, config()).interpolation_style == "linear"
    with pytest.raises(TooFewBinsError):
        fit_background(image, mask, 0, config("undersample_style='throw_exception'"))
    with pytest.raises(TooFewBinsError):
        fit_background(
            image,
            mask,
            0,
            config("undersample_style='throw_exception'", "use_approx=false", "algorithm='akima_spline'"),
        )
    more = fit_background(image, mask, 0, config("undersample_style='increase_nxnysample'"))
    assert more.order == 6
    assert more.values.shape == (200 // 33 + 1, 300 // 33 + 1)
    one = fit_background(image, mask, 0, config("bin_size=1000"))
    assert one.order == 0
    assert one.image()[0, 0] == pytest.approx(10, abs=0.2)


def test_order_falls_when_bins_are_missing():
    image, mask = noisy(polynomial(1).image()), no_mask()
    mask[:, 230:] = 1
    model = fit_background(image, mask, 1, config())
    assert model.order < 6
    assert np.isfinite(model.image()).all()
    with pytest.raises(BackgroundFitError) as caught:
        fit_background(image, mask, 1, config("undersample_style='throw_exception'", "bin_size=64"))
    assert caught.value.values["order"] == 6


def test_super_pixel_filter_removes_a_bad_bin():
    image = noisy(np.full(SHAPE, 30.0))
    image[240:330, 240:330] += 900
    image[:117, :113] = np.nan
    plain = fit_background(image, no_mask(), 0, config("use_approx=false"))
    filtered = fit_background(image, no_mask(), 0, config("use_approx=false", "do_filter_super_pixels=true"))
    assert np.nanmax(plain.values) > 100
    assert np.abs(filtered.values - 30).max() < 1


def test_order_y_must_agree():
    with pytest.raises(ConfigurationError, match="approx_order_y"):
        config("approx_order_y=3")
    assert config("approx_order_x=3", "approx_order_y=3").approx_order_x == 3


@pytest.mark.parametrize("use_approx", [True, False])
def test_models_survive_serialization(use_approx):
    model = fit_background(
        noisy(polynomial(2).image()), no_mask(), 0, config(f"use_approx={str(use_approx).lower()}")
    )
    again = BackgroundModel.from_arrays(model.to_arrays())
    np.testing.assert_array_equal(again.image(), model.image())
    assert again.interpolation_style == model.interpolation_style


@pytest.mark.parametrize(
    "change",
    [
        {"values": np.zeros(3)},
        {"coefficients": np.zeros((2, 3))},
        {"interpolation_style": "magic"},
        {"width": 2},
    ],
)
def test_serialized_nonsense_is_refused(change):
    arrays = fit_background(noisy(polynomial(2).image()), no_mask(), 0, config()).to_arrays()
    with pytest.raises(ValueError):
        BackgroundModel.from_arrays({**arrays, **change})


def exposure(sky, seed=1):
    return Exposure(noisy(sky, seed=seed), no_mask(sky.shape), np.full(sky.shape, 100, np.float32))


def test_subtraction():
    truth = polynomial(4).image()
    scene = exposure(truth)
    task = SubtractBackground(config())
    background = task.run(scene)
    assert len(background) == 1
    assert abs(scene.image.mean()) < 0.02
    np.testing.assert_allclose(background.image(), truth, atol=0.6)
    assert background.sky_level == pytest.approx(np.median(background.models[0].values))
    image = background.image().astype(float)
    assert scene.metadata["BGMEAN"] == [pytest.approx(image.mean(), rel=1e-6)]
    assert scene.metadata["BGVAR"] == [pytest.approx(image.var(ddof=1), rel=1e-5)]
    assert (scene.variance == 100).all()
    assert not scene.mask.any()
    assert task.timings()[0].name == "background.run"


@pytest.mark.parametrize("use_approx", [True, False])
def test_models_accumulate(use_approx):
    scene = exposure(polynomial(3).image())
    original = scene.image.copy()
    first = SubtractBackground(config("bin_size=200", "approx_order_x=2")).run(scene)
    second = SubtractBackground(config(f"use_approx={str(use_approx).lower()}")).run(scene, first)
    assert second is first
    assert len(second) == 2
    np.testing.assert_allclose(original - scene.image, second.image(), atol=1e-3)
    image = second.image().astype(float)
    assert scene.metadata["BGMEAN"][1] == pytest.approx(image.mean(), rel=1e-6)
    assert scene.metadata["BGVAR"][1] == pytest.approx(image.var(ddof=1), rel=1e-4)
    SubtractBackground().run(scene, second, statistics=False)
    assert len(scene.metadata["BGMEAN"]) == 2


def test_failure_leaves_the_exposure_alone():
    scene = exposure(np.full(SHAPE, 10.0))
    scene.mask[:] = scene.bits("NO_DATA")
    before = scene.image.copy()
    with pytest.raises(TooManyMaskedPixelsError):
        SubtractBackground().run(scene)
    np.testing.assert_array_equal(scene.image, before)
    assert not scene.metadata
    with pytest.raises(UnknownMaskPlaneError):
        SubtractBackground(config("ignored_pixel_mask=['NO_SUCH']")).run(scene)


def test_empty_list():
    background = BackgroundList()
    assert len(background) == 0
    assert background.sky_level == 0
    assert np.isnan(background.mean_and_variance()).all()
    with pytest.raises(ValueError):
        background.image()


def test_lists_hold_backgrounds_of_one_exposure():
    model = fit_background(noisy(polynomial(1).image()), no_mask(), 0, config())
    other = fit_background(noisy(polynomial(1, shape=(400, 500)).image()), no_mask((400, 500)), 0, config())
    background = BackgroundList([model])
    with pytest.raises(ValueError):
        background.append(other)
    assert list(background) == [model]


def test_mean_and_variance_of_a_polynomial():
    field = polynomial(6)
    image = field.image().astype(float)
    mean, variance = field.mean_and_variance()
    assert mean == pytest.approx(image.mean(), rel=1e-6)
    assert variance == pytest.approx(image.var(ddof=1), rel=1e-6)
    y, x = np.mgrid[0:700:50, 0:900:50]
    np.testing.assert_allclose(field.evaluate(x, y), image[::50, ::50], rtol=1e-6)
