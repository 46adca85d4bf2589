"""Maximum-likelihood fit of position and flux of a point source (Stetson 1987; King 1983)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.measurement.context import Array, Flags, MeasurementContext
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.kernels import psf_fit

UNUSABLE_PLANES = ("BAD", "SAT", "CR", "INTRP", "NO_DATA")
"""Pixels that say nothing about a source."""

SPREADING_PLANES = ("CR",)
"""Of these, pixels that say nothing about what touches them either: a cosmic ray has charge around what was found of it."""

FLUX, FLUX_ERROR, LIGHT = 0, 1, 8
SHIFT, SHIFT_ERROR, MOVES = slice(4, 6), slice(6, 8), slice(10, 12)
"""Columns of the kernel."""

NEAR_ENOUGH = 0.05
"""What a fit may leave of its way, in standard errors."""


class OutlierConfig(Configuration):
    """Which pixels are left out because they do not belong to the source, such as cosmic rays that were not found."""

    threshold: float = Field(default=5.0, ge=0)
    """Residual in standard deviations; 0 keeps all pixels."""
    tolerance: float = Field(default=0.03, ge=0, le=1)
    """Error of the model as a fraction of itself, added to the noise."""
    max_pixels: int = Field(default=40, ge=0)
    """More outliers than this are not a cosmic ray but another kind of source: then all pixels are kept."""


class PsfFitConfig(Configuration):
    """Settings of the fit that refines centroids."""

    bad_mask_planes: tuple[str, ...] = UNUSABLE_PLANES
    """Pixels with one of these planes are left out."""
    spreading_mask_planes: tuple[str, ...] = SPREADING_PLANES
    """Those of these planes whose pixels' neighbours are left out as well."""
    outliers: OutlierConfig = OutlierConfig()
    """Further pixels to leave out."""
    max_iter: int = Field(default=4, ge=1)
    """Evaluations of the PSF for a source."""
    max_shift: float = Field(default=0.5, gt=0)
    """Largest distance from the start, over the PSF's width."""
    max_shift_of_parts: float = Field(default=1.0, gt=0)
    """The same for sources of which less than ``whole_light`` lies on usable pixels: a cosmic ray may have moved the peak."""
    whole_light: float = Field(default=0.9, ge=0, le=1)
    """Part of the PSF on usable pixels from which on a source counts as whole."""
    min_light: float = Field(default=0.1, ge=0, le=1)
    """Smallest part of the PSF that must lie on usable pixels: that much of a bright star still tells where it is."""
    min_significance: float = Field(default=3.0, ge=0)
    """Smallest flux over its error."""


@frozen
class PsfFits:
    """Results for n sources.

    Attributes
    ----------
    x, y, x_error, y_error
        float64 (n): position and standard errors in pixels.
    good
        bool (n): the fit converged, close enough to the start.
    """

    x: Array
    y: Array
    x_error: Array
    y_error: Array
    good: Flags


def fit_positions(
    context: MeasurementContext, x: Array, y: Array, wanted: Flags, config: PsfFitConfig
) -> PsfFits:
    """Fit position and flux of the sources as if they were stars.

    Each step fits the flux and the shift to first order, with weights from the variance that the model implies, and then
    draws the PSF anew at the new position, until the next step would be small against the error. Standard errors are the
    square roots of the inverse Fisher matrix: the Cramer-Rao bound.

    Parameters
    ----------
    context
        The sources; the PSF is drawn from its point-symmetric template.
    x, y
        float64 (n): where to start, in pixels.
    wanted
        bool (n): sources to fit, at finite positions.
    config
        Planes to leave out, limits.

    Returns
    -------
    PsfFits
        Not good where the fit left the neighbourhood of its start, did not converge, found no significant flux or had too
        few usable pixels.
    """
    width = np.asarray(context.psf_shapes.determinant_radius)
    start, errors = np.stack([x, y]), np.full((2, len(context)), np.nan)
    found, good = start.copy(), np.zeros(len(context), np.bool_)
    moving: NDArray[np.int64] = np.flatnonzero(wanted & np.isfinite(start).all(axis=0) & np.isfinite(width))
    for _ in range(config.max_iter):
        if not len(moving):
            break
        step = _step(context, moving, found[:, moving], config)
        target = found[:, moving] + step.shift
        allowed = step.usable
        reach = np.where(step.light < config.whole_light, config.max_shift_of_parts, config.max_shift)
        allowed &= np.hypot(*(target - start[:, moving])) <= reach * width[moving]
        moving, target = moving[allowed], target[:, allowed]
        shift, error = step.shift[:, allowed], step.error[:, allowed]
        found[:, moving], errors[:, moving] = target, error
        # What a step leaves is of the order of its square over the width.
        near = (shift**2).sum(axis=0) <= NEAR_ENOUGH * error.min(axis=0) * width[moving]
        good[moving[near]] = True
        moving = moving[~near]
    return PsfFits(found[0], found[1], errors[0], errors[1], good)


@frozen
class _Step:
    shift: Array
    error: Array
    light: Array
    usable: Flags


def _step(context: MeasurementContext, rows: NDArray[np.int64], place: Array, config: PsfFitConfig) -> _Step:
    exposure = context.exposure
    stamps = context.templates.centred.images(*place)
    values, _, _ = psf_fit(
        context.scene,
        exposure.variance,
        exposure.mask,
        exposure.present_bits(*config.bad_mask_planes),
        rows,
        stamps.images,
        stamps.x0,
        stamps.y0,
        position=True,
        weighted=True,
        reject=config.outliers.threshold,
        tolerance=config.outliers.tolerance,
        reject_max=config.outliers.max_pixels,
        spread=exposure.present_bits(*config.spreading_mask_planes),
    )
    flux, flux_error, light = values[:, FLUX], values[:, FLUX_ERROR], values[:, LIGHT]
    shift, error = values[:, SHIFT].T, values[:, SHIFT_ERROR].T
    usable = (flux > config.min_significance * flux_error) & (light >= config.min_light)
    return _Step(
        shift, error, light, usable & np.isfinite(shift).all(axis=0) & np.isfinite(error).all(axis=0)
    )
