"""The pixels a PSF is fitted to: stamps of stars, their usable pixels, their noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.psf.candidates import blended_pixels, cut_stamps, neighbour_pixels
from streamchar.frozen import frozen
from streamchar.image import Exposure

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


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
        """Samples of some stars, by mask, by numbers or as a slice."""
        return replace(self, **{name: getattr(self, name)[which] for name in self.__match_args__})

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
    (those the exposure has), belong to a detected neighbour or lie nearer to another peak of the star's own
    footprint (reference: psf.md section 3). Stars whose stamp leaves the exposure, or whose centroid or flux is
    not finite and positive, are left out.

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
    with np.errstate(invalid="ignore"):
        kept = np.isfinite(x) & np.isfinite(y) & np.isfinite(flux) & (flux > 0)
    index, x, y, flux = index[kept], x[kept], y[kept], flux[kept]
    image, inside = cut_stamps(exposure.image, x, y, size)
    index, x, y, flux, image = index[inside], x[inside], y[inside], flux[inside], image[inside]
    mask = cut_stamps(exposure.mask, x, y, size)[0]
    variance = cut_stamps(exposure.variance, x, y, size)[0].astype(np.float64)
    planes = exposure.planes
    bad = planes.value(*(name for name in bad_planes if name in planes))
    detected = (
        (mask & planes.value("DETECTED")) != 0 if "DETECTED" in planes else np.zeros(mask.shape, np.bool_)
    )
    foreign = blended_pixels(catalog.footprints, index, x, y, size)
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(image) & np.isfinite(variance) & (variance > 0) & ((mask & bad) == 0)
    usable &= ~(foreign | neighbour_pixels(detected & ~foreign))
    if circular:
        offset = np.arange(size) - size // 2
        usable &= np.hypot(offset[:, None], offset) <= 0.5 * size
    pixels = np.where(usable, image, 0.0).astype(np.float64)
    sky, slope = variance_line(pixels, np.where(usable, variance, 0.0), usable)
    kept = np.isfinite(sky)
    samples = Samples(
        index, x, y, x - np.floor(x + 0.5), y - np.floor(y + 0.5), flux, pixels, usable, sky, slope
    )
    return samples if kept.all() else samples.take(kept)


def variance_line(pixels: Array, variance: Array, usable: Flags) -> tuple[Array, Array]:
    """Fit variance = sky + slope · pixel to each stamp's usable pixels.

    The variance plane follows the noisy pixels themselves; the line separates what belongs to the sky from what
    grows with the light.

    Returns
    -------
    sky, slope
        float64 (n). The slope is not negative. Where the sky would not be positive both come from the smallest
        tenth of the variances and 0; NaN without usable pixels.
    """
    count = usable.sum(axis=(1, 2)).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_p, mean_v = pixels.sum(axis=(1, 2)) / count, variance.sum(axis=(1, 2)) / count
        centred = np.where(usable, pixels - mean_p[:, None, None], 0.0)
        slope = np.einsum("nij,nij->n", centred, variance) / np.einsum("nij,nij->n", centred, centred)
    slope = np.where(np.isfinite(slope), np.maximum(slope, 0.0), 0.0)
    sky = mean_v - slope * mean_p
    for i in np.flatnonzero(~(sky > 0) & (count > 0)):
        sky[i], slope[i] = np.quantile(variance[i][usable[i]], 0.1), 0.0
    return sky, slope
