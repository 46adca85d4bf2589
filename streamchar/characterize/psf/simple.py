"""The starting point-spread function: a circular Gaussian as wide as the present one (reference: detection.md section 1)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from streamchar.characterize.base import Task
from streamchar.characterize.errors import MissingPsfError, PsfWidthError
from streamchar.characterize.psf.gaussian import SIGMA_TO_FWHM, GaussianPsf
from streamchar.characterize.psf.sizes import OddSize
from streamchar.characterize.psf.width import average_sigma
from streamchar.configuration import Configuration
from streamchar.image import Exposure, Psf


class InstallSimplePsfConfig(Configuration):
    """Settings of :class:`InstallSimplePsf`, used when the exposure has no PSF yet."""

    fwhm: float = Field(default=1.5 * SIGMA_TO_FWHM, gt=0)
    """Full width at half maximum in pixels."""
    width: OddSize = Field(default=11, ge=1)
    """Width of the PSF images in pixels, odd."""


class InstallSimplePsf(Task[InstallSimplePsfConfig]):
    """Put a Gaussian PSF on the exposure, of the width of the PSF it has or of the configured one."""

    config_class = InstallSimplePsfConfig
    default_name = "install_simple_psf"

    def run(self, exposure: Exposure) -> GaussianPsf:
        """Install the PSF and return it.

        Parameters
        ----------
        exposure
            Its ``psf`` is replaced. A present PSF gives the sigma (determinant radius of its shape) and the
            image width, both at its average position.

        Raises
        ------
        PsfWidthError
            When the width of the present PSF is not finite and positive.
        """
        if exposure.psf is None:
            height, width = exposure.shape
            centre = ((width - 1) / 2, (height - 1) / 2)
            psf = GaussianPsf(self.config.fwhm / SIGMA_TO_FWHM, self.config.width, centre)
        else:
            position = exposure.psf.average_position
            psf = GaussianPsf(psf_sigma(exposure.psf), max(exposure.psf.size), position)
        exposure.psf = psf
        self.record("sigma", psf.sigma)
        return psf


def psf_sigma(psf: Psf | None) -> float:
    """Width of a PSF at its average position: determinant radius in pixels.

    Raises
    ------
    MissingPsfError
        When there is no PSF.
    PsfWidthError
        When its width is not finite and positive.
    """
    if psf is None:
        raise MissingPsfError
    sigma = average_sigma(psf)
    if not (np.isfinite(sigma) and sigma > 0):
        raise PsfWidthError(sigma=sigma)
    return sigma
