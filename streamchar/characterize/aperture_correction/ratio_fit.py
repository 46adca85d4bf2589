"""Fitting a polynomial of position to the flux ratios of stars (reference: aperture-correction.md section 2)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting

from streamchar.characterize.aperture_correction.fields import BoundedField, StandardError
from streamchar.characterize.chebyshev import ChebyshevField, design_matrix, least_squares, terms
from streamchar.characterize.errors import ApertureCorrectionError
from streamchar.configuration import Configuration
from streamchar.frozen import frozen
from streamchar.image.field import Field
from streamchar.robust import MAD_TO_SIGMA, median, scatter

Array = NDArray[np.float64]
Selected = NDArray[np.bool_]

ERROR_FLOOR = 1e-7
"""Added to the scatter, so that perfectly equal ratios are not clipped."""
HUBER = 0.3
"""Residual in standard deviations from which a star counts less. So low that the fit is nearly a median: neighbours only
ever add light to an aperture, and a mean follows them by 1 to 2 mmag."""
HUBER_VARIANCE = 1.363
"""Variance of that estimate over the least squares one's, for normal errors (Huber 1964, Ann. Math. Stat. 35, 73)."""
PRIOR_STARS = 5.0
"""Degrees of freedom that the flux errors count for when the scale of the residuals is estimated."""


class FieldFitConfig(Configuration):
    """The polynomial of position that is fitted."""

    order: int = Setting(default=2, ge=0, le=10)
    """Largest total degree (the reference's order_x and order_y, triangular)."""
    stars_per_term: float = Setting(default=5.0, ge=1)
    """Stars that each term needs (weighted fit only); a constant is always allowed."""
    min_gain: float = Setting(default=4.0, ge=0)
    """A higher order is taken when it lowers the sum of squared leave-one-out errors by more than this many variances
    (weighted fit only). Of stars without a gradient 2 % exceed 4."""


class RatioFitConfig(Configuration):
    """How the polynomial is fitted."""

    fit_config: FieldFitConfig = FieldFitConfig()
    """The polynomial."""
    weights: Literal["inverse_variance", "equal"] = "inverse_variance"
    """``inverse_variance``: stars count by their errors, the order is chosen by leave-one-out prediction, and the field
    does not extrapolate. ``equal`` (the reference's): all stars count the same, and the order is the
    largest with enough degrees of freedom."""
    min_scatter: float = Setting(default=3e-3, gt=0)
    """Least intrinsic scatter of a star's ratio, relative (weighted fit only): what a constant or a plane misses of the
    true field, so that no few bright stars decide alone."""
    num_iter: int = Setting(default=4, ge=1)
    """Rounds of clipping and fitting."""
    num_sigma_clip: float = Setting(default=4.0, gt=0)
    """Clip residuals beyond this many scaled median absolute deviations."""
    min_degrees_of_freedom: int = Setting(default=1, ge=1)
    """Stars minus terms; the order is lowered until it is reached."""
    do_final_median_shift: bool = True
    """Remove the median residual at the end (equal weights only)."""
    error_estimate: Literal["standard_error", "scatter"] = "standard_error"
    """Error of a correction: that of the fitted field, or the scatter of single stars about it (the reference's), which
    overestimates the error of corrected fluxes by the square root of stars over terms."""


@frozen(eq=False)
class FieldFit:
    """A fitted correction.

    Attributes
    ----------
    field
        Factor of the flux as a function of position.
    error
        Standard error of the factor, or scatter of single stars about it (scaled median absolute deviation before the
        last clipping), as configured.
    used
        bool (n): which stars survived.
    order
        Largest total degree of the field.
    """

    field: Field
    error: Field
    used: Selected
    order: int


def fit_ratio(
    x: Array,
    y: Array,
    ratio: Array,
    config: RatioFitConfig,
    shape: tuple[int, int],
    *,
    variance: Array | None = None,
    flux: str = "",
) -> FieldFit:
    """Fit a polynomial of position to flux ratios, clipping outliers for good.

    Parameters
    ----------
    x, y, ratio
        float64 (n): positions in pixels and reference over measured flux, all finite.
    config
        Order, weights, clipping, degrees of freedom.
    shape
        Height and width of the exposure.
    variance
        float64 (n): of the ratios, from the flux errors; not finite or negative counts as unknown and such a star is
        left out. Ignored with equal weights, zero when omitted.
    flux
        Name for the error message.

    Raises
    ------
    ApertureCorrectionError
        When too few stars are left for a constant.
    """
    if config.weights == "equal":
        return _fit_equally(x, y, ratio, config, shape, flux)
    return _fit_weighted(
        x, y, ratio, np.zeros(len(ratio)) if variance is None else variance, config, shape, flux
    )


def _fit_equally(
    x: Array,
    y: Array,
    ratio: Array,
    config: RatioFitConfig,
    shape: tuple[int, int],
    flux: str,
) -> FieldFit:
    """Fit as the reference does (reference: aperture-correction.md section 2)."""
    height, width = shape
    order, needed = config.fit_config.order, config.min_degrees_of_freedom + 1
    kept = np.arange(len(ratio))
    _require(len(kept), needed, flux)
    model = np.full(len(ratio), median(ratio))
    for _ in range(config.num_iter):
        residual = ratio[kept] - model
        error = _spread(residual - median(residual))
        # About zero, not about the median: the model is meant to be unbiased.
        kept = kept[np.abs(residual) <= config.num_sigma_clip * error]
        while order > 0 and len(kept) - terms(order) < config.min_degrees_of_freedom:
            order -= 1
        _require(len(kept), needed, flux)
        field = ChebyshevField.fit(x[kept], y[kept], ratio[kept], order=order, width=width, height=height)
        model = field.evaluate(x[kept], y[kept])
    if config.do_final_median_shift:
        field = field.shifted(-float(median(model - ratio[kept])))
    if config.error_estimate == "standard_error":
        error *= (terms(order) / len(kept)) ** 0.5
    return FieldFit(field, ChebyshevField.constant(error, width, height), marked(kept, len(ratio)), order)


