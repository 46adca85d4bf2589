"""PSF models as measurement draws them: by splines, which do not shift the image, and point-symmetric for positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.psf import quintic_splines
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.moffat import MoffatPsf
from streamchar.characterize.psf.narrowed import narrowed
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.quintic_splines import SPLINE
from streamchar.characterize.psf.width import average_sigma
from streamchar.frozen import frozen
from streamchar.image import Moments, Psf

Array = NDArray[np.float64]

Interpolation = Literal["lanczos", "spline"]

REACH = 5.0
"""Half width of the template for positions, over the PSF's width: what lies beyond tells nothing about the position."""

NODE_DISTANCE = 256.0
"""Pixels between the nodes at which shapes are tabulated: linear interpolation is then good to 1e-4 of a width that
changes by a tenth over the exposure."""


@frozen
class ShapeTable:
    """Shapes of a PSF at the nodes of a grid, linear in between.

    Attributes
    ----------
    psf
        Evaluated itself at positions beside nodes where it has no shape.
    x, y
        float64 (nx), (ny): the nodes, equidistant, at least two along each axis.
    moments
        float64 (3, ny, nx): xx, yy, xy.
    """

    psf: Psf
    x: Array
    y: Array
    moments: Array

    @classmethod
    def over(cls, psf: Psf, shape: tuple[int, int]) -> Self:
        """Tabulate the shapes over an exposure of (height, width) pixels."""
        y, x = (
            np.linspace(0.0, size - 1.0, nodes) for size, nodes in zip(shape, nodes_over(shape), strict=True)
        )
        found = psf.shapes(*(axis.ravel() for axis in np.meshgrid(x, y)))
        return cls(psf, x, y, np.stack([found.xx, found.yy, found.xy]).reshape(3, len(y), len(x)))

    def __call__(self, x: Array, y: Array) -> Moments:
        """Interpolate at n positions; those beyond the exposure get what its edge has."""
        column, along_x = _between(x, self.x)
        row, along_y = _between(y, self.y)
        corners = [
            self.moments[:, row + j, column + i]
            * (along_x if i else 1.0 - along_x)
            * (along_y if j else 1.0 - along_y)
            for j in (0, 1)
            for i in (0, 1)
        ]
        found = corners[0] + corners[1] + corners[2] + corners[3]
        missing = ~np.isfinite(found).all(axis=0)
        if missing.any():
            exact = self.psf.shapes(x[missing], y[missing])
            found[:, missing] = exact.xx, exact.yy, exact.xy
        return Moments(*found)


def nodes_over(shape: tuple[int, int]) -> tuple[int, int]:
    """How many rows and columns of nodes a table has over an exposure of (height, width) pixels."""
    height, width = shape
    return 2 + int(height / NODE_DISTANCE), 2 + int(width / NODE_DISTANCE)


def _between(values: Array, nodes: Array) -> tuple[NDArray[np.int64], Array]:
    """The node before each value and how far it is on the way to the next, 0 to 1; 0 for NaN."""
    steps = np.nan_to_num((values - nodes[0]) / (nodes[1] - nodes[0]), posinf=np.inf, neginf=-np.inf)
    steps = np.clip(steps, 0.0, len(nodes) - 1.0)
    before = np.minimum(steps.astype(np.int64), len(nodes) - 2)
    return before, steps - before


@frozen
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
    shapes
        Moments of ``centred`` at n positions, tabulated where that saves time: good for widths.
    """

    psf: Psf
    centred: Psf
    shapes: Callable[[Array, Array], Moments]

    @classmethod
    def of(
        cls,
        psf: Psf,
        interpolation: Interpolation = "spline",
        shape: tuple[int, int] | None = None,
        *,
        compact: bool = False,
    ) -> Self:
        """Prepare a model; one that is not made of pixels is drawn as it is, for positions no larger than these take.

        Parameters
        ----------
        psf
            Any model.
        interpolation
            How a pixel basis is drawn: ``lanczos`` as it is published, for everything; ``spline`` through the same grid
            values. Lanczos interpolation of order 4 shifts the image by up to a hundredth of a super-pixel, depending on
            the sub-pixel position; splines of fifth order by less than a thousandth.
        shape
            Height and width of the exposure, to tabulate shapes over it; they are evaluated one by one when omitted.
        compact
            Draw a Gaussian no larger for fluxes either, which then take less time: beyond it has no light.
        """
        if isinstance(psf, GaussianPsf | MoffatPsf) and interpolation != "lanczos":
            narrow = narrowed(psf, _half_width(psf))
            return cls(narrow if compact and isinstance(psf, GaussianPsf) else psf, narrow, narrow.shapes)
        if not isinstance(psf, PixelBasisPsf):
            return cls(psf, psf, psf.shapes)
        if interpolation == "lanczos":
            centred = psf
        else:
            psf = psf if psf.lanczos == SPLINE else by_splines(psf)
            centred = _centred(psf)
        shapes = centred.shapes if shape is None else ShapeTable.over(centred, shape)
        return cls(psf, centred, shapes)


def kernel_images(psf: Psf, x: Array, y: Array) -> Array:
    """Kernel images of a model at n positions: float64 (n, h, w), or (1, h, w) when they are all the same."""
    images = psf.kernel_images(x, y)
    return np.ascontiguousarray(images[:1] if images.strides[0] == 0 else images, np.float64)


def by_splines(psf: PixelBasisPsf) -> PixelBasisPsf:
    """Return the model that has the same values at the super-pixels and splines between them; it is zero outside its grid."""
    return replace(psf, components=quintic_splines.coefficients(psf.components), lanczos=SPLINE)


def _centred(psf: PixelBasisPsf) -> PixelBasisPsf:
    # Splines are symmetric themselves, so this symmetrises the model, not only its grid.
    components = 0.5 * (psf.components + psf.components[:, ::-1, ::-1])
    half, middle = _half_width(psf), components.shape[1] // 2
    grid = min(ceil((half + 1) / psf.step) + quintic_splines.REACH, middle)
    inner = slice(middle - grid, middle + grid + 1)
    return replace(psf, components=np.ascontiguousarray(components[:, inner, inner]), width=2 * half + 1)


def _half_width(psf: GaussianPsf | MoffatPsf | PixelBasisPsf) -> int:
    """Half width of a template for positions."""
    sigma = average_sigma(psf)
    return min(ceil(REACH * sigma), psf.width // 2) if np.isfinite(sigma) else psf.width // 2
