"""Deblending against blends of known fluxes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from streamchar.characterize.deblend import (
    DEBLEND_COLUMNS,
    BaselineConfig,
    MultiThresholdConfig,
    SourceDeblend,
    SourceDeblendConfig,
)
from streamchar.characterize.deblend.assembly import joined
from streamchar.characterize.deblend.limits import axis_ratios
from streamchar.characterize.detection import DetectionConfig, DetectSources
from streamchar.characterize.errors import DeblendingError, MissingPsfError
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.measurement.neighbours import NoiseReplacerConfig, neighbours_replaced
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.image import Exposure
from tests.blends import random_blends
from tests.measurement_scenes import add_gaussian, footprints_of_masks

SIGMA = 2.0


def blend(stars, *, noise=1.0, shape=(101, 121), seed=1):
    """An exposure of Gaussian stars (x, y, flux) and its one footprint with all of their peaks."""
    image = np.zeros(shape, np.float32)
    for x, y, flux in stars:
        add_gaussian(image, x, y, flux, SIGMA**2, SIGMA**2)
    lit = image > 0.02
    image += np.random.default_rng(seed).normal(0, noise, shape).astype(np.float32)
    exposure = Exposure(
        image,
        np.zeros(shape, np.int32),
        np.full(shape, noise**2 or 1, np.float32),
        psf=GaussianPsf(SIGMA, 25, shape),
    )
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
    one = footprints.select(np.array([i]))
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
    some = parts.select(np.array([0, 2, 4]))
    fewer = SourceDeblend().run(exposure, whole, some)
    np.testing.assert_array_equal(fewer.parent, [0, 1, 2])
    np.testing.assert_array_equal(fewer.footprints.span_x0, some.span_x0)


def one_footprint(image, noise, peaks, *, psf_width=25):
    """An exposure with a Gaussian PSF and the one footprint of its peaks."""
    shape = image.shape
    labels, _ = ndimage.label(ndimage.gaussian_filter(image, 1.5) > noise)
    found = footprints_of_masks([labels == labels[peaks[0][1], peaks[0][0]]])
    exposure = Exposure(
        image,
        np.zeros(shape, np.int32),
        np.full(shape, noise**2, np.float32),
        psf=GaussianPsf(SIGMA, psf_width, shape),
    )
    x, y = (np.array(axis, np.int32) for axis in zip(*peaks, strict=True))
    return exposure, found.with_peaks(x, y, image[y, x], np.array([0, len(peaks)]))


def baseline(**settings):
    return SourceDeblend(SourceDeblendConfig(baseline=BaselineConfig(**settings)))


def star_and_other(*, width=SIGMA, seed=1, psf_width=25):
    """A star and, 14 pixels away, an object of the given width."""
    shape, noise = (61, 71), 2.0
    image = np.random.default_rng(seed).normal(0, noise, shape).astype(np.float32)
    add_gaussian(image, 30.3, 30.1, 4000.0, SIGMA**2, SIGMA**2)
    add_gaussian(image, 44.0, 31.0, 3000.0, width**2, width**2)
    return one_footprint(image, noise, [(30, 30), (44, 31)], psf_width=psf_width)


class TestPointSources:
    def test_stars_are_found_at_their_place_with_their_flux(self):
        errors = []
        for seed in range(20):
            exposure, footprints = star_and_other(seed=seed)
            deblended = SourceDeblend().run(exposure, footprints)
            columns = deblended.columns()
            star = columns["deblend_deblendedAsPsf"]
            errors += [
                (columns["deblend_psfCenter_x"] - [30.3, 44.0])[star],
                (columns["deblend_psfCenter_y"] - [30.1, 31.0])[star],
                (columns["deblend_psf_instFlux"] / [4000.0, 3000.0] - 1)[star],
            ]
        found = [np.concatenate(errors[k::3]) for k in range(3)]
        assert len(found[0]) >= 34
        for which, most in zip(found, (0.15, 0.15, 0.08), strict=True):
            # Where the PSF at the peak's pixel fits as well, it need not move.
            assert np.median(np.abs(which)) < most

    def test_an_extended_object_is_not_one_and_keeps_its_light(self):
        exposure, footprints = star_and_other(width=1.7 * SIGMA)
        plain = baseline(psf_chisq1=0, psf_chisq2=0).run(exposure, footprints)
        assert not plain.children.point_source.any()
        assert np.isnan(plain.children.psf_flux).all()
        deblended = SourceDeblend().run(exposure, footprints)
        np.testing.assert_array_equal(deblended.children.point_source, [True, False])
        flux = pixels_of(exposure, deblended.footprints, 1).sum()
        assert flux == pytest.approx(3000, rel=0.1)
        # What the star's wings have in common with the object is the star's.
        assert abs(flux - 3000) <= abs(pixels_of(exposure, plain.footprints, 1).sum() - 3000) + 30

    def test_masked_stars_are_not_tested(self):
        exposure, footprints = star_and_other()
        exposure.mask[...] = exposure.bits("SAT")
        assert not SourceDeblend().run(exposure, footprints).children.point_source.any()

    def test_a_psf_is_needed(self):
        exposure, footprints = star_and_other()
        exposure.psf = None
        with pytest.raises(MissingPsfError):
            SourceDeblend().run(exposure, footprints)
        assert len(SourceDeblend().run(exposure, footprints.with_peaks(*one_peak(footprints)))) == 1


def one_peak(footprints):
    return footprints.peak_x[:1], footprints.peak_y[:1], footprints.peak_value[:1], np.array([0, 1])


class TestEdge:
    """A star of which the exposure's edge cuts the left side, beside another one."""

    def at_the_edge(self, **settings):
        shape, noise = (61, 61), 1.0
        image = np.random.default_rng(3).normal(0, noise, shape).astype(np.float32)
        add_gaussian(image, 2.0, 30.0, 20000.0, SIGMA**2, SIGMA**2)
        add_gaussian(image, 14.0, 30.0, 5000.0, SIGMA**2, SIGMA**2)
        exposure, footprints = one_footprint(image, noise, [(2, 30), (14, 30)])
        found = baseline(psf_chisq1=0, psf_chisq2=0, **settings).run(exposure, footprints)
        return [pixels_of(exposure, found.footprints, i).sum() for i in range(2)], found.columns()

    def test_templates_are_continued(self):
        star = np.zeros((61, 61))
        add_gaussian(star, 2.0, 30.0, 20000.0, SIGMA**2, SIGMA**2)
        truth = star.sum(), 5000.0
        # The pixels themselves go on below the other star.
        for handling, flag_name, tolerance in (("ramp", "ramped", 0.02), ("noclip", "patched", 0.12)):
            fluxes, columns = self.at_the_edge(edge_handling=handling)
            assert fluxes == pytest.approx(truth, rel=tolerance)
            np.testing.assert_array_equal(columns[f"deblend_{flag_name}Template"], [True, False])
        fluxes, columns = self.at_the_edge(edge_handling="clip")
        assert fluxes[0] < 0.9 * truth[0]
        assert not columns["deblend_rampedTemplate"].any()
        assert not columns["deblend_patchedTemplate"].any()

    def test_away_from_the_edge_it_makes_no_difference(self):
        exposure, footprints = blend([(45, 50, 30000.0), (53, 50, 20000.0)])
        shares = [
            baseline(edge_handling=handling).run(exposure, footprints).footprints.share
            for handling in ("clip", "ramp", "noclip")
        ]
        np.testing.assert_array_equal(shares[0], shares[1])
        np.testing.assert_array_equal(shares[0], shares[2])


