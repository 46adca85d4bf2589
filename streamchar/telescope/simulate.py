"""Makes one exposure of one detector with everything that is in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamchar.image.exposure import Exposure, Identity, Observation
from streamchar.telescope import defects, polynomial
from streamchar.telescope.bands import BANDS
from streamchar.telescope.config import SceneConfig
from streamchar.telescope.cosmic_rays import CosmicRays, draw_cosmic_rays
from streamchar.telescope.geometry import DetectorGeometry
from streamchar.telescope.painter import Painter
from streamchar.telescope.population import Sources, draw_sources
from streamchar.telescope.psf import TruePsf
from streamchar.telescope.streaks import Streak, draw_streaks, paint_streak
from streamchar.telescope.truth import PSF_COLUMNS, SOURCE_COLUMNS, Table, Truth

Array = NDArray[np.float64]
Real = NDArray[np.float32]

LOST_LIGHT = 0.01
"""Light lost at the edge of a source's stamp, in standard deviations of the sky per pixel."""

POISSON_LIMIT = 200.0
"""Electrons above which photon noise is drawn from a Gaussian."""

BLEND_DISTANCE = 3.0
"""Sources closer than this many FWHM may be blended."""

BLEND_RATIO = 0.1
"""Faintest neighbour that counts, in units of a source's flux."""

CORE_RADIUS = 1.5
"""Radius in FWHM within which saturated, bad and cosmic-ray pixels are counted to a source."""


@dataclass(frozen=True, slots=True)
class Pointing:
    """Where the camera looks.

    Attributes
    ----------
    ra, dec
        Centre of the camera, degrees.
    rotation
        Position angle of the y axis, degrees.
    """

    ra: float = 150.0
    dec: float = 2.0
    rotation: float = 0.0


@dataclass(frozen=True, slots=True)
class SimulatedExposure:
    """An exposure and what is really in it.

    Attributes
    ----------
    exposure
        Pixels as they come from instrument signature removal, with their sky.
    truth
        What was drawn.
    """

    exposure: Exposure
    truth: Truth


@dataclass(frozen=True, slots=True)
class _Light:
    """Expected electrons and what made them."""

    expected: Real
    sources: Sources
    streaks: tuple[Streak, ...]
    sky: tuple[float, ...]
    sky_sigma: float


def simulate_exposure(
    scene: SceneConfig,
    seed: int,
    *,
    exposure: int = 0,
    mid_time: float | None = None,
    pointing: Pointing | None = None,
    injected: NDArray[np.floating] | None = None,
) -> SimulatedExposure:
    """Make one exposure. The same arguments give the same pixels.

    Sources, noise, cosmic rays and streaks are random independently of each other: changing one leaves the others.

    Parameters
    ----------
    scene
        What the detector sees.
    seed
        Seed of everything random, not negative.
    exposure
        Exposure number.
    mid_time
        Middle of the exposure, MJD.
    pointing
        Where the camera looks.
    injected
        Charge of real cosmic rays in electrons, (height, width), added to the simulated ones' place.

    Returns
    -------
    SimulatedExposure
        Exposure and truth.

    Raises
    ------
    MissingSimulatorError
        Without GalSim.
    """
    camera = scene.camera
    geometry = DetectorGeometry.of(camera, scene.detector)
    psf = TruePsf(scene.psf, geometry, camera.pixel_scale)
    streams = np.random.SeedSequence([seed, exposure, scene.detector]).spawn(4)
    sky_random, noise_random, hit_random, streak_random = (
        np.random.default_rng(stream) for stream in streams
    )
    light = _draw_light(scene, psf, sky_random, streak_random)
    hits = draw_cosmic_rays(scene, hit_random) if injected is None else CosmicRays.from_image(injected)
    electrons = _add_noise(light.expected, noise_random)
    hits.add_to(electrons)
    saturated = defects.bleed(electrons, camera.saturation * camera.gain)
    bad = defects.spoil_columns(electrons, defects.bad_columns(camera, scene.detector))
    identity = Identity(camera.name, exposure, scene.detector, scene.band)
    frame = _digitize(scene, electrons, light.expected, noise_random)
    frame = replace(frame, identity=identity, observation=replace(frame.observation, mid_time=mid_time))
    where = pointing or Pointing()
    frame.wcs = geometry.wcs(where.ra, where.dec, where.rotation, camera.pixel_scale)
    frame.source = str(identity)
    frame.set_plane("SAT", saturated)
    frame.set_plane("BAD", bad)
    truth = Truth(
        scene=scene,
        seed=seed,
        identity=identity,
        sources=_source_table(scene, psf, light, hits, saturated, bad),
        psf_grid=_psf_table(psf, scene.truth_grid),
        cosmic_rays=hits,
        streaks=light.streaks,
        sky=light.sky,
        sky_sigma=light.sky_sigma,
    )
    return SimulatedExposure(frame, truth)


def _draw_light(
    scene: SceneConfig, psf: TruePsf, sky_random: np.random.Generator, streak_random: np.random.Generator
) -> _Light:
    camera = scene.camera
    band = BANDS[scene.band]
    brightness = scene.sky.brightness if scene.sky.brightness is not None else band.sky_brightness
    level = scene.exposure_time * 10.0 ** (0.4 * (band.zero_point - brightness)) * camera.pixel_scale**2
    gradient = scene.sky.gradient or (0.0,)
    sky = tuple(level * ((1.0 if number == 0 else 0.0) + value) for number, value in enumerate(gradient))
    expected = polynomial.outer(sky, *psf.geometry.field_axes())
    middle = float(polynomial.evaluate(sky, *psf.geometry.field(*np.atleast_1d(*psf.center)))[0])
    sigma = float(np.sqrt(middle + camera.read_noise**2))
    sources = draw_sources(scene, sky_random)
    Painter(psf, LOST_LIGHT * sigma).paint(expected, sources)
    streaks = draw_streaks(scene, psf, sigma, streak_random)
    for streak in streaks:
        paint_streak(expected, streak, psf)
    # Interpolation leaves the far wings a little negative where the sky is zero.
    np.maximum(expected, 0.0, out=expected)
    return _Light(
        expected, sources, tuple(streaks), tuple(value / camera.gain for value in sky), sigma / camera.gain
    )


