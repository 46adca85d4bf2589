"""Flux normalisation and aperture corrections: measured on PSF stars, applied to all (reference: aperture-correction.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field as Setting

from streamchar.characterize.base import Task
from streamchar.characterize.catalog import Column, SourceCatalog, flag
from streamchar.characterize.chebyshev import ChebyshevField, design_matrix, terms
from streamchar.characterize.errors import ApertureCorrectionError, NormalizationError
from streamchar.characterize.source_selection import (
    SignalToNoiseLimits,
    SourceSelectorConfig,
    select_sources,
)
from streamchar.configuration import Configuration
from streamchar.image import Exposure
from streamchar.image.field import Field

Array = NDArray[np.float64]
Selected = NDArray[np.bool_]
Corrections = dict[str, Field]

CORRECTED = ("base_GaussianFlux", "base_PsfFlux")
"""Fluxes whose fraction of the total depends on the PSF."""

SCALED_MAD = 1.4826
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


class MeasureApertureCorrectionsConfig(Configuration):
    """How corrections are measured."""

    names: tuple[str, ...] = CORRECTED
    """Fluxes to correct; those that were not measured are ignored."""
    ref_flux_name: str = "slot_CalibFlux"
    """Flux that the corrected ones shall equal on stars. The plain aperture has less noise for each star, but takes in
    more of its neighbours."""
    source_selector: SourceSelectorConfig = SourceSelectorConfig()
    """Stars to measure on."""
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
    allow_failure: tuple[str, ...] = ()
    """Fluxes without which the others are still corrected."""


@dataclass(frozen=True, slots=True, eq=False)
class BoundedField:
    """A field that keeps, beyond the stars, the value at the nearest position between them.

    Attributes
    ----------
    field
        What is evaluated.
    x_range, y_range
        Least and largest position of the stars, pixels.
    """

    field: ChebyshevField
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Values at pixel positions; NaN positions give NaN."""
        return self.field.evaluate(np.clip(x, *self.x_range), np.clip(y, *self.y_range))


@dataclass(frozen=True, slots=True, eq=False)
class StandardError:
    """Standard error of a fitted field as a function of position: that of the polynomial, growing away from the stars.

    Attributes
    ----------
    covariance
        float64 (terms, terms): of the coefficients, in the order of :func:`chebyshev.design_matrix`.
    order
        Largest total degree.
    width, height
        The box in pixels.
    """

    covariance: Array
    order: int
    width: int
    height: int

    def evaluate(self, x: ArrayLike, y: ArrayLike) -> Array:
        """Values at pixel positions; NaN positions give NaN."""
        design = design_matrix(x, y, order=self.order, width=self.width, height=self.height)
        variance = np.einsum("...i,ij,...j->...", design, self.covariance, design)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


@dataclass(frozen=True, slots=True, eq=False)
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
    config: MeasureApertureCorrectionsConfig,
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
    config: MeasureApertureCorrectionsConfig,
    shape: tuple[int, int],
    flux: str,
) -> FieldFit:
    """Fit as the reference does (reference: aperture-correction.md section 2)."""
    height, width = shape
    order, needed = config.fit_config.order, config.min_degrees_of_freedom + 1
    kept = np.arange(len(ratio))
    _require(len(kept), needed, flux)
    model = np.full(len(ratio), np.median(ratio))
    for _ in range(config.num_iter):
        residual = ratio[kept] - model
        error = _spread(residual - np.median(residual))
        # About zero, not about the median: the model is meant to be unbiased.
        kept = kept[np.abs(residual) <= config.num_sigma_clip * error]
        while order > 0 and len(kept) - terms(order) < config.min_degrees_of_freedom:
            order -= 1
        _require(len(kept), needed, flux)
        field = ChebyshevField.fit(x[kept], y[kept], ratio[kept], order=order, width=width, height=height)
        model = field.evaluate(x[kept], y[kept])
    if config.do_final_median_shift:
        field = field.shifted(-float(np.median(model - ratio[kept])))
    if config.error_estimate == "standard_error":
        error *= (terms(order) / len(kept)) ** 0.5
    return FieldFit(field, ChebyshevField.constant(error, width, height), _marked(kept, len(ratio)), order)


