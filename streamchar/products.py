"""Products of a characterization as files: catalogue, background models, PSF, regions, summary, and the exposure itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from streamchar.characterize import CharacterizationResult
from streamchar.characterize.background import BackgroundList
from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.psf.io import write_psfex
from streamchar.characterize.psf.measure import PsfMeasurement
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.image import Psf
from streamchar.image.fits import replacing, write_exposure, write_hdus
from streamchar.regions import write_regions
from streamchar.tables import DescribedTable, FileFormat

SUFFIXES: Mapping[FileFormat, str] = {
    "fits": ".fits",
    "parquet": ".parquet",
    "ecsv": ".ecsv",
    "votable": ".vot",
}
"""How the name of a file of each kind ends."""


def write_products(
    result: CharacterizationResult,
    directory: Path,
    stem: str,
    *,
    exposure: bool = False,
    table_format: FileFormat = "fits",
    regions: bool = False,
) -> dict[str, Path]:
    """Write what the characterization made; each file appears whole or not at all.

    Parameters
    ----------
    result
        Also of a failed run: what it did not get to is left out.
    directory
        Existing directory.
    stem
        First part of the file names.
    exposure
        Also write the characterized exposure (three planes).
    table_format
        Kind of file of the catalogue.
    regions
        Also write sources, PSF stars and cosmic rays as DS9 regions.

    Returns
    -------
    dict
        Paths by product: ``catalog``, ``background``, ``psf``, ``summary``, ``regions``, ``exposure``.

    Raises
    ------
    MissingPackageError
        Parquet without pyarrow.
    """
    paths: dict[str, Path] = {}
    if result.catalog is not None:
        path = directory / f"{stem}.catalog{SUFFIXES[table_format]}"
        paths["catalog"] = catalog_table(result.catalog).write(path, table_format)
    if len(result.background):
        paths["background"] = write_hdus(
            directory / f"{stem}.background.fits", background_hdus(result.background)
        )
    if result.exposure.psf is not None:
        paths["psf"] = write_psf(directory / f"{stem}.psf.fits", result.exposure.psf, result.psf_measurement)
    if regions:
        paths["regions"] = write_regions(directory / f"{stem}.reg", result)
    if exposure:
        paths["exposure"] = write_exposure(directory / f"{stem}.exposure.fits", result.exposure)
    paths["summary"] = directory / f"{stem}.summary.json"
    with replacing(paths["summary"]) as temporary:
        temporary.write_text(json.dumps(summary_record(result), indent=2, allow_nan=False) + "\n")
    return paths


def catalog_table(catalog: SourceCatalog) -> DescribedTable:
    """Return the catalogue with its units, meanings and aliases; the columns are not copied."""
    schema = catalog.schema
    return DescribedTable(schema.columns, catalog.columns, dict(catalog.metadata), schema.aliases)


def background_hdus(background: BackgroundList) -> list[Any]:
    """Return every model subtracted, binned values and errors, with the styles needed to evaluate it again."""
    from astropy.io import fits

    hdus: list[Any] = [fits.PrimaryHDU()]
    for number, model in enumerate(background.models, start=1):
        for name, value in model.to_arrays().items():
            if isinstance(value, np.ndarray):
                if value.size:
                    hdus.append(fits.ImageHDU(value, name=name.upper(), ver=number))
            else:
                hdus[-1].header[f"HIERARCH {name.upper()}" if len(name) > 8 else name.upper()] = value
    return hdus


def write_psf(path: Path, psf: Psf, measurement: PsfMeasurement | None = None) -> Path:
    """Write a PSF; the file appears whole or not at all.

    Parameters
    ----------
    path
        In an existing directory; an existing file is replaced.
    psf
        A model that is no pixel basis (a Gaussian, a Moffat profile) is written as its image at its average position,
        in pixels of the exposure: constant, and between pixels only as good as that sampling.
    measurement
        For the number of stars and the chi-square in the header.
    """
    stars, chi2 = 0, 0.0
    if measurement is not None:
        stars, chi2 = measurement.used, measurement.chi2 if np.isfinite(measurement.chi2) else 0.0
    with replacing(path) as temporary:
        write_psfex(temporary, as_pixel_basis(psf), stars=stars, chi2=chi2)
    return path


def as_pixel_basis(psf: Psf) -> PixelBasisPsf:
    """Return a PSF as a pixel basis: itself, or its constant image at its average position."""
    if isinstance(psf, PixelBasisPsf):
        return psf
    image = psf.kernel_images(*psf.average_position)
    spatial = SpatialBasis.monomials(PositionPolynomial(0))
    return PixelBasisPsf(np.ascontiguousarray(image), spatial, 1.0, psf.size[1], psf.average_position)


def summary_record(result: CharacterizationResult) -> dict[str, Any]:
    """Return everything small about a result as plain JSON values; NaN becomes null."""
    identity, observation = result.exposure.identity, result.exposure.observation
    record = {
        "identity": asdict(identity),
        "observation": asdict(observation),
        "source": result.exposure.source,
        "outcome": result.outcome,
        "reasons": [asdict(reason) for reason in result.reasons],
        "error": None
        if result.error is None
        else {"code": result.error.code, "detail": str(result.error), "values": result.error.values},
        "summary": asdict(result.summary),
        "units": type(result.summary).units(),
        "timings": [asdict(timing) for timing in result.timings],
        "metadata": result.metadata,
    }
    return {name: _plain(value) for name, value in record.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
