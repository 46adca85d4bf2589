"""Which stars a pixel-basis PSF is fitted to, and their stamps."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM
from streamchar.characterize.psf.informative import most_informative
from streamchar.characterize.psf.samples import Samples, cut_samples
from streamchar.image import Exposure
from streamchar.robust import median

Array = NDArray[np.float64]


def usable_samples(
    exposure: Exposure, catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig
) -> Samples:
    """Cut the stamps of the stars that can be used."""
    if config.reject_flagged_centroids and "slot_Centroid_flag" in catalog:
        index = index[~catalog["slot_Centroid_flag"][index]]
    flux = catalog[config.photometric_flux_field][index].astype(np.float64)
    return cut_samples(
        exposure,
        catalog,
        index,
        size=_stamp_size(catalog, index, config),
        flux=flux,
        bad_planes=config.bad_mask_planes,
    )


def informative_stars(
    catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig
) -> NDArray[np.int64]:
    """Rows of the stars that together tell nearly all about the PSF (``information``, ``max_stars``)."""
    flux, error = (catalog[config.photometric_flux_field + suffix][index] for suffix in ("", "Err"))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.asarray(flux / error, np.float64)
    x, y = catalog["slot_Centroid_x"][index], catalog["slot_Centroid_y"][index]
    return index[most_informative(x, y, ratio, fraction=config.information, most=config.max_stars)]


def sigmas(catalog: SourceCatalog, index: NDArray[np.int64]) -> Array:
    """Gaussian widths of the stars in pixels, those that are not finite left out."""
    with np.errstate(invalid="ignore"):
        sigma = np.sqrt(0.5 * (catalog["slot_Shape_xx"][index] + catalog["slot_Shape_yy"][index]))
    return np.asarray(sigma[np.isfinite(sigma)], np.float64)


def _stamp_size(catalog: SourceCatalog, index: NDArray[np.int64], config: PixelBasisConfig) -> int:
    sigma = sigmas(catalog, index)
    if not len(sigma):
        return config.stamp_size
    wanted = 2 * math.ceil(0.5 * config.stamp_fwhm * SIGMA_TO_FWHM * float(median(sigma))) + 1
    return max(config.stamp_size, min(wanted, config.max_stamp_size - 1 + config.max_stamp_size % 2))
