"""Deblending against blends of known fluxes."""

import numpy as np
import pytest

from streamchar.characterize.deblend import SourceDeblend, SourceDeblendConfig, select
from streamchar.characterize.detection import DetectionConfig, DetectSources
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.measurement.neighbours import NoiseReplacerConfig, neighbours_replaced
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.image import Exposure
from tests.measurement_scenes import add_gaussian, footprints_of_masks

SIGMA = 2.0


def blend(stars, *, noise=1.0, shape=(101, 121), seed=1):
    """An exposure of Gaussian stars (x, y, flux) and its one footprint with all of their peaks."""
    image = np.zeros(shape, np.float32)
    for x, y, flux in stars:
        add_gaussian(image, x, y, flux, SIGMA**2, SIGMA**2)
    lit = image > 0.02
    image += np.random.default_rng(seed).normal(0, noise, shape).astype(np.float32)
    exposure = Exposure(image, np.zeros(shape, np.int32), np.full(shape, noise**2 or 1, np.float32))
    one = footprints_of_masks([lit])
    x, y, flux = np.array(stars, float).T
    return exposure, one.with_peaks(
        np.floor(x + 0.5).astype(np.int32),
        np.floor(y + 0.5).astype(np.int32),
        flux.astype(np.float32),
        np.array([0, len(stars)]),
    )


def pixels_of(exposure, footprints, i):
    plane = np.zeros(exposure.shape)
    one = select(footprints, np.array([i]))
    share = np.ones(int(one.area.sum())) if one.share is None else one.share
    first = 0
    for y, x0, x1 in zip(one.span_y, one.span_x0, one.span_x1, strict=True):
        n = x1 - x0 + 1
        plane[y, x0 : x1 + 1] = exposure.image[y, x0 : x1 + 1] * share[first : first + n]
        first += n
    return plane


@pytest.mark.parametrize(
    ("separation", "ratio", "tolerance"), [(8, 1.0, 0.01), (8, 0.3, 0.03), (6, 0.5, 0.03), (5, 1.0, 0.05)]
)
def test_two_stars_get_their_own_flux(separation, ratio, tolerance):
    stars = [(50, 50, 50000.0), (50 + separation, 53, 50000.0 * ratio)]
    exposure, footprints = blend(stars, noise=0.2)
    deblended = SourceDeblend().run(exposure, footprints)
    assert len(deblended) == 2
    for i, (_, _, flux) in enumerate(stars):
        total = pixels_of(exposure, deblended.footprints, i).sum()
        assert total == pytest.approx(flux, rel=tolerance)
    np.testing.assert_array_equal(deblended.parent, [0, 0])
    np.testing.assert_array_equal(deblended.parent_peaks, [2, 2])
    np.testing.assert_array_equal(deblended.footprints.peak_x, [50, 50 + separation])


def test_shares_of_claimed_pixels_add_up_to_one():
    exposure, footprints = blend([(45, 50, 30000.0), (53, 50, 20000.0), (49, 57, 10000.0)])
    children = SourceDeblend().run(exposure, footprints).footprints
    ones = Exposure(np.ones_like(exposure.image), exposure.mask, exposure.variance)
    total = sum(pixels_of(ones, children, i) for i in range(3))
    claimed = total > 0
    np.testing.assert_allclose(total[claimed], 1.0, atol=1e-6)
    inside = footprints.label_image() > 0
    assert not (claimed & ~inside).any()
    # What no template claims is noise at the rim.
    assert exposure.image[inside & ~claimed].sum() < 0.01 * exposure.image[inside].sum()


def test_the_scene_shows_children_and_restores_the_image():
    stars = [(50, 50, 50000.0), (58, 50, 25000.0)]
    exposure, footprints = blend(stars, noise=0.2)
    children = SourceDeblend().run(exposure, footprints).footprints
    before = exposure.image.copy()
    with neighbours_replaced(exposure, children, NoiseReplacerConfig(), 1) as scene:
        hidden = exposure.image[40:61, 40:70].sum()
        scene.show(0)
        shown = exposure.image[40:61, 40:70].sum()
        scene.hide(0)
    assert shown - hidden == pytest.approx(50000, rel=0.02)
    np.testing.assert_array_equal(exposure.image, before)


