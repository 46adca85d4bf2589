"""Determiner pixel_basis: a super-sampled PSF fitted to the stars' own pixels, its spatial degree cross-validated.

Unlike the psfex determiner, nothing is interpolated before the fit: the model is drawn at each star's sub-pixel
position and compared with its pixels, with their own noise and without those that are bad, so masked pixels and
under-sampled stars need no special care.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.errors import TooFewPsfStarsError
from streamchar.characterize.psf.degree import DegreeChoice, choose_degree, max_degree_for
from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.pixel_fit import Grid, fit_components, transform_components, whiten
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.characterize.psf.result import PsfFit
from streamchar.characterize.psf.samples import Samples, cut_samples
from streamchar.characterize.psf.shape_fields import (
    PARAMETERS,
    fit_fields,
    parameter_changes,
    shape_parameters,
)
from streamchar.characterize.psf.star_modes import StarModes, fit_star_modes
from streamchar.configuration import Configuration
from streamchar.image import Exposure, Moments
from streamchar.kernels import lanczos_resample, sdss_shape

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


_FIT_LANCZOS = 11
"""Order of the interpolation in the fit: 4 would bias the size by up to 0.5 % at four super-pixels per FWHM."""
_MIN_STEP = 0.25
"""Smallest super-pixel in pixels."""
_FIRST_ACCURACY = 0.1
"""Relative error of the constant model: the PSF varies over the field."""
_CLIP_ACCURACY = 0.05
"""Relative error of the model allowed for when single pixels are judged."""
_SETTLING_ROUNDS = 4
_MAX_SHIFT = 0.5
_TREND_DEGREE = 3
_SMALLEST_VARIATION = 3e-4
"""Directions in which size and ellipticity vary less are left out."""
_STARS_FOR_PRODUCTS = 24
_STARS_FOR_MONOMIALS = (20, 60)
"""Stars needed for plain monomials of degree 1 and 2 beside the fields."""
_MIN_CHI2_SPREAD = 0.05
_FAINT = 1e-5
"""Light of the PSF, relative to its peak, below which nothing is expected to vary."""


class PixelBasisConfig(Configuration):
    """Settings of the pixel_basis determiner."""

    stamp_size: int = Field(default=41, ge=11)
    """Width of stamps and PSF images in pixels, odd."""
    samples_per_fwhm: float = Field(default=4.0, ge=2)
    """Super-pixels per full width at half maximum in the fit: enough for the PSF's band, no more, since finer ones
    only carry noise."""
    published_samples_per_fwhm: float = Field(default=7.5, ge=2)
    """The same of the published model, whose super-pixels are a whole fraction of a pixel: its shorter interpolation
    kernel needs a finer grid."""
    lanczos: int = Field(default=4, ge=2, le=11)
    """Order of the published model's interpolation; 4 is what PSFEx files are read with."""
    spatial_order: int = Field(default=4, ge=0, le=8)
    """Degree of the spatial polynomial, or the largest one cross-validation may choose."""
    order_selection: Literal["cross_validation", "fixed"] = "cross_validation"
    """Whether the degree is chosen by how well it predicts stars left out, or is ``spatial_order``."""
    stars_per_term: float = Field(default=1.8, ge=1)
    """Stars needed for each spatial term."""
    min_stars: int = Field(default=3, ge=1)
    """Stars needed for a constant pixel model."""
    bad_mask_planes: tuple[str, ...] = ("BAD", "SAT", "INTRP", "CR", "NO_DATA", "STREAK", "SUSPECT")
    """Pixels carrying one of them are left out."""
    photometric_flux_field: str = "base_PsfFlux_instFlux"
    """Flux column to start from."""
    reject_flagged_centroids: bool = True
    """Leave stars with a flagged centroid out."""
    accuracy: float = Field(default=0.01, ge=0, lt=1)
    """Relative error of the model added to the pixel noise: bounds the weight of the brightest stars."""
    rounds: int = Field(default=3, ge=1)
    """Fits, each followed by a refit of fluxes and positions and by rejection."""
    iterations: int = Field(default=12, ge=1)
    """Conjugate-gradient steps a round."""
    prior: float = Field(default=3.0, gt=0)
    """Expected relative change of a super-pixel per unit of relative size or ellipticity; shrinks what is noise."""
    n_sigma_pixel: float = Field(default=6.0, gt=0)
    """Pixels farther from the model, in standard deviations, are left out."""
    n_sigma_star: float = Field(default=5.0, gt=0)
    """Stars whose size or ellipticity departs from its neighbours' by more standard deviations are left out."""
    n_sigma_chi2: float = Field(default=5.0, gt=0)
    """Stars whose chi-square exceeds the median by more robust standard deviations are left out."""

    @field_validator("stamp_size")
    @classmethod
    def _is_odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError("the stamp needs a central pixel: an odd stamp_size")
        return size


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """The fit between rounds: the stars and pixels still in, and the model."""

    samples: Samples
    components: Array
    spatial: SpatialBasis
    degree: int = 0


