"""Reason codes: what was not as it should be, without being an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from streamchar.errors import StreamcharError, Value
from streamchar.frozen import frozen


@frozen
class Reason:
    """Why a result is degraded.

    Attributes
    ----------
    code
        Stable and machine readable.
    detail
        One sentence.
    values
        The figures behind it.
    """

    code: str
    detail: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def known(cls, code: str) -> Reason:
        """Return the reason of a code of :data:`REASON_CODES`, with its meaning as detail."""
        return cls(code, REASON_CODES[code])

    @classmethod
    def from_error(cls, error: StreamcharError) -> Reason:
        """Turn an expected failure into the reason why a step was left out."""
        return cls(error.code, str(error), dict(error.values))


REASON_CODES: Mapping[str, str] = {
    "too_many_cosmic_rays": "the cosmic-ray finder overflowed; cosmic rays are left in the image",
    "cosmic_ray_finder_stepped_back": "the cosmic-ray finder took star cores for cosmic rays and was made less sensitive",
    "psf_order_lowered": "too few stars for the spatial order asked for",
    "psf_constant": "too few stars for a PSF that varies over the detector",
    "psf_analytic": "too few stars for a pixel PSF; a Gaussian of their width is used",
    "no_psf_stars": "no usable star; the PSF is the starting Gaussian",
    "normalization": "the calibration flux could not be normalised",
    "aperture_correction": "aperture corrections could not be measured; fluxes are not corrected",
    "unusable_pixels": "pixels that are not finite or have no variance were masked as NO_DATA",
}
"""Every reason code characterization gives, with its meaning."""
