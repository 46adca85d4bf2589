"""A PSF model to its description and arrays on the wire, and back to a model that can be evaluated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.image.psf import Moments, Psf, PsfStamps
from streamchar.messages.errors import MessageTooLargeError, UnsupportedPsfError
from streamchar.messages.psf_model import PsfModel

if TYPE_CHECKING:
    from streamchar.characterize.psf.pixel_basis import PixelBasisPsf

MAX_PSF_WIDTH = 1025
"""Widest PSF image that is evaluated, in pixels: it is drawn for every position asked for."""

MAX_TERMS = 1024
"""Most terms of the polynomial in the position."""

_RECIPE = (
    "sum over i of basis[i] times the sum over t of coefficients[i, t] u^x_powers[t] v^y_powers[t]; "
    "resample with step 1/sampling by Lanczos interpolation; divide by the sum"
)
_LANCZOS = re.compile(r"lanczos([1-9]|1[0-6])")
_ANALYTIC = {"gaussian": ("sigma",), "moffat": ("qxx", "qyy", "qxy", "beta")}


def describe_psf(psf: Psf) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Describe a model for :func:`streamchar.messages.psf_chunks.encode_psf_model`.

    Returns
    -------
    tuple
        Fields of :class:`PsfModel` by name, and arrays by name. :func:`build_psf` makes the identical model of them,
        bit by bit: basis images are sent as float32 only where nothing is lost.

    Raises
    ------
    TypeError
        The model is of a kind that messages do not know.
    """
    from streamchar.characterize.psf.pixel_basis import PixelBasisPsf

    height, width = psf.size
    x, y = (value if math.isfinite(value) else None for value in psf.average_position)
    common = {"kind": psf_kind(psf), "width": width, "height": height, "average_x": x, "average_y": y}
    if isinstance(psf, PixelBasisPsf):
        fields, arrays = _describe_pixel_basis(psf)
        return {**common, **fields}, arrays
    if common["kind"] not in _ANALYTIC:
        raise TypeError(f"a message cannot carry a {type(psf).__name__}")
    values = {name: float(getattr(psf, name)) for name in _ANALYTIC[psf_kind(psf)]}
    profile = (type(psf).__doc__ or "").strip().splitlines()[0]
    return {**common, "parameters": {**values, "width": float(width)}, "recipe": profile}, {}


def psf_kind(psf: object) -> str:
    """Name of a kind of PSF model: ``"psfex"``, ``"gaussian"``, ``"moffat"``."""
    name = type(psf).__name__.removesuffix("Psf").lower()
    return "psfex" if name == "pixelbasis" else name


def _describe_pixel_basis(psf: PixelBasisPsf) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    polynomial = psf.spatial.polynomial
    single = psf.components.astype(np.float32)
    lossless = single.astype(np.float64).tobytes() == psf.components.tobytes()
    fields = {
        "sampling": psf.step,
        "resampling": f"lanczos{psf.lanczos}",
        "x_offset": polynomial.x_offset,
        "x_scale": polynomial.x_scale,
        "y_offset": polynomial.y_offset,
        "y_scale": polynomial.y_scale,
        "x_powers": tuple(i for i, _ in polynomial.powers),
        "y_powers": tuple(j for _, j in polynomial.powers),
        "recipe": _RECIPE,
    }
    coefficients = np.ascontiguousarray(psf.spatial.mixing.T)
    return fields, {"basis": single if lossless else psf.components, "coefficients": coefficients}


def build_psf(model: PsfModel, arrays: Mapping[str, NDArray[Any]]) -> Psf:
    """Build the model that a message describes.

    Parameters
    ----------
    model, arrays
        As :func:`streamchar.messages.psf_chunks.join_psf_model` returns them.

    Raises
    ------
    UnsupportedPsfError
        The kind is not known, or the description contradicts itself.
    MessageTooLargeError
        The images are larger than ``MAX_PSF_WIDTH``.
    """
    from streamchar.characterize.errors import UnreadablePsfError
    from streamchar.characterize.psf.io import from_arrays

    if max(model.width, model.height) > MAX_PSF_WIDTH:
        raise MessageTooLargeError(
            what="width of the PSF images", size=max(model.width, model.height), limit=MAX_PSF_WIDTH
        )
    try:
        return from_arrays(_entries(model, arrays))
    except (UnreadablePsfError, ValueError) as error:
        raise UnsupportedPsfError(key=model.key, kind=model.kind, detail=str(error)) from error


