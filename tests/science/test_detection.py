"""Detection against analytic truth, scipy, and the order rules of the reference."""

import numpy as np
import pytest
from scipy import ndimage

from streamchar.characterize.background import BackgroundList, SubtractBackground
from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.characterize.detection import DetectionConfig, DetectSources
from streamchar.characterize.errors import MissingPsfError, TooManyMaskedPixelsError
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.smoothing import SmoothingKernelError, kernel_width
from streamchar.errors import ConfigurationError
from streamchar.image import Exposure, MaskPlanes, UnknownMaskPlaneError

SIGMA = 2.0
NOISE = 10.0
EIGHT = np.ones((3, 3))
PLAIN = ("do_temp_local_background=false", "re_estimate_background=false")
"""Nothing but smoothing, thresholds, peaks and growth."""
EVERYTHING = ("include_threshold_multiplier=1.0",)


def exposure(image, noise=NOISE, sigma=SIGMA):
    image = np.ascontiguousarray(image, np.float32)
    height, width = image.shape
    return Exposure(
        image,
        np.zeros(image.shape, np.int32),
        np.full(image.shape, noise**2, np.float32),
        psf=GaussianPsf(sigma, 21, ((width - 1) / 2, (height - 1) / 2)),
    )


def star(shape, x, y, flux, sigma=SIGMA):
    rows, columns = np.indices(shape)
    return flux / (2 * np.pi * sigma**2) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


def moffat(shape, x, y, flux, fwhm=4.0, beta=3.0, q=1.0, angle=0.0):
    rows, columns = np.indices(shape)
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    scale = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    radius2 = along**2 + (across / q) ** 2
    return flux * (beta - 1) / (np.pi * q * scale**2) * (1 + radius2 / scale**2) ** -beta


def noisy(clean, seed, noise=NOISE):
    """Noise of sky and objects, with its true variance."""
    target = exposure(clean, noise)
    target.variance += np.maximum(target.image, 0)
    deviates = np.random.default_rng(seed).normal(size=clean.shape)
    target.image += (deviates * np.sqrt(target.variance)).astype(np.float32)
    return target


def flux_of(signal_to_noise, sigma=SIGMA):
    """Flux of a star of that matched-filter signal to noise on the sky alone."""
    return signal_to_noise * 2 * np.sqrt(np.pi) * sigma * NOISE


def flux_with_own_noise(signal_to_noise, sigma=SIGMA):
    area = 4 * np.pi * sigma**2 * NOISE**2
    return 0.5 * (signal_to_noise**2 + np.sqrt(signal_to_noise**4 + 4 * signal_to_noise**2 * area))


def reference(*overrides):
    return CharacterizeImageConfig.preset("reference").detection.with_overrides(*overrides)


def detect(target, *overrides, **arguments):
    """As the reference does it."""
    return DetectSources(reference(*overrides)).run(target, **arguments)


def detect_best(target, *overrides):
    return DetectSources(DetectionConfig().with_overrides(*overrides)).run(target)


def bits(target, plane):
    return (target.mask & target.bits(plane)) != 0


def grid_of_stars(shape, fluxes, step=40):
    rows, columns = np.mgrid[30 : shape[0] - 30 : step, 30 : shape[1] - 30 : step]
    image = np.zeros(shape)
    for x, y, flux in zip(columns.flat, rows.flat, fluxes, strict=False):
        image += star(shape, x, y, flux)
    return image


# Analytic truth


@pytest.mark.parametrize("sigma", [1.2, 2.0, 3.1])
@pytest.mark.parametrize("signal_to_noise", [60.0, 400.0])
def test_significance_is_the_matched_filter_signal_to_noise(sigma, signal_to_noise):
    target = exposure(star((101, 101), 50, 50, flux_of(signal_to_noise, sigma), sigma), sigma=sigma)
    found = detect(target, *PLAIN).footprints
    assert len(found) == 1
    assert (found.peak_x[0], found.peak_y[0]) == (50, 50)
    # The continuous formula flux / (2 sqrt(pi) sigma noise) holds to the kernel's truncation at 3.5 sigma.
    assert found.peak_significance[0] == pytest.approx(signal_to_noise, rel=2e-3)


