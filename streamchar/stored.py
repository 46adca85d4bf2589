"""A characterized exposure in one FITS file: planes, PSF, aperture corrections and background, all coming back bit by bit.

Extensions: ``IMAGE``, ``MASK``, ``VARIANCE`` and ``METADATA`` as in :mod:`streamchar.image.fits_writing`, then ``PSF``,
``APCORR`` (one for each flux column) and ``BACKGROUND`` (one for each model that was subtracted). Each of these is a
binary table of one row with the arrays and numbers of the model. Nothing in the file depends on when it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamchar.characterize import CharacterizationResult
from streamchar.characterize.aperture_correction import BoundedField, StandardError
from streamchar.characterize.background import BackgroundList, BackgroundModel
from streamchar.characterize.chebyshev import ChebyshevField
from streamchar.characterize.psf.io import from_arrays, to_arrays
from streamchar.frozen import frozen
from streamchar.image import Exposure
from streamchar.image.access import Access, local_file
from streamchar.image.assembly import Wanted, assemble
from streamchar.image.claims import FileLimits
from streamchar.image.errors import InvalidExposureError
from streamchar.image.field import Field
from streamchar.image.fits_writing import Compression, exposure_hdus, write_hdus
from streamchar.image.opening import opened, reading
from streamchar.image.profiles import load_profiles

if TYPE_CHECKING:
    from astropy.io.fits import HDUList

PSF = "PSF"
CORRECTION = "APCORR"
BACKGROUND = "BACKGROUND"

_LAYOUT = "streamchar"


@frozen
class StoredExposure:
    """What a stored file holds.

    Attributes
    ----------
    exposure
        Background subtracted, with mask, PSF and aperture corrections.
    background
        The models that were subtracted, in order.
    """

    exposure: Exposure
    background: BackgroundList


def write_stored(
    path: str | Path, result: CharacterizationResult, *, compression: Compression = "none"
) -> Path:
    """Write a characterized exposure; the file appears whole or not at all.

    The same result gives the same bytes.

    Parameters
    ----------
    path
        Where to; an existing file is replaced.
    result
        What to write; what it did not get to is left out.
    compression
        Of the planes: ``none``, ``gzip`` without loss, or ``rice``, which quantises image and variance.
    """
    exposure = result.exposure
    hdus = exposure_hdus(exposure, compression)
    if exposure.psf is not None:
        hdus.append(_record_hdu(PSF, 1, to_arrays(exposure.psf)))
    for number, (name, field) in enumerate(sorted((exposure.aperture_corrections or {}).items()), start=1):
        hdus.append(_record_hdu(CORRECTION, number, {"name": name, **_describe_field(field)}))
    for number, model in enumerate(result.background, start=1):
        hdus.append(_record_hdu(BACKGROUND, number, model.to_arrays()))
    return write_hdus(path, hdus)


def read_stored(
    source: str | Path, *, access: Access | None = None, limits: FileLimits | None = None
) -> StoredExposure:
    """Read a file of :func:`write_stored`.

    Parameters
    ----------
    source
        Path or address.
    access
        Which addresses may be read; any when omitted.
    limits
        How much the file may claim.

    Raises
    ------
    StreamcharError
        The file cannot be read, or is another one.
    """
    uri = str(source)
    with (
        local_file(uri, access or Access()) as file,
        opened(file.path, limits or FileLimits(), uri) as hdus,
        reading(uri),
    ):
        exposure = assemble({"image": hdus}, {"image": uri}, load_profiles().named(_LAYOUT), Wanted())
        described = {name: _records(hdus, name) for name in (PSF, CORRECTION, BACKGROUND)}
    try:
        for record in described[PSF]:
            exposure.psf = from_arrays(record)
        exposure.aperture_corrections = {
            str(record["name"]): _field(record) for record in described[CORRECTION]
        } or None
        background = BackgroundList(
            BackgroundModel.from_arrays({"coefficients": np.zeros((0, 0)), **record})
            for record in described[BACKGROUND]
        )
    except (KeyError, ValueError, TypeError) as error:
        detail = f"is no stored exposure: {type(error).__name__}: {error}"
        raise InvalidExposureError(path=uri, detail=detail) from error
    return StoredExposure(exposure, background)


def _describe_field(field: Field) -> dict[str, Any]:
    if isinstance(field, StandardError):
        size = {"order": field.order, "width": field.width, "height": field.height}
        return {"covariance": field.covariance, **size}
    bounds = {}
    if isinstance(field, BoundedField):
        bounds = {"x_range": np.array(field.x_range), "y_range": np.array(field.y_range)}
        field = field.field
    if not isinstance(field, ChebyshevField):
        raise TypeError(f"no description of a {type(field).__name__}")
    return {"coefficients": field.coefficients, "width": field.width, "height": field.height, **bounds}


def _field(record: Mapping[str, Any]) -> Field:
    if "covariance" in record:
        covariance = np.atleast_2d(np.asarray(record["covariance"], np.float64))
        return StandardError(covariance, *(int(record[name]) for name in ("order", "width", "height")))
    coefficients = np.atleast_2d(np.asarray(record["coefficients"], np.float64))
    field = ChebyshevField(coefficients, int(record["width"]), int(record["height"]))
    if "x_range" not in record:
        return field
    (x0, x1), (y0, y1) = record["x_range"].tolist(), record["y_range"].tolist()
    return BoundedField(field, (x0, x1), (y0, y1))


def _record_hdu(name: str, version: int, values: Mapping[str, Any]) -> Any:
    """Return a table of one row; empty arrays are left out."""
    from astropy.io import fits

    columns = []
    for key, value in values.items():
        if isinstance(value, str):
            columns.append(fits.Column(key, f"{len(value)}A", array=[value]))
        elif isinstance(value, bool):
            columns.append(fits.Column(key, "L", array=[value]))
        elif isinstance(value, int):
            columns.append(fits.Column(key, "K", array=[value]))
        else:
            array = np.asarray(value)
            letter = "E" if array.dtype == np.float32 else "D"
            dimensions = f"({','.join(map(str, reversed(array.shape)))})" if array.ndim > 1 else None
            if array.size:
                columns.append(
                    fits.Column(key, f"{array.size}{letter}", dim=dimensions, array=array[np.newaxis])
                )
    return fits.BinTableHDU.from_columns(columns, name=name, ver=version)


def _records(file: HDUList, name: str) -> list[dict[str, Any]]:
    return [
        {column: _plain(hdu.data[column][0]) for column in hdu.columns.names}
        for hdu in file
        if hdu.name == name and hasattr(hdu, "columns")
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value, value.dtype.newbyteorder("="))
    return value.item() if isinstance(value, np.generic) else value
