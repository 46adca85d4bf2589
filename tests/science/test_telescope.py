"""The simulated camera as a source of truth: what is measured on its pixels is what its truth says."""

import time
from dataclasses import fields

import galsim
import numpy as np
import pytest

from streamchar.telescope import SceneConfig, SimulatedExposure, TruePsf, named_scene, simulate_exposure
from streamchar.telescope.geometry import DetectorGeometry
from streamchar.telescope.painter import Painter
from streamchar.telescope.population import Sources
from streamchar.telescope.transform import sampled

TARGETS = {"sharp": 2.3, "normal": 4.0, "sparse": 4.0, "dense": 4.0, "crowded": 4.0, "poor": 8.0}


def quiet(name: str, size: int = 1024) -> SceneConfig:
    """A named scene of nothing but bright stars, whose variance plane is exact."""
    return named_scene(name, size=size).with_overrides(
        'camera.variance="expected"', "camera.bad_columns=0", "cosmic_rays.rate=0", "streaks.probability=0",
        "galaxies.count=0", "stars.density=8", "stars.bright_magnitude=16.5", "stars.faint_magnitude=21",
    )  # fmt: skip


def isolated_stars(made: SimulatedExposure, reach: float, snr: float) -> np.ndarray:
    """Unsaturated stars above a signal to noise with nothing else of a hundredth of their flux nearby."""
    table = made.truth.sources
    height, width = made.exposure.shape
    margin = reach + 2
    chosen = (
        ~table["galaxy"]
        & ~table["saturated"]
        & (table["snr"] > snr)
        & (abs(table["x"] - width / 2) < width / 2 - margin)
        & (abs(table["y"] - height / 2) < height / 2 - margin)
    )
    indices = []
    for index in np.flatnonzero(chosen):
        distance = np.hypot(table["x"] - table["x"][index], table["y"] - table["y"][index])
        distance[index] = np.inf
        if not np.any((distance < 2.5 * reach) & (table["flux"] > 0.002 * table["flux"][index])):
            indices.append(index)
    return table[indices]


def star(x: float | np.ndarray, y: float | np.ndarray) -> Sources:
    """Stars of unit flux."""
    values = {"x": np.atleast_1d(x), "y": np.atleast_1d(y)}
    rest = np.ones(len(values["x"]))
    values |= {field.name: rest for field in fields(Sources) if field.name not in values}
    return Sources(**values | {"galaxy": rest == 0})


def image_fraction(psf: TruePsf) -> float:
    """Part of a star's flux inside the square of its PSF image."""
    half = psf.size[0] / 2
    # The square holds what a circle of the same area does, to a tenth of the little that is outside.
    return float(psf.aperture_fluxes(*psf.center, half * 2 / np.sqrt(np.pi))[0])


@pytest.mark.parametrize(("name", "fwhm"), TARGETS.items())
def test_named_scenes_have_the_fwhm_they_promise(name: str, fwhm: float) -> None:
    made = simulate_exposure(named_scene(name, size=64), 1)
    assert made.truth.psf.fwhm == pytest.approx(fwhm, rel=0.01)


def test_the_sparse_scene_is_sparse_and_the_sharp_one_varies_fast() -> None:
    sparse = simulate_exposure(named_scene("sparse", size=1024), 1).truth.sources
    assert (~sparse["galaxy"]).sum() == 38
    grid = simulate_exposure(named_scene("sharp", size=64), 1).truth.psf_grid
    assert grid["fwhm"].max() / grid["fwhm"].min() > 1.1
    assert np.hypot(grid["e1"], grid["e2"]).max() > 0.05


@pytest.mark.parametrize("name", ["sharp", "normal", "poor"])
def test_true_psf_and_flux_leave_only_noise(name: str) -> None:
    pulls, residuals = [], []
    for seed in (1, 2):
        made = simulate_exposure(quiet(name), seed)
        image = made.exposure.image - made.truth.sky_image()
        psf = made.truth.psf
        half = psf.size[0] // 2
        stars = isolated_stars(made, 2 * psf.fwhm, 40)
        stamps = psf.images(stars["x"], stars["y"])
        # The stamp has unit sum: the wings outside of it are missing from its flux.
        held = image_fraction(psf)
        core = int(np.ceil(1.5 * psf.fwhm))
        middle = slice(half - core, half + core + 1)
        for star, stamp, x0, y0 in zip(stars, stamps.images, stamps.x0, stamps.y0, strict=True):
            rows, columns = (
                slice(y0 + half - core, y0 + half + core + 1),
                slice(x0 + half - core, x0 + half + core + 1),
            )
            model, data = stamp[middle, middle], image[rows, columns]
            variance = made.exposure.variance[rows, columns]
            error = 1 / np.sqrt((model**2 / variance).sum())
            flux = (model * data / variance).sum() * error**2
            pulls.append((flux - held * star["flux"]) / error)
            residuals.append(((data - flux * model) / np.sqrt(variance)).ravel())
    pull = np.array(pulls)
    chi = np.concatenate(residuals)
    assert len(pulls) > 30
    assert chi.std() == pytest.approx(1.0, abs=0.03)
    assert np.average(pull) == pytest.approx(0.0, abs=4 / np.sqrt(len(pull)))
    assert pull.std() == pytest.approx(1.0, abs=3 / np.sqrt(2 * len(pull)))