def test_noise_peaks_above_three_sigma_as_often_as_a_random_field_says():
    # Expected Euler characteristic of the excursion set of a smooth Gaussian field (Adler 1981): islands per pixel are
    # l nu exp(-nu^2/2) / (2 pi)^(3/2), l = 1 / (2 sigma^2) for white noise smoothed by sigma.
    size = 1400
    target = exposure(np.random.default_rng(11).normal(0, NOISE, (size, size)))
    found = detect(target, *PLAIN, *EVERYTHING, "threshold_value=3.0", "n_sigma_to_grow=0.0")
    area = (size - kernel_width(SIGMA, 7.0) + 1) ** 2
    expected = area * 3.0 * np.exp(-4.5) / (2 * SIGMA**2) / (2 * np.pi) ** 1.5
    assert found.positive_count == pytest.approx(expected, abs=4 * np.sqrt(expected) + 0.05 * expected)
    strict = detect(target, *PLAIN, *EVERYTHING)
    assert strict.positive_count <= 3  # 0.28 expected
    assert detect(target, *PLAIN).positive_count == 0


def test_footprints_are_kept_from_fifty_sigma_on():
    fluxes = [flux_of(s) for s in (45, 49, 51, 55, 80)]
    target = exposure(grid_of_stars((80, 240), fluxes))
    found = detect(target, *PLAIN)
    assert found.footprints.peak_x.tolist() == [110, 150, 190]
    assert found.positive_count == found.peak_count == 3
    assert len(detect(target, *PLAIN, *EVERYTHING).footprints) == 5


def test_every_star_above_fifty_sigma_is_found_where_it_is():
    rng = np.random.default_rng(2)
    signal_to_noise = rng.uniform(60, 500, 100)
    target = noisy(grid_of_stars((460, 460), [flux_with_own_noise(s) for s in signal_to_noise]), 3)
    found = detect(target, *PLAIN).footprints
    assert len(found) == 100
    rows, columns = np.mgrid[30:430:40, 30:430:40]
    first = found.peak_start[:-1]
    distance = np.hypot(
        found.peak_x[first][:, None] - columns.ravel(), found.peak_y[first][:, None] - rows.ravel()
    )
    assert (distance.min(axis=0) < 1.5).all()
    nearest = distance.argmin(axis=1)
    flux = np.array([flux_with_own_noise(s) for s in signal_to_noise[nearest]])
    # The kernel times the star, over the root of the squared kernel times the variance of sky and star.
    value = flux / (4 * np.pi * SIGMA**2)
    variance = NOISE**2 / (4 * np.pi * SIGMA**2) + flux / (12 * np.pi**2 * SIGMA**4)
    np.testing.assert_allclose(found.peak_significance[first], value / np.sqrt(variance), rtol=0.06)


# scipy


def crowded(seed, shape=(300, 320), count=120):
    rng = np.random.default_rng(seed)
    clean = sum(
        star(shape, x, y, flux)
        for x, y, flux in zip(
            rng.uniform(0, shape[1], count),
            rng.uniform(0, shape[0], count),
            10 ** rng.uniform(3, 5, count),
            strict=True,
        )
    )
    return noisy(clean, seed + 1)


