"""What an exposure is: pixels, mask planes, variance, coordinates, PSF slot, identity; FITS in and out."""

from streamchar.image.errors import (
    ExposureTooLargeError,
    InvalidExposureError,
    UnknownMaskPlaneError,
    UnreadableExposureError,
)
from streamchar.image.exposure import Exposure, Identity, Observation
from streamchar.image.mask import MaskPlanes
from streamchar.image.psf import Moments, Psf, PsfStamps

__all__ = [
    "Exposure",
    "ExposureTooLargeError",
    "Identity",
    "InvalidExposureError",
    "MaskPlanes",
    "Moments",
    "Observation",
    "Psf",
    "PsfStamps",
    "UnknownMaskPlaneError",
    "UnreadableExposureError",
]
