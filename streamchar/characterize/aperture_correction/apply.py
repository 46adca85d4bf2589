"""Applying aperture corrections to fluxes and their errors (reference: aperture-correction.md section 3)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field as Setting

from streamchar.characterize.aperture_correction.measure import CORRECTED, measured
from streamchar.characterize.base import Task
from streamchar.characterize.catalog import Column, SourceCatalog, flag
from streamchar.configuration import Configuration
from streamchar.image.field import Field


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
            for name in measured(self._names(), catalog):
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


def _correction_columns(name: str) -> tuple[Column, ...]:
    return (
        Column(f"{name}_apCorr", "<f8", "", f"aperture correction applied to {name}"),
        Column(f"{name}_apCorrErr", "<f8", "", f"standard error of the aperture correction of {name}"),
        flag(f"{name}_flag_apCorr", f"no usable aperture correction for {name}"),
    )