@pytest.mark.parametrize("isotropic", [True, False])
def test_the_detected_plane_is_what_scipy_makes(isotropic):
    target = crowded(1)
    image, variance = target.image.astype(float), target.variance.astype(float)
    target.mask[...] = target.bits("DETECTED", "DETECTED_NEGATIVE")
    found = detect(target, *PLAIN, f"isotropic_grow={str(isotropic).lower()}")

    half = kernel_width(SIGMA, 7.0) // 2
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / SIGMA) ** 2)
    taps /= taps.sum()
    inner = np.s_[half:-half, half:-half]
    smooth = ndimage.convolve(image, np.outer(taps, taps))[inner]
    stdev = np.sqrt(ndimage.convolve(variance, np.outer(taps, taps) ** 2)[inner])
    labels, count = ndimage.label(smooth >= 5 * stdev, EIGHT)
    kept = [k for k in range(1, count + 1) if (smooth >= 50 * stdev)[labels == k].any()]
    whole = np.zeros(target.shape, bool)
    whole[inner] = np.isin(labels, kept)
    radius = int(2.4 * SIGMA + 0.5)
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = rows**2 + columns**2 <= radius**2 if isotropic else abs(rows) + abs(columns) <= radius
    whole = ndimage.binary_dilation(whole, disk)

    np.testing.assert_array_equal(bits(target, "DETECTED"), whole)
    assert not bits(target, "DETECTED_NEGATIVE").any()
    edge = np.ones(target.shape, bool)
    edge[inner] = False
    np.testing.assert_array_equal(bits(target, "EDGE"), edge)
    assert (found.kernel_width, found.growth_radius, found.sigma) == (2 * half + 1, radius, SIGMA)

    grown, count = ndimage.label(whole, EIGHT)
    assert len(found.footprints) == count
    number = found.footprints.label_image()
    assert len(np.unique(np.stack([grown[whole], number[whole]]), axis=1).T) == count
    peaks = (smooth == ndimage.maximum_filter(smooth, 3)) & np.isin(labels, kept)
    peaks[[0, -1]] = peaks[:, [0, -1]] = False
    peak_y, peak_x = np.nonzero(peaks)
    ours = set(zip(found.footprints.peak_x.tolist(), found.footprints.peak_y.tolist(), strict=True))
    theirs = set(zip((peak_x + half).tolist(), (peak_y + half).tolist(), strict=True))
    assert theirs <= ours
    assert len(found.footprints.peak_x) - len(theirs) <= 3  # footprints that only touch the ring


def test_separate_growing_keeps_every_footprint():
    target = crowded(5)
    alone = detect(target, *PLAIN, "combined_grow=false")
    together = detect(target, *PLAIN)
    assert alone.positive_count > together.positive_count
    assert alone.peak_count == together.peak_count
    bare = detect(target, *PLAIN, "n_sigma_to_grow=0.0").footprints
    assert len(alone.footprints) == len(bare)
    np.testing.assert_array_equal(alone.footprints.peak_x, bare.peak_x)
    original = detect(target, *PLAIN, "return_original_footprints=true")
    np.testing.assert_array_equal(original.footprints.span_x0, bare.span_x0)
    assert original.positive_count == together.positive_count


# Order rules and hand-made examples


def test_sources_come_in_reading_order_and_their_peaks_brightest_first():
    shape = (150, 200)
    clean = (
        star(shape, 100, 40, 2e4)
        + star(shape, 40, 60, 3e4)
        + star(shape, 51, 60, 5e4)
        + star(shape, 150, 100, 2e4)
    )
    found = detect(exposure(clean), *PLAIN).footprints
    assert [(x, y) for x, y in zip(found.peak_x, found.peak_y, strict=True)] == [
        (100, 40),
        (51, 60),
        (40, 60),
        (150, 100),
    ]
    assert found.peak_count.tolist() == [1, 2, 1]
    assert found.peak_value[1] > found.peak_value[2]


def test_small_footprints_are_dropped_before_growing():
    target = exposure(grid_of_stars((80, 160), [flux_of(55), flux_of(55), flux_of(5000)]))
    area = detect(target, *PLAIN, "n_sigma_to_grow=0.0").footprints.area
    assert sorted(area)[1] < sorted(area)[2]
    found = detect(target, *PLAIN, f"min_pixels={sorted(area)[1] + 1}")
    assert found.footprints.peak_x.tolist() == [110]


