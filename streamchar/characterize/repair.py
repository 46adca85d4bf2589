"""Repairing an exposure: defects interpolated, cosmic rays found and replaced (reference: repair.md)."""

from __future__ import annotations

import zlib
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize import cosmic_rays
from streamchar.characterize.base import Task
from streamchar.characterize.cosmic_rays import BAD_PLANES, CosmicRayConfig, CosmicRays
from streamchar.characterize.errors import MissingPsfError
from streamchar.characterize.interpolation import InterpolateConfig, defect_pixels, interpolate_defects
from streamchar.configuration import Configuration
from streamchar.image import Exposure
from streamchar.kernels import or_spans, replace_pixels


class RepairConfig(Configuration):
    """What is repaired, and how."""

    do_interpolate: bool = True
    """Interpolate over the defects, when a list is given."""

    do_cosmic_ray: bool = True
    """Find cosmic rays."""

    cosmicray: CosmicRayConfig = CosmicRayConfig()
    """How cosmic rays are found."""

    interp: InterpolateConfig = InterpolateConfig()
    """How defects are interpolated."""


class Repair(Task[RepairConfig]):
    """Interpolate over defects and repair cosmic rays."""

    config_class: ClassVar[type[Configuration]] = RepairConfig
    default_name: ClassVar[str] = "repair"

    def run(
        self,
        exposure: Exposure,
        *,
        keep_crs: bool | None = None,
        defects: NDArray[np.integer] | None = None,
        before: CosmicRays | None = None,
    ) -> CosmicRays:
        """Repair an exposure in place.

        The mask plane CR is cleared and set anew. With ``keep_crs`` the image stays bit by bit as it is;
        without, the pixels of cosmic rays are replaced and carry INTRP, too. The variance of cosmic rays is
        left alone.

        Parameters
        ----------
        exposure
            With a PSF.
        keep_crs
            Whether cosmic rays are only masked; as configured when omitted.
        defects
            (n, 4) boxes x0, y0, x1, y1 (inclusive) to interpolate over first.
        before
            What an earlier run found, when image, variance and ``BAD_PLANES`` are what they were before it and CR is as
            it left it.

        Raises
        ------
        MissingPsfError
            The exposure has no PSF.
        TooManyCosmicRaysError
            More cosmic-ray pixels than the configured limit; image and mask are then without cosmic rays.
        """
        if exposure.psf is None:
            raise MissingPsfError(step=self.get_full_name())
        with self.timer("run"):
            if defects is not None and self.config.do_interpolate:
                interpolate_defects(exposure, defect_pixels(exposure.shape, defects), self.config.interp)
                self.record("interpolated_pixel_count", len(defects))
                before = None
            if not self.config.do_cosmic_ray:
                return CosmicRays.none()
            found = cosmic_rays.find(exposure, self.config.cosmicray, before)
            if not (self.config.cosmicray.keep_crs if keep_crs is None else keep_crs):
                replace_cosmic_rays(exposure, found)
            self.record("cosmic_ray_count", found.count)
            self.record("star_loss", found.star_loss.fraction)
            self.record("cosmic_ray_steps_back", found.steps_back)
        return found


def replace_cosmic_rays(exposure: Exposure, found: CosmicRays) -> None:
    """Replace the pixels of cosmic rays by what their surroundings predict, and set CR and INTRP on them.

    Along each row, column and diagonal through the pixel, four pixels predict it with the weights of
    noise-free kriging, if all four are finite and unmasked. The smallest prediction above the background
    less two standard deviations wins, plus what the smallest of so many normal deviates lies below their
    mean. Failing that: the mean of the linear interpolations along row and column; failing that: sky with
    its noise. This is what the reference was designed to do (repair.md section 4.2; as coded, it fills in
    noise everywhere). Two deviations: cosmic-ray pixels are never used to predict others, and noise is that
    of the pixels used, since the variance of a hit may contain its own photons.

    Parameters
    ----------
    exposure
        With the mask plane CR set on ``found``; image and mask are modified.
    found
        The cosmic rays.
    """
    exposure.planes = exposure.planes.including("INTRP")
    excluded = exposure.present_bits("CR", *BAD_PLANES)
    unfounded = replace_pixels(
        exposure.image,
        exposure.mask,
        exposure.variance,
        found.y,
        found.x0,
        found.x1,
        found.background,
        excluded,
    )
    _fill_with_sky(exposure, unfounded, found.background)
    or_spans(exposure.mask, found.y, found.x0, found.x1, exposure.bits("CR", "INTRP"))


def _fill_with_sky(exposure: Exposure, pixels: NDArray[np.int64], level: float) -> None:
    """Fill pixels, each once, with the sky level and its noise, the same for every run on this exposure."""
    if len(pixels) == 0:
        return
    generator = np.random.default_rng(zlib.crc32(str(exposure.identity).encode()))
    y, x = np.divmod(np.unique(pixels), exposure.shape[1])
    sky = exposure.variance[np.isfinite(exposure.variance) & (exposure.variance > 0)]
    noise = float(np.sqrt(np.median(sky))) if sky.size else 0.0
    exposure.image[y, x] = level + noise * generator.standard_normal(len(y))