def test_footprints_are_left_alone_and_say_why():
    exposure, footprints = blend([(45, 50, 30000.0), (53, 50, 20000.0)])
    big = SourceDeblend(SourceDeblendConfig(max_footprint_area=100)).run(exposure, footprints)
    assert big.too_big.all()
    assert len(big) == 1
    assert (exposure.mask & exposure.bits("NOT_DEBLENDED") != 0).sum() == footprints.area[0]
    np.testing.assert_array_equal(big.footprints.span_y, footprints.span_y)
    np.testing.assert_array_equal(big.footprints.peak_count, [2])
    assert SourceDeblend(SourceDeblendConfig(max_footprint_size=10)).run(exposure, footprints).too_big.all()
    exposure.mask[:, :50] |= exposure.bits("NO_DATA")
    masked = SourceDeblend().run(exposure, footprints)
    assert masked.masked.all()
    assert not masked.too_big.any()
    columns = masked.columns()
    assert columns["deblend_skipped"].all()
    np.testing.assert_array_equal(columns["deblend_parentNPeaks"], [2])


def test_only_the_brightest_peaks():
    exposure, footprints = blend([(45, 50, 30000.0), (53, 50, 20000.0), (49, 57, 40000.0)])
    deblended = SourceDeblend(SourceDeblendConfig(max_number_of_peaks=2)).run(exposure, footprints)
    np.testing.assert_array_equal(deblended.footprints.peak_x, [45, 49])


def test_single_peaks_and_nothing_at_all():
    exposure, footprints = blend([(45, 50, 30000.0)])
    same = SourceDeblend().run(exposure, footprints)
    assert same.footprints.share is None or (same.footprints.share == 1).all()
    np.testing.assert_array_equal(same.footprints.span_x1, footprints.span_x1)
    none = SourceDeblend().run(exposure, Footprints.empty(exposure.shape))
    assert len(none) == 0


def test_with_the_parts_of_detection():
    """Blended, isolated and skipped footprints in one exposure, split by prominent peaks."""
    rng = np.random.default_rng(4)
    shape = (200, 300)
    stars = [(50, 50, 30000.0), (58, 52, 20000.0), (150, 60, 25000.0), (230, 140, 9000.0), (239, 140, 9000.0)]
    image = rng.normal(0, 1, shape).astype(np.float32)
    for x, y, flux in stars:
        add_gaussian(image, x, y, flux, SIGMA**2, SIGMA**2)
    exposure = Exposure(
        image, np.zeros(shape, np.int32), np.ones(shape, np.float32), psf=GaussianPsf(SIGMA, 25, shape)
    )
    config = DetectionConfig(re_estimate_background=False, one_source_per_peak=False)
    whole = DetectSources(config).run(exposure).footprints
    config = DetectionConfig(re_estimate_background=False, one_source_per_peak=True)
    parts = DetectSources(config).run(exposure).footprints
    assert (len(whole), len(parts)) == (3, 5)
    deblended = SourceDeblend().run(exposure, whole, parts)
    np.testing.assert_array_equal(deblended.parent, [0, 0, 1, 2, 2])
    for i in range(5):
        x, y = deblended.footprints.peak_x[i], deblended.footprints.peak_y[i]
        flux = next(f for sx, sy, f in stars if np.hypot(sx - x, sy - y) < 2)
        assert pixels_of(exposure, deblended.footprints, i).sum() == pytest.approx(flux, rel=0.05)
    skipped = SourceDeblend(SourceDeblendConfig(max_footprint_area=1)).run(exposure, whole, parts)
    np.testing.assert_array_equal(skipped.footprints.span_x0, parts.span_x0)
    np.testing.assert_array_equal(skipped.too_big, [True, True, False, True, True])
    some = select(parts, np.array([0, 2, 4]))
    fewer = SourceDeblend().run(exposure, whole, some)
    np.testing.assert_array_equal(fewer.parent, [0, 1, 2])
    np.testing.assert_array_equal(fewer.footprints.span_x0, some.span_x0)