def pit_and_star():
    shape = (120, 120)
    noise = np.random.default_rng(1).normal(0, 0.1, shape)
    return exposure(star(shape, 40, 60, 3e4) - star(shape, 80, 60, 4e4) + noise)


@pytest.mark.parametrize(
    ("polarity", "positive", "negative"), [("positive", 1, 0), ("negative", 0, 1), ("both", 1, 1)]
)
def test_polarity_decides_what_is_returned_and_marked(polarity, positive, negative):
    target = pit_and_star()
    found = detect(target, "do_temp_local_background=false", f"threshold_polarity={polarity}")
    assert (found.positive_count, found.negative_count) == (1, 1)
    assert (len(found.footprints), len(found.negative_footprints)) == (positive, negative)
    assert bits(target, "DETECTED")[60, 40] == bool(positive)
    assert bits(target, "DETECTED_NEGATIVE")[60, 80] == bool(negative)
    if negative:
        pit = found.negative_footprints
        assert (pit.peak_x[0], pit.peak_y[0]) == (80, 60)
        assert pit.peak_value[0] < 0
        assert pit.peak_significance[0] == pytest.approx(4e4 / (2 * np.sqrt(np.pi) * SIGMA * NOISE), rel=2e-3)


def test_pits_are_not_searched_when_nobody_needs_them():
    assert detect(pit_and_star(), *PLAIN).negative_count == 0


def test_excluded_planes_are_not_searched():
    target = exposure(grid_of_stars((100, 120), [2e4, 2e4]))
    target.planes = MaskPlanes().including("SPIKE")
    target.set_plane("SPIKE", np.indices(target.shape)[1] < 45)
    found = detect(target, *PLAIN, 'exclude_mask_planes=["SPIKE"]')
    assert found.footprints.peak_x.tolist() == [70]


def test_nan_pixels_are_never_in():
    target = exposure(grid_of_stars((100, 120), [2e4, 2e4]))
    target.image[30, 30] = np.nan
    target.variance[30, 75] = np.nan
    half = kernel_width(SIGMA, 7.0) // 2
    found = detect(target, *PLAIN, "n_sigma_to_grow=0.0")
    marked = bits(target, "DETECTED")
    assert not marked[30 - half : 31 + half, 30 - half : 31 + half].any()
    assert not marked[30 - half : 31 + half, 75 - half : 76 + half].any()
    assert np.isfinite(found.footprints.peak_significance).all()


def test_nothing_to_detect():
    target = exposure(np.random.default_rng(1).normal(0, 1, (64, 64)))
    found = detect(target)
    assert len(found.footprints) == found.positive_count == found.peak_count == found.negative_count == 0
    assert not bits(target, "DETECTED").any()


# Threshold types


def noise_and_star(seed=4):
    image = np.random.default_rng(seed).normal(0, NOISE, (300, 300))
    return exposure(image + star(image.shape, 150, 150, 3e4))


def test_thresholds_of_the_whole_image():
    target = noise_and_star()
    target.variance[...] = 1e12  # not looked at
    smoothed_noise = NOISE / (2 * np.sqrt(np.pi) * SIGMA)
    found = detect(target, *PLAIN, "threshold_type=stdev")
    assert len(found.footprints) == 1
    expected = 3e4 / (4 * np.pi * SIGMA**2) / smoothed_noise
    assert found.footprints.peak_significance[0] == pytest.approx(expected, rel=0.1)
    level = detect(target, *PLAIN, "threshold_type=value", f"threshold_value={5 * smoothed_noise}")
    assert len(level.footprints) == 1
    assert level.footprints.peak_significance.tolist() == [0.0]
    ratio = level.footprints.area[0] / found.footprints.area[0]
    assert ratio == pytest.approx(1.0, abs=0.1)
    variance = detect(target, *PLAIN, "threshold_type=variance", f"threshold_value={5 / smoothed_noise}")
    assert variance.footprints.area[0] / found.footprints.area[0] == pytest.approx(1.0, abs=0.1)


