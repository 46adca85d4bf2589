"""How well a star can be measured at best: Cramer-Rao bounds from the true PSF, sky and noise."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamchar.telescope.truth import Truth

Array = NDArray[np.float64]

FAINTEST = 25.0
"""Signal to noise below which stars are not considered."""

MOST_STARS = 2500
BATCH = 100
CONTAMINATION = 0.2
"""Light of other sources in the PSF flux of an isolated star, in its standard deviations."""

EDGE_FWHM = 8.0
CALIBRATION_RADIUS = 12.0


@dataclass(frozen=True)
class StarBounds:
    """Clean stars: isolated, unsaturated, without cosmic ray or defect, away from edges and streaks.

    ``row`` is the row of the truth table. The others are the smallest standard deviations an unbiased estimate can
    have: of position and flux when the PSF is known, of ``plain_flux``, an unweighted fit, of ``size`` (ln of the radius) and ``shear`` when all are
    fitted to the star; ``aperture`` is the part of its flux in the calibration aperture.
    """

    row: NDArray[np.int64]
    x: Array
    y: Array
    flux: Array
    plain_flux: Array
    size: Array
    shear: Array
    aperture: Array

    def save(self, path: Path) -> None:
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Self:
        with np.load(path) as data:
            return cls(**{field.name: data[field.name] for field in fields(cls)})


def star_bounds(truth: Truth) -> StarBounds:
    """Bounds of the clean stars, at most ``MOST_STARS`` of them."""
    row = np.flatnonzero(_clean(truth))
    if len(row) > MOST_STARS:
        row = np.sort(np.random.default_rng(1).choice(row, MOST_STARS, replace=False))
    parts = [_bounds(truth, row[start : start + BATCH]) for start in range(0, len(row), BATCH)]
    return StarBounds(row, *(np.concatenate(part) for part in zip(*parts, strict=True)))


def fraction_in_aperture(truth: Truth, x: Array, y: Array) -> Array:
    """Part of a star's light in the calibration aperture, in batches."""
    parts = [
        truth.psf.aperture_fluxes(x[start : start + BATCH], y[start : start + BATCH], CALIBRATION_RADIUS)
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


def _clean(truth: Truth) -> NDArray[np.bool_]:
    table = truth.sources
    margin = EDGE_FWHM * truth.psf.fwhm
    height, width = truth.geometry.height, truth.geometry.width
    clean = (table["x"] > margin) & (table["x"] < width - 1 - margin)
    clean &= (table["y"] > margin) & (table["y"] < height - 1 - margin)
    clean &= ~(table["galaxy"] | table["saturated"] | table["cosmic_ray"] | table["bad_pixel"])
    clean &= table["snr"] > FAINTEST
    clean &= ~(table["streak_distance"] < 10 * truth.psf.fwhm)
    row = np.flatnonzero(clean)
    clean[row] = contamination(truth, row) < CONTAMINATION * table["flux"][row] / table["snr"][row]
    return clean


def contamination(truth: Truth, row: NDArray[np.int64]) -> Array:
    """Flux that the other sources add to the PSF flux of those in ``row``, in adu.

    A source at distance r adds its flux times the normalised autocorrelation of the PSF at r; a galaxy is at least as
    wide as a Gaussian of its half-light radius makes it.
    """
    table = truth.sources
    radii, profile = _autocorrelation(truth)
    reach = radii[-1]
    positions = np.column_stack([table["x"], table["y"]])
    neighbours = cKDTree(positions).query_ball_point(positions[row], reach)
    counts = np.array([len(found) for found in neighbours])
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


def _autocorrelation(truth: Truth) -> tuple[Array, Array]:
    image = truth.psf.kernel_images(*truth.psf.center)[0]
    size = image.shape[0]
    transform = np.abs(np.fft.rfft2(image, (2 * size, 2 * size))) ** 2
    correlation = np.fft.irfft2(transform)
    radii = np.arange(size // 2 + 1, dtype=float)
    profile = 0.5 * (correlation[0, : len(radii)] + correlation[: len(radii), 0])
    return radii, profile / profile[0]


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
    aperture = truth.psf.aperture_fluxes(table["x"], table["y"], CALIBRATION_RADIUS)
    square = (image**2).sum(axis=(1, 2))
    plain = np.sqrt((image**2 * variance).sum(axis=(1, 2))) / square
    return known[:, 0], known[:, 1], known[:, 2], plain, unknown[:, 3], unknown[:, 4], aperture
