"""Compact hits, spread over two by two pixels, in good seeing: found, and told from stars at every brightness."""

import numpy as np
import pytest
from scipy.special import erf

from streamchar.characterize import cosmic_rays
from streamchar.characterize.bright_peaks import find_bright_peaks
from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.characterize.cosmic_rays import CosmicRayConfig
from streamchar.characterize.cosmic_spots import SpotLimits, find_spots
from streamchar.characterize.errors import TooManyCosmicRaysError
from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM, GaussianPsf
from streamchar.image import Exposure

FWHM, SKY, SIZE, STEP = 2.3, 250.0, 800, 20
WITHOUT = CosmicRayConfig(spot_improvement=0.0)


def light(x, y, sigma, shape):
    """A Gaussian of unit sum, integrated over pixels."""
    profiles = []
    for centre, length in ((y, shape[0]), (x, shape[1])):
        edges = np.arange(length + 1) - 0.5 - centre
        profiles.append(np.diff(erf(edges / (sigma * np.sqrt(2)))) / 2)
    return profiles[0][:, None] * profiles[1]


def draw(make, seed, size=SIZE):
    """An exposure with one object in each cell of a grid, and the objects' places."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size), SKY)
    charge = np.zeros_like(image)
    places = []
    for cy in range(0, size, STEP):
        for cx in range(0, size, STEP):
            x, y = rng.uniform(STEP / 2 - 1, STEP / 2 + 1, 2)
            stars, hits = make(rng, x, y)
            image[cy : cy + STEP, cx : cx + STEP] += stars
            charge[cy : cy + STEP, cx : cx + STEP] += hits
            places.append((cy + round(y), cx + round(x)))
    pixels = rng.poisson(image) + charge
    # Pipelines know no better than the pixels themselves, noise and hits included.
    exposure = Exposure(
        pixels.astype(np.float32),
        np.zeros(pixels.shape, np.int32),
        np.maximum(pixels, 1.0).astype(np.float32),
    )
    exposure.psf = GaussianPsf(FWHM / SIGMA_TO_FWHM, 21)
    return exposure, np.array(places)


def star(rng, x, y, width=1.0, brightest=1e6):
    flux = 10 ** rng.uniform(2.5, np.log10(brightest))
    return flux * light(x, y, width * FWHM / SIGMA_TO_FWHM, (STEP, STEP))


def spots(rng, x, y):
    """A hit of 40 to 60 standard deviations of the sky, about the corner between four pixels, or a star."""
    if rng.random() < 0.25:
        flux = np.sqrt(SKY) * rng.uniform(40, 60)
        corner = np.floor(x) + 0.5 + rng.uniform(-0.2, 0.2), np.floor(y) + 0.5 + rng.uniform(-0.2, 0.2)
        return np.zeros((STEP, STEP)), flux * light(*corner, rng.uniform(0.5, 0.6), (STEP, STEP))
    return star(rng, x, y), np.zeros((STEP, STEP))


def carry_cosmic_rays(exposure, places, config):
    """Which objects carry CR."""
    cosmic_rays.find(exposure, config)
    carry = (exposure.mask & exposure.bits("CR")) != 0
    return np.array([carry[y - 2 : y + 3, x - 2 : x + 3].any() for y, x in places])


@pytest.mark.parametrize("seed", [1, 2])
def test_compact_hits_are_found_in_good_seeing(seed):
    hits = []

    def make(rng, x, y):
        stars, charge = spots(rng, x, y)
        hits.append(charge.any())
        return stars, charge

    exposure, places = draw(make, seed)
    with_comparison = carry_cosmic_rays(exposure, places, CosmicRayConfig())
    without = carry_cosmic_rays(exposure, places, WITHOUT)
    real = np.array(hits)
    assert with_comparison[real].mean() >= 0.97
    assert without[real].mean() < 0.75
    assert not with_comparison[~real].any()


@pytest.mark.parametrize("width", [1.0, 0.95, 1.1])
def test_stars_are_left_alone_when_the_psf_is_a_little_wrong(width):
    exposure, places = draw(lambda rng, x, y: (star(rng, x, y, width), np.zeros((STEP, STEP))), 3)
    assert carry_cosmic_rays(exposure, places, CosmicRayConfig()).sum() <= 1


def test_noise_alone_has_none():
    exposure, _ = draw(lambda rng, x, y: (np.zeros((STEP, STEP)), np.zeros((STEP, STEP))), 4)
    assert cosmic_rays.find(exposure, CosmicRayConfig(max_star_loss=None)).pixels == 0


def limits(**changes):
    values = {"improvement": 12.0, "width": 0.9, "growth": 3.5, "counts": 100.0} | changes
    return SpotLimits(**values)


def one_hit(x=20.5, y=30.5, shape=(60, 50)):
    rng = np.random.default_rng(5)
    image = rng.normal(0, 10, shape) + 800 * light(x, y, 0.4, shape)
    return (
        image.astype(np.float32),
        np.zeros(shape, np.int32),
        np.full(shape, 100, np.float32),
        GaussianPsf(1.0, 21),
    )


def spots_of(image, mask, variance, psf, height=5.5, **changes):
    bright = find_bright_peaks(image, variance, background=0.0, min_significance=height)
    spots = find_spots(bright, mask, variance, psf, level=0.0, excluded=1, limits=limits(**changes))
    return np.split(spots.y * image.shape[1] + spots.x, spots.start[1:-1]) if len(spots.start) > 1 else []


def test_pixels_of_a_hit():
    (pixels,) = spots_of(*one_hit())
    y, x = np.divmod(pixels, 50)
    assert {(30, 20), (30, 21), (31, 20), (31, 21)} <= set(zip(y.tolist(), x.tolist(), strict=True))
    assert np.all(np.diff(pixels) > 0)
    assert len(pixels) <= 6


@pytest.mark.parametrize("changes", [{"height": 40.0}, {"improvement": 1e4}, {"counts": 1e4}])
def test_limits(changes):
    assert spots_of(*one_hit(), **changes) == []


def test_what_is_beside_bad_pixels_or_the_border_is_not_judged():
    image, mask, variance, psf = one_hit()
    mask[29, 19] = 1
    assert spots_of(image, mask, variance, psf) == []
    image[29, 19] = np.nan
    assert spots_of(image, mask * 0, variance, psf) == []
    border = one_hit(x=0.5, y=30.5)
    assert spots_of(*border) == []


@pytest.mark.parametrize("shape", [(1, 1), (4, 60), (5, 5), (0, 0)])
def test_small_images(shape):
    image = np.zeros(shape, np.float32)
    planes = np.zeros(shape, np.int32), np.ones(shape, np.float32)
    assert spots_of(image, *planes, GaussianPsf(1.0, 21)) == []


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [(30, 20), (29, 18), (32, 22)])
def test_what_is_not_finite_makes_no_spot(value, place):
    image, *rest = one_hit()
    image[place] = value
    assert spots_of(image, *rest) == []


def test_peaks_are_found_once_and_chosen_by_height():
    image, _, variance, _ = one_hit()
    low, high = (
        find_bright_peaks(image, variance, background=2.0, min_significance=level) for level in (1.0, 3.0)
    )
    chosen = low.above(3.0)
    assert 0 < len(high.y) < len(low.y)
    for name in ("y", "x", "height"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(high, name))
    assert low.noise == pytest.approx(10.0)
    assert len(find_bright_peaks(image, 0 * variance, background=0.0, min_significance=1.0).y) == 0


def test_too_many_are_an_error_and_leave_the_mask_clear():
    exposure, _ = draw(spots, 1)
    count = cosmic_rays.find(exposure, WITHOUT).pixels
    with pytest.raises(TooManyCosmicRaysError):
        cosmic_rays.find(exposure, CosmicRayConfig(n_cr_pixel_max=count + 5))
    assert not (exposure.mask & exposure.bits("CR")).any()


def test_footprints_of_spots_come_after_the_others():
    exposure, _ = draw(spots, 2)
    found = cosmic_rays.find(exposure, CosmicRayConfig())
    carry = (exposure.mask & exposure.bits("CR")) != 0
    drawn = np.zeros_like(carry)
    for y, first, last in zip(found.y, found.x0, found.x1, strict=True):
        drawn[y, first : last + 1] = True
    np.testing.assert_array_equal(drawn, carry)
    assert found.pixels == carry.sum()
    assert found.start[-1] == len(found.y)
    assert np.all(np.diff(found.start) > 0)


def test_the_preset_of_the_reference_compares_none():
    config = CharacterizeImageConfig.preset("reference").repair.cosmicray
    exposure, _ = draw(spots, 1)
    with_spots = cosmic_rays.find(exposure, config)
    without = cosmic_rays.find(exposure, config.model_copy(update={"spot_improvement": 0.0}))
    np.testing.assert_array_equal(with_spots.y, without.y)
    np.testing.assert_array_equal(with_spots.x0, without.x0)