@pytest.mark.parametrize("rule", ["r_to_peak", "r_to_footprint", "nearest_footprint"])
@pytest.mark.parametrize("to_points", ["always", "necessary"])
@pytest.mark.parametrize("point_sources", ["all", "none", "one"])
def test_with_stray_light_the_children_add_up_to_the_parent(rule, to_points, point_sources):
    exposure, footprints = star_and_other(
        width=1.7 * SIGMA if point_sources == "one" else SIGMA, psf_width=13
    )
    exposure.image[36, 35] = np.nan
    some = {} if point_sources != "none" else {"psf_chisq1": 0, "psf_chisq2": 0}
    some |= {"stray_flux_to_point_sources": to_points, "max_template_radius": 100}
    deblended = baseline(stray_flux_rule=rule, **some).run(exposure, footprints)
    stars = {"all": [True, True], "none": [False, False], "one": [True, False]}[point_sources]
    np.testing.assert_array_equal(deblended.children.point_source, stars)
    ones = Exposure(np.ones_like(exposure.image), exposure.mask, exposure.variance)
    total = sum(pixels_of(ones, deblended.footprints, i) for i in range(2))
    np.testing.assert_allclose(total, footprints.label_image() > 0, atol=1e-5)
    given_light = deblended.columns()["deblend_hasStrayFlux"]
    assert given_light.any()
    assert not (point_sources == "one" and to_points == "necessary" and given_light[0])
    trimmed = baseline(stray_flux_rule=rule, assign_stray_flux=False, **some).run(exposure, footprints)
    assert not trimmed.columns()["deblend_hasStrayFlux"].any()
    assert trimmed.footprints.area.sum() < deblended.footprints.area.sum()


