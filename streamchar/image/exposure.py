"""What an exposure is: three planes of pixels, what their bits mean, where they look, and who took them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen
from streamchar.image.errors import InvalidExposureError
from streamchar.image.field import Field
from streamchar.image.mask import MaskPlanes
from streamchar.image.psf import Psf
from streamchar.image.sky import AstropyCoordinates, SkyCoordinates, TangentCoordinates
from streamchar.kernels import clear_bits, count_bits, count_usable

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from streamchar.image.access import Access
    from streamchar.image.fits import ReadOptions
    from streamchar.image.profiles import InstrumentProfile

Image = NDArray[np.float32]
Mask = NDArray[np.int32]

MIN_DIMENSION = 32
"""Smallest side of an exposure in pixels: below it no background bin and no PSF stamp fits."""
STRIP_ROWS = 32
"""Rows that are looked at together."""


@frozen
class Identity:
    """Which exposure of which detector this is.

    Attributes
    ----------
    instrument
        Name of the camera.
    exposure
        Exposure (visit) number, not negative.
    detector
        Detector number within the camera, not negative.
    band
        Filter band, empty when unknown.
    """

    instrument: str = "unknown"
    exposure: int = 0
    detector: int = 0
    band: str = ""

    def __str__(self) -> str:
        return f"{self.instrument}/{self.exposure}/{self.detector}"


@frozen
class Observation:
    """How the pixels were taken. ``None`` means unknown.

    Attributes
    ----------
    exposure_time
        Seconds.
    mid_time
        Middle of the exposure, MJD (TAI or UTC as the instrument gives it).
    gain
        Electrons per image unit.
    read_noise
        Electrons.
    saturation
        Level in image units above which pixels are not linear.
    unit
        Unit of the image plane, in FITS notation.
    zero_point
        Magnitude of a source with one image unit over the whole exposure.
    latitude, longitude
        Of the telescope, degrees, north and east positive.
    elevation
        Of the telescope, metres.
    """

    exposure_time: float | None = None
    mid_time: float | None = None
    gain: float | None = None
    read_noise: float | None = None
    saturation: float | None = None
    unit: str = "adu"
    zero_point: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    elevation: float | None = None


class _Wcs:
    """The coordinates as astropy has them, made when they are first asked for; takes those of either kind."""

    def __get__(self, exposure: Exposure | None, kind: type[Exposure] | None = None) -> WCS | None:
        sky = None if exposure is None else exposure.sky
        return None if sky is None else sky.wcs

    def __set__(self, exposure: Exposure, value: WCS | SkyCoordinates | None) -> None:
        known = value is None or isinstance(value, AstropyCoordinates | TangentCoordinates)
        exposure.sky = value if known else AstropyCoordinates(value)


@dataclass(repr=False)
class Exposure:
    """One detector's exposure with instrument signature removed.

    Attributes
    ----------
    image
        float32 (height, width), in ``observation.unit``. Modified in place by characterization.
    mask
        int32 of the same shape; bits named by ``planes``.
    variance
        float32 of the same shape, image unit squared.
    planes
        Meaning of the mask bits.
    wcs
        Celestial coordinates as astropy's object, or ``None``; may also be set to :class:`SkyCoordinates`.
    sky
        The same coordinates for the pixels' own use, which mostly does without astropy; not an argument.
    psf
        Point-spread function, once known.
    aperture_corrections
        Multiplicative flux corrections by flux column name, once measured.
    identity, observation
        Who and how.
    metadata
        Header-like values added by the tasks (``BGMEAN`` and so on).
    source
        Where it was read from, for error messages.

    Examples
    --------
    >>> import numpy as np
    >>> sky = np.random.default_rng(1).normal(100.0, 5.0, (256, 300))
    >>> exposure = Exposure.from_image(sky, gain=2.0, read_noise=5.0, identity=Identity("DemoCam", 42, 3, "r"))
    >>> exposure
    Exposure(DemoCam/42/3 r, 300 x 256 px in adu, no WCS, no PSF)
    >>> exposure.shape
    (256, 300)
    """

    image: Image
    mask: Mask
    variance: Image
    planes: MaskPlanes = field(default_factory=MaskPlanes)
    wcs: _Wcs = _Wcs()
    sky: SkyCoordinates | None = field(init=False, compare=False)
    psf: Psf | None = None
    aperture_corrections: dict[str, Field] | None = None
    identity: Identity = field(default_factory=Identity)
    observation: Observation = field(default_factory=Observation)
    metadata: dict[str, Any] = field(default_factory=dict)
    source: str = "exposure"

    @classmethod
    def read(
        cls,
        source: str | Path,
        options: ReadOptions | None = None,
        *,
        profile: str | InstrumentProfile | None = None,
        access: Access | None = None,
    ) -> Exposure:
        """Read a FITS file of any camera.

        Parameters
        ----------
        source
            Path, ``file://``, ``https://`` or ``s3://`` address; also tile-compressed or in gzip; an extension may
            follow: ``file.fits.fz#N4``.
        options
            Limits, and values for keys the header lacks.
        profile
            Instrument profile: a name (``decam-instcal``), a TOML file, or a profile; recognised from the header
            when omitted.
        access
            Which addresses may be read; any when omitted.

        Raises
        ------
        StreamcharError
            Says what cannot be read and why; see :func:`streamchar.image.fits.read_exposure`.
        """
        from streamchar.image.fits import read_exposure

        return read_exposure(source, options, profile=profile, access=access)

    @classmethod
    def from_image(cls, image: NDArray[Any], *, gain: float, read_noise: float, **attributes: Any) -> Self:
        """Make an exposure from bare pixels: empty mask, variance from photon and read noise.

        Parameters
        ----------
        image
            Pixels with their sky, any real dtype.
        gain
            Electrons per image unit, positive.
        read_noise
            Electrons, not negative.
        **attributes
            Further attributes of the exposure.
        """
        pixels = np.ascontiguousarray(image, dtype=np.float32)
        photons = np.maximum(pixels, 0) / np.float32(gain)
        variance = np.asarray(photons + np.float32((read_noise / gain) ** 2), np.float32)
        planes = attributes.pop("planes", None) or MaskPlanes()
        observation = replace(attributes.pop("observation", Observation()), gain=gain, read_noise=read_noise)
        mask = np.zeros(pixels.shape, np.int32)
        return cls(pixels, mask, variance, planes=planes, observation=observation, **attributes)

    def __repr__(self) -> str:
        facts = [
            f"{self.identity} {self.identity.band}".rstrip(),
            f"{' x '.join(str(length) for length in reversed(self.image.shape))} px in {self.observation.unit}",
            "no WCS" if self.sky is None else "WCS",
            "no PSF" if self.psf is None else f"PSF {type(self.psf).__name__}",
        ]
        return f"Exposure({', '.join(facts)})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the pixels and a table."""
        from streamchar.image.notebook import card

        return card(f"Exposure {self.identity}", self.described(), self.image)

    def described(self) -> dict[str, str]:
        """Return what is known about the exposure, in words, by name."""
        observation, scale = self.observation, self.pixel_scale
        rows = {
            "source": self.source,
            "band": self.identity.band,
            "size": f"{' x '.join(str(length) for length in reversed(self.image.shape))} pixels",
            "scale": "" if scale is None else f"{scale:.3f} arcsec per pixel",
            "exposure time": _quantity(observation.exposure_time, "s"),
            "mid-time": "" if observation.mid_time is None else f"MJD {observation.mid_time:.5f}",
            "gain": _quantity(observation.gain, f"electrons per {observation.unit}"),
            "read noise": _quantity(observation.read_noise, "electrons"),
            "saturation": _quantity(observation.saturation, observation.unit),
        }
        return {name: value for name, value in rows.items() if value}

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image.shape
        return height, width

    @property
    def pixel_scale(self) -> float | None:
        """Arcseconds per pixel at the reference point, or ``None`` without coordinates."""
        return None if self.sky is None else self.sky.pixel_scale

    def bits(self, *names: str) -> int:
        """Mask value with the named planes' bits set."""
        return self.planes.value(*names)

    def present_bits(self, *names: str) -> int:
        """Mask value with the bits of those of the named planes set that the exposure has."""
        return self.planes.present_value(*names)

    def set_plane(self, name: str, where: NDArray[np.bool_]) -> None:
        """Set one plane on the pixels where ``where`` is true."""
        self.mask[where] |= self.bits(name)

    def count(self, *names: str) -> int:
        """Number of pixels with any of the named planes."""
        return count_bits(self.mask, self.bits(*names))

    def clear_planes(self, *names: str) -> None:
        """Clear the named planes on all pixels; names the exposure does not have are ignored."""
        clear_bits(self.mask, self.present_bits(*names))

    def copy(self) -> Exposure:
        """Return an exposure with planes of its own; PSF and coordinates are shared (they are immutable)."""
        return replace(
            self,
            wcs=self.sky,
            image=self.image.copy(),
            mask=self.mask.copy(),
            variance=self.variance.copy(),
            metadata=dict(self.metadata),
        )

    def check(self, *, max_bad_fraction: float = 0.9) -> int:
        """Refuse pixels that cannot be those of an exposure, before anything is measured on them.

        Parameters
        ----------
        max_bad_fraction
            Largest tolerated fraction of pixels that are not finite or have no positive variance, 0 to 1.

        Returns
        -------
        int
            How many such pixels there are: those of :meth:`unusable`.

        Raises
        ------
        InvalidExposureError
            Says which plane, what is wrong with it and the values.
        """
        for problem in self._problems_of_planes():
            raise InvalidExposureError(path=self.source, detail=problem)
        finite, usable = count_usable(self.image, self.variance)
        for problem in self._problems_of_pixels(finite, usable, max_bad_fraction):
            raise InvalidExposureError(path=self.source, detail=problem)
        return self.image.size - usable

    def _problems_of_planes(self) -> Iterator[str]:
        if self.image.ndim != 2:
            yield f"the image has {self.image.ndim} dimensions, not 2"
        if min(self.image.shape) < MIN_DIMENSION:
            height, width = self.image.shape
            yield f"the image is {width} x {height} pixels; at least {MIN_DIMENSION} x {MIN_DIMENSION} are needed"
        for name, plane, dtype in (
            ("image", self.image, np.float32),
            ("mask", self.mask, np.int32),
            ("variance", self.variance, np.float32),
        ):
            if plane.dtype != dtype:
                yield f"the {name} plane has dtype {plane.dtype}, not {np.dtype(dtype)}"
            if plane.shape != self.image.shape:
                yield f"the {name} plane has shape {plane.shape}, the image {self.image.shape}"

    def _problems_of_pixels(self, finite: int, usable: int, max_bad_fraction: float) -> Iterator[str]:
        if not finite:
            yield "no pixel of the image is finite"
        fraction = 1.0 - usable / self.image.size
        if fraction > max_bad_fraction:
            yield (
                f"{fraction:.0%} of the pixels are not finite or have no positive variance "
                f"(at most {max_bad_fraction:.0%} may)"
            )
        low, high = np.inf, -np.inf
        for rows in self._strips():
            values = self.image[rows][~self._unusable(rows)]
            if values.size:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
            if low < high:
                return
        if low == high:
            yield f"every usable pixel has the same value, {low:g}"

    def unusable(self) -> NDArray[np.bool_]:
        """Pixels that are not finite or have no finite, positive variance, bool (height, width)."""
        return np.concatenate([self._unusable(rows) for rows in self._strips()])

    def _strips(self) -> Iterator[slice]:
        """Rows a few at a time, so that what is computed of them stays in the processor's cache."""
        for first in range(0, self.shape[0], STRIP_ROWS):
            yield slice(first, first + STRIP_ROWS)

    def _unusable(self, rows: slice) -> NDArray[np.bool_]:
        image, variance = self.image[rows], self.variance[rows]
        return ~(np.isfinite(image) & np.isfinite(variance) & (variance > 0))


def _quantity(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:g} {unit}"
