"""What a PSF determiner returns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen
from streamchar.image.psf import Psf


@frozen(eq=False)
class PsfFit:
    """A PSF model and the stars it was made from.

    Attributes
    ----------
    psf
        The model.
    used
        int64: rows of the catalogue whose stars remained in the fit, ascending.
    chi2
        float64: reduced chi-square of each used star.
    degree
        Spatial degree of the model.
    reasons
        Reason codes of the rungs taken for want of stars.
    """

    psf: Psf
    used: NDArray[np.int64]
    chi2: NDArray[np.float64]
    degree: int
    reasons: tuple[str, ...] = ()
