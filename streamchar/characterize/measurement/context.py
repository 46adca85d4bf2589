"""What plugins share while sources are measured: planes, footprints, neighbours hidden, start positions, PSF images."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.errors import MissingPsfError
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.measurement.slots import Slots
from streamchar.characterize.measurement.templates import PsfTemplates, kernel_images
from streamchar.frozen import frozen
from streamchar.image import Exposure, Moments, Psf, PsfStamps
from streamchar.image.exposure import Image
from streamchar.kernels import Scene, circular_apertures

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

SHAPE_MARGIN = 1.0 + 1e-6
"""Moments are usable when xx·yy is at least this times xy²."""


@frozen
class Centres:
    """Where plugins measure.

    Attributes
    ----------
    x, y
        float64 (n): the centroid slot, or the first peak where it is NaN.
    flagged
        bool (n): the centroid is flagged or was replaced by the peak.
    """

    x: Array
    y: Array
    flagged: Flags


@frozen
class Circle:
    """Sums over the pixels whose centres lie within a circle around each centre.

    Attributes
    ----------
    flux, variance
        float64 (n): of the image and of the variance plane; NaN where the circle's box leaves the image.
    pixels
        int32 (n): how many they are, -1 there.
    """

    flux: Array
    variance: Array
    pixels: NDArray[np.int32]


@frozen
class Shapes:
    """Second moments of the shape slot, in pixel².

    Attributes
    ----------
    xx, yy, xy
        float64 (n).
    usable
        bool (n): finite and with a positive determinant.
    flagged
        bool (n): flagged by the shape plugin, or not usable.
    """

    xx: Array
    yy: Array
    xy: Array
    usable: Flags
    flagged: Flags


class MeasurementContext:
    """Some sources of an exposure while they are measured: few enough for their pixels to stay in the processor's cache.

    Parameters
    ----------
    exposure
        The planes; while the context lives the image holds noise in all footprints that are not shown.
    catalog
        The columns to fill, one row a source.
    footprints
        Pixels and peaks of these sources.
    scene
        Shows one source at a time; its sources are these.
    slots
        Which columns stand for centroid and shape.
    templates
        The exposure's PSF as it is drawn, prepared once for all sources; ``None`` when the exposure has none.
    radii
        Radii in pixels of all circles that plugins ask for, in any order.

    Attributes
    ----------
    invalid_psf
        bool (n): plugins raise it where the PSF could not be evaluated.
    """

    def __init__(
        self,
        exposure: Exposure,
        catalog: SourceCatalog,
        footprints: Footprints,
        scene: Scene,
        slots: Slots,
        templates: PsfTemplates | None = None,
        radii: Collection[float] = (),
    ) -> None:
        self.exposure = exposure
        self.catalog = catalog
        self.footprints = footprints
        self.scene = scene
        self.slots = slots
        self._templates = templates
        self._radii = sorted(set(radii))
        self.invalid_psf: Flags = np.zeros(len(catalog), np.bool_)

    def __len__(self) -> int:
        return len(self.catalog)

    @cached_property
    def peaks(self) -> tuple[Array, Array]:
        """First (brightest) peak of each source: x, y as float64 (n)."""
        first = self.footprints.peak_start[:-1]
        return self.footprints.peak_x[first].astype(np.float64), self.footprints.peak_y[first].astype(
            np.float64
        )

    @cached_property
    def start(self) -> tuple[Array, Array]:
        """Where the centroid search starts: the centroid of an earlier pass, else the peak."""
        x, y = self._centroid()
        missing = ~(np.isfinite(x) & np.isfinite(y))
        return np.where(missing, self.peaks[0], x), np.where(missing, self.peaks[1], y)

    @cached_property
    def start_pixels(self) -> tuple[Array, Array]:
        """Pixel centres nearest to the start positions."""
        return np.floor(self.start[0] + 0.5), np.floor(self.start[1] + 0.5)

    @property
    def templates(self) -> PsfTemplates:
        """The exposure's PSF, drawn for fluxes and for positions.

        Raises
        ------
        MissingPsfError
            When the exposure has none.
        """
        if self._templates is None:
            raise MissingPsfError
        return self._templates

    @property
    def psf(self) -> Psf:
        """The exposure's PSF.

        Raises
        ------
        MissingPsfError
            When the exposure has none.
        """
        return self.templates.psf

    @cached_property
    def psf_shapes(self) -> Moments:
        """Moments of the PSF at the start pixels, good for widths, evaluated once for all plugins."""
        return self.templates.shapes(*self.start_pixels)

    def centres(self) -> Centres:
        """Positions as the centroid slot has them now."""
        x, y = self._centroid()
        missing = ~(np.isfinite(x) & np.isfinite(y))
        flagged = self.catalog[f"{self.slots.centroid}_flag"] | missing
        return Centres(np.where(missing, self.peaks[0], x), np.where(missing, self.peaks[1], y), flagged)

    def shapes(self) -> Shapes:
        """Moments as the shape slot has them now."""
        prefix = self.slots.shape
        xx, yy, xy = (self.catalog[f"{prefix}_{name}"] for name in ("xx", "yy", "xy"))
        usable = (xx > 0) & (yy > 0) & (xx * yy >= SHAPE_MARGIN * xy * xy)
        usable &= np.isfinite(xx) & np.isfinite(yy) & np.isfinite(xy)
        return Shapes(xx, yy, xy, usable, self.catalog[f"{prefix}_flag"] | ~usable)

    def negative(self) -> Flags:
        """Sources found as negative excursions, bool (n)."""
        name = "is_negative"
        flags = self.catalog[name] if name in self.catalog else np.zeros(len(self), np.bool_)
        return np.asarray(flags, np.bool_)

    @cached_property
    def psf_kernels(self) -> Array:
        """PSF kernel images at the start pixels: float64 (n, h, w), or (1, h, w) when they are all the same."""
        return kernel_images(self.psf, *self.start_pixels)

    @cached_property
    def centred_kernels(self) -> Array:
        """The same of the template for positions, which may be smaller."""
        return kernel_images(self.templates.centred, *self.start_pixels)

    @cached_property
    def psf_stamps(self) -> PsfStamps:
        """PSF images at the centres, evaluated when a plugin first asks: after the centroids are measured."""
        centres = self.centres()
        return self.psf.images(centres.x, centres.y)

    def circle(self, radius: float) -> Circle:
        """Sums over circles of one of the radii around the centres, evaluated when a plugin first asks."""
        k = self._radii.index(radius)
        flux, variance, pixels = self._circles
        return Circle(flux[:, k], variance[:, k], pixels[:, k])

    @cached_property
    def _circles(self) -> tuple[Array, Array, NDArray[np.int32]]:
        centres = self.centres()
        return circular_apertures(
            self.scene, self.exposure.variance, centres.x, centres.y, np.array(self._radii, np.float64)
        )

    @contextmanager
    def shown(self, i: int) -> Iterator[Image]:
        """Give a plugin written in Python the image with source ``i`` and noise in place of all others."""
        hidden = self.scene.footprints > 0
        footprint = int(self.scene.sources[i]) if hidden else 0
        if hidden:
            self.scene.show(footprint)
        try:
            yield self.exposure.image
        finally:
            if hidden:
                self.scene.hide(footprint)

    def _centroid(self) -> tuple[Array, Array]:
        return self.catalog[f"{self.slots.centroid}_x"], self.catalog[f"{self.slots.centroid}_y"]
