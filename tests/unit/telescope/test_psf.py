"""The true point-spread function against direct drawings with GalSim."""

import galsim
import numpy as np
import pytest
from photutils.aperture import CircularAperture

from streamchar.image.psf import Psf
from streamchar.telescope.config import CameraConfig, PsfConfig
from streamchar.telescope.geometry import DetectorGeometry
from streamchar.telescope.painter import Painter
from streamchar.telescope.population import Sources
from streamchar.telescope.psf import COMA_RINGS, TruePsf

CAMERA = CameraConfig(rows=1, columns=1, height=300, width=400)
ABERRATED = {
    "size": (0.0, 0.04, -0.03, 0.05, 0.02, 0.03, -0.08, 0.04, 0.03, 0.06),
    "shear1": (0.02, 0.01, 0.0, 0.01, 0.02, -0.01),
    "shear2": (0.01, 0.01, 0.02),
    "defocus": (0.12, 0.02, 0.01, 0.05, 0.0, 0.05),
    "astigmatism1": (0.02, 0.03, 0.01),
    "astigmatism2": (-0.01, 0.02, 0.03),
    "coma1": (0.02, 0.04, 0.0),
    "coma2": (0.03, 0.0, 0.04),
    "guiding_rms": 0.08,
    "guiding_ratio": 0.4,
    "guiding_angle": 25.0,
}
PRECISE = galsim.GSParams(
    maximum_fft_size=16384, folding_threshold=2e-4, kvalue_accuracy=1e-6, maxk_threshold=1e-4
)


def make(seeing: float, **changes) -> TruePsf:
    config = PsfConfig(seeing=seeing, **{**ABERRATED, **changes})
    return TruePsf(config, DetectorGeometry.of(CAMERA, 0), CAMERA.pixel_scale)


def galsim_profile(psf: TruePsf, x: float, y: float) -> galsim.GSObject:
    """The same optics from GalSim's own profiles."""
    parameters = psf.parameters(x, y)
    fwhm, g1, g2, d, a1, a2, c1, c2 = (
        float(getattr(parameters, name)[0])
        for name in (
            "fwhm", "shear1", "shear2", "defocus", "astigmatism1", "astigmatism2", "coma1", "coma2",
        )
    )  # fmt: skip
    config = psf.config
    atmosphere = (
        galsim.Kolmogorov(fwhm=fwhm)
        if config.profile == "kolmogorov"
        else galsim.Moffat(beta=config.beta, fwhm=fwhm)
    ).shear(g1=g1, g2=g2)
    hole = config.obscuration
    pupil = galsim.TopHat(1.0, flux=1 / (1 - hole**2))
    if hole:
        pupil = galsim.Sum([pupil, galsim.TopHat(hole, flux=-(hole**2) / (1 - hole**2))])
    pupil = pupil.transform(d + a1, a2, a2, d - a1).withFlux(1.0)
    nodes, weights = np.polynomial.legendre.leggauss(COMA_RINGS)
    points, length = [], np.hypot(c1, c2)
    for ring, weight in zip(0.5 * ((1 - hole**2) * nodes + 1 + hole**2), 0.5 * weights, strict=True):
        for angle in 2 * np.pi * np.arange(16) / 16:
            dx = 2 * ring * c1 - (1 + hole**2) * c1 + ring * length * np.cos(angle)
            dy = 2 * ring * c2 - (1 + hole**2) * c2 + ring * length * np.sin(angle)
            points.append(galsim.DeltaFunction(flux=weight / 16).shift(dx, dy))
    large, small = (config.guiding_rms / psf.pixel_scale * ratio for ratio in (1.0, config.guiding_ratio))
    guiding = galsim.Gaussian(sigma=np.sqrt(large * small)).shear(
        q=small / large, beta=config.guiding_angle * galsim.degrees
    )
    return galsim.Convolve([atmosphere, pupil, galsim.Sum(points), guiding], gsparams=PRECISE)


def galsim_image(psf: TruePsf, x: float, y: float, size: int, dx: float, dy: float) -> np.ndarray:
    image = galsim.ImageD(size, size)
    middle = 0.0 if size % 2 else 0.5
    galsim_profile(psf, x, y).drawImage(image, scale=1.0, offset=(dx + middle, dy + middle), method="auto")
    return image.array


