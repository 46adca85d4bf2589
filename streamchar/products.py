"""Products of a characterization as files: catalogue, background models, PSF, summary, and the exposure itself."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from streamchar.characterize import CharacterizationResult
from streamchar.characterize.background import BackgroundList
from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.psf.io import write_psfex
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.image.fits import replacing, write_exposure, write_hdus

_FITS_FORMATS = {"<i8": "K", "<i4": "J", "<f8": "D", "<f4": "E", "?": "L"}


def write_products(
    result: CharacterizationResult, directory: Path, stem: str, *, exposure: bool = False
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

    Returns
    -------
    dict
        Paths by product: ``catalog``, ``background``, ``psf``, ``summary``, ``exposure``.
    """
    paths: dict[str, Path] = {}
    if result.catalog is not None:
        paths["catalog"] = write_hdus(directory / f"{stem}.catalog.fits", catalog_hdus(result.catalog))
    if len(result.background):
        paths["background"] = write_hdus(
            directory / f"{stem}.background.fits", background_hdus(result.background)
        )
    if isinstance(result.exposure.psf, PixelBasisPsf):
        paths["psf"] = directory / f"{stem}.psf.fits"
        with replacing(paths["psf"]) as temporary:
            write_psfex(temporary, result.exposure.psf)
    if exposure:
        paths["exposure"] = write_exposure(directory / f"{stem}.exposure.fits", result.exposure)
    paths["summary"] = directory / f"{stem}.summary.json"
    with replacing(paths["summary"]) as temporary:
        temporary.write_text(json.dumps(summary_record(result), indent=2, allow_nan=False) + "\n")
    return paths


def catalog_hdus(catalog: SourceCatalog) -> list[Any]:
    """Return the catalogue as a FITS binary table, column meanings in ``TCOMMn``, aliases in ``ALIASn``."""
    from astropy.io import fits

    columns = [
        fits.Column(
            column.name, _FITS_FORMATS[column.dtype], unit=column.unit or None, array=catalog[column.name]
        )
        for column in catalog.schema
    ]
    table = fits.BinTableHDU.from_columns(columns, name="SOURCES")
    for number, column in enumerate(catalog.schema, start=1):
        table.header[f"TCOMM{number}"] = column.doc
    for number, (alias, target) in enumerate(sorted(catalog.schema.aliases.items()), start=1):
        table.header[f"ALIAS{number}"] = f"{alias}={target}"
    return [fits.PrimaryHDU(), table]


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