@pytest.mark.parametrize("name", ["sharp", "normal", "poor"])
@pytest.mark.parametrize("faintness", [1.0, 3e-6, 1e-7])
def test_stars_of_any_brightness_have_the_true_profile(name: str, faintness: float) -> None:
    """What a star holds within 12 pixels, and the light far from it, are those of the wide Fourier inverse."""
    side, position = 320, (150.3, 171.6)
    scene = named_scene(name, size=side)
    psf = TruePsf(scene.psf, DetectorGeometry.of(scene.camera, 0), scene.camera.pixel_scale)
    painter = Painter(psf, threshold=faintness)
    image = np.zeros((side, side), np.float32)
    painter.paint(image, star(*position))
    grid = psf.grid(1024)
    offsets = [np.arange(side) - place for place in position]
    expected = sampled(psf.transform(psf.parameters(*position), grid), grid, *offsets)[0]
    distance = np.hypot(*np.meshgrid(*offsets))

    def magnitudes(where: np.ndarray) -> float:
        return 1085.7 * float(image[where].sum(dtype=float) / expected[where].sum(dtype=float) - 1)

    for radius in (3, 6, 9, 12):
        assert abs(magnitudes(distance < radius)) < 0.1
    # Farther out a ring holds a hundredth of its light: a hundredth of that is 10 mmag.
    for radius in (16, 24) if faintness < 1e-6 else (16, 24, 32, 48, 64):
        assert abs(magnitudes((distance > radius) & (distance < 1.5 * radius))) < 40
    assert image.sum(dtype=float) == pytest.approx(expected.sum(dtype=float), abs=6e-4)


def test_stars_add_up_and_their_wings_reach_in_from_outside() -> None:
    scene = named_scene("normal", size=200)
    psf = TruePsf(scene.psf, DetectorGeometry.of(scene.camera, 0), scene.camera.pixel_scale)
    painter = Painter(psf, threshold=1e-5)
    places = [(-25.0, 100.0), (60.2, 224.0), (99.7, 30.4)]
    together, apart = np.zeros((200, 200), np.float32), np.zeros((200, 200), np.float32)
    painter.paint(together, star(*np.transpose(places)))
    for x, y in places:
        painter.paint(apart, star(x, y))
    np.testing.assert_allclose(together, apart, atol=1e-8)
    only = np.zeros((200, 200), np.float32)
    painter.paint(only, star(*places[0]))
    assert 0 < only[:, 150:].sum() < only[:, :50].sum() < 0.1
    assert only[100, 0] == pytest.approx(psf.radial_brightness(25.0), rel=0.1)
    assert only[100, 40] == pytest.approx(psf.radial_brightness(65.0), rel=0.1)


def test_moments_of_noisy_stars_are_the_true_ones() -> None:
    sizes, shapes = [], []
    for seed in range(3):
        made = simulate_exposure(quiet("normal"), seed)
        image = made.exposure.image - made.truth.sky_image()
        stars = isolated_stars(made, 3 * made.truth.psf.fwhm, 250)
        truth = made.truth.psf.shapes(stars["x"], stars["y"])
        for index, star in enumerate(stars):
            x, y = int(star["x"] + 0.5), int(star["y"] + 0.5)
            stamp = galsim.ImageD(image[y - 14 : y + 15, x - 14 : x + 15].astype(float))
            measured = galsim.hsm.FindAdaptiveMom(stamp)
            sizes.append(measured.moments_sigma / truth.determinant_radius[index] - 1)
            shapes.append(measured.observed_shape.e1 - truth.e1[index])
    assert len(sizes) > 30
    assert np.mean(sizes) == pytest.approx(0.0, abs=4 * np.std(sizes) / np.sqrt(len(sizes)) + 2e-4)
    assert np.std(sizes) < 0.006
    assert np.mean(shapes) == pytest.approx(0.0, abs=4 * np.std(shapes) / np.sqrt(len(shapes)) + 2e-4)


def test_an_exposure_of_the_demo_is_cheap(capsys) -> None:
    scene = SceneConfig()
    simulate_exposure(scene, 1)
    start = time.process_time()
    made = [simulate_exposure(scene, seed) for seed in (2, 3, 4)]
    cost = (time.process_time() - start) / 3
    with capsys.disabled():
        sources = made[0].truth.sources
        stars = int((~sources["galaxy"]).sum())
        print(
            f"\n1024 x 1024, {stars} stars, {len(sources) - stars} galaxies: {cost:.2f} CPU s an exposure",
            end=" ",
        )
    # Threads of the linear algebra library count twice here; the drawing process of a night has one.
    assert cost < 1.0
