"""Depth of an exposure against direct counting of photons, and against astropy's coordinates."""

from dataclasses import replace

import numpy as np
import pytest

from streamchar.characterize.depth import FiducialConditions, magnitude_limit, measure_depth, zenith_distance
from streamchar.image import Observation

OBSERVATION = Observation(exposure_time=30.0, gain=2.0, read_noise=6.0, zero_point=31.0)
SKY, AREA = 500.0, 30.0


@pytest.mark.parametrize("signal_to_noise", [5.0, 20.0])
def test_a_star_at_the_limit_has_that_signal_to_noise(signal_to_noise):
    limit = magnitude_limit(OBSERVATION, psf_area=AREA, sky_bg=SKY, signal_to_noise=signal_to_noise)
    star = 10 ** (0.4 * (31.0 - limit)) * 2.0  # electrons
    noise = np.sqrt(star + AREA * (SKY * 2.0 + 6.0**2))
    assert star / noise == pytest.approx(signal_to_noise)


def test_pixels_in_electrons_have_a_gain_of_one():
    adu = magnitude_limit(OBSERVATION, psf_area=AREA, sky_bg=SKY)
    electrons = Observation(gain=2.0, read_noise=6.0, zero_point=31.0 + 2.5 * np.log10(2), unit="electron")
    assert magnitude_limit(electrons, psf_area=AREA, sky_bg=2 * SKY) == pytest.approx(adu)


def test_unknown_ingredients_leave_nan():
    assert np.isnan(magnitude_limit(Observation(gain=1.0), psf_area=AREA, sky_bg=SKY))
    assert np.isnan(magnitude_limit(Observation(zero_point=30.0), psf_area=AREA, sky_bg=SKY))
    assert np.isnan(magnitude_limit(OBSERVATION, psf_area=np.nan, sky_bg=SKY))
    silent, unknown = (
        magnitude_limit(replace(OBSERVATION, read_noise=value), psf_area=AREA, sky_bg=SKY)
        for value in (0.0, np.nan)
    )
    assert unknown == silent
    nothing = measure_depth(
        Observation(), psf_sigma=2.0, psf_area=AREA, sky_bg=SKY, fiducial=FiducialConditions()
    )
    assert np.isnan(nothing.eff_time)
    assert nothing.eff_time_psf_sigma_scale == 0.25
    assert np.isnan(nothing.eff_time_sky_bg_scale)


def fiducial():
    limit = magnitude_limit(OBSERVATION, psf_area=AREA, sky_bg=SKY)
    return FiducialConditions(
        sky_background=SKY / 30,
        psf_sigma=2.0,
        zero_point=31.0 - 2.5 * np.log10(30),
        exp_time=30.0,
        mag_lim=limit,
    )


def test_under_fiducial_conditions_the_effective_time_is_the_time():
    depth = measure_depth(OBSERVATION, psf_sigma=2.0, psf_area=AREA, sky_bg=SKY, fiducial=fiducial())
    assert depth.eff_time == pytest.approx(30.0)
    for name in ("psf_sigma", "sky_bg", "zero_point"):
        assert getattr(depth, f"eff_time_{name}_scale") == pytest.approx(1.0)


def test_worse_conditions_shorten_it():
    cloud = Observation(exposure_time=30.0, gain=2.0, read_noise=6.0, zero_point=30.5)
    depth = measure_depth(cloud, psf_sigma=3.0, psf_area=2.25 * AREA, sky_bg=2 * SKY, fiducial=fiducial())
    assert depth.eff_time_zero_point_scale == pytest.approx(10**-0.4)
    assert depth.eff_time_sky_bg_scale == pytest.approx(0.5)
    assert depth.eff_time_psf_sigma_scale == pytest.approx(4 / 9)
    # Background-limited, the effective time is about the product.
    assert depth.eff_time == pytest.approx(30 * 10**-0.4 * 0.5 * 4 / 9, rel=0.1)


def test_transparency_can_be_capped():
    clear = Observation(exposure_time=30.0, gain=2.0, zero_point=32.0)
    depth = measure_depth(
        clear, psf_sigma=2.0, psf_area=AREA, sky_bg=SKY, fiducial=fiducial(), max_transparency=1.0
    )
    assert depth.eff_time_zero_point_scale == 1.0


@pytest.mark.parametrize(("ra", "dec"), [(10.0, -30.0), (150.0, 2.0), (300.0, -80.0)])
def test_zenith_distance_agrees_with_astropy(ra, dec):
    from astropy import units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils.iers import conf

    observation = Observation(mid_time=59000.3, latitude=-30.24, longitude=-70.74, elevation=2663.0)
    place = EarthLocation.from_geodetic(-70.74 * u.deg, -30.24 * u.deg, 2663 * u.m)
    with conf.set_temp("auto_download", False):
        frame = AltAz(obstime=Time(59000.3, format="mjd"), location=place)
        altitude = SkyCoord(ra, dec, unit="deg").transform_to(frame).alt.deg
    assert zenith_distance(observation, ra, dec) == pytest.approx(90 - altitude, abs=0.02)


def test_the_pole_is_at_the_colatitude():
    observation = Observation(mid_time=51544.5, latitude=30.0, longitude=0.0)
    assert zenith_distance(observation, 0.0, 90.0) == pytest.approx(60.0, abs=0.02)


@pytest.mark.parametrize("missing", ["mid_time", "latitude", "longitude"])
def test_without_time_or_place_there_is_no_zenith_distance(missing):
    known = {"mid_time": 59000.0, "latitude": 1.0, "longitude": 2.0, missing: None}
    assert np.isnan(zenith_distance(Observation(**known), 1.0, 2.0))


def test_a_far_future_warns_of_nothing():
    observation = Observation(mid_time=80000.0, latitude=1.0, longitude=2.0)
    assert 0 <= zenith_distance(observation, 1.0, 2.0) <= 180