def _add_noise(expected: Real, random: np.random.Generator) -> Real:
    noisy = random.standard_normal(expected.shape, dtype=np.float32)
    noisy *= np.sqrt(expected)
    noisy += expected
    faint = np.nonzero(expected < POISSON_LIMIT)
    noisy[faint] = random.poisson(expected[faint])
    return noisy


def _digitize(scene: SceneConfig, electrons: Real, expected: Real, random: np.random.Generator) -> Exposure:
    camera = scene.camera
    gain, noise = np.float32(camera.gain), np.float32(camera.read_noise)
    image = random.standard_normal(electrons.shape, dtype=np.float32)
    image *= noise
    image += electrons
    image /= gain
    observation = Observation(
        exposure_time=scene.exposure_time,
        gain=camera.gain,
        read_noise=camera.read_noise,
        saturation=camera.saturation,
        zero_point=BANDS[scene.band].zero_point
        - scene.extinction
        + 2.5 * float(np.log10(scene.exposure_time / camera.gain)),
    )
    frame = Exposure.from_image(
        image, gain=camera.gain, read_noise=camera.read_noise, observation=observation
    )
    if camera.variance == "expected":
        np.divide(expected + noise**2, gain**2, out=frame.variance)
    return frame


def _psf_table(psf: TruePsf, points: int) -> Table:
    x, y = (
        values.ravel()
        for values in np.meshgrid(
            np.linspace(0, psf.geometry.width - 1, points) if points > 1 else [psf.center[0]],
            np.linspace(0, psf.geometry.height - 1, points) if points > 1 else [psf.center[1]],
        )
    )
    adaptive = psf.adaptive_moments(x, y)
    moments = adaptive.moments
    table = np.empty(len(x), PSF_COLUMNS)
    values = (
        x,
        y,
        psf.fwhms(x, y),
        moments.xx,
        moments.yy,
        moments.xy,
        moments.determinant_radius,
        moments.e1,
        moments.e2,
        adaptive.x,
        adaptive.y,
    )
    for name, column in zip(PSF_COLUMNS.names or (), values, strict=True):
        table[name] = column
    return table


def _source_table(
    scene: SceneConfig,
    psf: TruePsf,
    light: _Light,
    hits: CosmicRays,
    saturated: NDArray[np.bool_],
    bad: NDArray[np.bool_],
) -> Table:
    sources, gain = light.sources, scene.camera.gain
    table = np.empty(len(sources), SOURCE_COLUMNS)
    table["id"] = np.arange(1, len(sources) + 1)
    table["flux"] = sources.flux / gain
    for name in ("x", "y", "magnitude", "galaxy", "axis_ratio", "angle"):
        table[name] = getattr(sources, name)
    table["sersic_index"], table["half_light_radius"] = sources.index, sources.radius
    # Noise-equivalent area of a Gaussian of that FWHM: 4 pi sigma^2.
    area = 4.0 * np.pi * (psf.fwhm / 2.3548) ** 2
    table["snr"] = sources.flux / np.sqrt(sources.flux + area * (light.sky_sigma * gain) ** 2)
    table["neighbor_distance"], table["blended"] = _neighbors(sources, BLEND_DISTANCE * psf.fwhm)
    table["streak_distance"] = (
        np.min([streak.distance(sources.x, sources.y) for streak in light.streaks], axis=0)
        if light.streaks
        else np.nan
    )
    radius = CORE_RADIUS * psf.fwhm
    for name, mask in (
        ("saturated", saturated),
        ("cosmic_ray", hits.mask(saturated.shape)),
        ("bad_pixel", bad),
    ):
        table[name] = _near(mask, sources.x, sources.y, radius)
    return table


def _neighbors(sources: Sources, reach: float) -> tuple[Array, NDArray[np.bool_]]:
    """Distance to the nearest other source (NaN when alone) and whether one bright enough is within reach."""
    blended = np.zeros(len(sources), bool)
    if len(sources) < 2:
        return np.full(len(sources), np.nan), blended
    positions = np.column_stack([sources.x, sources.y])
    tree = cKDTree(positions)
    pairs = tree.query_pairs(reach, output_type="ndarray")
    for one, other in (pairs.T, pairs.T[::-1]):
        blended[one[sources.flux[other] > BLEND_RATIO * sources.flux[one]]] = True
    return np.asarray(tree.query(positions, k=2)[0][:, 1]), blended


def _near(mask: NDArray[np.bool_], x: Array, y: Array, radius: float) -> NDArray[np.bool_]:
    """Whether a position has a pixel of the mask within a radius; false outside of the image."""
    result = np.zeros(len(x), bool)
    if not mask.any():
        return result
    place = np.column_stack(np.nonzero(mask)[::-1])
    distance = cKDTree(place).query(np.column_stack([x, y]), distance_upper_bound=radius)[0]
    height, width = mask.shape
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    return np.asarray(inside & np.isfinite(distance))
