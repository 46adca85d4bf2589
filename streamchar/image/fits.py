"""Exposures in FITS files: three planes with named mask bits, or one plain image with gain and read noise."""

from __future__ import annotations

import gzip
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamchar.configuration import Configuration
from streamchar.image.errors import (
    ExposureTooLargeError,
    InvalidExposureError,
    UnreadableExposureError,
)
from streamchar.image.exposure import Exposure, Identity, Observation
from streamchar.image.mask import MaskPlanes

if TYPE_CHECKING:
    from astropy.io.fits import HDUList, Header
    from astropy.wcs import WCS

PLANE_PREFIX = "MP_"
"""Header keys of the MASK extension that give each plane's bit number."""

_KEYS = {
    "instrument": ("INSTRUME",),
    "exposure": ("EXPID", "VISIT", "EXPNUM"),
    "detector": ("DETECTOR", "CCDNUM", "CHIPID"),
    "band": ("BAND", "FILTER"),
    "exposure_time": ("EXPTIME", "EXPOSURE"),
    "mid_time": ("MJD-AVG", "MJD-MID"),
    "start_time": ("MJD-OBS", "MJD-BEG"),
    "gain": ("GAIN", "EGAIN"),
    "read_noise": ("RDNOISE", "READNOIS", "ENOISE"),
    "saturation": ("SATURATE", "SATLEVEL"),
    "unit": ("BUNIT",),
}
"""Header keys by meaning, the first present wins."""


class ReadOptions(Configuration):
    """What may be read, and what the header leaves out."""

    max_pixels: int = Field(default=20_000 * 20_000, gt=0)
    """Largest image accepted, in pixels."""
    max_hdus: int = Field(default=256, gt=0)
    """Most extensions accepted in one file."""
    gain: float | None = Field(default=None, gt=0)
    """Electrons per image unit; overrides the header."""
    read_noise: float | None = Field(default=None, ge=0)
    """Electrons; overrides the header."""


def read_exposure(path: str | Path, options: ReadOptions | None = None) -> Exposure:
    """Read an exposure from FITS.

    Two layouts are understood. Extensions ``IMAGE``, ``MASK`` and ``VARIANCE``, the mask's planes named by its
    ``MP_<plane>`` keys; or any file whose first two-dimensional image is the exposure, with gain and read noise in the
    header (or in ``options``): its variance is made from photon and read noise, its mask is empty.

    Parameters
    ----------
    path
        FITS file, also ``.gz`` or tile-compressed.
    options
        Limits, and values for keys the header lacks.

    Returns
    -------
    Exposure
        float32, int32 and float32 planes in native byte order; not yet checked (:meth:`Exposure.check`).

    Raises
    ------
    UnreadableExposureError
        When the file is missing, truncated or not FITS.
    InvalidExposureError
        When it holds no image, planes that do not fit together, or no gain where one is needed.
    ExposureTooLargeError
        When it claims more than the limits allow.
    """
    options = options or ReadOptions()
    with _opened(Path(path)) as hdus:
        _check_limits(str(path), hdus, options)
        try:
            return _assemble(str(path), hdus, options)
        except (OSError, TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise UnreadableExposureError(
                path=str(path), detail=f"is damaged: {_first_line(error)}"
            ) from error


@contextmanager
def _opened(path: Path) -> Iterator[HDUList]:
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyError

    if not path.is_file():
        detail = "is a directory" if path.is_dir() else "no such file"
        raise UnreadableExposureError(path=str(path), detail=detail)
    with _stream(path) as stream, warnings.catch_warnings():
        # A truncated file only draws a warning from astropy; here it is an error.
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*truncated.*")
        try:
            hdus = fits.open(stream, mode="readonly", memmap=False, lazy_load_hdus=False)
        except (
            OSError,
            VerifyError,
            Warning,
            TypeError,
            ValueError,
            KeyError,
            IndexError,
            EOFError,
        ) as error:
            truncated = isinstance(error, EOFError) or "truncated" in str(error)
            reason = "is truncated" if truncated else "is not a FITS file"
            raise UnreadableExposureError(path=str(path), detail=reason) from error
        with hdus:
            yield hdus


@contextmanager
def _stream(path: Path) -> Iterator[BinaryIO]:
    # Opened here and not by astropy, which leaves files open when it fails.
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=file) as plain:
                yield cast(BinaryIO, plain)
        else:
            yield file


def _check_limits(path: str, hdus: HDUList, options: ReadOptions) -> None:
    if len(hdus) > options.max_hdus:
        raise ExposureTooLargeError(
            path=path,
            quantity="the number of extensions",
            value=len(hdus),
            limit=options.max_hdus,
            setting="max_hdus",
        )
    for hdu in hdus:
        if not hdu.is_image:
            continue
        pixels = int(np.prod([float(length) for length in hdu.shape])) if hdu.shape else 0
        if pixels > options.max_pixels:
            raise ExposureTooLargeError(
                path=path,
                quantity="the number of pixels",
                value=pixels,
                limit=options.max_pixels,
                setting="max_pixels",
            )


