"""The fit of a pixel-basis PSF: rounds of measuring the stars, fitting the components and rejecting misfits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.errors import TooFewPsfStarsError
from streamchar.characterize.psf.degree import max_degree_for
from streamchar.characterize.psf.forward.components import fitted
from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.measurement import measured_stars
from streamchar.characterize.psf.forward.publish import published
from streamchar.characterize.psf.forward.rejection import (
    normalised_square,
    reduced_chi2,
    without_far_pixels,
    without_misfits,
)
from streamchar.characterize.psf.forward.sky import without_sky
from streamchar.characterize.psf.forward.stars import informative_stars, usable_samples
from streamchar.characterize.psf.forward.start import (
    FIRST_ACCURACY,
    STARS_FOR_START,
    constant_model,
    grid_of,
)
from streamchar.characterize.psf.forward.wings import cropped_to_core, with_wings
from streamchar.characterize.psf.result import PsfFit
from streamchar.image import Exposure

_FIRST_CLIP_ACCURACY = 0.5
"""Relative error of the constant model allowed for when single pixels are judged."""


def fit_pixel_basis(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig
) -> PsfFit:
    """Fit the model to the stars in rows ``index`` of the catalogue.

    Raises
    ------
    TooFewPsfStarsError
        Fewer than ``min_stars`` usable stars, before or after rejection.
    """
    index = informative_stars(catalog, index, config)
    samples = usable_samples(exposure, catalog, index, config)
    _require(len(samples), len(index), config)
    grid = grid_of(catalog, samples, config)
    wide = constant_model(grid, samples, config)
    # Cosmic rays that were not found go before they can spoil the shapes of their stars.
    model = wide.draw(grid)
    square = normalised_square(samples, model, _FIRST_CLIP_ACCURACY)
    wide = replace(wide, samples=without_far_pixels(samples, square, config))
    wide = without_sky(grid, wide, model, config)
    core, state = cropped_to_core(grid, wide, config)
    model = state.draw(core)
    accuracy = max(config.accuracy, FIRST_ACCURACY)
    for number in range(config.rounds):
        stars = measured_stars(core, state, model, config, accuracy)
        _require(len(stars.samples), len(index), config)
        state = fitted(core, state, stars, config, accuracy)
        model = state.draw(core)
        accuracy = config.accuracy
        # The first fit is not yet good enough to judge the brightest stars by.
        if number > 0:
            state, model = without_misfits(state, model, config)
            _require(len(state.samples), len(index), config)
    chi2 = reduced_chi2(state.samples, normalised_square(state.samples, model, config.accuracy))
    state = with_wings(grid, wide, core, state, config)
    order = np.argsort(state.samples.index)
    reasons = _reasons(state.degree, len(state.samples), config)
    return PsfFit(
        published(grid, state, config), state.samples.index[order], chi2[order], state.degree, reasons
    )


def fit_constant(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig
) -> PsfFit:
    """Average the brightest of the stars in rows ``index``: a model of the mean PSF at a small part of the cost.

    How well it fits each star, chi-square, is not asked.

    Raises
    ------
    TooFewPsfStarsError
        Fewer than ``min_stars`` usable stars.
    """
    brightest = np.argsort(-catalog[config.photometric_flux_field][index], kind="stable")
    samples = usable_samples(exposure, catalog, np.sort(index[brightest[:STARS_FOR_START]]), config)
    _require(len(samples), len(index), config)
    grid = grid_of(catalog, samples, config)
    unknown = np.full(len(samples), np.nan)
    return PsfFit(published(grid, constant_model(grid, samples, config), config), samples.index, unknown, 0)


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