def test_image_statistics_leave_masked_pixels_out():
    target = noise_and_star()
    wild = abs(np.indices(target.shape)[1] - 150) > 40
    target.image[wild] *= 1000
    target.set_plane("BAD", wild)

    def significance_of_star(*overrides):
        found = detect(
            target, *PLAIN, "threshold_type=stdev", "include_threshold_multiplier=0.0", *overrides
        ).footprints
        at = np.flatnonzero((found.peak_x == 150) & (found.peak_y == 150))
        return found.peak_significance[at]

    expected = 3e4 / (2 * np.sqrt(np.pi) * SIGMA * NOISE)
    assert significance_of_star() == pytest.approx([expected], rel=0.1)
    assert significance_of_star("stats_mask=[]").sum() < 0.1 * expected


def test_without_smoothing_the_image_itself_is_searched():
    target = exposure(np.zeros((60, 60)))
    target.image[0, 5:8] = [600, 700, 650]
    target.image[40, 40] = 800
    found = detect(target, *PLAIN, do_smooth=False)
    assert found.kernel_width == 1
    assert not bits(target, "EDGE").any()
    assert found.footprints.peak_x.tolist() == [6, 40]
    assert found.footprints.peak_significance.tolist() == [70, 80]


# Backgrounds


def test_the_background_is_estimated_anew_around_the_sources():
    shape = (512, 512)
    rng = np.random.default_rng(8)
    clean = grid_of_stars(shape, rng.uniform(1e4, 3e5, 144))
    target = noisy(clean + 5.0, 9)
    before = target.image.copy()
    backgrounds = BackgroundList()
    found = detect(target, background=backgrounds)
    assert backgrounds.models == found.background
    np.testing.assert_allclose(target.image + backgrounds.image(), before, atol=2e-3)
    sky = target.image[~bits(target, "DETECTED")]
    # The wings outside the grown footprints remain; the pedestal does not.
    assert np.median(sky) == pytest.approx(0.0, abs=0.3)


def test_a_constant_can_be_added_to_the_background():
    plain, raised = noise_and_star(), noise_and_star()
    detect(plain)
    found = detect(raised, "adjust_background=2.5")
    np.testing.assert_allclose(plain.image - raised.image, 2.5, atol=1e-4)
    np.testing.assert_allclose(found.background[0].image(), plain.image * 0 + found.background[0].image())
    grid = detect(noise_and_star(), "adjust_background=2.5", "background.use_approx=false").background[0]
    bare = detect(noise_and_star(), "background.use_approx=false").background[0]
    np.testing.assert_allclose(grid.image() - bare.image(), 2.5, atol=1e-4)


def test_peaks_of_complex_footprints_are_found_above_the_local_background():
    shape = (512, 512)
    halo = 300 * np.exp(-((np.indices(shape) - 256.0) ** 2).sum(axis=0) / (2 * 150**2))
    clean = halo + star(shape, 240, 256, 3e4) + star(shape, 265, 256, 4e4)
    flattened = detect(noisy(clean, 21), "re_estimate_background=false").footprints
    plain = detect(noisy(clean, 21), *PLAIN).footprints
    np.testing.assert_array_equal(flattened.area, plain.area)

    def near(footprints, x, y):
        return footprints.peak_value[np.hypot(footprints.peak_x - x, footprints.peak_y - y) < 1.5]

    # Noise on the halo no longer makes peaks.
    assert len(flattened.peak_x) < 0.1 * len(plain.peak_x)
    for x, y in ((240, 256), (265, 256)):
        assert len(near(flattened, x, y)) == 1
        assert near(flattened, x, y)[0] == pytest.approx(near(plain, x, y)[0] - halo[y, x], abs=40)


