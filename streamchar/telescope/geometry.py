"""Where a detector sits in the focal plane and what part of the sky it sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamchar.telescope.config import CameraConfig

if TYPE_CHECKING:
    from astropy.wcs import WCS


@dataclass(frozen=True, slots=True)
class DetectorGeometry:
    """Placement of one detector.

    Attributes
    ----------
    height, width
        Pixels.
    x_center, y_center
        Pixel position (on this detector, possibly outside of it) of the centre of the camera.
    x_extent, y_extent
        Half the size of the whole camera in pixels.
    """

    height: int
    width: int
    x_center: float
    y_center: float
    x_extent: float
    y_extent: float

    @classmethod
    def of(cls, camera: CameraConfig, detector: int) -> DetectorGeometry:
        """Place detector number ``detector`` (row by row from the lower left) of a camera.

        Raises
        ------
        ValueError
            When the camera has no such detector.
        """
        if not 0 <= detector < camera.detectors:
            raise ValueError(f"detector {detector} does not exist: the camera has {camera.detectors}")
        row, column = divmod(detector, camera.columns)
        x_size = camera.columns * camera.width + (camera.columns - 1) * camera.gap
        y_size = camera.rows * camera.height + (camera.rows - 1) * camera.gap
        return cls(
            camera.height,
            camera.width,
            0.5 * x_size - column * (camera.width + camera.gap) - 0.5,
            0.5 * y_size - row * (camera.height + camera.gap) - 0.5,
            0.5 * x_size,
            0.5 * y_size,
        )

    def field(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Focal-plane coordinates (u, v) of pixel positions, -1 to 1 over the camera."""
        u = (np.asarray(x, np.float64) - self.x_center) / self.x_extent
        v = (np.asarray(y, np.float64) - self.y_center) / self.y_extent
        return u, v

    def field_axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Focal-plane coordinates u of all columns and v of all rows."""
        return (
            self.field(np.arange(self.width), 0)[0],
            self.field(0, np.arange(self.height))[1],
        )

    def wcs(self, ra: float, dec: float, rotation: float, pixel_scale: float) -> WCS:
        """Tangential projection about the camera's centre.

        Parameters
        ----------
        ra, dec
            Pointing of the camera's centre, degrees.
        rotation
            Position angle of the detector's y axis, degrees east of north.
        pixel_scale
            Arcseconds per pixel.
        """
        from astropy.wcs import WCS

        result = WCS(naxis=2)
        result.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        result.wcs.cunit = ["deg", "deg"]
        result.wcs.crval = [ra, dec]
        result.wcs.crpix = [self.x_center + 1.0, self.y_center + 1.0]
        cosine, sine = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
        scale = pixel_scale / 3600.0
        result.wcs.cd = scale * np.array([[-cosine, sine], [sine, cosine]])
        result.wcs.radesys = "ICRS"
        result.wcs.set()
        return result
