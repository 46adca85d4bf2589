"""How deep an exposure is: zenith distance, magnitude limit and effective time (reference: summary-stats.md sections 3 to 5)."""

from __future__ import annotations

import warnings
from math import isnan

import numpy as np
from pydantic import Field

from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Observation

NAN = float("nan")


class FiducialConditions(Configuration):
    """What effective times refer to, in one band."""

    sky_background: float = Field(default=1.0, gt=0)
    """Sky in image units per second."""
    psf_sigma: float = Field(default=1.0, gt=0)
    """PSF determinant radius in pixels."""
    zero_point: float = 25.0
    """Magnitude of one image unit per second."""
    exp_time: float = Field(default=30.0, gt=0)
    """Exposure time in seconds."""
    mag_lim: float = 25.0
    """Magnitude limit of an exposure of that time."""


@frozen
class Depth:
    """Depth of an exposure; NaN where an ingredient is missing.

    Attributes
    ----------
    mag_lim
        Magnitude of a star at the limiting signal to noise.
    eff_time
        Seconds that reach the same limit under the fiducial conditions.
    eff_time_psf_sigma_scale, eff_time_sky_bg_scale, eff_time_zero_point_scale
        Factors of seeing, sky and transparency; their product is not ``eff_time`` over the exposure time.
    """

    mag_lim: float = NAN
    eff_time: float = NAN
    eff_time_psf_sigma_scale: float = NAN
    eff_time_sky_bg_scale: float = NAN
    eff_time_zero_point_scale: float = NAN


def magnitude_limit(
    observation: Observation, *, psf_area: float, sky_bg: float, signal_to_noise: float = 5.0
) -> float:
    """Magnitude of a star whose PSF flux has a given signal to noise against sky, read noise and its own photons.

    Parameters
    ----------
    observation
        With zero point and gain; an unknown read noise counts as none.
    psf_area
        Effective area of the PSF, pixels.
    sky_bg
        Sky level per pixel, image units.
    signal_to_noise
        At which a star counts as seen.
    """
    zero_point, gain = observation.zero_point, observation.gain
    if observation.unit in ("electron", "electrons"):
        gain = 1.0
    if zero_point is None or gain is None:
        return NAN
    read_noise = (observation.read_noise or 0.0) / gain
    if isnan(read_noise):
        read_noise = 0.0
    background = (sky_bg / gain + read_noise**2) * psf_area
    square = signal_to_noise**2
    flux = square / (2.0 * gain) + np.sqrt(square**2 / (4.0 * gain**2) + square * background)
    return float(zero_point - 2.5 * np.log10(flux))


def measure_depth(
    observation: Observation,
    *,
    psf_sigma: float,
    psf_area: float,
    sky_bg: float,
    fiducial: FiducialConditions | None,
    max_transparency: float = np.inf,
    signal_to_noise: float = 5.0,
) -> Depth:
    """Magnitude limit and effective time.

    Parameters
    ----------
    observation
        Exposure time, zero point, gain, read noise; what is unknown leaves NaN.
    psf_sigma, psf_area, sky_bg
        Pixels, pixels, and image units per pixel; NaN when not known.
    fiducial
        Conditions of the band; ``None`` leaves the effective times NaN.
    max_transparency
        Largest factor of the zero point.
    signal_to_noise
        Of the magnitude limit.
    """
    limit = magnitude_limit(observation, psf_area=psf_area, sky_bg=sky_bg, signal_to_noise=signal_to_noise)
    if fiducial is None:
        return Depth(mag_lim=limit)
    time = observation.exposure_time or NAN
    zero_point = NAN if observation.zero_point is None else observation.zero_point - 2.5 * np.log10(time)
    transparency = 10.0 ** (-0.8 * (fiducial.zero_point - zero_point))
    return Depth(
        mag_lim=limit,
        eff_time=float(10.0 ** (0.8 * (limit - fiducial.mag_lim)) * fiducial.exp_time),
        eff_time_psf_sigma_scale=float((psf_sigma / fiducial.psf_sigma) ** -2.0),
        eff_time_sky_bg_scale=float(fiducial.sky_background / (sky_bg / time)) if sky_bg else NAN,
        eff_time_zero_point_scale=float(np.minimum(transparency, max_transparency)),
    )


def zenith_distance(observation: Observation, ra: float, dec: float) -> float:
    """Angle from the zenith, without refraction, at the middle of the exposure.

    Parameters
    ----------
    observation
        Mid-time (taken as UTC) and the telescope's place; what is unknown leaves NaN.
    ra, dec
        ICRS position, degrees.

    Returns
    -------
    float
        Degrees, to about an arcminute: UT1 is taken as UTC and the pole as fixed.
    """
    longitude, latitude, mid_time = observation.longitude, observation.latitude, observation.mid_time
    if longitude is None or latitude is None or mid_time is None or not np.isfinite([ra, dec]).all():
        return NAN
    import erfa

    with warnings.catch_warnings():
        # Leap seconds of later years do not matter here.
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        observed = erfa.atco13(
            *np.radians([ra, dec]),
            *(0.0, 0.0, 0.0, 0.0),
            2400000.5,
            mid_time,
            0.0,
            *np.radians([longitude, latitude]),
            observation.elevation or 0.0,
            *(0.0, 0.0, 0.0, 0.0, 0.0, 0.55),
        )
    return float(np.degrees(observed[1]))