def _assemble(path: str, hdus: HDUList, options: ReadOptions) -> Exposure:
    by_name = {hdu.name: hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2}
    if {"IMAGE", "MASK", "VARIANCE"} <= by_name.keys():
        image_hdu = by_name["IMAGE"]
    else:
        image_hdu = next((hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2), None)
    if image_hdu is None:
        raise InvalidExposureError(path=path, detail="holds no two-dimensional image")
    header = hdus[0].header.copy()
    if image_hdu is not hdus[0]:
        header.update(image_hdu.header)
    image = _native(image_hdu.data, np.float32)
    observation = _observation(header, options)
    identity, wcs = _identity(header, path), _wcs(header)
    if image_hdu is by_name.get("IMAGE"):
        mask_hdu, variance_hdu = by_name["MASK"], by_name["VARIANCE"]
        return Exposure(
            image,
            _native(mask_hdu.data, np.int32),
            _native(variance_hdu.data, np.float32),
            planes=_planes(mask_hdu.header),
            wcs=wcs,
            identity=identity,
            observation=observation,
            source=path,
        )
    for name, value in (("gain", observation.gain), ("read noise", observation.read_noise)):
        if value is None:
            keys = _KEYS[name.replace(" ", "_")]
            raise InvalidExposureError(
                path=path,
                detail=f"a plain image needs its {name}: header key {keys[0]} is missing (or say --{keys[0].lower()})",
            )
    assert observation.gain is not None
    assert observation.read_noise is not None
    return Exposure.from_image(
        image,
        gain=observation.gain,
        read_noise=observation.read_noise,
        wcs=wcs,
        identity=identity,
        observation=observation,
        source=path,
    )


def _native(data: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(data, dtype=dtype)


def _planes(header: Header) -> MaskPlanes:
    bits = {key[len(PLANE_PREFIX) :]: int(header[key]) for key in header if key.startswith(PLANE_PREFIX)}
    return MaskPlanes(bits).including(*MaskPlanes()) if bits else MaskPlanes()


def _first(header: Header, name: str) -> Any:
    return next((header[key] for key in _KEYS[name] if header.get(key) not in (None, "")), None)


def _number(header: Header, name: str, *, minimum: float | None = None) -> float | None:
    value = _first(header, name)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    usable = np.isfinite(number) and (minimum is None or number >= minimum)
    return number if usable else None


def _observation(header: Header, options: ReadOptions) -> Observation:
    exposure_time = _number(header, "exposure_time", minimum=0.0)
    mid_time = _number(header, "mid_time")
    start_time = _number(header, "start_time")
    if mid_time is None and start_time is not None:
        mid_time = start_time + 0.5 * (exposure_time or 0.0) / 86_400.0
    gain = _number(header, "gain", minimum=1e-6) if options.gain is None else options.gain
    read_noise = (
        _number(header, "read_noise", minimum=0.0) if options.read_noise is None else options.read_noise
    )
    return Observation(
        exposure_time=exposure_time,
        mid_time=mid_time,
        gain=gain,
        read_noise=read_noise,
        saturation=_number(header, "saturation"),
        unit=str(_first(header, "unit") or "adu"),
    )


def _identity(header: Header, path: str) -> Identity:
    def natural(name: str) -> int:
        value = _first(header, name)
        try:
            return max(int(value), 0) if value is not None else 0
        except (TypeError, ValueError):
            return 0

    instrument = str(_first(header, "instrument") or Path(path).name.split(".")[0])
    band = str(_first(header, "band") or "")
    return Identity(instrument.strip(), natural("exposure"), natural("detector"), band.strip())


def _wcs(header: Header) -> WCS | None:
    if "CTYPE1" not in header:
        return None
    from astropy.wcs import WCS, FITSFixedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(header, naxis=2)
    return wcs if wcs.has_celestial else None


def write_exposure(
    path: str | Path, exposure: Exposure, *, extensions: Iterable[Any] = (), checksum: bool = False
) -> Path:
    """Write the three planes, their meaning and the header so that :func:`read_exposure` gives them back bit by bit.

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

    Returns
    -------
    Path
        ``path``.
    """
    from astropy.io import fits

    mask_header = fits.Header()
    for name, bit in exposure.planes.items():
        key = PLANE_PREFIX + name
        mask_header[key if len(key) <= 8 else f"HIERARCH {key}"] = bit
    image_header = fits.Header({"BUNIT": exposure.observation.unit})
    if exposure.wcs is not None:
        image_header.update(exposure.wcs.to_header(relax=True))
    hdus = [
        fits.PrimaryHDU(header=_primary_header(exposure)),
        fits.ImageHDU(exposure.image, header=image_header, name="IMAGE"),
        fits.ImageHDU(exposure.mask, header=mask_header, name="MASK"),
        fits.ImageHDU(exposure.variance, name="VARIANCE"),
    ]
    return write_hdus(path, [*hdus, *extensions], checksum=checksum)


def write_hdus(path: str | Path, hdus: Sequence[Any], *, checksum: bool = False) -> Path:
    """Write astropy HDUs to a file that appears whole or not at all."""
    from astropy.io import fits

    target = Path(path)
    with replacing(target) as temporary:
        fits.HDUList(list(hdus)).writeto(temporary, overwrite=True, checksum=checksum)
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
    ):
        if value is not None:
            header[key] = (value, comment)
    return header


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
