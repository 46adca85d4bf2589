"""Sources that only bad pixels make, and stars that lie under them."""

import numpy as np
import pytest

from streamchar.characterize.confirmation import confirmed, on_rim, trusted_response
from streamchar.characterize.detection import DetectionConfig, DetectSources
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.smoothing import gaussian_taps, kernel_width
from streamchar.characterize.thresholds import Threshold
from streamchar.image import Exposure

SIGMA, NOISE, SHAPE = 1.7, 10.0, (120, 160)
TAPS = gaussian_taps(SIGMA, kernel_width(SIGMA, 7.0))


def scene(seed=1, stars=()):
    """Stars as (x, y, signal to noise on the sky) and noise."""
    y, x = np.indices(SHAPE)
    image = np.random.default_rng(seed).normal(0, NOISE, SHAPE)
    for at_x, at_y, snr in stars:
        flux = snr * 2 * np.sqrt(np.pi) * SIGMA * NOISE
        image += flux / (2 * np.pi * SIGMA**2) * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * SIGMA**2))
    psf = GaussianPsf(SIGMA, 21, (80.0, 60.0))
    return Exposure(
        image.astype(np.float32), np.zeros(SHAPE, np.int32), np.full(SHAPE, NOISE**2, np.float32), psf=psf
    )


def spoil(exposure, plane, where, value=None, add=0.0):
    if plane not in exposure.planes:
        exposure.planes = exposure.planes.including(plane)
    flags = np.zeros(SHAPE, bool)
    flags[where] = True
    exposure.mask[flags] |= exposure.bits(plane)
    if value is not None:
        exposure.image[flags] = value
    exposure.image[flags] += add


def found(exposure, *overrides):
    result = DetectSources(DetectionConfig().with_overrides(*overrides)).run(exposure).footprints
    return sorted(zip(result.peak_x.tolist(), result.peak_y.tolist(), strict=True))


TRACK = ([58, 59, 60, 60, 61, 61, 62], [78, 79, 79, 80, 80, 81, 82])


def test_a_cosmic_ray_is_no_source():
    exposure = scene(stars=[(40, 40, 100)])
    spoil(exposure, "CR", TRACK, add=2500)
    assert len(found(exposure, "do_confirm=false")) == 2
    assert found(exposure) == [(40, 40)]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_star_under_a_cosmic_ray_stays(seed, offset):
    exposure = scene(seed, stars=[(80 + offset, 60, 80)])
    spoil(exposure, "CR", TRACK, add=2500)
    assert len(found(exposure)) == 1


def test_a_bad_column_makes_no_source_in_the_wing_of_a_star():
    exposure = scene(stars=[(80, 60, 500)])
    spoil(exposure, "BAD", np.s_[:, 85], add=1500)
    assert found(exposure) == [(80, 60)]


@pytest.mark.parametrize("column", [79, 80, 81])
def test_a_star_on_a_bad_column_stays(column):
    for value in (0.0, 3000.0):
        exposure = scene(stars=[(80, 60, 200)])
        spoil(exposure, "BAD", np.s_[50:70, column], value=value)
        near = [(x, y) for x, y in found(exposure) if abs(x - 80) <= 2 and abs(y - 60) <= 2]
        assert near


def test_a_star_beyond_the_searched_pixels_is_not_found_on_their_rim():
    exposure = scene(stars=[(2, 60, 400), (80, 60, 100)])
    assert len(found(exposure, "do_confirm=false")) == 2
    assert found(exposure) == [(80, 60)]


def test_sources_can_be_confirmed_again():
    exposure = scene(stars=[(40, 40, 100)])
    exposure.image[TRACK] += 2500
    task = DetectSources()
    footprints = task.run(exposure).footprints
    assert len(footprints) == 2
    assert task.confirm(exposure, footprints).tolist() == [True, True]
    spoil(exposure, "CR", TRACK, value=0.0)
    assert task.confirm(exposure, footprints).tolist() == [True, False]
    assert task.confirm(exposure, Footprints.empty(SHAPE)).tolist() == []


def test_the_response_is_that_of_the_matched_filter():
    exposure = scene(stars=[(80, 60, 100)])
    x, y = np.array([80, 3], np.int32), np.array([60, 2], np.int32)
    whole = trusted_response(exposure, x, y, TAPS, 1)
    assert whole.significance[0] == pytest.approx(100, abs=3)
    spoil(exposure, "BAD", np.s_[:, 80:83], value=np.nan)
    part = trusted_response(exposure, x, y, TAPS, exposure.bits("BAD"))
    np.testing.assert_allclose(part.significance[0], whole.significance[0], atol=5)
    np.testing.assert_allclose(part.amplitude[0], whole.amplitude[0], rtol=0.05)
    assert part.significance[1] == whole.significance[1]
    exposure.image[...] = np.nan
    assert np.isnan(trusted_response(exposure, x, y, TAPS, 1).significance).all()


def test_a_peak_is_judged_alike_alone_and_among_many():
    exposure = scene(stars=[(40, 40, 100), (80, 60, 200), (120, 90, 50)])
    spoil(exposure, "CR", TRACK, add=2500)
    y, x = (np.tile(pixel.ravel(), 2).astype(np.int32) for pixel in np.mgrid[0:120:8, 0:160:10])
    arguments = TAPS, exposure.bits("CR"), 5.0, SIGMA
    alone = [bool(confirmed(exposure, x[i : i + 1], y[i : i + 1], *arguments)[0]) for i in range(len(x))]
    assert confirmed(exposure, x, y, *arguments).tolist() == alone
    assert {*alone} == {False, True}


def test_rim():
    empty = Footprints.empty((20, 30))
    spans = (np.array([5, 10], np.int32),) * 3
    places = empty.with_spans(*spans, np.array([0, 1, 2])).with_peaks(
        np.array([5, 24], np.int32), np.array([5, 14], np.int32), np.ones(2, np.float32), np.array([0, 1, 2])
    )
    assert on_rim(places, 3).tolist() == [False, False]
    assert on_rim(places, 5).tolist() == [True, True]


def test_faint_parts_are_no_sources():
    exposure = scene(stars=[(80, 60, 300), (88, 60, 35)])
    assert found(exposure) == [(80, 60)]
    together = scene(stars=[(80, 60, 300), (88, 60, 80)])
    assert len(found(together)) == 2


def test_chosen_footprints():
    exposure = scene(stars=[(30, 30, 100), (60, 60, 100), (90, 90, 100)])
    footprints = DetectSources().run(exposure).footprints
    some = footprints.take(np.array([True, False, True]))
    assert some.peak_x.tolist() == [30, 90]
    np.testing.assert_array_equal(some.area, footprints.area[[0, 2]])
    np.testing.assert_array_equal(some.part(1, 2).span_x0, footprints.part(2, 3).span_x0)
    assert footprints.take(np.ones(3, np.bool_)).peak_x.tolist() == [30, 60, 90]
    assert len(footprints.take(np.zeros(3, np.bool_))) == 0
    assert len(footprints.take(np.zeros(3, bool))) == 0


def test_levels_that_peaks_reach():
    value, variance = np.array([40, 60, 60], np.float32), np.array([1, 1, -1], np.float32)
    assert Threshold(5.0, scaled=True).reached(value, variance, 10).tolist() == [False, True, False]
    assert Threshold(5.0, scaled=False).reached(value, variance, 10).tolist() == [False, True, True]
