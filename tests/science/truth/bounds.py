"""How well a star can be measured at best: Cramer-Rao bounds from the true PSF, sky and noise."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.signal import fftconvolve
from scipy.spatial import cKDTree
from scipy.special import j1

from streamchar.telescope.transform import images
from streamchar.telescope.truth import Truth

Array = NDArray[np.float64]

FAINTEST = 25.0
"""Signal to noise below which stars are not considered."""

MOST_STARS = 2500
BATCH = 100
CONTAMINATION = 0.2
"""Light of other sources in the PSF flux of a clean star, in its standard deviations."""

WINGS = 512
"""Width in pixels of the image of the PSF from which the light of far sources is counted: 99.9 % of it."""

FAR_BIN = 2
"""Pixels in which the light of far sources is added up first: their wings are smooth."""

EDGE_FWHM = 8.0
CALIBRATION_RADIUS = 12.0


@dataclass(frozen=True)
class StarBounds:
    """Clean stars: isolated, unsaturated, without cosmic ray or defect, away from edges and streaks.

    ``row`` is the row of the truth table. The others are the smallest standard deviations an unbiased estimate can
    have: of position and flux when the PSF is known, of ``plain_flux``, an unweighted fit, of ``size`` (ln of the radius) and ``shear`` when all are
    fitted to the star; ``aperture`` is the part of its flux in the calibration aperture, and ``contamination`` what other
    sources add to its PSF flux, over ``flux``.
    """

    row: NDArray[np.int64]
    x: Array
    y: Array
    flux: Array
    plain_flux: Array
    size: Array
    shear: Array
    aperture: Array
    contamination: Array

    def take(self, which: NDArray[np.bool_]) -> Self:
        """Return the bounds of some of the stars."""
        return type(self)(*(getattr(self, field.name)[which] for field in fields(self)))

    def save(self, path: Path) -> None:
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        with np.load(path) as data:
            return cls(**{field.name: data[field.name] for field in fields(cls)})


def star_bounds(truth: Truth) -> StarBounds:
    """Bounds of the clean stars, at most ``MOST_STARS`` of them."""
    row, light = _clean(truth)
    if len(row) > MOST_STARS:
        chosen = np.sort(np.random.default_rng(1).choice(len(row), MOST_STARS, replace=False))
        row, light = row[chosen], light[chosen]
    parts = [_bounds(truth, row[start : start + BATCH]) for start in range(0, len(row), BATCH)]
    if not parts:
        parts = [(np.empty(0),) * 7]
    x, y, flux, *others = (np.concatenate(part) for part in zip(*parts, strict=True))
    return StarBounds(row, x, y, flux, *others, light / flux)


def fraction_in_aperture(truth: Truth, x: Array, y: Array) -> Array:
    """Part of a star's light in the calibration aperture, in batches.

    As the catalogue's aperture adds pixels by the part of them that lies inside, averaged over the star's place in its
    pixel: a circle smeared with a pixel. A sharp one would hold 0.3 mmag more at 8 pixels per FWHM.
    """
    size = 2 * int(np.ceil(8.0 * truth.psf.fwhm + 4.0 * CALIBRATION_RADIUS))
    grid = truth.psf.grid(size)
    kx, ky = grid.kx.astype(np.float64), grid.ky[:, None].astype(np.float64)
    k = np.hypot(kx, ky)
    with np.errstate(invalid="ignore"):
        circle = np.where(
            k == 0,
            np.pi * CALIBRATION_RADIUS**2,
            2 * np.pi * CALIBRATION_RADIUS * j1(k * CALIBRATION_RADIUS) / k,
        )
    pixel = np.sinc(kx / (2 * np.pi)) * np.sinc(ky / (2 * np.pi))
    weight = np.where(kx == 0, 1.0, 2.0) * circle * pixel / size**2
    parts = [
        np.einsum(
            "nij,ij->n",
            truth.psf.transform(
                truth.psf.parameters(x[start : start + BATCH], y[start : start + BATCH]), grid
            ).real,
            weight,
        )
        for start in range(0, len(x), BATCH)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def point_source_significance(truth: Truth) -> Array:
    """Significance of every source in the PSF filter; galaxies are diluted as Gaussians of their size would be."""
    table = truth.sources
    sigma2 = (truth.psf.fwhm / 2.3548) ** 2
    # A circle of the same area as half of the galaxy's light.
    spread = np.where(table["galaxy"], (table["half_light_radius"] / 1.1774) ** 2 * table["axis_ratio"], 0.0)
    return table["snr"] * 2 * sigma2 / (2 * sigma2 + np.nan_to_num(spread))


def _clean(truth: Truth) -> tuple[NDArray[np.int64], Array]:
    """Rows of the clean stars, and what other sources add to their flux."""
    table = truth.sources
    margin = EDGE_FWHM * truth.psf.fwhm
    height, width = truth.geometry.height, truth.geometry.width
    clean = (table["x"] > margin) & (table["x"] < width - 1 - margin)
    clean &= (table["y"] > margin) & (table["y"] < height - 1 - margin)
    clean &= ~(table["galaxy"] | table["saturated"] | table["cosmic_ray"] | table["bad_pixel"])
    clean &= table["snr"] > FAINTEST
    clean &= ~(table["streak_distance"] < 10 * truth.psf.fwhm)
    row = np.flatnonzero(clean)
    light = contamination(truth, row)
    alone = light < CONTAMINATION * table["flux"][row] / table["snr"][row]
    return row[alone], light[alone]


def contamination(truth: Truth, row: NDArray[np.int64]) -> Array:
    """Flux that the other sources add to the PSF flux of those in ``row``, in adu.

    A source at distance r adds its flux times the correlation at r of its image with the PSF that is fitted; a galaxy is
    at least as wide as a Gaussian of its half-light radius makes it. Where the PSF that is fitted ends, the wings of other
    stars do not: in crowded fields most of the light comes from beyond.
    """
    radii, profile = _correlation(truth)
    reach = truth.psf.size[0] // 2
    return _near_light(truth, row, radii, profile, reach) + _far_light(truth, row, radii, profile, reach)


def _near_light(truth: Truth, row: NDArray[np.int64], radii: Array, profile: Array, reach: float) -> Array:
    table = truth.sources
    positions = np.column_stack([table["x"], table["y"]])
    neighbours = cKDTree(positions).query_ball_point(positions[row], reach)
    counts = np.array([len(found) for found in neighbours], int)
    owner = np.repeat(row, counts)
    other = np.concatenate([np.asarray(found, int) for found in neighbours]) if len(row) else owner
    owner, other = owner[owner != other], other[owner != other]
    distance = np.hypot(*(positions[owner] - positions[other]).T)
    share = np.interp(distance, radii, profile)
    sigma2 = 2 * (truth.psf.fwhm / 2.3548) ** 2
    wide = sigma2 + np.nan_to_num(table["half_light_radius"][other] / 1.1774) ** 2
    smeared = sigma2 / wide * np.exp(-0.5 * distance**2 / wide)
    share = np.where(table["galaxy"][other], np.maximum(share, smeared), share)
    return np.bincount(owner, share * table["flux"][other], len(table))[row]


def _far_light(truth: Truth, row: NDArray[np.int64], radii: Array, profile: Array, reach: float) -> Array:
    """Light of sources farther than ``reach``: a map of all fluxes, smeared with the profile from there on."""
    table = truth.sources
    height, width = (-(-length // FAR_BIN) for length in (truth.geometry.height, truth.geometry.width))
    bins = [np.arange(length + 1) * FAR_BIN - 0.5 for length in (height, width)]
    fluxes, _, _ = np.histogram2d(table["y"], table["x"], bins, weights=table["flux"])
    half = int(radii[-1]) // FAR_BIN
    steps = FAR_BIN * np.arange(-half, half + 1)
    distance = np.hypot(steps[:, None], steps)
    far = np.where(distance > reach, np.interp(distance, radii, profile, right=0.0), 0.0)
    light = fftconvolve(fluxes, far, mode="same")
    places = [(table[axis][row] + 0.5) / FAR_BIN - 0.5 for axis in "yx"]
    return np.maximum(map_coordinates(light, places, order=1, mode="nearest"), 0.0)


def _correlation(truth: Truth) -> tuple[Array, Array]:
    """Radii in whole pixels, and what a star of flux 1 so far away adds to a PSF flux."""
    psf = truth.psf
    kernel = psf.kernel_images(*psf.center)[0]
    grid, nowhere = psf.grid(WINGS), np.zeros(1, np.float32)
    star = images(psf.transform(psf.parameters(*psf.center), grid), grid, nowhere, nowhere)[0]
    correlation = fftconvolve(star, kernel[::-1, ::-1], mode="same") / np.sum(kernel**2)
    middle = np.array(correlation.shape) // 2
    along = correlation[middle[0], middle[1] :], correlation[middle[0] :, middle[1]]
    radii = np.arange(WINGS // 2 - kernel.shape[0] // 2, dtype=float)
    return radii, 0.5 * (along[0] + along[1])[: len(radii)]


def _bounds(truth: Truth, row: NDArray[np.int64]) -> tuple[Array, ...]:
    table, observation = truth.sources[row], truth.scene.camera
    stamps = truth.psf.images(table["x"], table["y"])
    image = stamps.images
    size = image.shape[1]
    frequency = 2j * np.pi * np.fft.fftfreq(size)
    transform = np.fft.fft2(image)
    slope_x = np.fft.ifft2(transform * frequency).real
    slope_y = np.fft.ifft2(transform * frequency[:, None]).real
    offset = np.arange(size)
    x = (offset[None, :] + (stamps.x0 - table["x"])[:, None])[:, None, :]
    y = (offset[None, :] + (stamps.y0 - table["y"])[:, None])[:, :, None]
    flux = table["flux"][:, None, None]
    sky = truth.sky_at(table["x"], table["y"])[:, None, None]
    gain = observation.gain
    variance = (flux * image + sky) / gain + (observation.read_noise / gain) ** 2
    dilation = 2 * image + x * slope_x + y * slope_y
    slopes = [
        -flux * slope_x,
        -flux * slope_y,
        image,
        -flux * dilation,
        -flux * (x * slope_x - y * slope_y),
        -flux * (x * slope_y + y * slope_x),
    ]
    design = np.stack([slope.reshape(len(row), -1) for slope in slopes], axis=1)
    fisher = np.einsum("nip,njp,np->nij", design, design, 1 / variance.reshape(len(row), -1), optimize=True)
    # Position and flux of a star whose PSF is known; size and shear of one that is nowhere known.
    known, unknown = (
        np.sqrt(np.diagonal(np.linalg.inv(matrix), axis1=1, axis2=2))
        for matrix in (fisher[:, :3, :3], fisher)
    )
    aperture = fraction_in_aperture(truth, table["x"], table["y"])
    square = (image**2).sum(axis=(1, 2))
    plain = np.sqrt((image**2 * variance).sum(axis=(1, 2))) / square
    return known[:, 0], known[:, 1], known[:, 2], plain, unknown[:, 3], unknown[:, 4], aperture
