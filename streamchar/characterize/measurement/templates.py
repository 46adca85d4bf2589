"""PSF models as measurement draws them: by splines, which do not shift the image, and point-symmetric for positions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal, Self

import numpy as np

from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.image import Psf

Interpolation = Literal["lanczos", "spline"]

SPLINE = 0
"""Order of :func:`streamchar.kernels.psf_draw` that stands for quintic B-splines."""

REACH = 5.0
"""Half width of the template for positions, over the PSF's width: what lies beyond tells nothing about the position."""

SPLINE_REACH = 3
"""Super-pixels that a spline reaches."""

SPLINE_AT_KNOTS = (66.0 / 120.0, 26.0 / 120.0, 1.0 / 120.0)
"""The quintic B-spline at distances 0, 1 and 2 from its centre."""


@dataclass(frozen=True, slots=True)
class PsfTemplates:
    """What measurement fits to sources.

    Attributes
    ----------
    psf
        For fluxes.
    centred
        For positions and widths: point-symmetric, and no larger than that takes. A model fitted to stars places its
        centre, and its asymmetry, with the error of their positions; a symmetric one finds the centre of symmetry of
        the source, whatever these errors.
    """

    psf: Psf
    centred: Psf

    @classmethod
    def of(cls, psf: Psf, interpolation: Interpolation = "spline") -> Self:
        """Prepare a model; one that is not made of pixels is taken as it is.

        Parameters
        ----------
        psf
            Any model.
        interpolation
            How a pixel basis is drawn: ``lanczos`` as it is published, for everything; ``spline`` through the same grid
            values. Lanczos interpolation of order 4 shifts the image by up to a hundredth of a super-pixel, depending on
            the sub-pixel position; splines of fifth order by less than a thousandth.
        """
        if not isinstance(psf, PixelBasisPsf) or interpolation == "lanczos":
            return cls(psf, psf)
        smooth = psf if psf.lanczos == SPLINE else by_splines(psf)
        return cls(smooth, _cropped(_symmetric(smooth)))


def by_splines(psf: PixelBasisPsf) -> PixelBasisPsf:
    """Return the model that has the same values at the super-pixels and splines between them.

    The spline coefficients of each image solve two systems of five diagonals, one for each axis (Unser 1999); the model
    is taken as zero outside its grid.
    """
    count, size, _ = psf.components.shape
    matrix = sum(
        weight * (np.eye(size, k=k) + (np.eye(size, k=-k) if k else 0.0))
        for k, weight in enumerate(SPLINE_AT_KNOTS)
    )
    half = np.linalg.solve(matrix, psf.components.transpose(1, 0, 2).reshape(size, count * size))
    half = half.reshape(size, count, size).transpose(2, 1, 0).reshape(size, count * size)
    coefficients = np.linalg.solve(matrix, half).reshape(size, count, size).transpose(1, 2, 0)
    return replace(psf, components=np.ascontiguousarray(coefficients), lanczos=SPLINE)


def _symmetric(psf: PixelBasisPsf) -> PixelBasisPsf:
    # Splines are symmetric themselves, so this symmetrises the model, not only its grid.
    components = psf.components
    return replace(psf, components=np.ascontiguousarray(0.5 * (components + components[:, ::-1, ::-1])))


def _cropped(psf: PixelBasisPsf) -> PixelBasisPsf:
    sigma = float(psf.shapes(*psf.average_position).determinant_radius[0])
    if not np.isfinite(sigma):
        return psf
    half = min(ceil(REACH * sigma), psf.width // 2)
    middle = psf.components.shape[1] // 2
    grid = min(ceil((half + 1) / psf.step) + SPLINE_REACH, middle)
    inner = slice(middle - grid, middle + grid + 1)
    return replace(psf, components=np.ascontiguousarray(psf.components[:, inner, inner]), width=2 * half + 1)
