"""How well the PSF model agrees with the true PSF, and which stars it was made from."""

from __future__ import annotations

import galsim
import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.task import CharacterizationResult
from streamchar.telescope.truth import Truth
from tests.science.truth.bounds import BATCH, StarBounds
from tests.science.truth.matching import Match

Figures = dict[str, float]

GRID = 12
MOST_STARS = 400
DETECTED_ABOVE = 55.0
FITTED = 0.8
"""Fraction of the stars that are not held back."""

SPATIAL_DEGREE = {"sharp": 3, "poor": 1, "sparse": 1}
"""Degree of the scenes' PSF fields; 2 where not listed."""


def psf_figures(result: CharacterizationResult, truth: Truth, match: Match, bounds: StarBounds) -> Figures:
    measurement = result.psf_measurement
    if measurement is None or result.exposure.psf is None:
        return {}
    x, y = _grid(truth)
    figures = _residuals("grid", result, truth, x, y)
    stars = measurement.stars
    x, y = stars.x[stars.reserved], stars.y[stars.reserved]
    if not len(x):
        # Too few to hold any back: the model is judged where the clean stars are.
        x, y = (truth.sources[axis][bounds.row] for axis in "xy")
    figures |= _residuals("unused", result, truth, x[:MOST_STARS], y[:MOST_STARS])
    rows = match.truth[stars.index[stars.used]]
    galaxies = (rows >= 0) & truth.sources["galaxy"][rows]
    figures |= {
        "psf_order": measurement.order,
        "psf_stars_available": measurement.available,
        "psf_stars_used": measurement.used,
        "psf_stars_reserved": measurement.reserved,
        "psf_galaxies": int(galaxies.sum()),
        "psf_unmatched": int((rows < 0).sum()),
        "psf_galaxy_percent": 100.0 * float(galaxies.mean()) if len(rows) else np.nan,
        "psf_chi2": measurement.chi2,
    }
    return figures


def attainable(truth: Truth, bounds: StarBounds, degree: int) -> Figures:
    """Error over the detector of a field of known degree fitted to the size and shear of the clean stars."""
    x, y = _grid(truth)
    table = truth.sources[bounds.row]
    detected = table["flux"] > DETECTED_ABOVE * bounds.flux
    table = table[detected]
    fitted = FITTED if len(table) >= 50 else 1.0
    if len(table) < 2:
        return {}
    design, grid = (_terms(truth, *place, degree) for place in ((table["x"], table["y"]), (x, y)))
    figures = {}
    for name, deviation, factor in (("size", bounds.size, 200.0), ("ellipticity", bounds.shear, 2.0e4)):
        fisher = fitted * design.T @ (design / deviation[detected, None] ** 2)
        variance = np.einsum("ni,ij,nj->n", grid, np.linalg.pinv(fisher), grid)
        figures[f"psf_{name}_bound"] = factor * float(np.sqrt(variance.mean()))
    return figures


def _residuals(
    place: str, result: CharacterizationResult, truth: Truth, x: NDArray[np.float64], y: NDArray[np.float64]
) -> Figures:
    assert result.exposure.psf is not None
    size, ellipticity = [], []
    for start in range(0, len(x), BATCH):
        where = x[start : start + BATCH], y[start : start + BATCH]
        model, real = (_shapes(psf.kernel_images(*where)) for psf in (result.exposure.psf, truth.psf))
        size.append(100.0 * (model[0] / real[0] - 1.0))
        ellipticity.append(1e4 * (model[1:] - real[1:]))
    sizes, ellipticities = np.concatenate(size), np.concatenate(ellipticity, axis=1)
    return {
        f"psf_size_bias_{place}": float(sizes.mean()),
        f"psf_size_rms_{place}": float(np.sqrt(np.mean(sizes**2))),
        f"psf_ellipticity_rms_{place}": float(np.sqrt(np.mean(ellipticities**2))),
    }


def _shapes(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """T = xx + yy, e1, e2 of adaptive moments by GalSim, NaN where they do not converge.

    Both PSFs are drawn on pixels with the same phase: adaptive moments of an image sampled at 2.3 pixels per FWHM
    depend on the phase by half a per cent.
    """
    result = np.empty((3, len(images)))
    for number, image in enumerate(images):
        found = galsim.hsm.FindAdaptiveMom(
            galsim.Image(np.ascontiguousarray(image)), precision=1e-7, strict=False
        )
        if found.error_message:
            result[:, number] = np.nan
            continue
        e1, e2 = found.observed_shape.e1, found.observed_shape.e2
        result[:, number] = 2.0 * found.moments_sigma**2 / np.sqrt(1.0 - e1**2 - e2**2), e1, e2
    return result


def _grid(truth: Truth) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cell centres, so that every point stands for the same area."""
    step = (np.arange(GRID) + 0.5) / GRID
    x, y = np.meshgrid(step * truth.geometry.width - 0.5, step * truth.geometry.height - 0.5)
    return x.ravel(), y.ravel()


def _terms(truth: Truth, x: NDArray[np.float64], y: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    u, v = (2 * x / truth.geometry.width - 1, 2 * y / truth.geometry.height - 1)
    powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    return np.stack([u**i * v**j for i, j in powers], axis=1)
