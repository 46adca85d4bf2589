"""Determiner psfex: super-pixels fitted one by one to interpolated stars, as the reference does (psf.md section 4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.errors import TooFewPsfStarsError
from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.pixel_fit import Grid
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.characterize.psf.result import PsfFit
from streamchar.characterize.psf.samples import Samples, cut_samples
from streamchar.characterize.psf.sizes import OddSize
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image import Exposure

Array = NDArray[np.float64]

_RIDGE = 1000.0
_REFINE_RIDGE = 1e4
_REFINE_ELEMENTS = 400
_PIXEL_ACCURACY = 0.01
_REFINE_BELOW_FWHM = 3.0
_LANCZOS = 5
_SKY_SAMPLES = 1_000_000


class PsfexConfig(Configuration):
    """Settings of the psfex determiner."""

    spatial_order: int = Field(default=2, ge=1, le=8)
    """Degree of the spatial polynomial; lowered when stars are few."""
    sampling_size: float = Field(default=0.5, gt=0)
    """Width of a super-pixel in pixels."""
    bad_mask_bits: tuple[str, ...] = ("INTRP", "SAT")
    """Pixels carrying one of these planes are left out."""
    psfex_basis: Literal["none", "pixel", "pixel_auto"] = "pixel_auto"
    """Correct the brightest super-pixels by the stars' own pixels: never, always, or only for a FWHM below 3 pixels."""
    photometric_flux_field: str = "base_CircularApertureFlux_9_0_instFlux"
    """Flux column that normalises the stars."""
    reject_flagged_centroids: bool = True
    """Leave out stars with flagged centroid or flux."""
    stamp_size: OddSize = Field(default=41, ge=11)
    """Width of stamps and PSF images in pixels, odd."""
    max_candidates: int = Field(default=300, ge=1)
    """More candidates are thinned out at random."""
    downsample_random_seed: int = Field(default=98765, ge=0, lt=2**32)
    """Seed of that choice."""


@frozen(eq=False)
class _Stars:
    """The stars in the fit with what does not change from pass to pass.

    Attributes
    ----------
    samples
        Stamps.
    weight
        float64 (n, V, V): inverse variance of their pixels, zero where not usable.
    images
        float64 (n, S, S): stamps interpolated onto the grid over their flux.
    basis
        float64 (n, terms).
    """

    samples: Samples
    weight: Array
    images: Array
    basis: Array

    def take(self, kept: NDArray[np.bool_]) -> _Stars:
        if kept.all():
            return self
        return _Stars(self.samples.take(kept), self.weight[kept], self.images[kept], self.basis[kept])


def fit_psfex(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PsfexConfig
) -> PsfFit:
    """Fit the model to the stars in rows ``index`` of the catalogue.

    Everything is as the reference does it, its weaknesses included, so that the two can be compared: pixels of neighbours
    count as empty ones, and the refinement is the damped one of :func:`_refine`.

    Raises
    ------
    TooFewPsfStarsError
        Too few usable stars for a spatial polynomial of degree 1.
    """
    candidates = len(index)
    index = _thinned(index, config)
    samples = _samples(exposure, catalog, index, config)
    degree = _degree(len(samples), config.spatial_order)
    if degree == 0:
        raise TooFewPsfStarsError(stars=len(samples), candidates=candidates, needed=4)
    grid = Grid.covering(config.stamp_size, config.sampling_size, _LANCZOS)
    polynomial = PositionPolynomial.over(
        catalog["slot_Centroid_x"][index], catalog["slot_Centroid_y"][index], degree
    )
    stars = _prepare(grid, samples, polynomial)
    fwhm = _fwhm(catalog, index)
    refined = config.psfex_basis == "pixel" or (
        config.psfex_basis == "pixel_auto" and fwhm < _REFINE_BELOW_FWHM
    )
    stars, components, chi2 = _passes(grid, stars, fwhm, refined=refined)
    position = float(samples.x.mean()), float(samples.y.mean())
    psf = PixelBasisPsf(
        components, SpatialBasis.monomials(polynomial), grid.step, grid.stamp, position, _LANCZOS
    )
    order = np.argsort(stars.samples.index)
    reasons = ("psf_order_lowered",) if degree < config.spatial_order else ()
    return PsfFit(psf, stars.samples.index[order], chi2[order], degree, reasons)


def _thinned(index: NDArray[np.int64], config: PsfexConfig) -> NDArray[np.int64]:
    if len(index) <= config.max_candidates:
        return index
    generator = np.random.RandomState(config.downsample_random_seed)
    chosen = generator.choice(len(index), config.max_candidates, replace=False)
    return index[np.sort(chosen)]