def _fit_weighted(
    x: Array,
    y: Array,
    ratio: Array,
    variance: Array,
    config: MeasureApertureCorrectionsConfig,
    shape: tuple[int, int],
    flux: str,
) -> FieldFit:
    """Fit with weights, of the order that predicts left-out stars best."""
    height, width = shape
    needed = config.min_degrees_of_freedom + 1
    kept = np.flatnonzero(np.isfinite(variance) & (variance >= 0))
    _require(len(kept), needed, flux)
    design = design_matrix(x, y, order=config.fit_config.order, width=width, height=height)
    model, count = np.full(len(ratio), np.median(ratio[kept])), 1
    for _ in range(config.num_iter):
        residual = ratio - model
        total = variance + _intrinsic_variance(residual[kept], variance[kept], config.min_scatter)
        pull = np.abs(residual) / np.sqrt(total)
        # Few stars may agree by chance: never clip within the errors quoted.
        scale = max(_spread(pull[kept]), 1.0)
        kept = kept[pull[kept] <= config.num_sigma_clip * scale]
        _require(len(kept), needed, flux)
        weights = np.minimum(1.0, HUBER * scale / np.maximum(pull[kept], ERROR_FLOOR)) / total[kept]
        order = _best_order(design[kept], ratio[kept], 1.0 / total[kept], config.fit_config)
        count = terms(order)
        solution, _, _ = _solve(design[kept, :count], ratio[kept], weights)
        model = design[:, :count] @ solution
    used, values = _marked(kept, len(ratio)), model[kept]
    polynomial = ChebyshevField.of(solution, order, width, height)
    field = BoundedField(polynomial, _range(x[kept]), _range(y[kept]))
    residual = ratio[kept] - values
    if config.error_estimate == "scatter":
        return FieldFit(field, ChebyshevField.constant(_spread(residual), width, height), used, order)
    covariance = _covariance(design[kept, :count], residual, total[kept])
    return FieldFit(field, StandardError(covariance, order, width, height), used, order)


def _best_order(design: Array, ratio: Array, weights: Array, config: FieldFitConfig) -> int:
    """Order whose leave-one-out predictions are clearly the best."""
    best, least, unit = 0, np.inf, np.inf
    scores: list[float] = []
    for order in range(config.order + 1):
        count = terms(order)
        if order and len(ratio) < config.stars_per_term * count:
            break
        solution, leverage, _ = _solve(design[:, :count], ratio, weights)
        square = weights * (ratio - design[:, :count] @ solution) ** 2
        free = 1.0 - leverage
        # A star that alone fixes a term predicts nothing: such an order is not usable.
        scores.append(float(np.sum(square / free**2)) if free.min() > ERROR_FLOOR else np.inf)
        unit = min(unit, float(square.sum()) / max(len(ratio) - count, 1))
    for order, score in enumerate(scores):
        if score < least - config.min_gain * unit:
            best, least = order, score
    return best


