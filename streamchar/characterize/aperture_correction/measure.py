"""Measuring the factors that turn fluxes into the calibration flux (reference: aperture-correction.md section 2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting

from streamchar.characterize.aperture_correction.psf_light import light_within
from streamchar.characterize.aperture_correction.ratio_fit import FieldFit, RatioFitConfig, fit_ratio, marked
from streamchar.characterize.base import Task
from streamchar.characterize.catalog import Column, SourceCatalog, flag
from streamchar.characterize.errors import ApertureCorrectionError
from streamchar.characterize.source_selection import SourceSelectorConfig, select_sources
from streamchar.image import Exposure
from streamchar.image.field import Field
from streamchar.robust import median

Array = NDArray[np.float64]
Selected = NDArray[np.bool_]
Corrections = dict[str, Field]

CORRECTED = ("base_GaussianFlux", "base_PsfFlux")
"""Fluxes whose fraction of the total depends on the PSF."""


class MeasureApertureCorrectionsConfig(RatioFitConfig):
    """How corrections are measured."""

    names: tuple[str, ...] = CORRECTED
    """Fluxes to correct; those that were not measured are ignored."""
    ref_flux_name: str = "slot_CalibFlux"
    """Flux that the corrected ones shall equal on stars. The plain aperture has less noise for each star, but takes in
    more of its neighbours."""
    source_selector: SourceSelectorConfig = SourceSelectorConfig()
    """Stars to measure on."""
    allow_failure: tuple[str, ...] = ()
    """Fluxes without which the others are still corrected."""
    psf_flux_name: str | None = "base_PsfFlux"
    """Flux whose correction is the part of the PSF's light inside ``calibration_radius``, and to which the others are
    corrected then: undetected neighbours add to every aperture, but hardly to a model that was fitted without them.
    Absent (the reference): all corrections are measured on stars."""
    calibration_radius: float = Setting(default=12.0, gt=0)
    """Radius in pixels of the aperture that the calibration flux is normalised to."""
    max_disagreement: float = Setting(default=0.02, gt=0)
    """Relative difference from what the stars say beyond which the PSF model is not believed: then they decide."""


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
            target = reference
            names = measured(self.config.names, catalog)
            # Others may refer to the PSF flux.
            for name in sorted(names, key=lambda name: name != self.config.psf_flux_name):
                try:
                    fit = self._fit(name, catalog, usable, exposure.shape, target, corrections)
                except ApertureCorrectionError as error:
                    if name not in self.config.allow_failure:
                        raise
                    self.record("skipped", str(error))
                    continue
                if name == self.config.psf_flux_name:
                    of_model = self._of_model(fit, catalog, exposure)
                    if of_model is not None:
                        fit, target = replace(fit, field=of_model), name
                corrections[f"{name}_instFlux"] = fit.field
                corrections[f"{name}_instFluxErr"] = fit.error
                catalog[f"apcorr_{name}_used"] = fit.used
                self.record(f"{name}_stars", int(fit.used.sum()))
                self.record(f"{name}_order", fit.order)
        return corrections

    def _of_model(self, fit: FieldFit, catalog: SourceCatalog, exposure: Exposure) -> Field | None:
        """Return the correction the PSF model asks for, if it has one that the stars do not contradict."""
        if exposure.psf is None:
            return None
        field = light_within(exposure.psf, self.config.calibration_radius, exposure.shape)
        x, y = catalog["slot_Centroid_x"][fit.used], catalog["slot_Centroid_y"][fit.used]
        difference = float(median(field.evaluate(x, y) / fit.field.evaluate(x, y))) - 1.0
        self.record("model_over_stars", difference)
        return field if abs(difference) <= self.config.max_disagreement else None

    def _fit(
        self,
        name: str,
        catalog: SourceCatalog,
        usable: Selected,
        shape: tuple[int, int],
        target: str,
        corrections: Corrections,
    ) -> FieldFit:
        flux = catalog[f"{name}_instFlux"]
        chosen = usable & ~catalog[f"{name}_flag"] & np.isfinite(flux) & (flux > 0)
        chosen &= ~catalog[f"{target}_flag"] & np.isfinite(catalog[f"{target}_instFlux"])
        x, y = catalog["slot_Centroid_x"][chosen], catalog["slot_Centroid_y"][chosen]
        reference, flux = catalog[f"{target}_instFlux"][chosen], flux[chosen]
        reference_error = catalog[f"{target}_instFluxErr"][chosen]
        if f"{target}_instFlux" in corrections:
            factor = corrections[f"{target}_instFlux"].evaluate(x, y)
            reference, reference_error = reference * factor, reference_error * factor
        ratio = reference / flux
        # Both fluxes share pixels, so that this is an upper bound; the residuals scale it.
        flux_error = catalog[f"{name}_instFluxErr"][chosen]
        variance = (reference_error / flux) ** 2 + (flux_error * ratio / flux) ** 2
        fit = fit_ratio(x, y, ratio, self.config, shape, variance=variance, flux=name)
        return replace(fit, used=marked(np.flatnonzero(chosen)[fit.used], len(catalog)))


def measured(names: Iterable[str], catalog: SourceCatalog) -> list[str]:
    """Return the names of fluxes the catalogue has, sorted."""
    parts = ("instFlux", "instFluxErr", "flag")
    return sorted(name for name in names if all(f"{name}_{part}" in catalog for part in parts))
