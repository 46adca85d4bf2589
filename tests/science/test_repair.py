"""Repairing exposures: what changes, what does not, and how replaced pixels match what was below."""

import numpy as np
import pytest

from streamchar.characterize.cosmic_rays import CosmicRays
from streamchar.characterize.errors import MissingPsfError
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.repair import Repair, RepairConfig, replace_cosmic_rays
from streamchar.image import Exposure, Identity, MaskPlanes

SKY, NOISE = 200.0, 10.0


def tracks(shape=(600, 600), number=150, width=1, seed=0):
    """Straight tracks of a large charge, on no other signal: charge per pixel."""
    rng = np.random.default_rng(seed)
    charge = np.zeros(shape)
    for _ in range(number):
        y, x = rng.uniform(20, shape[0] - 20), rng.uniform(20, shape[1] - 20)
        angle, length = rng.uniform(0, 2 * np.pi), rng.integers(1, 15)
        for step in np.arange(0, length, 0.5):
            b, a = int(y + step * np.sin(angle)), int(x + step * np.cos(angle))
            charge[b : b + width, a : a + width] = 2000.0
    return charge


def scene(charge, truth=None, seed=1, own_photons=False):
    rng = np.random.default_rng(seed)
    truth = np.full(charge.shape, SKY) if truth is None else truth
    pixels = truth + rng.normal(0, NOISE, charge.shape) + charge
    variance = np.full(charge.shape, NOISE**2) + (charge if own_photons else 0)
    exposure = Exposure(
        pixels.astype(np.float32), np.zeros(charge.shape, np.int32), variance.astype(np.float32)
    )
    exposure.psf = GaussianPsf(1.5, 15)
    return exposure


def is_set(exposure, plane):
    return (exposure.mask & exposure.bits(plane)) != 0


def test_keeping_leaves_every_bit_of_the_image():
    exposure = scene(tracks())
    image, variance = exposure.image.tobytes(), exposure.variance.tobytes()
    task = Repair()
    found = task.run(exposure, keep_crs=True)
    assert exposure.image.tobytes() == image
    assert exposure.variance.tobytes() == variance
    assert is_set(exposure, "CR").sum() == found.pixels > 500
    assert not is_set(exposure, "INTRP").any()
    assert task.metadata["cosmic_ray_count"] == [found.count]
    assert found.count == len(found.start) - 1
    assert found.start[-1] == len(found.y) == len(found.x0) == len(found.x1)


def test_configuration_decides_when_the_caller_does_not():
    exposure = scene(tracks())
    before = exposure.image.copy()
    Repair(RepairConfig().with_overrides("cosmicray.keep_crs=true")).run(exposure)
    np.testing.assert_array_equal(exposure.image, before)
    Repair().run(exposure)
    assert (exposure.image != before).any()


def known(exposure, where):
    """Cosmic rays on the given pixels, as if the finder had found exactly them."""
    exposure.mask[where] |= exposure.bits("CR")
    y, x = (index.astype(np.int32) for index in np.nonzero(where))
    return CosmicRays(y, x, x, np.arange(len(y) + 1), len(y), background=SKY)


@pytest.mark.parametrize("own_photons", [False, True])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_replaced_pixels_are_what_was_below(width, own_photons):
    """Mean error of replaced pixels in units of the sky noise, for tracks of one to three pixels' width."""
    charge = tracks(width=width)
    exposure = scene(charge, own_photons=own_photons)
    replace_cosmic_rays(exposure, known(exposure, charge > 0))
    error = (exposure.image[charge > 0] - SKY) / NOISE
    assert len(error) > 900
    assert abs(error.mean()) < 0.15
    assert error.std() < 1.0


def test_found_and_replaced():
    """With what the finder misses of the hits."""
    exposure = scene(tracks())
    found = Repair().run(exposure)
    replaced = is_set(exposure, "CR")
    np.testing.assert_array_equal(is_set(exposure, "INTRP"), replaced)
    error = (exposure.image[replaced] - SKY) / NOISE
    assert found.pixels == replaced.sum()
    assert abs(error.mean()) < 0.2
    assert error.std() < 1.1


def test_replaced_pixels_follow_the_signal_below():
    y, x = np.indices((600, 600))
    truth = SKY + 5000 * np.exp(-0.5 * ((x - 300) ** 2 + (y - 300) ** 2) / 60**2)
    charge = tracks(number=400)
    exposure = scene(charge, truth)
    replace_cosmic_rays(exposure, known(exposure, charge > 0))
    replaced = (charge > 0) & (truth > 1000)
    assert replaced.sum() > 100
    assert abs(((exposure.image - truth)[replaced] / NOISE).mean()) < 0.7


def test_only_marked_pixels_change():
    exposure = scene(tracks())
    before, variance = exposure.image.copy(), exposure.variance.copy()
    Repair().run(exposure)
    np.testing.assert_array_equal(exposure.image != before, is_set(exposure, "CR"))
    np.testing.assert_array_equal(exposure.variance, variance)


def test_repeatable():
    a, b = scene(tracks()), scene(tracks())
    Repair().run(a)
    Repair().run(b)
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.mask, b.mask)


def test_pixels_without_any_neighbour_get_sky_with_noise_of_the_exposure():
    """A hit alone on an island among bad pixels: the noise depends on the exposure's identity and on nothing else."""
    charge = np.zeros((200, 200))
    charge[100, 100] = 5000

    def repaired(number):
        exposure = scene(charge)
        exposure.identity = Identity("camera", number, 0)
        exposure.mask[60:141, 60:141] = exposure.bits("BAD")
        exposure.mask[100, 100] = 0
        Repair(RepairConfig().with_overrides("cosmicray.judge_by_bad_pixels=true")).run(exposure)
        assert is_set(exposure, "CR")[100, 100]
        return exposure.image[100, 100]

    assert repaired(1) == repaired(1)
    assert repaired(1) != repaired(2)
    assert abs(repaired(1) - SKY) < 5 * NOISE


def test_planes_are_added_when_missing():
    exposure = scene(tracks())
    exposure.planes = MaskPlanes({"BAD": 0})
    found = Repair().run(exposure)
    assert {"CR", "INTRP"} <= set(exposure.planes)
    assert is_set(exposure, "CR").sum() == found.pixels


def test_needs_a_psf():
    exposure = scene(tracks())
    exposure.psf = None
    with pytest.raises(MissingPsfError):
        Repair().run(exposure)


def test_switched_off():
    exposure = scene(tracks())
    before = exposure.image.copy()
    found = Repair(RepairConfig(do_cosmic_ray=False)).run(exposure)
    assert found.count == found.pixels == 0
    np.testing.assert_array_equal(exposure.image, before)
