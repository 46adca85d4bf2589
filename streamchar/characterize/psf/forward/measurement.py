"""What a round of the fit learns about each star: flux, position, shape, neighbours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.chebyshev import least_squares
from streamchar.characterize.psf.degree import DegreeChoice, choose_degree, max_degree_for
from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.state import State, inverse_variance
from streamchar.characterize.psf.neighbours import find_neighbours
from streamchar.characterize.psf.pixel_fit import Grid
from streamchar.characterize.psf.polynomial import PositionPolynomial
from streamchar.characterize.psf.samples import Samples
from streamchar.characterize.psf.shape_fields import shape_parameters, stretched
from streamchar.characterize.psf.star_modes import StarModes, fit_star_modes
from streamchar.frozen import frozen
from streamchar.image import Moments
from streamchar.kernels import sdss_shape
from streamchar.robust import median

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_MAX_SHIFT = 0.5
_FIRST_MARGIN = 0.3
"""Departure in relative size or ellipticity that no star is dropped for, in errors of the first model."""
_TREND_DEGREE = 3


@frozen(eq=False)
class MeasuredStars:
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


def measured_stars(
    grid: Grid, state: State, model: Array, config: PixelBasisConfig, accuracy: float
) -> MeasuredStars:
    """Refit flux, position and shape of each star to the model as drawn; drop those that cannot be fitted or are odd."""
    samples = state.samples
    weights = inverse_variance(samples, model, accuracy)
    modes, residual = fit_star_modes(samples.pixels, model, weights, samples.dx, samples.dy)
    if accuracy <= config.accuracy:
        # The first model is not yet good enough to tell neighbours from its own errors.
        samples = _without_neighbours(grid, state, model, modes, residual, config)
    kept = _fitted(modes)
    modes, samples = modes.take(kept), samples.take(kept)
    values, variance = _shapes(grid, state, samples, modes)
    samples = _moved(samples, modes, state.degree)
    return _without_odd_shapes(samples, values, variance, config, accuracy)


def _fitted(modes: StarModes) -> Flags:
    with np.errstate(invalid="ignore"):
        kept = (modes.flux > 0) & (np.abs(modes.dx) < _MAX_SHIFT) & (np.abs(modes.dy) < _MAX_SHIFT)
    return kept & np.isfinite(modes.variance).all(axis=1)


def _without_odd_shapes(
    samples: Samples, values: Array, variance: Array, config: PixelBasisConfig, accuracy: float
) -> MeasuredStars:
    """Drop stars whose shape does not follow from those of the others."""
    # Room for what the present model does not follow, or a handful of good stars would go in the first round.
    margin = max(config.accuracy, _FIRST_MARGIN * accuracy) ** 2
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
    return MeasuredStars(samples, values, choice)


def _without_neighbours(
    grid: Grid, state: State, model: Array, modes: StarModes, residual: Array, config: PixelBasisConfig
) -> Samples:
    """Subtract sources beside the stars that show in their residuals, the most significant one first.

    The modes and residuals of these stars are replaced by those without the sources.
    """
    samples = replace(state.samples, pixels=state.samples.pixels.copy())
    weights = inverse_variance(samples, model, config.neighbour_tolerance)
    looking = np.arange(len(samples))
    for _ in range(config.neighbours):
        found = find_neighbours(
            residual,
            weights,
            samples.dx,
            samples.dy,
            looking,
            fwhm=config.samples_per_fwhm * grid.step,
            threshold=config.n_sigma_neighbour,
        )
        looking = found.star
        if not len(looking):
            break
        basis = state.spatial(samples.x[looking], samples.y[looking])
        profile = grid.draw(state.components, basis, found.dx, found.dy)
        weighted = weights[looking] * profile
        flux = np.einsum("nij,nij->n", weighted, residual[looking])
        flux /= np.einsum("nij,nij->n", weighted, profile)
        part, drawn = samples.take(looking), model[looking]
        profile *= np.maximum(flux, 0.0)[:, None, None] * part.usable
        np.subtract(part.pixels, profile, out=part.pixels)
        samples.pixels[looking] = part.pixels
        weighted = inverse_variance(part, drawn, config.accuracy)
        again, residual[looking] = fit_star_modes(part.pixels, drawn, weighted, part.dx, part.dy)
        modes.put(looking, again)
    return samples


def _shapes(grid: Grid, state: State, samples: Samples, modes: StarModes) -> tuple[Array, Array]:
    """Shape parameters of the stars, those of the model at their places plus the departures, and variances."""
    # All centred on a pixel: moments of sharp images depend on where between the pixels they are, by 1 %.
    centred = np.zeros(len(state.components))
    drawn = grid.draw(state.components, np.eye(len(centred)), centred, centred).reshape(len(centred), -1)
    images = (state.spatial(samples.x, samples.y) @ drawn).reshape(-1, grid.stamp, grid.stamp)
    middle = np.full(len(samples), float(grid.stamp // 2))
    xx, yy, xy, *_ = sdss_shape(images, middle, middle, tol1=1e-6, tol2=1e-5)
    moments = Moments(xx, yy, xy)
    trace = xx + yy
    size = float(np.sqrt(median(trace[np.isfinite(trace)])))
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
    weight = samples.flux**2 / samples.sky_variance
    dx, dy = (shift - basis @ least_squares(basis, shift, weight)[0] for shift in (modes.dx, modes.dy))
    return replace(samples, flux=modes.flux, dx=samples.dx + dx, dy=samples.dy + dy)