def test_isolated_sources_are_the_same_bit_for_bit():
    exposure, blended = blend([(45, 50, 30000.0), (53, 50, 20000.0)], shape=(101, 200))
    add_gaussian(exposure.image, 150.0, 50.0, 8000.0, SIGMA**2, SIGMA**2)
    alone = footprints_of_masks([np.hypot(*(np.mgrid[:101, :200] - [[[50]], [[150]]])) < 9], [(150, 50)])
    both = joined([blended, alone])
    for config in (SourceDeblendConfig(), SourceDeblendConfig(name="sep")):
        deblended = SourceDeblend(config).run(exposure, both)
        assert len(deblended) == 3
        last = deblended.footprints.select(np.array([2]))
        for name in ("span_y", "span_x0", "span_x1", "peak_x", "peak_y", "peak_value", "peak_significance"):
            np.testing.assert_array_equal(getattr(last, name), getattr(alone, name))
        assert last.share is None or (last.share == 1.0).all()
        np.testing.assert_array_equal(deblended.separated, [True, True, False])


def test_thin_footprints_are_left_alone():
    exposure, footprints = blend([(45, 50, 30000.0), (53, 50, 20000.0)])
    limit = axis_ratios(footprints)[0]
    assert 0.6 < limit < 0.95
    for ratio, alone in ((limit - 0.01, False), (limit + 0.01, True)):
        task = SourceDeblend(SourceDeblendConfig(min_footprint_axis_ratio=ratio))
        assert task.run(exposure, footprints).too_big.all() == alone
    bar, square = np.zeros((2, 20, 20), bool)
    bar[3, 2:12], square[5:15, 5:15] = True, True
    np.testing.assert_allclose(axis_ratios(footprints_of_masks([bar, square])), [0.1, 1.0])


def test_left_out_peaks_are_told():
    exposure, footprints = blend([(45, 50, 30000.0), (53, 50, 20000.0), (49, 57, 40000.0)])
    for most, told in ((2, True), (3, False)):
        columns = (
            SourceDeblend(SourceDeblendConfig(max_number_of_peaks=most)).run(exposure, footprints).columns()
        )
        assert len(columns["deblend_tooManyPeaks"]) == most
        assert (columns["deblend_tooManyPeaks"] == told).all()
    assert set(columns) == {column.name for column in DEBLEND_COLUMNS}