def _samples(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PsfexConfig
) -> Samples:
    if config.reject_flagged_centroids:
        flux_flag = config.photometric_flux_field.removesuffix("_instFlux") + "_flag"
        for name in ("slot_Centroid_flag", flux_flag):
            if name in catalog:
                index = index[~catalog[name][index]]
    flux = catalog[config.photometric_flux_field][index].astype(np.float64)
    samples = cut_samples(
        exposure,
        catalog,
        index,
        size=config.stamp_size,
        flux=flux,
        bad_planes=config.bad_mask_bits,
        circular=False,
    )
    ones = np.ones(len(samples))
    gain = exposure.observation.gain or 1.0
    sky = _sky_variance(exposure.image)
    return replace(samples, sky_variance=sky * ones, signal_variance=ones / gain)


def _sky_variance(image: NDArray[np.float32]) -> float:
    """Variance of the image, clipped three times at three standard deviations (at most a million pixels are read)."""
    stride = max(1, int(np.sqrt(image.size / _SKY_SAMPLES)))
    values = image[::stride, ::stride].ravel()
    values = values[np.isfinite(values)].astype(np.float64)
    lower, middle, upper = np.quantile(values, [0.25, 0.5, 0.75])
    sigma = 0.741 * (upper - lower)
    for _ in range(3):
        inside = values[np.abs(values - middle) < 3.0 * sigma]
        if len(inside) < 2:
            break
        middle, sigma = inside.mean(), inside.std()
    return float(sigma**2)


def _degree(count: int, wanted: int) -> int:
    degree = wanted
    while degree > 0 and 1.1 * PositionPolynomial(degree).terms + 0.499 > count:
        degree -= 1
    return degree


def _fwhm(catalog: SourceCatalog, index: NDArray[np.int64]) -> float:
    with np.errstate(invalid="ignore"):
        radius = np.sqrt(0.5 * (catalog["slot_Shape_xx"] + catalog["slot_Shape_yy"])[index])
    return SIGMA_TO_FWHM * float(np.nanmedian(radius))


def _prepare(grid: Grid, samples: Samples, polynomial: PositionPolynomial) -> _Stars:
    images = grid.resample(samples.pixels / samples.flux[:, None, None], samples.dx, samples.dy)
    images *= _between_pixels(grid, samples.dy)[:, :, None] & _between_pixels(grid, samples.dx)[:, None, :]
    weight = samples.usable / samples.variance(samples.pixels, _PIXEL_ACCURACY)
    return _Stars(samples, weight, images, polynomial.basis(samples.x, samples.y))


def _between_pixels(grid: Grid, shift: Array) -> NDArray[np.bool_]:
    """Mark the super-pixels (n, size) of an axis between the centres of the stamps' outermost pixels; others are zero."""
    place = (np.arange(grid.size) - grid.size // 2) * grid.step + shift[:, None]
    return np.asarray(np.abs(place) <= grid.stamp // 2)


def _passes(grid: Grid, stars: _Stars, fwhm: float, *, refined: bool) -> tuple[_Stars, Array, Array]:
    """Run the sequence of making, cleaning and refining with falling accuracies."""
    components = _make(stars, 0.2)
    elements = _elements(grid, components[0])

    def refine(components: Array) -> Array:
        return _refine(grid, stars, components, elements) if refined else components

    components = refine(components)
    for cleaning, making in ((0.2, 0.1), (0.1, 0.05), (0.05, 0.01)):
        if len(stars.samples) > 1:
            stars = stars.take(_clean(grid, stars, components, cleaning)[0])
        components = refine(_make(stars, making))
    components = components * _taper(grid, fwhm)
    kept, chi2 = _clean(grid, stars, components, 0.01)
    stars = stars.take(kept)
    return stars, refine(components), chi2[kept]


def _make(stars: _Stars, accuracy: float) -> Array:
    """Fit the polynomial of each super-pixel on its own, with a small ridge.

    Photon noise is that of a star of unit flux, next to nothing, as in PSFEx: the accuracy bounds the weight of bright
    stars instead. Unusable pixels are zero and weigh as much as others.
    """
    samples, images = stars.samples, stars.images
    flux = samples.flux[:, None, None]
    dim = replace(samples, signal_variance=samples.signal_variance / samples.flux)
    weight = flux**2 / dim.variance(np.abs(flux * images), accuracy)
    count, terms = stars.basis.shape
    solution = _fit_polynomials(
        weight.reshape(count, -1), (weight * images).reshape(count, -1), stars.basis, _RIDGE
    )
    return solution.reshape(terms, *images.shape[1:])


def _fit_polynomials(weight: Array, right: Array, basis: Array, ridge: float) -> Array:
    """Coefficients (terms, p) of p independent fits over n stars: ``weight`` and ``right``, weight times value, (n, p)."""
    terms = basis.shape[1]
    products = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), -1)
    normal = (weight.T @ products).reshape(-1, terms, terms) + ridge * np.eye(terms)
    solution = np.linalg.solve(normal, (right.T @ basis)[:, :, None])[:, :, 0]
    return np.ascontiguousarray(solution.T)