def _entries(model: PsfModel, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the entries of :func:`streamchar.characterize.psf.io.from_arrays`."""
    position = [math.nan if value is None else value for value in (model.average_x, model.average_y)]
    common: dict[str, Any] = {"kind": model.kind, "width": model.width, "average_position": position}
    if model.width != model.height:
        raise ValueError(f"images of {model.width} x {model.height} pixels are not square")
    if model.kind in _ANALYTIC:
        return {**model.parameters, **common}
    lanczos = _LANCZOS.fullmatch(model.resampling)
    degree = max(model.x_powers, default=0)
    # Only as many terms as were sent are ever made: a single number may claim any degree.
    count = len(model.x_powers)
    complete = (degree + 1) * (degree + 2) // 2 == count <= MAX_TERMS
    powers = [(i, j) for j in range(degree + 1) for i in range(degree + 1 - j)] if complete else []
    if model.kind != "psfex" or lanczos is None or model.polynomial != "monomial":
        raise ValueError(f"{model.polynomial} polynomials and {model.resampling} are not known for this kind")
    if not count or list(zip(model.x_powers, model.y_powers, strict=True)) != powers:
        raise ValueError("the powers are not those of a polynomial in two variables")
    if model.x_scale == 0 or model.y_scale == 0:
        raise ValueError("a scale of the polynomial is zero")
    if "basis" not in arrays or ("coefficients" not in arrays and len(arrays["basis"]) != len(powers)):
        raise ValueError(f"{len(powers)} basis images are needed")
    mixing = (
        np.ascontiguousarray(arrays["coefficients"].T) if "coefficients" in arrays else np.eye(len(powers))
    )
    return {
        **common,
        "kind": "pixel_basis",
        "step": model.sampling,
        "lanczos": int(lanczos[1]),
        "degree": degree,
        "x_offset": model.x_offset,
        "y_offset": model.y_offset,
        "x_scale": model.x_scale,
        "y_scale": model.y_scale,
        "mixing": mixing,
        "components": arrays["basis"],
    }


class PublishedPsf:
    """The PSF of one exposure of one detector as a subscriber gets it: it can be evaluated anywhere on the detector.

    It does what every PSF of the project does (:class:`streamchar.image.psf.Psf`). Positions are pixels, (0, 0) the
    centre of the first pixel.

    Attributes
    ----------
    model
        The message: identity, kind, detector, number of stars, provenance. Its arrays are those of the first part.
    psf
        The model itself.

    Examples
    --------
    >>> from streamchar.messages.examples import make_examples
    >>> from streamchar.messages.psf_conversion import PublishedPsf
    >>> psf = PublishedPsf.from_parts([make_examples()["psf-model"]["full"]])
    >>> psf.kernel_images(1000.0, 2000.0).shape
    (1, 11, 11)
    """

    def __init__(self, model: PsfModel, psf: Psf) -> None:
        self.model = model
        self.psf = psf

    @classmethod
    def from_parts(cls, parts: list[PsfModel]) -> PublishedPsf:
        """Put the messages of one model together.

        Raises
        ------
        IncompleteCatalogError
            A message is missing, repeated, or does not continue the others.
        UnsupportedPsfError, MessageTooLargeError
            See :func:`build_psf`.
        """
        from streamchar.messages.psf_chunks import join_psf_model

        model, arrays = join_psf_model(parts)
        return cls(model, build_psf(model, arrays))

    @property
    def key(self) -> str:
        """Whose PSF it is, ``instrument/exposure/detector``."""
        return self.model.key

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels, both odd."""
        return self.psf.size

    @property
    def average_position(self) -> tuple[float, float]:
        """Mean position (x, y) of the stars, NaN where it is not known."""
        return self.psf.average_position

    def kernel_images(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Images centred on the middle pixel, unit sum: float64 (n, height, width)."""
        return self.psf.kernel_images(x, y)

    def images(self, x: ArrayLike, y: ArrayLike) -> PsfStamps:
        """Images shifted to the sub-pixel position of each (x, y), unit sum."""
        return self.psf.images(x, y)

    def shapes(self, x: ArrayLike, y: ArrayLike) -> Moments:
        """Adaptive moments of the kernel images: arrays of length n."""
        return self.psf.shapes(x, y)

    def write(self, path: str | Path) -> Path:
        """Write it in PSFEx's layout, which GalSim's ``DES_PSFEx`` reads; whole or not at all.

        Raises
        ------
        UnsupportedPsfError
            It is analytic: the layout has no place for it.
        """
        from streamchar.characterize.psf.io import write_psfex
        from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
        from streamchar.image.fits import replacing

        if not isinstance(self.psf, PixelBasisPsf):
            raise UnsupportedPsfError(
                key=self.key, kind=self.model.kind, detail="PSFEx's layout holds no analytic models"
            )
        with replacing(Path(path)) as temporary:
            write_psfex(temporary, self.psf, stars=self.model.n_stars or 0, chi2=self.model.chi2 or 0.0)
        return Path(path)

    def __repr__(self) -> str:
        fwhm = "" if self.model.fwhm is None else f", FWHM {self.model.fwhm:.2f} px"
        return f"PublishedPsf({self.key}: {self.model.kind}, {self.size[1]} x {self.size[0]} px{fwhm})"
