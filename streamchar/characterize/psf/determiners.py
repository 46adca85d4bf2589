"""The registry of PSF determiners, and the ladder below them when stars are too few."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.psf.analytic import fit_moffat
from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.fit import fit_pixel_basis
from streamchar.characterize.psf.forward.stars import usable_samples
from streamchar.characterize.psf.pca import PcaConfig, fit_pca
from streamchar.characterize.psf.piff_fit import PiffConfig, fit_piff
from streamchar.characterize.psf.psfex import PsfexConfig, fit_psfex
from streamchar.characterize.psf.result import PsfFit
from streamchar.configuration import Configuration
from streamchar.image import Exposure


class PsfDeterminerConfig(Configuration):
    """Which determiner is used, and the settings of each."""

    name: Literal["pixel_basis", "psfex", "pca", "piff"] = "pixel_basis"
    """Determiner: a super-sampled model fitted to the stars' own pixels, the reference's to interpolated stars, principal
    components of star images, or the package Piff."""
    pixel_basis: PixelBasisConfig = PixelBasisConfig()
    """Settings of the fit to the stars' own pixels."""
    psfex: PsfexConfig = PsfexConfig()
    """Settings of the fit to interpolated stars."""
    pca: PcaConfig = PcaConfig()
    """Settings of the principal components."""
    piff: PiffConfig = PiffConfig()
    """Settings of Piff."""


Determiner = Callable[[Exposure, SourceCatalog, NDArray[np.int64], PsfDeterminerConfig], PsfFit]

DETERMINERS: Mapping[str, Determiner] = MappingProxyType(
    {
        "pixel_basis": lambda exposure, catalog, index, config: fit_pixel_basis(
            exposure, catalog, index, config.pixel_basis
        ),
        "psfex": lambda exposure, catalog, index, config: fit_psfex(exposure, catalog, index, config.psfex),
        "piff": lambda exposure, catalog, index, config: fit_piff(exposure, catalog, index, config.piff),
        "pca": lambda exposure, catalog, index, config: fit_pca(exposure, catalog, index, config.pca),
    }
)
"""Determiner function by name."""


def determine_psf(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PsfDeterminerConfig
) -> PsfFit:
    """Run the configured determiner on the stars in rows ``index`` of the catalogue.

    Raises
    ------
    TooFewPsfStarsError
        Too few usable stars.
    """
    return DETERMINERS[config.name](exposure, catalog, index, config)


def analytic_psf(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PsfDeterminerConfig
) -> PsfFit | None:
    """Fit one elliptical Moffat profile to the stars; ``None`` without usable stars or when that fails."""
    samples = usable_samples(exposure, catalog, index, config.pixel_basis)
    if len(samples) == 0:
        return None
    with np.errstate(invalid="ignore"):
        trace = (catalog["slot_Shape_xx"] + catalog["slot_Shape_yy"])[samples.index]
    trace = trace[np.isfinite(trace) & (trace > 0)]
    psf = fit_moffat(samples, float(np.sqrt(0.5 * np.median(trace))) if len(trace) else 1.5)
    if psf is None:
        return None
    unknown = np.full(len(samples), np.nan)
    return PsfFit(psf, np.sort(samples.index), unknown, 0, ("psf_analytic",))
