"""What a simulated exposure really contains, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.image.exposure import Identity
from streamchar.telescope import polynomial
from streamchar.telescope.config import SceneConfig
from streamchar.telescope.cosmic_rays import CosmicRays
from streamchar.telescope.errors import UnreadableTruthError
from streamchar.telescope.geometry import DetectorGeometry
from streamchar.telescope.psf import TruePsf
from streamchar.telescope.streaks import Streak

Array = NDArray[np.float64]
Table = NDArray[np.void]

SOURCE_COLUMNS = np.dtype(
    [
        ("id", np.int32),
        ("x", np.float64),
        ("y", np.float64),
        ("flux", np.float64),
        ("magnitude", np.float32),
        ("galaxy", np.bool_),
        ("sersic_index", np.float32),
        ("half_light_radius", np.float32),
        ("axis_ratio", np.float32),
        ("angle", np.float32),
        ("snr", np.float32),
        ("neighbor_distance", np.float32),
        ("blended", np.bool_),
        ("streak_distance", np.float32),
        ("saturated", np.bool_),
        ("cosmic_ray", np.bool_),
        ("bad_pixel", np.bool_),
    ]
)
"""Columns of the sources: pixels, adu and radians; distances are NaN without a neighbour or a streak.

``snr`` is the signal to noise of an optimal flux of a point source of that brightness; ``blended`` says that a source
at least a tenth as bright is within three FWHM; ``saturated``, ``cosmic_ray`` and ``bad_pixel`` that such a pixel is
within 1.5 FWHM. Sources outside the detector, drawn for their wings, are included.
"""

PSF_COLUMNS = np.dtype(
    [
        (name, np.float64)
        for name in ("x", "y", "fwhm", "xx", "yy", "xy", "sigma", "e1", "e2", "centroid_x", "centroid_y")
    ]
)
"""Columns of the true point-spread function on a grid, pixel response included.

FWHM (of the circle of equal area) and sigma, the determinant radius, in pixels, adaptive moments in pixel²,
ellipticities (xx - yy)/(xx + yy) and 2 xy/(xx + yy), and the adaptive centroid relative to the true position, which
is the first moment; the two differ where there is coma.
"""

TRUTH_SUFFIX = ".truth.fits"
"""Replaces the suffix of the exposure's file."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What was drawn.

    Attributes
    ----------
    scene, seed, identity
        How to make it again.
    sources
        Structured array of :data:`SOURCE_COLUMNS`.
    psf_grid
        Structured array of :data:`PSF_COLUMNS`.
    cosmic_rays
        Hits with the charge of each pixel, electrons.
    streaks
        Satellites; brightness in electrons per pixel of length.
    sky
        Coefficients of the background in adu over focal-plane coordinates, in the order of
        :data:`streamchar.telescope.polynomial.POWERS`.
    sky_sigma
        Standard deviation of the sky in the middle of the detector, adu, read noise included.
    """

    scene: SceneConfig
    seed: int
    identity: Identity
    sources: Table
    psf_grid: Table
    cosmic_rays: CosmicRays
    streaks: tuple[Streak, ...]
    sky: tuple[float, ...]
    sky_sigma: float
    fault: str = field(default="")

    @cached_property
    def geometry(self) -> DetectorGeometry:
        """Placement of the detector."""
        return DetectorGeometry.of(self.scene.camera, self.scene.detector)

    @cached_property
    def psf(self) -> TruePsf:
        """The true point-spread function at any position."""
        return TruePsf(self.scene.psf, self.geometry, self.scene.camera.pixel_scale)

    def sky_at(self, x: Array, y: Array) -> Array:
        """Background at pixel positions, adu."""
        return polynomial.evaluate(self.sky, *self.geometry.field(x, y))

    def sky_image(self) -> NDArray[np.float32]:
        """Background on every pixel, adu: float32 (height, width)."""
        return polynomial.outer(self.sky, *self.geometry.field_axes())

    def cosmic_ray_mask(self) -> NDArray[np.bool_]:
        """Pixels with charge of cosmic rays: bool (height, width)."""
        return self.cosmic_rays.mask((self.geometry.height, self.geometry.width))


def truth_path(exposure: str | Path) -> Path:
    """Where the truth of an exposure's file is kept: ``a.fits`` has ``a.truth.fits``."""
    return Path(exposure).with_suffix(TRUTH_SUFFIX)