def fit_pixel_basis(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig
) -> PsfFit:
    """Fit the model to the stars in rows ``index`` of the catalogue.

    Raises
    ------
    TooFewPsfStarsError
        Fewer than ``min_stars`` usable stars, before or after rejection.
    """
    samples = usable_samples(exposure, catalog, index, config)
    _require(len(samples), len(index), config)
    grid = _grid(catalog, samples, config)
    state = _constant_model(grid, samples, config)
    accuracy = max(config.accuracy, _FIRST_ACCURACY)
    for _ in range(config.rounds):
        state = _refit_stars(grid, state, accuracy)
        _require(len(state.samples), len(index), config)
        state = _fit(grid, _reject_shapes(grid, state, config, accuracy), config, accuracy)
        accuracy = config.accuracy
        state = _reject_misfits(grid, state, config)
        _require(len(state.samples), len(index), config)
    order = np.argsort(state.samples.index)
    chi2 = _modes(grid, state, config.accuracy)[0].chi2
    reasons = _reasons(state.degree, len(state.samples), config)
    return PsfFit(
        _finished(grid, state, config), state.samples.index[order], chi2[order], state.degree, reasons
    )


def usable_samples(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig
) -> Samples:
    """Cut the stamps of the stars that can be used."""
    if config.reject_flagged_centroids and "slot_Centroid_flag" in catalog:
        index = index[~catalog["slot_Centroid_flag"][index]]
    flux = catalog[config.photometric_flux_field][index].astype(np.float64)
    return cut_samples(
        exposure, catalog, index, size=config.stamp_size, flux=flux, bad_planes=config.bad_mask_planes
    )


def _require(count: int, candidates: int, config: PixelBasisConfig) -> None:
    if count < config.min_stars:
        raise TooFewPsfStarsError(stars=count, candidates=candidates, needed=config.min_stars)


def _reasons(degree: int, count: int, config: PixelBasisConfig) -> tuple[str, ...]:
    possible = max_degree_for(count, config.stars_per_term)
    # A low degree that cross-validation preferred to a possible higher one is no defect.
    wanted = 1 if config.order_selection == "cross_validation" else config.spatial_order
    if possible >= wanted or config.spatial_order == 0:
        return ()
    return ("psf_constant",) if degree == 0 else ("psf_order_lowered",)


def _grid(catalog: SourceCatalog, samples: Samples, config: PixelBasisConfig) -> Grid:
    with np.errstate(invalid="ignore"):
        sigma = np.sqrt(0.5 * (catalog["slot_Shape_xx"] + catalog["slot_Shape_yy"])[samples.index])
    sigma = sigma[np.isfinite(sigma)]
    # The sharpest part of the field sets the step; one tenth may be outliers.
    fwhm = SIGMA_TO_FWHM * float(np.quantile(sigma, 0.1)) if len(sigma) else config.samples_per_fwhm
    step = max(fwhm / config.samples_per_fwhm, _MIN_STEP)
    return Grid.covering(config.stamp_size, step, _FIT_LANCZOS)


def _constant_model(grid: Grid, samples: Samples, config: PixelBasisConfig) -> _State:
    """Average the stars interpolated onto the grid, outliers of each super-pixel left out."""
    images = grid.resample(samples.pixels / samples.flux[:, None, None], samples.dx, samples.dy)
    clean = grid.resample(samples.usable.astype(np.float64), samples.dx, samples.dy) > 0.999
    ratio = samples.flux / np.sqrt(samples.sky_variance)
    accuracy = max(config.accuracy, _FIRST_ACCURACY)
    weight = 1.0 / (1.0 / ratio[:, None, None] ** 2 + (accuracy * images) ** 2)
    mean = _clipped_mean(images, np.where(clean, weight, 0.0))
    constant = SpatialBasis.constant(PositionPolynomial.over(samples.x, samples.y, 0))
    return _State(samples, mean[None], constant)


def _clipped_mean(images: Array, weight: Array) -> Array:
    middle = np.median(images, axis=0)
    spread = 1.4826 * np.median(np.abs(images - middle), axis=0)
    weight = np.where(np.abs(images - middle) <= 4.0 * spread, weight, 0.0)
    total = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (weight * images).sum(axis=0) / total
    return np.ascontiguousarray(np.where(total > 0, mean, middle))


