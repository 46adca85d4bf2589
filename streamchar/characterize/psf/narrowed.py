"""A PSF model in smaller images: for those who look at the middle of stars only."""

from __future__ import annotations

from dataclasses import replace

from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.moffat import MoffatPsf
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.image import Psf


def narrowed(psf: Psf, half: int) -> Psf:
    """Return the same model in images that reach no further than ``half`` pixels from their middle, and have unit sum there.

    A model of another kind, or one whose images are no larger, is returned as it is.
    """
    if isinstance(psf, GaussianPsf | MoffatPsf | PixelBasisPsf) and psf.width > 2 * half + 1:
        return replace(psf, width=2 * half + 1)
    return psf