def star(x: float, y: float, flux: float = 1.0) -> Sources:
    one = np.ones(1)
    return Sources(
        x=x * one, y=y * one, flux=flux * one, magnitude=one, galaxy=one > 2, index=0 * one,
        radius=0 * one, axis_ratio=one, angle=0 * one,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seeing", "changes"),
    [
        (0.36, {}),
        (0.75, {}),
        (1.5, {}),
        (0.6, {"profile": "moffat", "beta": 2.7}),
        (0.4, {"obscuration": 0.0}),
    ],
)
def test_painted_stars_equal_direct_drawings_to_1e_4_of_the_peak(seeing: float, changes: dict) -> None:
    psf = make(seeing, **changes)
    random = np.random.default_rng(3)
    painter = Painter(psf, threshold=1e-9)
    size = 64
    for x, y in random.uniform((40, 40), (360, 260), (4, 2)):
        image = np.zeros((CAMERA.height, CAMERA.width), np.float32)
        painter.paint(image, star(x, y))
        column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        stamp = image[row - size // 2 : row + size // 2, column - size // 2 : column + size // 2]
        expected = galsim_image(psf, x, y, size, x - column, y - row)
        cut = (slice(None, stamp.shape[0]), slice(None, stamp.shape[1]))
        assert np.abs(stamp - expected[cut]).max() < 1e-4 * expected.max()


@pytest.mark.parametrize("seeing", [0.36, 0.75])
def test_moments_equal_those_galsim_measures_on_its_own_drawing(seeing: float) -> None:
    psf = make(seeing)
    x, y = np.array([30.0, 200.0, 390.0]), np.array([250.0, 10.0, 150.0])
    adaptive = psf.adaptive_moments(x, y)
    sigma = adaptive.moments.determinant_radius
    for index in range(3):
        # Finer sampling than the pixels: HSM's sums are then integrals.
        fine = galsim.ImageD(257, 257)
        profile = galsim.Convolve(galsim_profile(psf, x[index], y[index]), galsim.Pixel(1.0))
        profile.drawImage(fine, scale=0.25, method="no_pixel")
        parameters = galsim.hsm.HSMParams(convergence_threshold=1e-9)
        measured = galsim.hsm.FindAdaptiveMom(fine, hsmparams=parameters)
        assert 0.25 * measured.moments_sigma == pytest.approx(sigma[index], rel=1e-4)
        assert measured.observed_shape.e1 == pytest.approx(adaptive.moments.e1[index], abs=1e-4)
        assert measured.observed_shape.e2 == pytest.approx(adaptive.moments.e2[index], abs=1e-4)
        assert 0.25 * (measured.moments_centroid.x - 129) == pytest.approx(adaptive.x[index], abs=1e-4)
        assert 0.25 * (measured.moments_centroid.y - 129) == pytest.approx(adaptive.y[index], abs=1e-4)


def test_fwhm_equals_that_of_a_radial_profile() -> None:
    round_psf = {name: () for name in ABERRATED if not name.startswith("guiding")}
    psf = make(0.8, **round_psf, guiding_rms=0.1, guiding_ratio=1.0)
    profile = galsim.Convolve(galsim.Kolmogorov(fwhm=4.0), galsim.Gaussian(sigma=0.5), galsim.Pixel(1.0))
    fine = profile.drawImage(nx=401, ny=401, scale=0.05, method="no_pixel")
    assert psf.fwhm == pytest.approx(fine.calculateFWHM(), rel=2e-3)


def test_it_is_a_psf_whose_images_have_unit_sum() -> None:
    psf = make(0.7)
    assert isinstance(psf, Psf)
    stamps = psf.images([10.2, 300.7], [20.0, 100.4])
    assert stamps.images.shape == (2, *psf.size)
    assert stamps.images.sum(axis=(1, 2)) == pytest.approx(1.0)
    assert (stamps.x0 + psf.size[1] // 2).tolist() == [10, 301]
    centered = psf.kernel_images(10.2, 20.0)[0]
    assert np.unravel_index(centered.argmax(), centered.shape) == (psf.size[0] // 2, psf.size[1] // 2)
    assert psf.shapes(10.2, 20.0).xx.shape == (1,)


@pytest.mark.parametrize("radius", [3.0, 6.0, 12.0])
def test_aperture_fluxes_equal_those_of_a_fine_drawing(radius: float) -> None:
    psf = make(0.7)
    profile = galsim.Convolve(galsim_profile(psf, 100.0, 80.0), galsim.Pixel(1.0))
    fine = profile.drawImage(nx=513, ny=513, scale=0.125, method="no_pixel").array
    expected = CircularAperture((256.0, 256.0), radius / 0.125).do_photometry(fine, method="exact")[0][0]
    assert psf.aperture_fluxes(100.0, 80.0, radius)[0] == pytest.approx(expected, rel=3e-4)


def test_one_node_suffices_for_a_constant_psf() -> None:
    constant = {name: value[:1] for name, value in ABERRATED.items() if isinstance(value, tuple)}
    psf = make(0.7, **constant)
    assert not psf.varies
    far, near = psf.kernel_images([0.0, 399.0], [0.0, 299.0])
    assert far == pytest.approx(near, abs=1e-9)
