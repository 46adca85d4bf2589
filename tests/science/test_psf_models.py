"""PSF models: their images, their files read by GalSim and by the plain recipe, their arrays."""

import numpy as np
import pytest

from streamchar.characterize.errors import UnreadablePsfError
from streamchar.characterize.psf.forward.config import PixelBasisConfig
from streamchar.characterize.psf.forward.fit import fit_pixel_basis
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.io import from_arrays, read_psfex, to_arrays, write_psfex
from streamchar.characterize.psf.moffat import MoffatPsf
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.image import Psf
from tests.psf_scenes import PsfField, star_scene

X, Y = np.array([100.3, 512.5, 903.8]), np.array([800.1, 499.4, 77.7])


@pytest.fixture(scope="module")
def model():
    scene = star_scene(PsfField(2.6, 2), 120, 0)
    return fit_pixel_basis(scene.exposure, scene.catalog, np.arange(120), PixelBasisConfig()).psf


MOFFAT = MoffatPsf(5.0, 4.0, 0.5, 3.0, 41, (10.0, 20.0))


@pytest.mark.parametrize(
    "make", [lambda model: model, lambda _: MOFFAT, lambda _: GaussianPsf(1.7, 31, (1.0, 2.0))]
)
def test_model_is_a_psf(model, make):
    psf = make(model)
    assert isinstance(psf, Psf)
    stamps, kernels = psf.images(X, Y), psf.kernel_images(X, Y)
    assert stamps.images.shape == kernels.shape == (3, *psf.size)
    np.testing.assert_allclose(stamps.images.sum(axis=(1, 2)), 1.0, rtol=1e-12)
    np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1.0, rtol=1e-12)
    half = psf.size[0] // 2
    np.testing.assert_array_equal(stamps.x0 + half, np.floor(X + 0.5))
    np.testing.assert_array_equal(stamps.y0 + half, np.floor(Y + 0.5))
    assert (psf.shapes(X, Y).determinant_radius > 0.5).all()
    assert len(psf.shapes([], []).xx) == 0
    assert psf.shapes(*psf.average_position).xx.shape == (1,)


def test_images_move_with_the_position(model):
    stamps = model.images(X, Y)
    grid_y, grid_x = np.indices(model.size)
    x = (stamps.images * grid_x).sum(axis=(1, 2)) + stamps.x0
    kernel_x = (model.kernel_images(X, Y) * grid_x).sum(axis=(1, 2)) - model.size[1] // 2
    np.testing.assert_allclose(x - kernel_x, X, atol=0.02)
    assert np.isfinite(grid_y).all()


def test_position_that_is_not_finite_gives_the_average_psf(model):
    np.testing.assert_array_equal(
        model.kernel_images(np.nan, 3.0), model.kernel_images(*model.average_position)
    )


