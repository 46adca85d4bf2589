"""Determiner pixel_basis: a super-sampled PSF fitted to the stars' own pixels, its spatial degree cross-validated.

Unlike the psfex determiner, nothing is interpolated before the fit: the model is drawn at each star's sub-pixel
position and compared with its pixels, with their own noise and without those that are bad, so masked pixels and
under-sampled stars need no special care.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.errors import TooFewPsfStarsError
from streamchar.characterize.psf.degree import DegreeChoice, choose_degree, max_degree_for
from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM
from streamchar.characterize.psf.informative import most_informative
from streamchar.characterize.psf.neighbours import find_neighbours, point_significance
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.pixel_fit import SPLINE, Grid, centre_of, fit_components
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.characterize.psf.result import PsfFit
from streamchar.characterize.psf.samples import Samples, cut_samples
from streamchar.characterize.psf.shape_fields import shape_parameters, stretched
from streamchar.characterize.psf.spatial_functions import spatial_functions
from streamchar.characterize.psf.star_modes import StarModes, fit_star_modes
from streamchar.configuration import Configuration
from streamchar.image import Exposure, Moments
from streamchar.kernels import psf_draw, sdss_shape

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


_MIN_STEP = 0.25
"""Smallest super-pixel in pixels."""
_FIRST_ACCURACY = 0.1
"""Relative error of the constant model: the PSF varies over the field."""
_FIRST_CLIP_ACCURACY = 0.5
_CLIP_ACCURACY = 0.05
"""Relative error of the model allowed for when single pixels are judged."""
_MAX_SHIFT = 0.5
_SHAPE_MARGIN = 0.003
"""Departure in relative size or ellipticity that no star is dropped for."""
_FIRST_MARGIN = 0.3
_STARS_FOR_START = 64
_MAX_STEPS = 40
_STAR_STEPS = 2800
_TREND_DEGREE = 3
_STARS_FOR_CURVATURE = 60
"""Stars needed for terms of second order in size and ellipticity."""
_CONVERGED = 0.3
"""Distance of the sum of squares from its minimum at which a fit ends: no figure of the model is off by a standard
deviation then."""
_MIN_CORE = 5
_MEAN_VARIATION = 0.5
"""Relative error the first model of the mean PSF may have: keeps what few stars do not determine near it."""
_SKY_RADIUS = 0.375
"""Inner radius of the pixels that tell the sky, in stamp widths."""
_SKY_CLIP = 3.0
_WING_STEPS = 3
_STARS_FOR_WINGS = 300
_SPLINE_REACH = 3
"""Super-pixels that a spline reaches."""
_SKY_PIXELS = 50
_SKY_LIGHT = 1.0
"""Mean light of the star in those pixels, in standard deviations of the sky, above which they do not tell it."""
_MIN_CHI2_SPREAD = 0.05
_FAINT = 1e-5
"""Light of the PSF, relative to its peak, below which nothing is expected to vary."""


class PixelBasisConfig(Configuration):
    """Settings of the pixel_basis determiner."""

    stamp_size: int = Field(default=31, ge=11)
    """Least width of stamps and PSF images in pixels, odd."""
    stamp_fwhm: float = Field(default=7.0, gt=0)
    """Their width in full widths at half maximum, where that is more and at most ``max_stamp_size``."""
    max_stamp_size: int = Field(default=101, ge=11)
    """Largest width of stamps in pixels."""
    samples_per_fwhm: float = Field(default=3.8, ge=2)
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
    accuracy: float = Field(default=0.001, ge=0, lt=1)
    """Relative error of the model added to the pixel noise: bounds the weight of the brightest stars."""
    core_radius: float = Field(default=2.5, gt=0)
    """Radius in FWHM within which the PSF may vary over the field; the wings beyond are the same everywhere."""
    information: float = Field(default=0.96, gt=0, le=1)
    """Of the stars only the brightest are fitted that together hold this part of what all tell."""
    max_stars: int = Field(default=600, ge=1)
    """At most so many, and a few in every part of the field."""
    rounds: int = Field(default=3, ge=1)
    """Fits, each followed by a refit of fluxes and positions and by rejection."""
    iterations: int = Field(default=4, ge=2)
    """Conjugate-gradient steps a round when stars are many; up to 40 when they are few, where steps are cheap and
    the brightest stars need them."""
    prior: float = Field(default=6.0, gt=0)
    """Expected relative change of a super-pixel per unit of relative size or ellipticity; shrinks what is noise."""
    departure: float = Field(default=0.06, gt=0)
    """The same of changes that follow neither: where the stars tell of them they are fitted all the same."""
    neighbours: int = Field(default=3, ge=0)
    """At most so many undetected sources are found beside a star in each round, and subtracted."""
    n_sigma_neighbour: float = Field(default=3.0, gt=0)
    """Their least signal to noise."""
    neighbour_tolerance: float = Field(default=0.02, ge=0, lt=1)
    """Relative error of the model allowed for when they are looked for."""
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
    index = _chosen(catalog, index, config)
    samples = usable_samples(exposure, catalog, index, config)
    _require(len(samples), len(index), config)
    grid = _grid(catalog, samples, config)
    wide = _constant_model(grid, samples, config)
    # Cosmic rays that were not found go before they can spoil the shapes of their stars.
    square = _normalised_square(grid, wide, _FIRST_CLIP_ACCURACY)
    wide = replace(wide, samples=_without_far_pixels(samples, square, config))
    wide = replace(wide, samples=_without_sky(grid, wide))
    core, state = _cropped(grid, wide, config)
    accuracy = max(config.accuracy, _FIRST_ACCURACY)
    for number in range(config.rounds):
        stars = _measure(core, state, config, accuracy)
        _require(len(stars.samples), len(index), config)
        state = _fit(core, state, stars, config, accuracy)
        accuracy = config.accuracy
        # The first fit is not yet good enough to judge the brightest stars by.
        if number > 0:
            state = _reject_misfits(core, state, config)
            _require(len(state.samples), len(index), config)
    chi2 = _reduced_chi2(state.samples, _normalised_square(core, state, config.accuracy))
    state = _with_wings(grid, wide, core, state, config)
    order = np.argsort(state.samples.index)
    reasons = _reasons(state.degree, len(state.samples), config)
    return PsfFit(
        _finished(grid, state, config), state.samples.index[order], chi2[order], state.degree, reasons
    )


def fit_constant(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig
) -> PsfFit:
    """Average the brightest of the stars in rows ``index``: a model of the mean PSF at a small part of the cost.

    Raises
    ------
    TooFewPsfStarsError
        Fewer than ``min_stars`` usable stars.
    """
    brightest = np.argsort(-np.nan_to_num(catalog[config.photometric_flux_field][index]), kind="stable")
    samples = usable_samples(exposure, catalog, np.sort(index[brightest[:_STARS_FOR_START]]), config)
    _require(len(samples), len(index), config)
    grid = _grid(catalog, samples, config)
    state = _constant_model(grid, samples, config)
    chi2 = _reduced_chi2(samples, _normalised_square(grid, state, _FIRST_ACCURACY))
    return PsfFit(_finished(grid, state, config), samples.index, chi2, 0)


def _without_sky(grid: Grid, wide: _State) -> Samples:
    """Subtract from each star the sky left around it: the mean residual in the outer part of its stamp.

    Light of sources nobody detected lifts the sky under the stars. The model's wings rest on the brightest stars,
    for which it hardly counts, so what faint stars have beyond it is not theirs.
    """
    samples = wide.samples
    light = samples.flux[:, None, None] * _draw(grid, wide)
    offset = np.arange(grid.stamp) - grid.stamp // 2
    outer = samples.usable & (np.hypot(offset[:, None], offset) > _SKY_RADIUS * grid.stamp)
    residual = samples.pixels - light
    # Noise alone would not exceed this; sources do.
    outer &= np.abs(residual) < _SKY_CLIP * np.sqrt(samples.sky_variance)[:, None, None]
    count = np.count_nonzero(outer, axis=(1, 2))
    sky = np.where(outer, residual, 0.0).sum(axis=(1, 2)) / np.maximum(count, 1)
    # Where the light itself is brighter than the sky's noise the model's wings are not known well enough.
    noise = np.sqrt(samples.sky_variance)
    faint = np.where(outer, light, 0.0).sum(axis=(1, 2)) < _SKY_LIGHT * noise * count
    sky = np.where((count >= _SKY_PIXELS) & faint, sky, 0.0)
    return replace(samples, pixels=np.where(samples.usable, samples.pixels - sky[:, None, None], 0.0))


def _cropped(grid: Grid, wide: _State, config: PixelBasisConfig) -> tuple[Grid, _State]:
    """Return the part of grid and stamps within which the PSF may vary over the field."""
    fwhm = config.samples_per_fwhm * grid.step
    half = min(grid.stamp // 2, max(_MIN_CORE, math.ceil(config.core_radius * fwhm)))
    core = grid.cropped(2 * half + 1)
    components = np.ascontiguousarray(centre_of(wide.components, core.size))
    return core, replace(wide, samples=wide.samples.cropped(core.stamp), components=components)


def _with_wings(grid: Grid, wide: _State, core: Grid, state: _State, config: PixelBasisConfig) -> _State:
    """Put the fitted core into the whole grid and fit the mean wings of the brightest stars in it."""
    brightest = np.argsort(state.samples.flux / np.sqrt(state.samples.sky_variance), kind="stable")
    inner = state.samples.take(np.sort(brightest[-_STARS_FOR_WINGS:]))
    present = wide.samples.take(np.searchsorted(wide.samples.index, inner.index))
    samples = replace(inner, pixels=present.pixels, usable=present.usable)
    for whole, part in ((samples.pixels, inner.pixels), (samples.usable, inner.usable)):
        centre_of(whole, inner.size)[...] = part
    components = np.zeros((len(state.components), grid.size, grid.size))
    components[0] = wide.components[0]
    centre_of(components, core.size)[...] = state.components
    flux = samples.flux[:, None, None]
    light = flux * _draw_around(grid, components[:1], core, replace(state, samples=samples))
    variance = samples.variance(light, config.accuracy)
    residual = samples.pixels - light
    # Judged with room for errors of the model, as in the rounds before.
    margin = max(config.accuracy, _CLIP_ACCURACY) ** 2 - config.accuracy**2
    far = samples.usable & (residual**2 > config.n_sigma_pixel**2 * (variance + margin * light**2))
    # Undetected sources, too.
    looking = (samples.usable & ~far) / (variance + margin * light**2)
    significance = point_significance(residual, looking, config.samples_per_fwhm * grid.step)
    far |= _grown(samples.usable & (significance > config.n_sigma_neighbour))
    correction = fit_components(
        grid,
        replace(samples, pixels=residual),
        (samples.usable & ~_grown(far)) / variance,
        np.ones((len(samples), 1)),
        np.zeros((1, grid.size, grid.size)),
        _ridge(np.abs(components[0]), np.empty(0)),
        iterations=_WING_STEPS,
        converged=_CONVERGED,
    )
    components[0] += correction[0]
    return replace(state, components=components)


def _draw_around(grid: Grid, mean: Array, core: Grid, state: _State) -> Array:
    """Draw stamps of the whole grid: the mean PSF, and what varies, which the core alone holds."""
    samples = state.samples
    stamps = grid.draw(mean, np.ones((len(samples), 1)), samples.dx, samples.dy)
    if len(state.components) > 1:
        reach = math.ceil((core.size // 2 + _SPLINE_REACH) * core.step)
        around = replace(core, stamp=2 * min(reach, grid.stamp // 2) + 1)
        basis = state.spatial(samples.x, samples.y)[:, 1:]
        varying = np.ascontiguousarray(state.components[1:])
        centre_of(stamps, around.stamp)[...] += around.draw(varying, basis, samples.dx, samples.dy)
    return stamps


def usable_samples(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig
) -> Samples:
    """Cut the stamps of the stars that can be used."""
    if config.reject_flagged_centroids and "slot_Centroid_flag" in catalog:
        index = index[~catalog["slot_Centroid_flag"][index]]
    flux = catalog[config.photometric_flux_field][index].astype(np.float64)
    return cut_samples(
        exposure,
        catalog,
        index,
        size=_stamp_size(catalog, index, config),
        flux=flux,
        bad_planes=config.bad_mask_planes,
    )


def _stamp_size(catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig) -> int:
    sigma = _sigmas(catalog, index)
    if not len(sigma):
        return config.stamp_size
    wanted = 2 * math.ceil(0.5 * config.stamp_fwhm * SIGMA_TO_FWHM * float(np.median(sigma))) + 1
    return max(config.stamp_size, min(wanted, config.max_stamp_size - 1 + config.max_stamp_size % 2))


def _sigmas(catalog: SourceCatalog, index: NDArray[np.int64]) -> Array:
    with np.errstate(invalid="ignore"):
        sigma = np.sqrt(0.5 * (catalog["slot_Shape_xx"] + catalog["slot_Shape_yy"])[index])
    return np.asarray(sigma[np.isfinite(sigma)], np.float64)


def _chosen(catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig) -> NDArray[np.int64]:
    flux, error = (catalog[config.photometric_flux_field + suffix][index] for suffix in ("", "Err"))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.asarray(flux / error, np.float64)
    x, y = catalog["slot_Centroid_x"][index], catalog["slot_Centroid_y"][index]
    return index[most_informative(x, y, ratio, fraction=config.information, most=config.max_stars)]


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
    sigma = _sigmas(catalog, samples.index)
    # The sharpest part of the field sets the step; one tenth may be outliers.
    fwhm = SIGMA_TO_FWHM * float(np.quantile(sigma, 0.1)) if len(sigma) else config.samples_per_fwhm
    step = max(fwhm / config.samples_per_fwhm, _MIN_STEP)
    return Grid.covering(samples.size, step, SPLINE)


def _constant_model(grid: Grid, samples: Samples, config: PixelBasisConfig) -> _State:
    """Average the brightest stars interpolated onto the grid, outliers of each super-pixel left out."""
    constant = SpatialBasis.constant(PositionPolynomial.over(samples.x, samples.y, 0))
    brightest = np.argsort(samples.flux / np.sqrt(samples.sky_variance))[-_STARS_FOR_START:]
    bright = samples.take(brightest)
    images = grid.resample(bright.pixels / bright.flux[:, None, None], bright.dx, bright.dy)
    clean = grid.resample(bright.usable.astype(np.float64), bright.dx, bright.dy) > 0.999
    ratio = bright.flux / np.sqrt(bright.sky_variance)
    accuracy = max(config.accuracy, _FIRST_ACCURACY)
    weight = 1.0 / (1.0 / ratio[:, None, None] ** 2 + (accuracy * images) ** 2)
    mean = _clipped_mean(images, np.where(clean, weight, 0.0))
    return _State(samples, grid.coefficients(mean)[None], constant)


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


def _weights(samples: Samples, model: Array, accuracy: float) -> Array:
    variance = samples.variance(samples.flux[:, None, None] * model, accuracy)
    return np.asarray(samples.usable / variance)


@dataclass(frozen=True, slots=True, eq=False)
class _Stars:
    """What a round learns about the stars before it fits the model.

    Attributes
    ----------
    samples
        The stars that stay, with their new fluxes and positions.
    shapes
        float64 (n, 3): relative size and ellipticity.
    choice
        The degree their shapes ask for.
    """

    samples: Samples
    shapes: Array
    choice: DegreeChoice


def _measure(grid: Grid, state: _State, config: PixelBasisConfig, accuracy: float) -> _Stars:
    """Refit flux, position and shape of each star; drop those for which that fails or gives an odd shape."""
    samples = state.samples
    model = _draw(grid, state)
    modes = fit_star_modes(samples.pixels, model, _weights(samples, model, accuracy), samples.dx, samples.dy)
    if accuracy <= config.accuracy:
        # The first model is not yet good enough to tell neighbours from its own errors.
        samples, modes = _without_neighbours(grid, state, model, modes, config)
    with np.errstate(invalid="ignore"):
        kept = (modes.flux > 0) & (np.abs(modes.dx) < _MAX_SHIFT) & (np.abs(modes.dy) < _MAX_SHIFT)
        kept &= np.isfinite(modes.variance).all(axis=1)
    model, modes, samples = model[kept], modes.take(kept), samples.take(kept)
    values, variance = _shapes(grid, state, samples, modes)
    samples = _moved(samples, modes, state.degree)
    # Room for what the present model does not follow, or a handful of good stars would go in the first round.
    margin = max(_SHAPE_MARGIN, _FIRST_MARGIN * accuracy) ** 2
    while True:
        limit = min(config.spatial_order, max_degree_for(len(samples), config.stars_per_term))
        choice = choose_degree(samples.x, samples.y, values, variance, limit, margin)
        with np.errstate(invalid="ignore"):
            kept = choice.outlyingness < config.n_sigma_star
        if kept.all() or np.count_nonzero(kept) < config.min_stars:
            break
        samples, values, variance = samples.take(kept), values[kept], variance[kept]
    if config.order_selection == "fixed":
        choice = replace(choice, degree=limit)
    return _Stars(samples, values, choice)


def _without_neighbours(
    grid: Grid, state: _State, model: Array, modes: StarModes, config: PixelBasisConfig
) -> tuple[Samples, StarModes]:
    """Subtract sources beside the stars that show in their residuals, the most significant one first."""
    samples = state.samples
    pixels = samples.pixels.copy()
    weights = _weights(samples, model, config.neighbour_tolerance)
    looking = np.arange(len(samples))
    for _ in range(config.neighbours):
        found = find_neighbours(
            modes.residual[looking],
            weights[looking],
            samples.dx[looking],
            samples.dy[looking],
            fwhm=config.samples_per_fwhm * grid.step,
            threshold=config.n_sigma_neighbour,
        )
        looking = looking[found.star]
        if not len(looking):
            break
        basis = state.spatial(samples.x[looking], samples.y[looking])
        profile = grid.draw(state.components, basis, found.dx, found.dy)
        weighted = weights[looking] * profile
        flux = np.einsum("nij,nij->n", weighted, modes.residual[looking])
        flux /= np.einsum("nij,nij->n", weighted, profile)
        pixels[looking] -= np.where(
            samples.usable[looking], np.maximum(flux, 0.0)[:, None, None] * profile, 0.0
        )
        part = replace(samples.take(looking), pixels=pixels[looking])
        again = fit_star_modes(
            part.pixels, model[looking], _weights(part, model[looking], config.accuracy), part.dx, part.dy
        )
        modes = modes.replaced(looking, again)
    return replace(samples, pixels=pixels), modes


def _shapes(grid: Grid, state: _State, samples: Samples, modes: StarModes) -> tuple[Array, Array]:
    """Shape parameters of the stars, those of the model at their places plus the departures, and variances."""
    # All centred on a pixel: moments of sharp images depend on where between the pixels they are, by 1 %.
    centred = np.zeros(len(samples))
    images = grid.draw(state.components, state.spatial(samples.x, samples.y), centred, centred)
    middle = centred + grid.stamp // 2
    xx, yy, xy, *_ = sdss_shape(images, middle, middle, tol1=1e-6, tol2=1e-5)
    moments = Moments(xx, yy, xy)
    size = float(np.sqrt(np.nanmedian(xx + yy)))
    changes, variance = stretched(modes.shape, modes.variance)
    return shape_parameters(moments, size) + changes, variance


def _moved(samples: Samples, modes: StarModes, degree: int) -> Samples:
    """Give the stars their fitted fluxes and positions.

    A smooth field of offsets cannot be told from a shift of the model: it is taken out, so that the model stays
    centred on the catalogue's centroids.
    """
    if len(samples) == 0:
        return samples
    trend_degree = min(degree, _TREND_DEGREE)
    basis = PositionPolynomial.over(samples.x, samples.y, trend_degree).basis(samples.x, samples.y)
    weight = (samples.flux / np.sqrt(samples.sky_variance))[:, None]
    shift = np.stack([modes.dx, modes.dy], axis=1)
    shift = shift - basis @ np.linalg.lstsq(basis * weight, shift * weight, rcond=None)[0]
    return replace(samples, flux=modes.flux, dx=samples.dx + shift[:, 0], dy=samples.dy + shift[:, 1])


def _reject_misfits(grid: Grid, state: _State, config: PixelBasisConfig) -> _State:
    """Leave out pixels far from the model and stars of excessive chi-square.

    Both are judged with room for errors of the model, or the brightest stars would go before it has converged on
    them.
    """
    samples = state.samples
    square = _normalised_square(grid, state, max(config.accuracy, _CLIP_ACCURACY))
    samples = _without_far_pixels(samples, square, config)
    chi2 = _reduced_chi2(samples, square)
    excess = chi2 - np.median(chi2)
    spread = max(1.4826 * float(np.median(np.abs(excess))), _MIN_CHI2_SPREAD)
    kept = excess < config.n_sigma_chi2 * spread
    if np.count_nonzero(kept) >= config.min_stars:
        samples = samples.take(kept)
    return replace(state, samples=samples)


def _without_far_pixels(samples: Samples, square: Array, config: PixelBasisConfig) -> Samples:
    far = samples.usable & (square > config.n_sigma_pixel**2)
    # A cosmic ray or neighbour reaches beyond its brightest pixel.
    return replace(samples, usable=samples.usable & ~_grown(far))


def _normalised_square(grid: Grid, state: _State, accuracy: float) -> Array:
    samples = state.samples
    light = samples.flux[:, None, None] * _draw(grid, state)
    square = (samples.pixels - light) ** 2
    square /= samples.variance(light, accuracy)
    return np.asarray(square)


def _reduced_chi2(samples: Samples, square: Array) -> Array:
    freedom = np.maximum(np.count_nonzero(samples.usable, axis=(1, 2)) - 3, 1)
    return np.asarray(np.where(samples.usable, square, 0.0).sum(axis=(1, 2)) / freedom)


def _grown(pixels: Flags) -> Flags:
    result = pixels.copy()
    result[:, 1:] |= pixels[:, :-1]
    result[:, :-1] |= pixels[:, 1:]
    result[:, :, 1:] |= pixels[:, :, :-1]
    result[:, :, :-1] |= pixels[:, :, 1:]
    return result


def _fit(grid: Grid, state: _State, stars: _Stars, config: PixelBasisConfig, accuracy: float) -> _State:
    """Fit the components to the stars, starting from the present model."""
    samples = stars.samples
    model = _draw(grid, replace(state, samples=samples))
    weights = _weights(samples, model, accuracy)
    power = (weights * model * model).sum(axis=(1, 2)) * samples.flux**2
    functions = spatial_functions(
        samples.x,
        samples.y,
        power,
        stars.shapes,
        stars.choice.variance,
        stars.choice.degree,
        curved=len(samples) >= _STARS_FOR_CURVATURE,
    )
    basis = functions.basis(samples.x, samples.y)
    present = state.spatial(samples.x, samples.y)
    share = power / power.sum()
    # Functions orthonormal over the stars: the present model expands by plain products.
    start = np.tensordot((basis * share[:, None]).T @ present, state.components, axes=1)
    mean = np.abs(np.tensordot(present.mean(axis=0), state.components, axes=1))
    variation = config.prior * functions.linear + 0.5 * config.prior**2 * functions.curvature
    variation += config.departure * functions.other
    components = fit_components(
        grid,
        samples,
        weights,
        basis,
        np.ascontiguousarray(start),
        _ridge(mean, variation),
        # The first fit only has to be good enough to measure the stars by.
        iterations=_steps(len(samples), config) // (2 if accuracy > config.accuracy else 1),
        converged=_CONVERGED,
        expected=np.concatenate([start[:1], np.zeros_like(start[1:])]),
    )
    return _State(samples, components, functions.basis, stars.choice.degree)


def _steps(count: int, config: PixelBasisConfig) -> int:
    return max(config.iterations, min(_MAX_STEPS, _STAR_STEPS // count))


def _ridge(mean: Array, variation: Array) -> Array:
    """Inverse prior variance of the components: each function changes the PSF in proportion to the PSF itself.

    Parameters
    ----------
    mean
        float64 (S, S): the mean PSF.
    variation
        float64 (K − 1): expected relative change by each function after the first; the mean itself may be in error by half.
    """
    padded = np.pad(mean, 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    scale = np.maximum(windows.mean(axis=(2, 3)), _FAINT * mean.max())
    relative = np.concatenate([[_MEAN_VARIATION], variation])
    return np.asarray(1.0 / (relative[:, None, None] * scale) ** 2)


def _finished(grid: Grid, state: _State, config: PixelBasisConfig) -> PixelBasisPsf:
    """Interpolate the model onto the published grid and taper it to zero at the edge (psf.md section 4.3, clip)."""
    fwhm = config.samples_per_fwhm * grid.step
    step = 1.0 / max(1, round(config.published_samples_per_fwhm / fwhm))
    published = Grid.covering(grid.stamp, step, config.lanczos)
    fine = published.step / grid.step
    first = np.zeros(len(state.components))
    components = psf_draw(
        state.components, np.eye(len(first)), first, first, published.size, fine, grid.lanczos
    )
    radius, edge = published.radius(), 0.5 * published.size
    inner = edge - max(1.0, 0.1 * edge)
    taper = np.clip((edge**2 - radius**2) / (edge**2 - inner**2), 0.0, 1.0)
    samples = state.samples
    position = float(samples.x.mean()), float(samples.y.mean())
    return PixelBasisPsf(
        components * taper, state.spatial, published.step, grid.stamp, position, config.lanczos
    )
