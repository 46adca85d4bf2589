"""PSF models as plain arrays for the wire, and as FITS files in the layout of PSFEx."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.errors import UnreadablePsfError
from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM, GaussianPsf
from streamchar.characterize.psf.moffat import MoffatPsf
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.characterize.psf.width import average_sigma
from streamchar.image import Psf

Arrays = dict[str, Any]

_FITS_ORIGIN = 1.0
"""FITS counts the centre of the first pixel as 1, the project as 0."""
_GAUSSIAN = ("sigma", "width")
_MOFFAT = ("qxx", "qyy", "qxy", "beta", "width")


def to_arrays(psf: Psf) -> Arrays:
    """Describe a model by its kind, scalars and arrays; :func:`from_arrays` gives the identical model back.

    Raises
    ------
    TypeError
        The model is of a kind this package does not make.
    """
    if isinstance(psf, PixelBasisPsf):
        polynomial = psf.spatial.polynomial
        return {
            "kind": "pixel_basis",
            "step": psf.step,
            "width": psf.width,
            "lanczos": psf.lanczos,
            "degree": polynomial.degree,
            "x_offset": polynomial.x_offset,
            "y_offset": polynomial.y_offset,
            "x_scale": polynomial.x_scale,
            "y_scale": polynomial.y_scale,
            "average_position": np.array(psf.average_position),
            "mixing": psf.spatial.mixing,
            "components": psf.components,
        }
    if isinstance(psf, GaussianPsf):
        scalars = {"kind": "gaussian", **{name: getattr(psf, name) for name in _GAUSSIAN}}
    elif isinstance(psf, MoffatPsf):
        scalars = {"kind": "moffat", **{name: getattr(psf, name) for name in _MOFFAT}}
    else:
        raise TypeError(f"no description of a {type(psf).__name__}")
    return {**scalars, "average_position": np.array(psf.average_position)}


def from_arrays(arrays: Mapping[str, Any]) -> Psf:
    """Build the model :func:`to_arrays` described.

    Raises
    ------
    UnreadablePsfError
        An entry is missing, of an unknown kind or of the wrong shape.
    """
    try:
        x, y = (float(value) for value in arrays["average_position"])
        kind = arrays["kind"]
        if kind == "gaussian":
            return GaussianPsf(float(arrays["sigma"]), int(arrays["width"]), (x, y))
        if kind == "moffat":
            qxx, qyy, qxy, beta = (float(arrays[name]) for name in _MOFFAT[:-1])
            return MoffatPsf(qxx, qyy, qxy, beta, int(arrays["width"]), (x, y))
        if kind == "pixel_basis":
            return _pixel_basis(arrays, (x, y))
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadablePsfError(path="message", detail=f"{type(error).__name__}: {error}") from error
    raise UnreadablePsfError(path="message", detail=f"the kind '{kind}' is not known")


def _pixel_basis(arrays: Mapping[str, Any], position: tuple[float, float]) -> PixelBasisPsf:
    polynomial = PositionPolynomial(
        int(arrays["degree"]),
        *(float(arrays[name]) for name in ("x_offset", "y_offset", "x_scale", "y_scale")),
    )
    mixing = np.array(arrays["mixing"], np.float64)
    components = np.array(arrays["components"], np.float64)
    if mixing.ndim != 2 or len(mixing) != polynomial.terms or components.ndim != 3:
        raise ValueError(f"mixing {mixing.shape} and components {components.shape} do not fit together")
    return PixelBasisPsf(
        components,
        SpatialBasis(polynomial, mixing),
        float(arrays["step"]),
        int(arrays["width"]),
        position,
        int(arrays["lanczos"]),
    )


def write_psfex(path: str | Path, psf: PixelBasisPsf, *, stars: int = 0, chi2: float = 0.0) -> None:
    """Write a model as the binary table PSFEx writes, which GalSim's ``DES_PSFEx`` and others read.

    The file holds one image per monomial of the position, float32, so that its terms are those of the polynomial
    and not of the model's own combinations. Positions follow FITS: the first pixel's centre is 1.

    Parameters
    ----------
    path
        Replaced when it exists.
    stars
        Number of stars in the fit, for the header.
    chi2
        Reduced chi-square, for the header.
    """
    from astropy.io import fits

    polynomial = psf.spatial.polynomial
    images = np.tensordot(psf.spatial.mixing, psf.components, axes=1).astype(np.float32)
    count, height, width = images.shape
    column = fits.Column(
        name="PSF_MASK",
        format=f"{images.size}E",
        dim=f"({width}, {height}, {count})",
        array=images[None],
    )
    table = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    header = table.header
    sigma = average_sigma(psf)
    entries: list[tuple[str, Any, str]] = [
        ("LOADED", stars, "stars given to the fit"),
        ("ACCEPTED", stars, "stars in the fit"),
        ("CHI2", chi2, "reduced chi-square"),
        ("POLNAXIS", 2, "variables of the polynomial"),
        ("POLGRP1", 1, "group of the first variable"),
        ("POLNAME1", "X_IMAGE", "first variable"),
        ("POLZERO1", polynomial.x_offset + _FITS_ORIGIN, "its offset"),
        ("POLSCAL1", polynomial.x_scale, "its scale"),
        ("POLGRP2", 1, "group of the second variable"),
        ("POLNAME2", "Y_IMAGE", "second variable"),
        ("POLZERO2", polynomial.y_offset + _FITS_ORIGIN, "its offset"),
        ("POLSCAL2", polynomial.y_scale, "its scale"),
        ("POLNGRP", 1, "groups of variables"),
        ("POLDEG1", polynomial.degree, "degree of the polynomial"),
        ("PSF_FWHM", sigma * SIGMA_TO_FWHM, "full width at half maximum, pixels"),
        ("PSF_SAMP", psf.step, "width of a super-pixel, pixels"),
        ("PSFNAXIS", 3, "axes of the data"),
        ("PSFAXIS1", width, "super-pixels along x"),
        ("PSFAXIS2", height, "super-pixels along y"),
        ("PSFAXIS3", count, "terms of the polynomial"),
        ("LANCZOS", psf.lanczos, "order of the interpolation"),
        ("PSFWIDTH", psf.width, "width of the PSF images, pixels"),
        ("AVGX", psf.average_position[0] + _FITS_ORIGIN, "mean position of the stars"),
        ("AVGY", psf.average_position[1] + _FITS_ORIGIN, "mean position of the stars"),
    ]
    for name, value, comment in entries:
        header[name] = (value, comment)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)


def read_psfex(path: str | Path) -> PixelBasisPsf:
    """Read a model written by :func:`write_psfex` or by PSFEx itself with X and Y as variables.

    Raises
    ------
    UnreadablePsfError
        The file is not such a table, or depends on something else than the position.
    """
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyWarning

    try:
        with Path(path).open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("error", VerifyWarning)
            with fits.open(stream, memmap=False) as file:
                header, images = file["PSF_DATA"].header, np.asarray(file["PSF_DATA"].data["PSF_MASK"][0])
    except (OSError, KeyError, IndexError, ValueError, TypeError, VerifyWarning) as error:
        raise UnreadablePsfError(path=str(path), detail=str(error)) from error
    try:
        return _from_psfex(header, np.ascontiguousarray(images, np.float64))
    except (KeyError, ValueError) as error:
        raise UnreadablePsfError(path=str(path), detail=str(error)) from error


def _from_psfex(header: Mapping[str, Any], images: NDArray[np.float64]) -> PixelBasisPsf:
    axes = int(header["POLNAXIS"])
    if axes not in {0, 2} or (axes == 2 and int(header["POLNGRP"]) != 1):
        raise ValueError(f"a polynomial of {axes} variables is not supported; 2 in one group are")
    step = float(header["PSF_SAMP"])
    images = images.reshape(-1, *images.shape[-2:])
    width = int(header.get("PSFWIDTH", 2 * (int(images.shape[-1] * step) // 2) + 1))
    if axes == 0:
        polynomial = PositionPolynomial(0)
    else:
        x, y = (float(header[f"POLZERO{axis}"]) - _FITS_ORIGIN for axis in (1, 2))
        scales = (float(header[f"POLSCAL{axis}"]) for axis in (1, 2))
        polynomial = PositionPolynomial(int(header["POLDEG1"]), x, y, *scales)
    position = (
        float(header.get("AVGX", polynomial.x_offset + _FITS_ORIGIN)) - _FITS_ORIGIN,
        float(header.get("AVGY", polynomial.y_offset + _FITS_ORIGIN)) - _FITS_ORIGIN,
    )
    spatial = SpatialBasis.monomials(polynomial)
    return PixelBasisPsf(images, spatial, step, width, position, int(header.get("LANCZOS", 4)))
