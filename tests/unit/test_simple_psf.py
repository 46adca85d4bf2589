"""The starting PSF: from the settings or from the PSF the exposure has."""

from dataclasses import dataclass

import numpy as np
import pytest

from streamchar.characterize.errors import MissingPsfError, PsfWidthError
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.simple import InstallSimplePsf, InstallSimplePsfConfig, psf_sigma
from streamchar.errors import ConfigurationError
from streamchar.image import Exposure, Moments


@dataclass
class EllipticalPsf:
    """A PSF that knows its shape only."""

    xx: float
    yy: float
    xy: float
    size: tuple[int, int] = (41, 41)
    average_position: tuple[float, float] = (30.0, 20.0)

    def shapes(self, x, y):
        assert (x, y) == self.average_position
        return Moments(np.array([self.xx]), np.array([self.yy]), np.array([self.xy]))


def exposure(psf=None):
    pixels = np.zeros((50, 70), np.float32)
    return Exposure(pixels, np.zeros((50, 70), np.int32), pixels + 1, psf=psf)


def test_without_psf_the_settings_decide():
    target = exposure()
    psf = InstallSimplePsf().run(target)
    assert target.psf is psf
    assert psf.sigma == pytest.approx(1.5, rel=1e-12)
    assert (psf.size, psf.average_position) == ((11, 11), (34.5, 24.5))
    wide = InstallSimplePsf(InstallSimplePsfConfig(fwhm=5.0, width=21)).run(exposure())
    assert wide.sigma == pytest.approx(5.0 / 2.354820045)
    assert wide.width == 21


def test_a_present_psf_gives_width_size_and_position():
    target = exposure(EllipticalPsf(9.0, 5.0, 2.0))
    psf = InstallSimplePsf().run(target)
    assert psf == GaussianPsf((9.0 * 5.0 - 4.0) ** 0.25, 41, (30.0, 20.0))
    assert target.psf is psf


def test_the_image_is_a_point_sampled_gaussian_of_unit_sum():
    image = InstallSimplePsf().run(exposure()).kernel_images(0, 0)[0]
    offsets = np.arange(-5, 6)
    expected = np.exp(-(offsets**2 + offsets[:, None] ** 2) / (2 * 1.5**2))
    np.testing.assert_allclose(image, expected / expected.sum(), rtol=1e-12)


@pytest.mark.parametrize("moments", [(np.nan, 1.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1.0, 2.0)])
def test_a_psf_without_width_is_refused(moments):
    target = exposure(EllipticalPsf(*moments))
    with pytest.raises(PsfWidthError, match="positive, finite"):
        InstallSimplePsf().run(target)
    assert isinstance(target.psf, EllipticalPsf)


def test_no_psf_has_no_width():
    with pytest.raises(MissingPsfError):
        psf_sigma(None)


@pytest.mark.parametrize("override", ["width=10", "width=0", "fwhm=0.0"])
def test_settings_are_checked(override):
    with pytest.raises(ConfigurationError):
        InstallSimplePsfConfig().with_overrides(override)
