"""Columns computed from other columns: extendedness and footprint area (reference: measurement.md sections 11 and 12)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.characterize.base import Task
from streamchar.characterize.catalog import Column, SourceCatalog, flag
from streamchar.characterize.measurement.broadening import BROADENING
from streamchar.configuration import Configuration

EXTENDEDNESS = "base_ClassificationExtendedness"
SIZE_EXTENDEDNESS = "base_ClassificationSizeExtendedness"
FOOTPRINT_AREA = "base_FootprintArea"

Calculation = Literal[
    "base_ClassificationExtendedness", "base_ClassificationSizeExtendedness", "base_FootprintArea"
]


class ExtendednessConfig(Configuration):
    """When a source counts as extended: flux_ratio times its model flux is not below its PSF flux, and it is broad."""

    flux_ratio: float = Field(default=0.92, gt=0)
    """Factor of the model flux. The reference's 0.95 loses faint and slightly blended stars (1 to 3 % of all); galaxies
    above a signal-to-noise ratio of 50 have factors below 0.91 but for 3 in 1000."""
    model_err_factor: float = 0.0
    """Times the model flux's error is added to the model flux."""
    psf_err_factor: float = 0.0
    """Times the PSF flux's error is added to the PSF flux."""
    min_broadening: float | None = 0.06
    """Sources with a smaller ext_pointSource_Broadening are stars, whatever their fluxes and flags; absent, or for sources
    that have none, the fluxes decide. 0.06, three standard errors of a star at a signal-to-noise ratio of 50, leaves galaxies
    that are wider than the PSF by 7 % or more."""


class CatalogCalculationConfig(Configuration):
    """Which columns are computed."""

    names: tuple[Calculation, ...] = ("base_ClassificationExtendedness", "base_FootprintArea")
    """Calculations to do."""
    extendedness: ExtendednessConfig = ExtendednessConfig()
    """Settings of base_ClassificationExtendedness."""


class CatalogCalculation(Task[CatalogCalculationConfig]):
    """Fill columns that need no pixels, after the fluxes have been corrected."""

    config_class = CatalogCalculationConfig
    default_name = "catalog_calculation"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the calculations, in the reference's order."""
        known = {
            EXTENDEDNESS: (
                Column(f"{EXTENDEDNESS}_value", "<f8", "", "0 for a point source, 1 for an extended one"),
                flag(f"{EXTENDEDNESS}_flag", "not classified"),
            ),
            SIZE_EXTENDEDNESS: (
                Column(
                    f"{SIZE_EXTENDEDNESS}_value",
                    "<f8",
                    "",
                    "0 for the size of the PSF, towards 1 for other sizes",
                ),
                flag(f"{SIZE_EXTENDEDNESS}_flag", "not classified by size"),
            ),
            FOOTPRINT_AREA: (Column(f"{FOOTPRINT_AREA}_value", "<i4", "pixel", "pixels of the footprint"),),
        }
        return tuple(
            column for name, columns in known.items() if name in self.config.names for column in columns
        )

    def run(self, catalog: SourceCatalog) -> None:
        """Fill the columns; the slots ModelFlux, PsfFlux, Shape and PsfShape must be there for what needs them."""
        with self.timer("run"):
            if EXTENDEDNESS in self.config.names:
                self._extendedness(catalog)
            if SIZE_EXTENDEDNESS in self.config.names:
                self._size_extendedness(catalog)
            if FOOTPRINT_AREA in self.config.names and catalog.footprints is not None:
                catalog[f"{FOOTPRINT_AREA}_value"] = catalog.footprints.area

    def _extendedness(self, catalog: SourceCatalog) -> None:
        config = self.config.extendedness
        model = config.flux_ratio * catalog["slot_ModelFlux_instFlux"]
        point = catalog["slot_PsfFlux_instFlux"]
        if config.model_err_factor:
            model = model + config.model_err_factor * catalog["slot_ModelFlux_instFluxErr"]
        if config.psf_err_factor:
            point = point + config.psf_err_factor * catalog["slot_PsfFlux_instFluxErr"]
        unusable = (
            np.isnan(model) | np.isnan(point) | catalog["slot_ModelFlux_flag"] | catalog["slot_PsfFlux_flag"]
        )
        narrow = self._is_narrow(catalog)
        unusable &= ~narrow
        is_point = narrow | (model < point)
        catalog[f"{EXTENDEDNESS}_value"] = np.where(unusable, np.nan, np.where(is_point, 0.0, 1.0))
        catalog[f"{EXTENDEDNESS}_flag"] |= unusable

    def _is_narrow(self, catalog: SourceCatalog) -> NDArray[np.bool_]:
        limit, name = self.config.extendedness.min_broadening, f"{BROADENING}_value"
        if limit is None or name not in catalog:
            return np.zeros(len(catalog), np.bool_)
        return np.asarray(catalog[name] < limit, np.bool_)

    def _size_extendedness(self, catalog: SourceCatalog) -> None:
        size = catalog["slot_Shape_xx"] + catalog["slot_Shape_yy"]
        psf_size = catalog["slot_PsfShape_xx"] + catalog["slot_PsfShape_yy"]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = 1.0 - np.exp(-0.5 * (size - psf_size) ** 2 / psf_size)
        unusable = catalog["slot_Shape_flag"] | ~np.isfinite(value)
        catalog[f"{SIZE_EXTENDEDNESS}_value"] = np.where(unusable, np.nan, value)
        catalog[f"{SIZE_EXTENDEDNESS}_flag"] |= unusable