def test_a_single_peak_keeps_its_value_from_before_the_local_background():
    target, again = noise_and_star(), noise_and_star()
    target.image += 5
    again.image += 5
    flattened = detect(target, "re_estimate_background=false").footprints
    assert flattened.peak_count.tolist() == [1]
    np.testing.assert_array_equal(flattened.peak_value, detect(again, *PLAIN).footprints.peak_value)


def test_the_wide_background_is_only_borrowed():
    shape = (600, 600)
    rows, columns = np.indices(shape)
    slope = 0.5 * columns + 0.3 * rows
    clean = star(shape, 200, 300, 3e4) + star(shape, 400, 300, 3e4)
    target = noisy(clean, 5)
    target.image += slope.astype(np.float32)
    target.set_plane("NO_DATA", (rows < 40) & (columns < 40))
    before = target.image.copy()
    wide = ("do_temp_wide_background=true", "temp_wide_background.bin_size=100")
    found = detect(target, *wide, *PLAIN)
    np.testing.assert_array_equal(target.image, before)
    assert sorted(found.footprints.peak_x.tolist()) == [200, 400]
    kept = detect(target, *wide, "do_temp_local_background=false")
    np.testing.assert_allclose(target.image + kept.background[0].image(), before, atol=2e-3)


# One source per peak


SEPARATE = (*PLAIN, *EVERYTHING, "one_source_per_peak=true")
CENTRE = 50.0
STAMP = (101, 101)


@pytest.mark.parametrize("signal_to_noise", [10, 30, 100, 300, 1000])
def test_single_stars_and_elongated_galaxies_stay_whole(signal_to_noise):
    rng = np.random.default_rng(signal_to_noise)
    for trial in range(15):
        x, y = CENTRE + rng.uniform(-0.5, 0.5, 2)
        objects = {
            "star": moffat(STAMP, x, y, flux_with_own_noise(signal_to_noise)),
            "galaxy": moffat(
                STAMP,
                x,
                y,
                flux_with_own_noise(signal_to_noise, 4.0),
                fwhm=14,
                beta=2.5,
                q=0.3,
                angle=rng.uniform(0, 3),
            ),
        }
        for kind, clean in objects.items():
            target = noisy(clean, 1000 * signal_to_noise + trial)
            whole, parts = detect(target, *PLAIN, *EVERYTHING), detect(target, *SEPARATE)
            assert len(parts.footprints) == len(whole.footprints), (kind, trial)


@pytest.mark.parametrize(
    ("signal_to_noise", "separation", "at_least"),
    [(50, 2.0, 0.9), (50, 2.5, 1.0), (200, 1.5, 0.8), (200, 2.0, 1.0), (1000, 1.5, 0.9), (1000, 3.0, 1.0)],
)
def test_pairs_of_stars_become_two_sources(signal_to_noise, separation, at_least):
    rng = np.random.default_rng(7)
    recovered, trials, fwhm = 0, 20, 4.0
    for trial in range(trials):
        angle = rng.uniform(0, 2 * np.pi)
        dx, dy = separation * fwhm / 2 * np.cos(angle), separation * fwhm / 2 * np.sin(angle)
        flux = flux_with_own_noise(signal_to_noise)
        clean = moffat(STAMP, CENTRE + dx, CENTRE + dy, flux) + moffat(
            STAMP, CENTRE - dx, CENTRE - dy, flux / 2
        )
        found = detect(noisy(clean, trial), *SEPARATE).footprints
        if len(found) == 2:
            bright = found.peak_significance.argmax()
            recovered += bool(
                np.hypot(found.peak_x[bright] - CENTRE - dx, found.peak_y[bright] - CENTRE - dy) < 2
            )
    assert recovered >= at_least * trials