def _fit_weighted(
    x: Array,
    y: Array,
    ratio: Array,
    variance: Array,
    config: RatioFitConfig,
    shape: tuple[int, int],
    flux: str,
) -> FieldFit:
    """Fit with weights, of the order that predicts left-out stars best."""
    height, width = shape
    needed = config.min_degrees_of_freedom + 1
    kept = np.flatnonzero(np.isfinite(variance) & (variance >= 0))
    _require(len(kept), needed, flux)
    x, y, values, variance = x[kept], y[kept], ratio[kept], variance[kept]
    design = design_matrix(x, y, order=config.fit_config.order, width=width, height=height)
    model = median(values)
    for _ in range(config.num_iter):
        residual = values - model
        total = variance + _intrinsic_variance(residual, variance, config.min_scatter)
        pull = np.abs(residual) / np.sqrt(total)
        # Few stars may agree by chance: never clip within the errors quoted.
        scale = max(_spread(pull), 1.0)
        inside = pull <= config.num_sigma_clip * scale
        if not inside.all():
            kept, design = kept[inside], design[inside]
            x, y, values, variance, total, pull = (
                each[inside] for each in (x, y, values, variance, total, pull)
            )
            _require(len(kept), needed, flux)
        weights = np.minimum(1.0, HUBER * scale / np.maximum(pull, ERROR_FLOOR)) / total
        order = _best_order(design, values, 1.0 / total, config.fit_config)
        used = design[:, : terms(order)]
        solution, _ = least_squares(used, values, weights)
        model = used @ solution
    polynomial = ChebyshevField.of(solution, order, width, height)
    field = BoundedField(polynomial, _range(x), _range(y))
    residual, stars = values - model, marked(kept, len(ratio))
    if config.error_estimate == "scatter":
        return FieldFit(field, ChebyshevField.constant(_spread(residual), width, height), stars, order)
    covariance = _covariance(used, residual, total)
    return FieldFit(field, StandardError(covariance, order, width, height), stars, order)


def _best_order(design: Array, ratio: Array, weights: Array, config: FieldFitConfig) -> int:
    """Order whose leave-one-out predictions are clearly the best."""
    orders = [
        order for order in range(config.order + 1) if len(ratio) >= config.stars_per_term * terms(order)
    ]
    if len(orders) < 2:
        return 0
    best, least, unit = 0, np.inf, np.inf
    scores: list[float] = []
    for order in orders:
        used = design[:, : terms(order)]
        solution, leverage = _solve(used, ratio, weights)
        square = weights * (ratio - used @ solution) ** 2
        free = 1.0 - leverage
        # A star that alone fixes a term predicts nothing: such an order is not usable.
        scores.append(float(np.sum(square / free**2)) if free.min() > ERROR_FLOOR else np.inf)
        unit = min(unit, float(square.sum()) / max(len(ratio) - used.shape[1], 1))
    for order, score in enumerate(scores):
        if score < least - config.min_gain * unit:
            best, least = order, score
    return best


def _solve(design: Array, values: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted least squares: coefficients, and leverage of each value."""
    root = np.sqrt(weights)
    scaled = design * root[:, None]
    inverse = np.linalg.pinv(scaled)
    return inverse @ (values * root), np.einsum("ij,ji->i", scaled, inverse)


def _covariance(design: Array, residual: Array, variance: Array) -> Array:
    """Covariance of the coefficients; the residuals scale it, the flux errors stand in for stars that are missing."""
    freedom = max(len(residual) - design.shape[1], 0)
    square = freedom * _spread(residual / np.sqrt(variance)) ** 2
    scale = HUBER_VARIANCE * (square + PRIOR_STARS) / (freedom + PRIOR_STARS)
    if design.shape[1] == 1:
        return np.array([[scale / np.sum(1.0 / variance)]])
    inverse = np.linalg.pinv(design / np.sqrt(variance)[:, None])
    return np.asarray(scale * inverse @ inverse.T)


def _intrinsic_variance(residual: Array, variance: Array, least: float) -> float:
    """Variance that has to be added to the stars' own for residuals to scatter as they do, at least ``least`` squared.

    With it half of the residuals, scaled as a median absolute deviation, are within one standard deviation.
    """
    return max(least**2, float(median((MAD_TO_SIGMA * residual) ** 2 - variance)))


def _spread(values: Array) -> float:
    return float(scatter(values, 0.0)) + ERROR_FLOOR


def _range(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _require(stars: int, needed: int, flux: str) -> None:
    if stars < needed:
        raise ApertureCorrectionError(flux=flux, stars=stars, needed=needed)


def marked(kept: NDArray[np.intp], count: int) -> Selected:
    """Return bool (count), true at the numbers kept."""
    used = np.zeros(count, np.bool_)
    used[kept] = True
    return used