def write_truth(path: str | Path, truth: Truth) -> Path:
    """Write a truth file (binary tables); it appears whole or not at all.

    Parameters
    ----------
    path
        Where to; an existing file is replaced.
    truth
        What to write.
    """
    from astropy.io import fits

    from streamchar.image.fits import write_hdus

    header = fits.Header()
    header["INSTRUME"] = truth.identity.instrument
    header["EXPID"] = truth.identity.exposure
    header["DETECTOR"] = truth.identity.detector
    header["BAND"] = truth.identity.band
    header["SEED"] = (str(truth.seed), "seed of everything random")
    header["SKYSIGMA"] = (truth.sky_sigma, "standard deviation of the sky (adu)")
    header["FAULT"] = (truth.fault, "what was done to the file")
    for number, value in enumerate(truth.sky):
        header[f"SKY{number}"] = (value, "background polynomial (adu)")
    hits = truth.cosmic_rays
    pixels = np.empty(
        len(hits.hit), [("hit", np.int32), ("x", np.int32), ("y", np.int32), ("charge", np.float32)]
    )
    for name in ("hit", "x", "y", "charge"):
        pixels[name] = getattr(hits, name)
    streaks = np.array(
        [(line.x, line.y, line.angle, line.brightness, line.width) for line in truth.streaks],
        [(name, np.float64) for name in ("x", "y", "angle", "brightness", "width")],
    )
    scene = np.frombuffer(json.dumps(truth.scene.model_dump(mode="json")).encode(), np.uint8)
    return write_hdus(
        path,
        [
            fits.PrimaryHDU(header=header),
            fits.BinTableHDU(truth.sources, name="SOURCES"),
            fits.BinTableHDU(truth.psf_grid, name="PSF"),
            fits.BinTableHDU(np.array(hits.kind, [("kind", np.uint8)]), name="HITS"),
            fits.BinTableHDU(pixels, name="COSMIC_RAYS"),
            fits.BinTableHDU(streaks, name="STREAKS"),
            fits.ImageHDU(scene, name="SCENE"),
        ],
    )


def read_truth(path: str | Path) -> Truth:
    """Read a truth file.

    Raises
    ------
    UnreadableTruthError
        When it is missing or not a truth file.
    """
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as hdus:
            return _assemble(hdus)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UnreadableTruthError(path=str(path), detail=f"cannot be read as truth: {error}") from error


def _assemble(hdus: Any) -> Truth:
    header = hdus[0].header
    pixels, kind, lines = (hdus[name].data for name in ("COSMIC_RAYS", "HITS", "STREAKS"))
    sky = tuple(float(header[f"SKY{number}"]) for number in range(10) if f"SKY{number}" in header)
    identity = Identity(header["INSTRUME"], header["EXPID"], header["DETECTOR"], header["BAND"])
    return Truth(
        scene=SceneConfig.model_validate_json(hdus["SCENE"].data.astype(np.uint8).tobytes()),
        seed=int(header["SEED"]),
        identity=identity,
        sources=_table(hdus["SOURCES"].data, SOURCE_COLUMNS),
        psf_grid=_table(hdus["PSF"].data, PSF_COLUMNS),
        cosmic_rays=CosmicRays(
            np.asarray(kind["kind"], np.uint8),
            np.asarray(pixels["hit"], np.int32),
            np.asarray(pixels["x"], np.int32),
            np.asarray(pixels["y"], np.int32),
            np.asarray(pixels["charge"], np.float32),
        ),
        streaks=tuple(Streak(*(float(value) for value in line)) for line in lines),
        sky=sky,
        sky_sigma=float(header["SKYSIGMA"]),
        fault=str(header["FAULT"]),
    )


def _table(data: Any, columns: np.dtype[np.void]) -> Table:
    table = np.empty(len(data), columns)
    for name in columns.names or ():
        table[name] = data[name]
    return table