def test_parts_divide_the_footprints_and_carry_matched_filter_significances():
    whole_target, split_target = crowded(3, count=200), crowded(3, count=200)
    whole = detect(whole_target, *PLAIN, *EVERYTHING).footprints
    parts = detect(split_target, *SEPARATE).footprints
    assert len(parts) > 1.3 * len(whole)
    assert (parts.peak_count == 1).all()
    assert parts.area.sum() == whole.area.sum()
    np.testing.assert_array_equal(whole_target.mask, split_target.mask)
    np.testing.assert_array_equal(parts.label_image() > 0, whole.label_image() > 0)
    significance = dict(
        zip(
            zip(whole.peak_x.tolist(), whole.peak_y.tolist(), strict=True),
            whole.peak_significance,
            strict=True,
        )
    )
    shared = [
        (s, significance[x, y])
        for x, y, s in zip(parts.peak_x.tolist(), parts.peak_y.tolist(), parts.peak_significance, strict=True)
        if (x, y) in significance
    ]
    assert len(shared) > 0.3 * len(whole)
    np.testing.assert_allclose(*zip(*shared, strict=True), rtol=1e-4)


def test_separate_sources_where_the_footprint_reaches_into_the_border():
    shape = (80, 120)
    found = detect(exposure(star(shape, 40, 8, 5e4) + star(shape, 52, 8, 4e4)), *SEPARATE).footprints
    assert found.peak_x.tolist() == [40, 52]
    assert found.span_y.min() < kernel_width(SIGMA, 7.0) // 2


# Errors and records


def test_detection_needs_a_psf():
    target = noise_and_star()
    target.psf = None
    with pytest.raises(MissingPsfError):
        detect(target)


def test_an_exposure_smaller_than_the_kernel_is_refused():
    target = exposure(np.zeros((40, 60)), sigma=8.0)
    with pytest.raises(SmoothingKernelError, match="60 x 40") as caught:
        detect(target)
    assert caught.value.values == {"width": 60, "height": 40, "kernel": 57, "sigma": 8.0}


def test_a_fully_masked_exposure_has_no_background():
    target = noise_and_star()
    target.set_plane("BAD", np.ones(target.shape, bool))
    with pytest.raises(TooManyMaskedPixelsError):
        detect(target)


def test_unknown_planes_are_refused():
    with pytest.raises(UnknownMaskPlaneError):
        detect(noise_and_star(), *PLAIN, 'exclude_mask_planes=["HALO"]')


@pytest.mark.parametrize(
    "override",
    [
        "threshold_value=-1.0",
        "threshold_type=sigma",
        "min_pixels=-1",
        "n_sigma_for_kernel=0.0",
        "splitting.smoothing=2.0",
    ],
)
def test_settings_are_checked(override):
    with pytest.raises(ConfigurationError):
        DetectionConfig().with_overrides(override)


def test_the_reference_preset_is_the_reference():
    config = reference()
    assert (config.background.bin_size, config.background.use_approx) == (128, True)
    assert (config.temp_local_background.bin_size, config.temp_local_background.use_approx) == (64, False)
    assert (config.temp_wide_background.bin_size, config.temp_wide_background.use_approx) == (512, False)
    assert config.temp_wide_background.ignored_pixel_mask == ("BAD", "EDGE", "NO_DATA")
    assert not config.one_source_per_peak
    assert not config.do_confirm
    assert config.re_estimate_background
    backgrounds = (config.background, config.temp_local_background, config.temp_wide_background)
    assert not any(background.mask_sources for background in backgrounds)


def test_values_are_recorded_for_every_run():
    task = DetectSources(reference())
    for _ in range(2):
        target = noise_and_star()
        SubtractBackground().run(target)
        task.run(target)
    assert task.metadata == {
        "do_smooth": [True, True],
        "sigma": [2.0, 2.0],
        "smoothing_kernel_width": [15, 15],
        "n_grow": [5, 5],
    }
    assert [timing.name for timing in task.timings()] == ["detection.run", "detection.run"]


@pytest.mark.parametrize(("sigma", "width"), [(1.5, 11), (1.0, 7), (1.7, 13), (2.0, 15), (0.3, 3), (0.05, 1)])
def test_kernel_widths(sigma, width):
    assert kernel_width(sigma, 7.0) == width