def _solve(design: Array, values: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Weighted least squares: coefficients, leverage of each value, and the inverse of the normal matrix."""
    root = np.sqrt(weights)
    scaled = design * root[:, None]
    inverse = np.linalg.pinv(scaled)
    leverage = np.einsum("ij,ji->i", scaled, inverse)
    return inverse @ (values * root), leverage, inverse @ inverse.T


def _covariance(design: Array, residual: Array, variance: Array) -> Array:
    """Covariance of the coefficients; the residuals scale it, the flux errors stand in for stars that are missing."""
    _, _, inverse = _solve(design, residual, 1.0 / variance)
    freedom = max(len(residual) - design.shape[1], 0)
    square = freedom * _spread(residual / np.sqrt(variance)) ** 2
    scale = HUBER_VARIANCE * (square + PRIOR_STARS) / (freedom + PRIOR_STARS)
    return np.asarray(scale * inverse)


def _intrinsic_variance(residual: Array, variance: Array, least: float) -> float:
    """Variance that has to be added to the stars' own for residuals to scatter as they do.

    Found by bisection where the scaled median absolute residual is one standard deviation; at least ``least`` squared.
    """
    low, high = least, max(least, 2.0 * _spread(residual))
    for _ in range(30):
        middle = 0.5 * (low + high)
        if _spread(residual / np.sqrt(variance + middle**2)) > 1.0:
            low = middle
        else:
            high = middle
    # Without excess the upper end approaches the least one.
    return high**2


def _spread(values: Array) -> float:
    return SCALED_MAD * float(np.median(np.abs(values))) + ERROR_FLOOR


def _range(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _require(stars: int, needed: int, flux: str) -> None:
    if stars < needed:
        raise ApertureCorrectionError(flux=flux, stars=stars, needed=needed)


def _marked(kept: NDArray[np.intp], count: int) -> Selected:
    used = np.zeros(count, np.bool_)
    used[kept] = True
    return used


class MeasureApertureCorrections(Task[MeasureApertureCorrectionsConfig]):
    """Measure the factors that turn fluxes into the reference flux, as functions of position."""

    config_class = MeasureApertureCorrectionsConfig
    default_name = "measure_ap_corr"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Which stars were used for which flux; the reference flux has a column too, never set."""
        names = (self.config.ref_flux_name, *sorted(self.config.names))
        return tuple(flag(f"apcorr_{name}_used", f"used to correct the aperture of {name}") for name in names)

    def run(self, catalog: SourceCatalog, exposure: Exposure) -> Corrections:
        """Fit one field for each flux.

        Returns
        -------
        corrections
            ``<name>_instFlux``: the factor; ``<name>_instFluxErr``: its error.

        Raises
        ------
        ApertureCorrectionError
            When a flux has fewer than two usable stars and is not allowed to fail.
        """
        reference = self.config.ref_flux_name
        with self.timer("run"):
            usable = select_sources(catalog, self.config.source_selector)
            usable &= ~catalog[f"{reference}_flag"] & np.isfinite(catalog[f"{reference}_instFlux"])
            usable &= np.isfinite(catalog["slot_Centroid_x"]) & np.isfinite(catalog["slot_Centroid_y"])
            corrections: Corrections = {}
            for name in _measured(self.config.names, catalog):
                try:
                    fit = self._fit(name, catalog, usable, exposure.shape)
                except ApertureCorrectionError as error:
                    if name not in self.config.allow_failure:
                        raise
                    self.record("skipped", str(error))
                    continue
                corrections[f"{name}_instFlux"] = fit.field
                corrections[f"{name}_instFluxErr"] = fit.error
                catalog[f"apcorr_{name}_used"] = fit.used
                self.record(f"{name}_stars", int(fit.used.sum()))
                self.record(f"{name}_order", fit.order)
        return corrections

    def _fit(self, name: str, catalog: SourceCatalog, usable: Selected, shape: tuple[int, int]) -> FieldFit:
        flux = catalog[f"{name}_instFlux"]
        chosen = usable & ~catalog[f"{name}_flag"] & np.isfinite(flux) & (flux > 0)
        x, y = catalog["slot_Centroid_x"][chosen], catalog["slot_Centroid_y"][chosen]
        reference, flux = catalog[f"{self.config.ref_flux_name}_instFlux"][chosen], flux[chosen]
        ratio = reference / flux
        # Both fluxes share pixels, so that this is an upper bound; the residuals scale it.
        reference_error = catalog[f"{self.config.ref_flux_name}_instFluxErr"][chosen]
        flux_error = catalog[f"{name}_instFluxErr"][chosen]
        variance = (reference_error / flux) ** 2 + (flux_error * ratio / flux) ** 2
        fit = fit_ratio(x, y, ratio, self.config, shape, variance=variance, flux=name)
        return replace(fit, used=_marked(np.flatnonzero(chosen)[fit.used], len(catalog)))


class ApplyApertureCorrectionsConfig(Configuration):
    """Which fluxes are corrected."""

    names: tuple[str, ...] = CORRECTED
    """Fluxes to correct; those that were not measured are ignored."""
    ignore_list: tuple[str, ...] = ()
    """Fluxes not corrected."""
    proxies: dict[str, str] = Setting(default_factory=dict)
    """Fluxes that borrow the correction of another."""
    do_flag_ap_corr_failures: bool = True
    """Raise the flux's own flag where its correction is not usable."""
    do_propagate_errors: bool = True
    """Add the correction's error to the flux's error."""


class ApplyApertureCorrections(Task[ApplyApertureCorrectionsConfig]):
    """Multiply fluxes and their errors by their corrections, and store what was applied."""

    config_class = ApplyApertureCorrectionsConfig
    default_name = "apply_ap_corr"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Correction, its error and its flag for each flux."""
        return tuple(column for name in self._names() for column in _correction_columns(name))

    def run(self, catalog: SourceCatalog, corrections: Mapping[str, Field]) -> None:
        """Correct the fluxes in place; run once for a catalogue.

        Parameters
        ----------
        catalog
            Fluxes, positions, and the columns of this task.
        corrections
            Fields by flux column name. A flux without correction stays as it is, with ``flag_apCorr`` raised; so does a
            source where the correction is not finite and positive, with the flux's own flag raised as well.
        """
        with self.timer("run"):
            for name in _measured(self._names(), catalog):
                model = self.config.proxies.get(name, name)
                factor, error = corrections.get(f"{model}_instFlux"), corrections.get(f"{model}_instFluxErr")
                if factor is None or error is None:
                    catalog[f"{name}_flag_apCorr"] = True
                else:
                    self._apply(name, catalog, factor, error)

    def _apply(self, name: str, catalog: SourceCatalog, field: Field, error_field: Field) -> None:
        x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
        factor, error = field.evaluate(x, y), error_field.evaluate(x, y)
        good = np.isfinite(factor) & (factor > 0)
        flux, flux_error = catalog[f"{name}_instFlux"], catalog[f"{name}_instFluxErr"]
        scaled = factor * flux_error
        if self.config.do_propagate_errors:
            scaled = np.hypot(scaled, flux * error)
        flux_error[good] = scaled[good]
        flux[good] *= factor[good]
        catalog[f"{name}_apCorr"] = factor
        catalog[f"{name}_apCorrErr"] = error
        catalog[f"{name}_flag_apCorr"] = ~good
        if self.config.do_flag_ap_corr_failures:
            catalog[f"{name}_flag"] |= ~good

    def _names(self) -> list[str]:
        return sorted(set(self.config.names) - set(self.config.ignore_list))


class _RawSignalToNoise(SignalToNoiseLimits):
    flux_field: str = "base_CompensatedTophatFlux_12_instFlux"
    """Flux column."""
    err_field: str = "base_CompensatedTophatFlux_12_instFluxErr"
    """Column of its error."""


class _NormalizationStars(SourceSelectorConfig):
    signal_to_noise: _RawSignalToNoise = _RawSignalToNoise()
    """Signal-to-noise ratio of the flux to normalise."""


class _FallbackStars(SourceSelectorConfig):
    do_signal_to_noise: bool = False
    """Apply ``signal_to_noise``."""


class _ConstantFit(FieldFitConfig):
    order: int = Setting(default=0, ge=0, le=10)
    """Largest total degree: a constant."""


class NormalizationFitConfig(MeasureApertureCorrectionsConfig):
    """How the normalisation is measured: a clipped median of ratios."""

    names: tuple[str, ...] = ("base_CompensatedTophatFlux_12",)
    """Replaced by the name of the flux to normalise."""
    ref_flux_name: str = "base_CircularApertureFlux_12_0"
    """Flux that the normalised one shall equal on stars."""
    source_selector: _NormalizationStars = _NormalizationStars()
    """Stars to measure on."""
    fit_config: _ConstantFit = _ConstantFit()
    """The polynomial."""


class NormalizedCalibrationFluxConfig(Configuration):
    """How the calibration flux is normalised."""

    raw_calibflux_name: str = "base_CompensatedTophatFlux_12"
    """Flux to normalise."""
    normalized_calibflux_name: str = "base_NormalizedCompensatedTophatFlux"
    """Prefix of the normalised flux."""
    do_set_calib_slot: bool = True
    """Make the normalised flux the calibration flux."""
    do_measure_ap_corr: bool = True
    """Measure the normalisation; otherwise take it from the exposure."""
    measure_ap_corr: NormalizationFitConfig = NormalizationFitConfig()
    """How it is measured."""
    fallback_source_selector: _FallbackStars = _FallbackStars()
    """Stars for a plain median when no star passes the first selection."""


class NormalizedCalibrationFlux(Task[NormalizedCalibrationFluxConfig]):
    """Scale the background-compensated flux to the plain aperture's, so that it calibrates like it with less noise."""

    config_class = NormalizedCalibrationFluxConfig
    default_name = "normalized_calibration_flux"

    def __init__(self, config: NormalizedCalibrationFluxConfig | None = None, **place: Any) -> None:
        super().__init__(config, **place)
        measuring = self.config.measure_ap_corr.model_copy(
            update={"names": (self.config.raw_calibflux_name,)}
        )
        self.measure_ap_corr = self.make_subtask(MeasureApertureCorrections, measuring, "measure_ap_corr")

    @property
    def columns(self) -> tuple[Column, ...]:
        """Stars used, and the normalised flux."""
        name = self.config.normalized_calibflux_name
        return (
            *self.measure_ap_corr.columns,
            Column(f"{name}_instFlux", "<f8", "count", "normalised background-compensated flux"),
            Column(f"{name}_instFluxErr", "<f8", "count", "standard error of the normalised flux"),
            flag(f"{name}_flag", "the normalised flux failed"),
        )

    @property
    def aliases(self) -> dict[str, str]:
        """The calibration flux slot."""
        return (
            {"slot_CalibFlux": self.config.normalized_calibflux_name} if self.config.do_set_calib_slot else {}
        )

    def run(self, catalog: SourceCatalog, exposure: Exposure) -> Corrections:
        """Measure the normalisation (or look it up) and fill the normalised flux.

        Returns
        -------
        corrections
            ``<raw name>_instFlux``: the factor; ``<raw name>_instFluxErr``: 0.

        Raises
        ------
        NormalizationError
            When not a single PSF star has both fluxes.
        """
        with self.timer("run"):
            factor = (
                self._measure(catalog, exposure)
                if self.config.do_measure_ap_corr
                else self._present(exposure)
            )
            height, width = exposure.shape
            name = self.config.raw_calibflux_name
            self._fill(catalog, factor)
            return {
                f"{name}_instFlux": factor,
                f"{name}_instFluxErr": ChebyshevField.constant(0.0, width, height),
            }

    def _measure(self, catalog: SourceCatalog, exposure: Exposure) -> Field:
        try:
            return self.measure_ap_corr.run(catalog, exposure)[f"{self.config.raw_calibflux_name}_instFlux"]
        except ApertureCorrectionError as error:
            self.record("fallback", str(error))
            return self._median(catalog, exposure)

    def _median(self, catalog: SourceCatalog, exposure: Exposure) -> Field:
        raw, reference = self.config.raw_calibflux_name, self.config.measure_ap_corr.ref_flux_name
        selected = select_sources(catalog, self.config.fallback_source_selector)
        raw_bad, reference_bad = selected & catalog[f"{raw}_flag"], selected & catalog[f"{reference}_flag"]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = catalog[f"{reference}_instFlux"] / catalog[f"{raw}_instFlux"]
        usable = selected & ~raw_bad & ~reference_bad & np.isfinite(ratio)
        if not usable.any():
            raise NormalizationError(
                stars=int(selected.sum()),
                raw_flagged=int(raw_bad.sum()),
                reference_flagged=int(reference_bad.sum()),
            )
        catalog[f"apcorr_{raw}_used"] = usable
        height, width = exposure.shape
        return ChebyshevField.constant(float(np.median(ratio[usable])), width, height)

    def _present(self, exposure: Exposure) -> Field:
        found = (exposure.aperture_corrections or {}).get(f"{self.config.raw_calibflux_name}_instFlux")
        if found is not None:
            return found
        self.record("identity", "the exposure has no normalisation: 1 is taken")
        height, width = exposure.shape
        return ChebyshevField.constant(1.0, width, height)

    def _fill(self, catalog: SourceCatalog, field: Field) -> None:
        raw, name = self.config.raw_calibflux_name, self.config.normalized_calibflux_name
        factor = field.evaluate(catalog["slot_Centroid_x"], catalog["slot_Centroid_y"])
        catalog[f"{name}_instFlux"] = catalog[f"{raw}_instFlux"] * factor
        catalog[f"{name}_instFluxErr"] = catalog[f"{raw}_instFluxErr"] * factor
        catalog[f"{name}_flag"] = catalog[f"{raw}_flag"] | ~(factor > 0)


def _measured(names: Iterable[str], catalog: SourceCatalog) -> list[str]:
    parts = ("instFlux", "instFluxErr", "flag")
    return sorted(name for name in names if all(f"{name}_{part}" in catalog for part in parts))


def _correction_columns(name: str) -> tuple[Column, ...]:
    return (
        Column(f"{name}_apCorr", "<f8", "", f"aperture correction applied to {name}"),
        Column(f"{name}_apCorrErr", "<f8", "", f"standard error of the aperture correction of {name}"),
        flag(f"{name}_flag_apCorr", f"no usable aperture correction for {name}"),
    )