class TestMultiThreshold:
    def divided(self, stars, **settings):
        exposure, footprints = blend(stars, noise=2.0)
        config = SourceDeblendConfig(name="sep", sep=MultiThresholdConfig(**settings))
        return exposure, footprints, SourceDeblend(config).run(exposure, footprints)

    def test_two_stars(self):
        stars = [(45, 50, 50000.0), (55, 52, 30000.0)]
        exposure, footprints, deblended = self.divided(stars)
        assert deblended.footprints.share is None
        np.testing.assert_array_equal(deblended.footprints.peak_x, [45, 55])
        np.testing.assert_array_equal(deblended.footprints.peak_y, [50, 52])
        for i, (_, _, flux) in enumerate(stars):
            assert pixels_of(exposure, deblended.footprints, i).sum() == pytest.approx(flux, rel=0.04)
        # Every pixel has one owner.
        assert deblended.footprints.area.sum() == footprints.area.sum()
        np.testing.assert_array_equal(deblended.footprints.label_image() > 0, footprints.label_image() > 0)

    def test_contrast_decides(self):
        stars = [(45, 50, 50000.0), (55, 52, 2500.0)]
        assert len(self.divided(stars)[2]) == 2
        _, footprints, whole = self.divided(stars, deblend_cont=0.2)
        assert len(whole) == 1
        for name in ("span_y", "span_x0", "span_x1"):
            np.testing.assert_array_equal(getattr(whole.footprints, name), getattr(footprints, name))
        assert (whole.footprints.peak_x[0], whole.footprints.peak_y[0]) == (45, 50)

    def test_a_branch_without_a_peak_gets_one(self):
        exposure, footprints = blend([(45, 50, 50000.0), (55, 52, 30000.0), (56, 52, 10.0)], noise=2.0)
        left = footprints.with_peaks(
            np.array([45, 46], np.int32),
            np.array([50, 50], np.int32),
            footprints.peak_value[:2],
            np.array([0, 2]),
        )
        found = SourceDeblend(SourceDeblendConfig(name="sep")).run(exposure, left).footprints
        assert len(found) == 2
        assert abs(found.peak_x[1] - 55) <= 1
        assert found.peak_significance[1] > 100

    def test_nothing_bright_enough_stays_whole(self):
        exposure, footprints = blend([(45, 50, 30.0), (53, 50, 20.0)], noise=2.0)
        exposure.image[50, 48] = np.nan
        assert len(SourceDeblend(SourceDeblendConfig(name="sep")).run(exposure, footprints)) == 1
        exposure.image[...] = np.nan
        whole = SourceDeblend(SourceDeblendConfig(name="sep")).run(exposure, footprints)
        np.testing.assert_array_equal(whole.footprints.span_x0, footprints.span_x0)

    def test_many_blends_at_once(self):
        rng = np.random.default_rng(5)
        shape = (300, 400)
        image = rng.normal(0, 1, shape).astype(np.float32)
        places = [
            (x + 5 * side, y) for y in range(20, 290, 40) for x in range(20, 390, 40) for side in (-1, 1)
        ]
        for x, y in places:
            add_gaussian(image, x, y, 6000.0, SIGMA**2, SIGMA**2)
        exposure = Exposure(
            image, np.zeros(shape, np.int32), np.ones(shape, np.float32), psf=GaussianPsf(SIGMA, 25, shape)
        )
        whole = DetectSources(DetectionConfig(re_estimate_background=False, one_source_per_peak=False)).run(
            exposure
        )
        deblended = SourceDeblend(SourceDeblendConfig(name="sep")).run(exposure, whole.footprints)
        assert len(deblended) == len(places)
        found = deblended.footprints
        distance = np.hypot(
            found.peak_x[:, None] - np.array(places)[:, 0], found.peak_y[:, None] - np.array(places)[:, 1]
        )
        assert distance.min(axis=0).max() < 2
        assert (np.diff(deblended.parent) >= 0).all()

    def test_what_sep_cannot_do_is_told(self, monkeypatch):
        exposure, footprints = blend([(45, 50, 50000.0), (55, 52, 30000.0)])

        def overflow(*_, **__):
            raise Exception("object deblending overflow: limit of 2 sub-objects reached")

        monkeypatch.setattr("sep.extract", overflow)
        with pytest.raises(DeblendingError, match=r"1 blended footprints .* limit of 2"):
            SourceDeblend(SourceDeblendConfig(name="sep")).run(exposure, footprints)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["baseline", "sep"]),
    rule=st.sampled_from(["trim", "r_to_footprint"]),
    spoiled=st.sampled_from([0.0, 0.05, 1.0]),
    masked=st.booleans(),
)
def test_any_footprints(seed, name, rule, spoiled, masked):
    """Footprints of any form, at all borders, with no or many peaks, over pixels of any kind."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40, 2).tolist())
    blends = random_blends(rng, shape, rng.choice([0.0, 0.3, 0.6, 1.0]), 30)
    image = rng.normal(3, 5, shape).astype(np.float32)
    image[rng.random(shape) < spoiled] = rng.choice([np.nan, np.inf])
    exposure = Exposure(
        image, np.zeros(shape, np.int32), np.ones(shape, np.float32), psf=GaussianPsf(1.5, 9, shape)
    )
    if masked:
        exposure.mask[...] = exposure.bits("NO_DATA", "SAT")
    has_peaks = np.diff(blends.peak_start) > 0
    whole = (
        Footprints.empty(shape)
        .with_spans(*blends.spans)
        .with_peaks(*blends.peaks[:2], image[blends.peak_y, blends.peak_x], blends.peak_start)
    )
    whole = replace(whole, peak_start=blends.peak_start).take(has_peaks)
    config = SourceDeblendConfig(name=name, baseline=BaselineConfig(stray_flux_rule=rule))
    deblended = SourceDeblend(config).run(exposure, whole)
    found = deblended.footprints
    assert set(deblended.parent.tolist()) == set(range(len(whole)))
    labels = whole.label_image()
    rows, columns = found.pixels()
    owner = np.repeat(deblended.parent, found.area)
    np.testing.assert_array_equal(labels[rows, columns], owner + 1)
    first = found.peak_start[:-1]
    np.testing.assert_array_equal(labels[found.peak_y[first], found.peak_x[first]], deblended.parent + 1)
    if found.share is not None:
        assert ((found.share >= 0) & (found.share <= 1)).all()
        total = np.zeros(shape)
        np.add.at(total, (rows, columns), found.share)
        assert total.max(initial=0) <= 1 + 1e-5
    else:
        assert len(np.unique(rows * shape[1] + columns)) == len(rows)
    assert len(deblended.columns()["deblend_nPeaks"]) == len(deblended)
