"""Normalising the calibration flux to the plain aperture (reference: aperture-correction.md section 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field as Setting

from streamchar.characterize.aperture_correction.measure import (
    Corrections,
    MeasureApertureCorrections,
    MeasureApertureCorrectionsConfig,
)
from streamchar.characterize.aperture_correction.ratio_fit import FieldFitConfig
from streamchar.characterize.base import Task
from streamchar.characterize.catalog import Column, SourceCatalog, flag
from streamchar.characterize.chebyshev import ChebyshevField
from streamchar.characterize.errors import ApertureCorrectionError, NormalizationError
from streamchar.characterize.source_selection import (
    CalibrationSignalToNoise,
    SourceSelectorConfig,
    select_sources,
)
from streamchar.configuration import Configuration
from streamchar.image import Exposure
from streamchar.image.field import Field
from streamchar.robust import median


class _RawSignalToNoise(CalibrationSignalToNoise):
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
    psf_flux_name: str | None = None
    """The PSF says nothing of the annulus, which lies beyond its image."""


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
        return ChebyshevField.constant(float(median(ratio[usable])), width, height)

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