def _draw(grid: Grid, state: _State) -> Array:
    samples = state.samples
    return grid.draw(state.components, state.spatial(samples.x, samples.y), samples.dx, samples.dy)


def _weights(grid: Grid, samples: Samples, model: Array, accuracy: float) -> Array:
    variance = samples.variance(samples.flux[:, None, None] * model, accuracy)
    inside = samples.usable & (grid.stamp_radius(samples.dx, samples.dy) < 0.5 * grid.stamp)
    return np.asarray(inside / variance)


def _modes(grid: Grid, state: _State, accuracy: float) -> tuple[StarModes, Array, Array]:
    """Fit each star's departure from the model; returned with the model stamps and the weights."""
    model = _draw(grid, state)
    weights = _weights(grid, state.samples, model, accuracy)
    return fit_star_modes(state.samples.pixels, model, weights), model, weights


def _refit_stars(grid: Grid, state: _State, accuracy: float) -> _State:
    """Refit flux and position of each star; stars for which that fails leave the fit.

    A smooth field of offsets cannot be told from a shift of the model: it is taken out, so that the model stays
    centred on the catalogue's centroids.
    """
    modes = _modes(grid, state, accuracy)[0]
    samples = state.samples
    with np.errstate(invalid="ignore"):
        kept = (modes.flux > 0) & (np.abs(modes.dx) < _MAX_SHIFT) & (np.abs(modes.dy) < _MAX_SHIFT)
    samples, modes = samples.take(kept), modes.take(kept)
    if len(samples) == 0:
        return replace(state, samples=samples)
    basis = PositionPolynomial.over(samples.x, samples.y, min(state.degree, _TREND_DEGREE)).basis(
        samples.x, samples.y
    )
    weight = samples.flux / np.sqrt(samples.sky_variance)
    moved = {}
    for name in ("dx", "dy"):
        shift = getattr(modes, name)
        trend = basis @ np.linalg.lstsq(basis * weight[:, None], shift * weight, rcond=None)[0]
        moved[name] = getattr(samples, name) + shift - trend
    return replace(state, samples=replace(samples, flux=modes.flux, **moved))


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """Shape parameters of the stars with their variances, and the degree of field they ask for."""

    values: Array
    choice: DegreeChoice


def _shapes(grid: Grid, state: _State, config: PixelBasisConfig, accuracy: float) -> _Shapes:
    """Measure each star's shape as that of the model at its place plus the departure from it."""
    samples = state.samples
    modes, model, _ = _modes(grid, state, accuracy)
    moments = _stamp_moments(model, samples)
    size = float(np.sqrt(np.nanmedian(moments.xx + moments.yy)))
    # A unit of second derivative adds 2 to the moment along an axis and 1 to the mixed one.
    added = modes.shape[:, :3] * np.array([2.0, 1.0, 2.0])
    values = shape_parameters(moments, size) + parameter_changes(moments, added, size)
    error = 4.0 * modes.variance[:, :3] / size**4
    along = error[:, 0] + error[:, 2]
    variance = np.stack([0.25 * along, along, error[:, 1]], axis=1)
    limit = min(config.spatial_order, max_degree_for(len(samples), config.stars_per_term))
    choice = choose_degree(samples.x, samples.y, values, variance, limit)
    if config.order_selection == "fixed":
        choice = replace(choice, degree=limit)
    return _Shapes(values, choice)


