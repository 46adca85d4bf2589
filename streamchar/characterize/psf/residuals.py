"""How well the PSF model describes the stars: size and ellipticity of each star minus those of the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.measurement.templates import PsfTemplates
from streamchar.characterize.psf.measure import PsfStars
from streamchar.characterize.psf.samples import cut_samples
from streamchar.frozen import frozen
from streamchar.image import Exposure, Moments, Psf
from streamchar.kernels import sdss_shape

Array = NDArray[np.float64]

_BAD_PLANES = ("BAD", "SAT", "CR", "INTRP", "NO_DATA")


@frozen(eq=False)
class PsfResiduals:
    """Star minus model for n stars whose moments could be measured.

    Attributes
    ----------
    index
        int64 (n): rows of the catalogue.
    x, y
        float64 (n): positions in pixels.
    size
        float64 (n): relative difference of xx + yy.
    e1, e2
        float64 (n): difference of the ellipticity components.
    used, reserved
        bool (n): took part in the fit; held back from it.
    """

    index: NDArray[np.int64]
    x: Array
    y: Array
    size: Array
    e1: Array
    e2: Array
    used: NDArray[np.bool_]
    reserved: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.index)


def psf_residuals(exposure: Exposure, catalog: SourceCatalog, psf: Psf, stars: PsfStars) -> PsfResiduals:
    """Compare the adaptive moments of stars with those of the model drawn at the same sub-pixel position.

    Both are measured by the same algorithm on the same pixels. Bad pixels and those of detected neighbours take
    the value of the model scaled to the star's flux, so that they neither add nor remove light. Stars whose stamp
    leaves the exposure, without positive flux, or whose moments do not converge are left out.
    """
    flux = stars.flux
    samples = cut_samples(exposure, catalog, stars.index, size=psf.size[0], flux=flux, bad_planes=_BAD_PLANES)
    # Short Lanczos kernels would widen the model by up to 0.1 % between the pixels' centres.
    drawn = PsfTemplates.of(psf).psf.images(samples.x, samples.y).images
    weight = np.where(samples.usable, drawn, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        fitted = (weight * samples.pixels).sum(axis=(1, 2)) / (weight * weight).sum(axis=(1, 2))
    image = np.where(samples.usable, samples.pixels, fitted[:, None, None] * drawn)
    middle = float(samples.size // 2)
    measured, model = (
        sdss_shape(
            np.ascontiguousarray(pixels), middle + samples.dx, middle + samples.dy, tol1=1e-6, tol2=1e-5
        )
        for pixels in (image, drawn)
    )
    good = (measured[6] == 0) & (model[6] == 0)
    star, ideal = (Moments(*(column[good] for column in result[:3])) for result in (measured, model))
    index = samples.index[good]
    row = np.searchsorted(stars.index, index)
    return PsfResiduals(
        index,
        samples.x[good],
        samples.y[good],
        (star.xx + star.yy) / (ideal.xx + ideal.yy) - 1.0,
        star.e1 - ideal.e1,
        star.e2 - ideal.e2,
        stars.used[row],
        stars.reserved[row],
    )