def recipe(path, x, y, width):
    """PSFEx's recipe in plain NumPy: polynomial, then Lanczos-4 resampling; x, y with the first pixel at 0."""
    from astropy.io import fits

    with fits.open(path) as file:
        header, mask = file[1].header, file[1].data["PSF_MASK"][0].astype(float)
    u = (x + 1 - header["POLZERO1"]) / header["POLSCAL1"]
    v = (y + 1 - header["POLZERO2"]) / header["POLSCAL2"]
    degree, step = header["POLDEG1"], header["PSF_SAMP"]
    terms = [u**i * v**j for j in range(degree + 1) for i in range(degree + 1 - j)]
    image = np.tensordot(terms, mask, axes=1)
    size = image.shape[0]

    def matrix(shift):
        t = (size // 2 + (np.arange(width) - width // 2 - shift) / step)[:, None] - np.arange(size)
        weight = np.where(np.abs(t) < 4, np.sinc(t) * np.sinc(t / 4), 0.0)
        return weight / weight.sum(axis=1, keepdims=True)

    drawn = matrix(y - np.floor(y + 0.5)) @ image @ matrix(x - np.floor(x + 0.5)).T
    return drawn / drawn.sum()


def test_psfex_file_by_the_plain_recipe(model, tmp_path):
    write_psfex(tmp_path / "model.psf", model, stars=120, chi2=1.0)
    for i, image in enumerate(model.images(X, Y).images):
        assert (
            np.abs(recipe(tmp_path / "model.psf", X[i], Y[i], model.width) - image).max() < 1e-5 * image.max()
        )


def test_psfex_file_by_galsim(model, tmp_path):
    galsim = pytest.importorskip("galsim")
    des = pytest.importorskip("galsim.des")
    write_psfex(tmp_path / "model.psf", model)
    read = des.DES_PSFEx(str(tmp_path / "model.psf"))
    for i, image in enumerate(model.images(X, Y).images):
        psf = read.getPSF(galsim.PositionD(X[i] + 1, Y[i] + 1))
        offset = X[i] - np.floor(X[i] + 0.5), Y[i] - np.floor(Y[i] + 0.5)
        width = model.width
        drawn = psf.drawImage(
            nx=width, ny=width, scale=1, method="no_pixel", offset=offset, dtype=float
        ).array
        # GalSim interpolates by Lanczos-3, which itself differs by up to half a per cent of the peak.
        assert np.abs(drawn / drawn.sum() - image).max() < 6e-3 * image.max()


def test_psfex_file_round_trip(model, tmp_path):
    write_psfex(tmp_path / "model.psf", model)
    read = read_psfex(tmp_path / "model.psf")
    assert read.size == model.size
    np.testing.assert_allclose(read.average_position, model.average_position)
    # Components travel as float32.
    assert np.abs(read.images(X, Y).images - model.images(X, Y).images).max() < 1e-6


@pytest.mark.parametrize("content", [b"", b"not a FITS file", b"SIMPLE  =                    T"])
def test_files_that_are_no_models(tmp_path, content):
    path = tmp_path / "bad.psf"
    path.write_bytes(content)
    with pytest.raises(UnreadablePsfError):
        read_psfex(path)
    with pytest.raises(UnreadablePsfError):
        read_psfex(tmp_path / "absent.psf")


@pytest.mark.parametrize(
    "make", [lambda model: model, lambda _: MOFFAT, lambda _: GaussianPsf(1.7, 31, (1.0, 2.0))]
)
def test_arrays_give_the_identical_model_back(model, make):
    psf = make(model)
    again = from_arrays(to_arrays(psf))
    np.testing.assert_array_equal(again.images(X, Y).images, psf.images(X, Y).images)
    assert again.average_position == psf.average_position


def test_arrays_are_checked(model):
    arrays = to_arrays(model)
    for change in (
        {"kind": "other"},
        {"mixing": np.ones((2, 2))},
        {"components": np.ones((3, 4, 4))},
        {"step": "x"},
    ):
        with pytest.raises(UnreadablePsfError):
            from_arrays({**arrays, **change})
    with pytest.raises(UnreadablePsfError):
        from_arrays({})
    with pytest.raises(TypeError):
        to_arrays(object())


def test_spatial_basis_products_are_exact():
    polynomial = PositionPolynomial(2, 500.0, 400.0, 900.0, 700.0)
    rng = np.random.default_rng(0)
    fields = SpatialBasis(polynomial, rng.normal(size=(6, 3)))
    x, y = rng.uniform(50, 950, (2, 40))
    values, every = fields(x, y), fields.with_products(0, 3, 1)(x, y)
    products = [values[:, i] * values[:, j] for i in range(3) for j in range(i, 3)]
    plain = PositionPolynomial(1, 500.0, 400.0, 900.0, 700.0).basis(x, y)[:, 1:]
    np.testing.assert_allclose(every, np.column_stack([np.ones(40), values, *products, plain]), atol=1e-11)


def test_model_checks_its_parts():
    constant = SpatialBasis.monomials(PositionPolynomial(0))
    with pytest.raises(ValueError, match="odd S"):
        PixelBasisPsf(np.ones((1, 4, 4)), constant, 0.5, 11, (0.0, 0.0))
    with pytest.raises(ValueError, match="width"):
        PixelBasisPsf(np.ones((1, 5, 5)), constant, 0.5, 10, (0.0, 0.0))
    with pytest.raises(ValueError, match="definite"):
        MoffatPsf(1.0, 1.0, 2.0, 3.0, 11)