def _stamp_moments(model: Array, samples: Samples) -> Moments:
    middle = float(samples.size // 2)
    xx, yy, xy, *_ = sdss_shape(model, middle + samples.dx, middle + samples.dy, tol1=1e-6, tol2=1e-5)
    return Moments(xx, yy, xy)


def _reject_shapes(grid: Grid, state: _State, config: PixelBasisConfig, accuracy: float) -> _State:
    """Drop stars whose size or ellipticity is unlike their neighbours'."""
    for _ in range(_SETTLING_ROUNDS):
        shapes = _shapes(grid, state, config, accuracy)
        with np.errstate(invalid="ignore"):
            kept = shapes.choice.outlyingness < config.n_sigma_star
        if kept.all() or np.count_nonzero(kept) < config.min_stars:
            break
        state = replace(state, samples=state.samples.take(kept))
    return state


def _reject_misfits(grid: Grid, state: _State, config: PixelBasisConfig) -> _State:
    """Leave out pixels far from the model, and drop stars whose chi-square is unlike that of the others."""
    samples = state.samples
    model = _draw(grid, state)
    light = samples.flux[:, None, None] * model
    variance = samples.variance(light, max(config.accuracy, _CLIP_ACCURACY))
    far = (samples.pixels - light) ** 2 > config.n_sigma_pixel**2 * variance
    # A cosmic ray or neighbour reaches beyond its brightest pixel.
    samples = replace(samples, usable=samples.usable & ~_grown(far & samples.usable))
    chi2 = _modes(grid, replace(state, samples=samples), config.accuracy)[0].chi2
    with np.errstate(invalid="ignore"):
        excess = chi2 - np.nanmedian(chi2)
        spread = max(1.4826 * float(np.nanmedian(np.abs(excess))), _MIN_CHI2_SPREAD)
        kept = excess < config.n_sigma_chi2 * spread
    if np.count_nonzero(kept) < config.min_stars:
        return replace(state, samples=samples)
    return replace(state, samples=samples.take(kept))


def _grown(pixels: Flags) -> Flags:
    result = pixels.copy()
    result[:, 1:] |= pixels[:, :-1]
    result[:, :-1] |= pixels[:, 1:]
    result[:, :, 1:] |= pixels[:, :, :-1]
    result[:, :, :-1] |= pixels[:, :, 1:]
    return result


def _fit(grid: Grid, state: _State, config: PixelBasisConfig, accuracy: float) -> _State:
    """Fit the components to the stars, starting from the present model."""
    samples = state.samples
    shapes = _shapes(grid, state, config, accuracy)
    functions = _functions(samples, shapes)
    model = _draw(grid, state)
    weights = _weights(grid, samples, model, accuracy)
    power = (weights * model * model).sum(axis=(1, 2)) / (model * model).sum(axis=(1, 2))
    basis = functions(samples.x, samples.y)
    transform, rms = whiten(basis, power * samples.flux**2, _SMALLEST_VARIATION)
    whitened = np.ascontiguousarray(basis @ transform)
    present = state.spatial(samples.x, samples.y)
    carried = np.asarray(np.linalg.lstsq(whitened, present, rcond=None)[0], np.float64)
    start = transform_components(carried, state.components)
    mean = np.abs(np.tensordot(present.mean(axis=0), state.components, axes=1))
    ridge = _ridge(mean, config.prior * rms)
    components = fit_components(grid, samples, weights, whitened, start, ridge, iterations=config.iterations)
    return _State(samples, components, functions.combined(transform), shapes.choice.degree)


def _functions(samples: Samples, shapes: _Shapes) -> SpatialBasis:
    """Functions of the position the PSF may depend on: the fields of size and ellipticity, their products, monomials.

    A PSF whose size follows a polynomial is not itself a polynomial of that degree; products of the fields are the
    next terms of its expansion, with no more freedom in the fields.
    """
    count, degree = len(samples), shapes.choice.degree
    polynomial = PositionPolynomial.over(samples.x, samples.y, degree)
    if degree == 0:
        return SpatialBasis.constant(polynomial)
    fields = fit_fields(samples.x, samples.y, shapes.values, shapes.choice.variance, polynomial)
    products = PARAMETERS if count >= _STARS_FOR_PRODUCTS else 0
    plain = sum(count >= needed for needed in _STARS_FOR_MONOMIALS)
    return fields.with_products(0, products, min(plain, degree))


def _ridge(mean: Array, variation: Array) -> Array:
    """Inverse prior variance of the components: each function changes the PSF in proportion to the PSF itself.

    Parameters
    ----------
    mean
        float64 (S, S): the mean PSF.
    variation
        float64 (K − 1): expected relative change by each function after the first, which is free.
    """
    padded = np.pad(mean, 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    scale = np.maximum(windows.mean(axis=(2, 3)), _FAINT * mean.max())
    ridge = np.zeros((len(variation) + 1, *mean.shape))
    ridge[1:] = 1.0 / (variation[:, None, None] * scale) ** 2
    return ridge


def _finished(grid: Grid, state: _State, config: PixelBasisConfig) -> PixelBasisPsf:
    """Interpolate the model onto the published grid and taper it to zero at the edge (psf.md section 4.3, clip)."""
    fwhm = config.samples_per_fwhm * grid.step
    step = 1.0 / max(1, round(config.published_samples_per_fwhm / fwhm))
    published = Grid.covering(grid.stamp, step, config.lanczos)
    fine = published.step / grid.step
    first = np.full(len(state.components), grid.size // 2 - (published.size // 2) * fine)
    components = lanczos_resample(state.components, first, first, fine, published.size, grid.lanczos)
    radius, edge = published.radius(), 0.5 * published.size
    inner = edge - max(1.0, 0.1 * edge)
    taper = np.clip((edge**2 - radius**2) / (edge**2 - inner**2), 0.0, 1.0)
    samples = state.samples
    position = float(samples.x.mean()), float(samples.y.mean())
    return PixelBasisPsf(
        components * taper, state.spatial, published.step, grid.stamp, position, config.lanczos
    )