def _clean(grid: Grid, stars: _Stars, components: Array, accuracy: float) -> tuple[NDArray[np.bool_], Array]:
    """Return which stars' residuals are like those of the others, and the reduced chi-squares of all."""
    samples, weight = stars.samples, stars.weight
    model = grid.draw(components, stars.basis, samples.dx, samples.dy)
    square = (weight * model * model).sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        fitted = (weight * model * samples.pixels).sum(axis=(1, 2)) / square
    light = np.where(square > 0, fitted, samples.flux)[:, None, None] * model
    judged = (weight > 0) & _inside(grid, samples)
    weight = judged * weight / (1.0 + weight * (accuracy * light) ** 2)
    freedom = np.maximum(np.count_nonzero(judged, axis=(1, 2)) - 1, 1)
    chi2 = (weight * (samples.pixels - light) ** 2).sum(axis=(1, 2)) / freedom
    return chi2 <= _upper_limit(np.sqrt(chi2)) ** 2, chi2


def _inside(grid: Grid, samples: Samples) -> NDArray[np.bool_]:
    """Mark the pixels nearer to the star than the grid's half width."""
    offset = np.arange(samples.size) - samples.size // 2
    x, y = offset - samples.dx[:, None], offset - samples.dy[:, None]
    return np.asarray(y[:, :, None] ** 2 + x[:, None, :] ** 2 < (grid.step * (grid.size // 2)) ** 2)


def _upper_limit(chi: Array) -> float:
    """Median plus three standard deviations of what lies within three, repeated until it settles."""
    low, high, sigma = -np.inf, np.inf, np.inf
    for _ in range(100):
        middle = float(np.median(chi))
        chi = chi[(chi > low) & (chi < high)]
        if len(chi) < 2:
            break
        before, sigma = sigma, float(chi.std(ddof=1))
        low, high = middle - 3.0 * sigma, middle + 3.0 * sigma
        if sigma < 0.1 or abs(sigma / before - 1.0) <= 1e-4:
            break
    return high


def _elements(grid: Grid, mean: Array) -> NDArray[np.bool_]:
    """Mark the brightest super-pixels of the mean PSF."""
    value = np.abs(mean)
    limit = np.sort(value.ravel())[-min(_REFINE_ELEMENTS, value.size)]
    return np.asarray((value >= limit) & (grid.radius() < 0.5 * grid.size))


def _refine(grid: Grid, stars: _Stars, components: Array, elements: NDArray[np.bool_]) -> Array:
    """Correct each of the brightest super-pixels by the residuals of the stars' own pixels around it.

    The reference sets up one least-squares problem for all of them (psf.md section 4.4), but its solver reads the half
    of the matrix that has not been filled: only the coefficients of the same super-pixel remain coupled. Its linear
    weights exceed those of the drawn model sixteen times, which damps the correction accordingly.
    """
    samples, basis = stars.samples, stars.basis
    flux = samples.flux[:, None, None]
    weight = flux * stars.weight
    residual = samples.pixels - flux * grid.draw(components, basis, samples.dx, samples.dy)
    rows, columns = (np.flatnonzero(elements.any(axis=axis)) for axis in (1, 0))
    x = _linear_weights(grid, columns, samples.dx, samples.size)
    y = _linear_weights(grid, rows, samples.dy, samples.size)
    square = flux * (np.swapaxes(y * y, 1, 2) @ weight @ (x * x))
    right = np.swapaxes(y, 1, 2) @ (weight * residual) @ x
    chosen = elements[np.ix_(rows, columns)]
    correction = _fit_polynomials(square[:, chosen], right[:, chosen], basis, _REFINE_RIDGE)
    refined = components.copy()
    refined[:, elements] += correction
    return refined


def _linear_weights(grid: Grid, elements: NDArray[np.int64], shift: Array, size: int) -> Array:
    """Triangles (n, size, e), two pixels wide: weights of the pixels of an axis for the super-pixels ``elements``."""
    pixel = (np.arange(size) - size // 2 - shift[:, None]) * grid.scale
    return np.asarray(np.maximum(grid.scale - np.abs(pixel[:, :, None] - (elements - grid.size // 2)), 0.0))


def _taper(grid: Grid, fwhm: float) -> Array:
    radius, edge = grid.radius(), 0.5 * grid.size
    width = max(1.0, fwhm / grid.step)
    inner = edge - (width if width < edge else 0.5 * edge)
    return np.clip((edge**2 - radius**2) / (edge**2 - inner**2), 0.0, 1.0)
