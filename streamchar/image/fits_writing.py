"""Exposures into FITS: three planes with named mask bits, bit by bit or smaller with declared loss."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from streamchar.image.coordinates import exact_card, wcs_cards
from streamchar.image.exposure import Exposure
from streamchar.image.gzip_times import clear_times
from streamchar.image.metadata import metadata_hdu

PLANE_PREFIX = "MP_"
"""Header keys of the MASK extension that give each plane's bit number."""

Compression = Literal["none", "gzip", "rice"]
"""``gzip``: tile-compressed without loss (GZIP_2). ``rice``: image and variance are quantised to 1/16 of their noise
with subtractive dithering and Rice-compressed (White & Greenfield 1999; Pence, Seaman & White 2009), the mask stays
exact."""

_QUANTUM = 16.0
_DITHER_SEED = 1


def write_exposure(
    path: str | Path,
    exposure: Exposure,
    *,
    extensions: Iterable[Any] = (),
    checksum: bool = False,
    compression: Compression = "none",
) -> Path:
    """Write the three planes, their meaning and the header so that reading gives them back bit by bit.

    The file appears whole or not at all: it is written under a temporary name in the same directory, flushed to disk
    and renamed.

    Parameters
    ----------
    path
        Where to; an existing file is replaced.
    exposure
        What to write; the PSF and the aperture corrections are products of their own and not written here.
    extensions
        Further astropy HDUs to append.
    checksum
        Write the FITS checksum keys.
    compression
        How the planes are compressed; ``rice`` changes image and variance.

    Returns
    -------
    Path
        ``path``.
    """
    return write_hdus(path, [*exposure_hdus(exposure, compression), *extensions], checksum=checksum)


def exposure_hdus(exposure: Exposure, compression: Compression = "none") -> list[Any]:
    """Return planes, mask meaning, coordinates, identity and metadata as astropy HDUs."""
    from astropy.io import fits

    image_header = fits.Header({"BUNIT": exposure.observation.unit})
    if exposure.wcs is not None:
        image_header.extend(wcs_cards(exposure.wcs))
    mask_header = fits.Header()
    for name, bit in exposure.planes.items():
        key = PLANE_PREFIX + name
        mask_header[key if len(key) <= 8 else f"HIERARCH {key}"] = bit
    hdus = [
        fits.PrimaryHDU(header=_primary_header(exposure)),
        _plane_hdu(exposure.image, image_header, "IMAGE", compression),
        _plane_hdu(exposure.mask, mask_header, "MASK", "none" if compression == "none" else "gzip"),
        _plane_hdu(exposure.variance, fits.Header(), "VARIANCE", compression),
    ]
    return [*hdus, metadata_hdu(exposure.metadata)] if exposure.metadata else hdus


def _plane_hdu(plane: Any, header: Any, name: str, compression: Compression) -> Any:
    from astropy.io import fits

    if compression == "none":
        return fits.ImageHDU(plane, header=header, name=name)
    if compression == "gzip":
        # A level of 0 means no quantisation: floats keep every bit.
        return fits.CompImageHDU(plane, header, name, compression_type="GZIP_2", quantize_level=0.0)
    return fits.CompImageHDU(
        plane,
        header,
        name,
        compression_type="RICE_1",
        quantize_level=_QUANTUM,
        quantize_method=2,
        dither_seed=_DITHER_SEED,
    )


def write_hdus(path: str | Path, hdus: Sequence[Any], *, checksum: bool = False) -> Path:
    """Write astropy HDUs to a file that appears whole or not at all."""
    from astropy.io import fits

    target = Path(path)
    with replacing(target) as temporary:
        fits.HDUList(list(hdus)).writeto(temporary, overwrite=True, checksum=checksum)
        if not checksum and any(isinstance(hdu, fits.CompImageHDU) for hdu in hdus):
            clear_times(temporary)
    return target


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that becomes it, flushed to disk, when the block succeeds."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _primary_header(exposure: Exposure) -> Any:
    from astropy.io import fits

    identity, observation = exposure.identity, exposure.observation
    header = fits.Header()
    header["INSTRUME"] = (identity.instrument, "camera")
    header["EXPID"] = (identity.exposure, "exposure number")
    header["DETECTOR"] = (identity.detector, "detector number")
    header["BAND"] = (identity.band, "filter band")
    for key, value, comment in (
        ("EXPTIME", observation.exposure_time, "exposure time (s)"),
        ("MJD-AVG", observation.mid_time, "middle of the exposure (MJD)"),
        ("GAIN", observation.gain, "electrons per image unit"),
        ("RDNOISE", observation.read_noise, "read noise (electrons)"),
        ("SATURATE", observation.saturation, "saturation level (image unit)"),
        ("MAGZERO", observation.zero_point, "magnitude of one image unit"),
        ("OBSGEO-B", observation.latitude, "latitude of the telescope (deg)"),
        ("OBSGEO-L", observation.longitude, "longitude of the telescope, east (deg)"),
        ("OBSGEO-H", observation.elevation, "elevation of the telescope (m)"),
    ):
        if value is not None:
            header.append(exact_card(key, float(value), comment))
    return header
