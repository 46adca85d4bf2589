"""PSF models in smaller images, and the width that is remembered of them."""

import numpy as np
import pytest

from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.moffat import MoffatPsf
from streamchar.characterize.psf.narrowed import narrowed
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.characterize.psf.width import average_sigma

WIDTH, HALF = 21, 3


def pixel_basis(sigma=1.8):
    y, x = np.mgrid[-12:13, -12:13]
    image = np.exp(-0.5 * (x**2 + y**2) / sigma**2)
    basis = SpatialBasis.constant(PositionPolynomial(0))
    return PixelBasisPsf(image[None] / image.sum(), basis, 1.0, WIDTH, (50.0, 60.0))


@pytest.mark.parametrize(
    "psf", [GaussianPsf(1.8, WIDTH), MoffatPsf(3.0, 2.5, 0.3, 2.8, WIDTH), pixel_basis()], ids=type
)
def test_smaller_images_are_the_middle_of_the_others(psf):
    small, whole = narrowed(psf, HALF).images(10.3, 20.8), psf.images(10.3, 20.8)
    cut = slice(WIDTH // 2 - HALF, WIDTH // 2 + HALF + 1)
    middle = whole.images[:, cut, cut]
    assert small.images == pytest.approx(middle / middle.sum(), rel=1e-9, abs=1e-12)
    assert (small.x0[0], small.y0[0]) == (10 - HALF, 21 - HALF)


def test_what_is_as_small_stays():
    psf = GaussianPsf(1.8, 7)
    assert narrowed(psf, 3) is psf
    assert narrowed(psf, 40) is psf


def test_widths_of_models_are_not_confused():
    models = [pixel_basis(sigma) for sigma in np.linspace(1.2, 2.4, 12)]
    for _ in range(2):  # more than are remembered
        assert [average_sigma(psf) for psf in models] == pytest.approx(np.linspace(1.2, 2.4, 12), rel=0.01)
