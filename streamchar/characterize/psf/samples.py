"""The pixels a PSF is fitted to: stamps of stars, their usable pixels, their noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.psf.candidates import blended_pixels, middle_pixels
from streamchar.frozen import frozen
from streamchar.image import Exposure
from streamchar.kernels import star_pixels

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

NEIGHBOUR_MARGIN = 3
"""Pixels by which a neighbour's area is grown before it is masked (reference: psf.md section 3)."""


@frozen(eq=False)
class Samples:
    """Stamps of n stars, V x V pixels each.

    Attributes
    ----------
    index
        int64 (n): rows of the catalogue.
    x, y
        float64 (n): centroids on the exposure in pixels.
    dx, dy
        float64 (n): centroids relative to the centre of the stamp's middle pixel.
    flux
        float64 (n): flux in image units, positive.
    pixels
        float64 (n, V, V): image, zero where not usable.
    usable
        bool (n, V, V).
    sky_variance
        float64 (n): variance of a pixel without the star's own light.
    signal_variance
        float64 (n): variance per unit of the star's light (the inverse gain), not negative.
    """

    index: NDArray[np.int64]
    x: Array
    y: Array
    dx: Array
    dy: Array
    flux: Array
    pixels: Array
    usable: Flags
    sky_variance: Array
    signal_variance: Array

    def __len__(self) -> int:
        return len(self.index)

    @property
    def size(self) -> int:
        """Width of the stamps in pixels."""
        return int(self.pixels.shape[1])

    def take(self, which: NDArray[np.generic] | slice) -> Self:
        """Samples of some stars, by mask, by numbers or as a slice; itself where a mask leaves none out."""
        if isinstance(which, np.ndarray) and which.dtype == np.bool_ and which.all():
            return self
        return type(self)(*(getattr(self, name)[which] for name in self.__match_args__))

    def cropped(self, size: int) -> Self:
        """Samples with the central size x size pixels only, size odd."""
        first = (self.size - size) // 2
        part = slice(first, first + size)
        return replace(
            self,
            pixels=np.ascontiguousarray(self.pixels[:, part, part]),
            usable=np.ascontiguousarray(self.usable[:, part, part]),
        )

    def variance(self, model: Array, accuracy: float) -> Array:
        """Variance of the pixels given the star's light ``model`` (n, V, V) in image units.

        Taken from the model and not from the noisy pixels, which would favour those that fluctuate downwards.

        Parameters
        ----------
        accuracy
            Relative error of the model added in quadrature.
        """
        light = np.maximum(model, 0.0)
        result: Array = light * self.signal_variance[:, None, None]
        result += self.sky_variance[:, None, None]
        light *= accuracy
        light *= light
        result += light
        return result


def cut_samples(
    exposure: Exposure,
    catalog: SourceCatalog,
    index: NDArray[np.int64],
    *,
    size: int,
    flux: Array,
    bad_planes: tuple[str, ...],
    circular: bool = True,
) -> Samples:
    """Cut the stamps of stars, mask their neighbours and estimate their noise.

    Pixels are unusable when they are not finite, have no positive finite variance, carry one of ``bad_planes``
    (those the exposure has), lie within three pixels of detected ones not connected with the star, or nearer to
    another peak of the star's own footprint (reference: psf.md section 3). Stars whose stamp leaves the exposure, or
    whose centroid or flux is not finite and positive, are left out.

    The variance plane follows the noisy pixels themselves. What belongs to the sky is separated from what grows with
    the light by a line, variance = sky + slope · pixel, through each stamp's usable pixels. Where the sky would not be
    positive it is the smallest tenth of the variances, and the slope 0.

    Parameters
    ----------
    index
        int64: rows of the catalogue.
    size
        Width of the stamps, odd.
    flux
        float64: flux of each of these stars.
    circular
        Leave out the corners of the stamps, so that they reach equally far in every direction.
    """
    x, y = catalog["slot_Centroid_x"][index], catalog["slot_Centroid_y"][index]
    column, row, inside = middle_pixels(exposure.shape, x, y, size)
    with np.errstate(invalid="ignore"):
        kept = inside & np.isfinite(flux) & (flux > 0)
    index, x, y, flux, column, row = index[kept], x[kept], y[kept], flux[kept], column[kept], row[kept]
    offset = np.arange(size) - size // 2
    within = np.hypot(offset[:, None], offset) <= (0.5 * size if circular else size)
    planes = exposure.planes
    pixels, usable, sky, slope = star_pixels(
        exposure.image,
        exposure.variance,
        exposure.mask,
        column,
        row,
        within,
        blended_pixels(catalog.footprints, index, x, y, size),
        planes.value(*(name for name in bad_planes if name in planes)),
        planes.value("DETECTED") if "DETECTED" in planes else 0,
        NEIGHBOUR_MARGIN,
    )
    stamps = (len(index), size, size)
    samples = Samples(
        index, x, y, x - column, y - row, flux, pixels.reshape(stamps), usable.reshape(stamps), sky, slope
    )
    return samples.take(np.isfinite(sky))
