"""One exposure: light, noise, defects, cosmic rays, and the truth about them."""

import sys

import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.telescope import (
    MissingSimulatorError,
    Pointing,
    SceneConfig,
    UnknownSceneError,
    UnreadableTruthError,
    defects,
    named_scene,
    profiles,
    read_truth,
    simulate_exposure,
    truth_path,
    write_truth,
)
from streamchar.telescope.cosmic_rays import draw_cosmic_rays
from streamchar.telescope.geometry import DetectorGeometry
from streamchar.telescope.painter import Painter
from streamchar.telescope.population import Sources, draw_sources
from streamchar.telescope.psf import TruePsf
from streamchar.telescope.streaks import Streak, paint_streak


def scene(*overrides: str, size: int = 256) -> SceneConfig:
    return SceneConfig().with_overrides(
        "camera.rows=1", "camera.columns=1", f"camera.height={size}", f"camera.width={size}", *overrides
    )


def empty(*overrides: str, size: int = 256) -> SceneConfig:
    return scene(
        "stars.count=0", "galaxies.count=0", "cosmic_rays.rate=0", "camera.bad_columns=0",
        "streaks.probability=0", *overrides, size=size,
    )  # fmt: skip


def psf_of(scene: SceneConfig) -> TruePsf:
    return TruePsf(scene.psf, DetectorGeometry.of(scene.camera, scene.detector), scene.camera.pixel_scale)


def sources(**columns: list[float]) -> Sources:
    count = len(columns["x"])
    defaults = {
        "magnitude": np.full(count, 20.0), "galaxy": np.zeros(count, bool), "index": np.zeros(count),
        "radius": np.zeros(count), "axis_ratio": np.ones(count), "angle": np.zeros(count),
    }  # fmt: skip
    return Sources(**{**defaults, **{name: np.asarray(values) for name, values in columns.items()}})


def test_flux_is_conserved() -> None:
    config = empty('psf.profile="moffat"', "psf.beta=3.5", size=400)
    image = np.zeros((400, 400), np.float32)
    Painter(psf_of(config), 1e-4).paint(image, sources(x=[200.3], y=[190.8], flux=[1e5]))
    assert image.sum(dtype=float) == pytest.approx(1e5, rel=1e-4)


def test_sources_add_up_and_are_cut_at_the_border() -> None:
    config = empty()
    painter = Painter(psf_of(config), 0.1)
    positions = {"x": [-5.0, 20.2, 250.0], "y": [100.0, 255.4, 30.0], "flux": [1e5, 2e4, 5e5]}
    together = np.zeros((256, 256), np.float32)
    painter.paint(together, sources(**positions))
    apart = np.zeros((256, 256), np.float32)
    for index in range(3):
        painter.paint(
            apart, sources(**{name: values[index : index + 1] for name, values in positions.items()})
        )
    assert together == pytest.approx(apart, abs=0.05)
    # The star outside still shines in.
    assert together[100, 0] > 50


def test_galaxies_equal_direct_drawings() -> None:
    config = empty(
        "psf.coma1=[]", "psf.coma2=[]", "psf.defocus=[]", "psf.astigmatism1=[]", "psf.astigmatism2=[]"
    )
    psf = psf_of(config)
    atmosphere = galsim.Kolmogorov(fwhm=config.psf.seeing / 0.2)
    guiding = galsim.Gaussian(sigma=config.psf.guiding_rms / 0.2)
    for index, radius in ((1.0, 3.0), (1.5, 1.2), (2.5, 4.0), (4.0, 2.0)):
        image = np.zeros((256, 256), np.float32)
        one = {"galaxy": [True], "index": [index], "radius": [radius], "axis_ratio": [0.5], "angle": [0.6]}
        Painter(psf, 1e-3).paint(image, sources(x=[120.3], y=[130.8], flux=[1e4], **one))
        # GalSim's shear keeps the area: its half-light radius is the geometric mean of the axes.
        galaxy = galsim.Sersic(n=index, half_light_radius=radius * np.sqrt(0.5), flux=1e4).shear(
            q=0.5, beta=0.6 * galsim.radians
        )
        precise = galsim.GSParams(maximum_fft_size=16384, folding_threshold=5e-4)
        direct = galsim.Convolve([galaxy, atmosphere, guiding], gsparams=precise).drawImage(
            nx=64, ny=64, scale=1.0, offset=(0.3 + 0.5, -0.2 + 0.5)
        )
        assert image[99:163, 88:152] == pytest.approx(direct.array, abs=2e-3 * float(direct.array.max()))


def test_noise_is_what_the_variance_plane_says() -> None:
    config = empty('camera.variance="expected"', size=512)
    made = simulate_exposure(config, 3)
    pull = (made.exposure.image - made.truth.sky_image()) / np.sqrt(made.exposure.variance)
    assert pull.std(dtype=float) == pytest.approx(1.0, abs=4 / np.sqrt(2 * pull.size))
    assert pull.mean(dtype=float) == pytest.approx(0.0, abs=4 / np.sqrt(pull.size))
    assert float(np.median(np.sqrt(made.exposure.variance))) == pytest.approx(made.truth.sky_sigma, rel=0.02)
    observed = simulate_exposure(empty(size=512), 3).exposure
    assert observed.variance.mean() == pytest.approx(made.exposure.variance.mean(), rel=1e-3)


def test_faint_light_has_poisson_noise() -> None:
    config = empty("sky.brightness=26.5", "sky.gradient=[]", "camera.read_noise=0")
    made = simulate_exposure(config, 1)
    electrons = made.exposure.image * config.camera.gain
    assert electrons == pytest.approx(np.round(electrons), abs=1e-3)
    assert electrons.var() == pytest.approx(electrons.mean(), rel=0.03)


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others() -> None:
    first, again, other = (simulate_exposure(scene(), seed) for seed in (5, 5, 6))
    assert np.array_equal(first.exposure.image, again.exposure.image)
    assert first.truth.sources.tobytes() == again.truth.sources.tobytes()
    assert not np.array_equal(first.exposure.image, other.exposure.image)


def test_cosmic_rays_change_exactly_the_pixels_of_their_truth() -> None:
    with_rays = simulate_exposure(scene("cosmic_rays.rate=2000"), 4)
    without = simulate_exposure(scene("cosmic_rays.rate=0"), 4)
    changed = with_rays.exposure.image != without.exposure.image
    hits = with_rays.truth.cosmic_rays
    free = ~(with_rays.exposure.mask > 0)
    assert len(hits) > 20
    assert np.array_equal(changed & free, hits.mask(changed.shape) & free)
    added = (with_rays.exposure.image - without.exposure.image)[free].sum(dtype=float) * 1.7
    inside = free[hits.y, hits.x]
    assert added == pytest.approx(hits.charge[inside].sum(dtype=float), rel=1e-4)
    assert np.array_equal(with_rays.truth.sources["flux"], without.truth.sources["flux"])


def test_real_hits_can_be_injected() -> None:
    charge = np.zeros((256, 256))
    charge[10, 10:20] = 900.0
    charge[200, 7] = charge[201, 8] = 5000.0
    hits = simulate_exposure(scene(), 1, injected=charge).truth.cosmic_rays
    assert len(hits) == 2
    assert np.array_equal(hits.mask(charge.shape), charge > 0)
    assert hits.charge.sum() == pytest.approx(charge.sum())


def test_hits_have_the_morphology_of_particles() -> None:
    config = scene("cosmic_rays.rate=20", size=2048).with_overrides("exposure_time=600")
    hits = draw_cosmic_rays(config, np.random.default_rng(1))
    pixels = np.bincount(hits.hit, minlength=len(hits))
    charge = np.bincount(hits.hit, hits.charge, minlength=len(hits))
    assert len(hits) == pytest.approx(20 * 4.19 * 10, rel=0.15)
    tracks, worms, spots = (hits.kind == kind for kind in range(3))
    assert np.median(pixels[spots]) < 10 < np.median(pixels[worms])
    # A muon that goes straight through 100 micrometres frees about 8000 electrons, none much fewer.
    assert np.percentile(charge[tracks], 5) > 5000
    assert np.median(charge[tracks]) == pytest.approx(12000, rel=0.4)


def test_full_wells_are_masked_and_bleed_vertically() -> None:
    config = empty("stars.count=1", "stars.bright_magnitude=13.0", "stars.faint_magnitude=13.1")
    made = simulate_exposure(config, 2)
    saturated = (made.exposure.mask & made.exposure.bits("SAT")) > 0
    full = made.exposure.image > config.camera.saturation - 30
    assert saturated.sum() > 50
    assert np.array_equal(saturated, full)
    rows, columns = np.nonzero(saturated)
    assert np.ptp(rows) > 3 * np.ptp(columns)
    assert made.truth.sources["saturated"][0]


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 50.0))
@settings(max_examples=50)
def test_bleeding_conserves_charge_until_it_leaves(seed: int, brightness: float) -> None:
    random = np.random.default_rng(seed)
    image = random.uniform(0, 50, (60, 8)).astype(np.float32)
    image[28:32, 4] += 100 * brightness
    before = image.astype(float).sum(axis=0)
    full = defects.bleed(image, 100.0)
    after = image.astype(float).sum(axis=0)
    assert image.max() <= 100
    assert after[:4] == pytest.approx(before[:4])
    assert after[4] == pytest.approx(min(before[4], after[4]), rel=1e-5)
    if not (full[0, 4] or full[-1, 4]):
        assert after[4] == pytest.approx(before[4], rel=1e-5)
    assert np.array_equal(full, image >= 100)


def test_bad_columns_belong_to_the_detector() -> None:
    first, second = (simulate_exposure(scene("camera.bad_columns=3"), seed).exposure for seed in (1, 2))
    bad = first.mask & first.bits("BAD")
    assert np.array_equal(bad, second.mask & second.bits("BAD"))
    assert np.unique(np.nonzero(bad)[1]).size == 3
    assert not np.any(first.mask & first.bits("INTRP", "NO_DATA"))


def test_a_streak_has_its_brightness_and_place() -> None:
    psf = psf_of(empty())
    for angle in (0.1, 0.8, 1.5, 2.9):
        image = np.zeros((256, 256), np.float32)
        streak = Streak(128.0, 120.0, angle, 50.0, 1.5)
        paint_streak(image, streak, psf)
        steep = abs(np.tan(angle)) > 1
        along = image.sum(axis=1 if steep else 0)[108:148]
        length = 1 / max(abs(np.cos(angle)), abs(np.sin(angle)))
        assert along == pytest.approx(50.0 * length, rel=0.01)
        y, x = np.unravel_index(image.argmax(), image.shape)
        assert streak.distance(x, y) < 0.75


def test_truth_tells_neighbours_and_streaks() -> None:
    made = simulate_exposure(scene("streaks.count=1", "stars.density=100"), 8)
    table, streak = made.truth.sources, made.truth.streaks[0]
    assert table["streak_distance"] == pytest.approx(
        streak.distance(table["x"], table["y"]), rel=1e-4, abs=1e-3
    )
    separation = np.hypot(table["x"] - table["x"][:, None], table["y"] - table["y"][:, None])
    np.fill_diagonal(separation, np.inf)
    assert table["neighbor_distance"] == pytest.approx(separation.min(axis=0), rel=1e-4)
    bright = table["flux"] > 0.1 * table["flux"][:, None]
    assert np.array_equal(table["blended"], (bright & (separation < 3 * made.truth.psf.fwhm)).any(axis=1))


def test_truth_survives_its_file(tmp_path) -> None:
    truth = simulate_exposure(scene("streaks.count=2", "cosmic_rays.rate=300"), 9, exposure=12).truth
    path = write_truth(truth_path(tmp_path / "a.fits"), truth)
    assert path.name == "a.truth.fits"
    back = read_truth(path)
    assert (back.scene, back.seed, back.identity) == (truth.scene, truth.seed, truth.identity)
    assert back.streaks == truth.streaks
    assert back.sky == truth.sky
    for name in truth.sources.dtype.names:
        assert np.array_equal(back.sources[name], truth.sources[name], equal_nan=name.endswith("distance"))
    for name in truth.psf_grid.dtype.names:
        assert np.array_equal(back.psf_grid[name], truth.psf_grid[name])
    for name in ("kind", "hit", "x", "y", "charge"):
        assert np.array_equal(getattr(back.cosmic_rays, name), getattr(truth.cosmic_rays, name))
    assert back.psf.kernel_images(10, 10) == pytest.approx(truth.psf.kernel_images(10, 10))
    with pytest.raises(UnreadableTruthError, match=r"missing\.fits"):
        read_truth(tmp_path / "missing.fits")


def test_detectors_look_side_by_side() -> None:
    config = SceneConfig().with_overrides("camera.height=64", "camera.width=64", "camera.gap=10")
    frames = [
        simulate_exposure(
            config.model_copy(update={"detector": detector}), 1, pointing=Pointing(40.0, -20.0, 30.0)
        ).exposure
        for detector in range(4)
    ]
    assert frames[0].pixel_scale == pytest.approx(0.2)
    # The same sky beside the right edge of detector 0 and beyond the left edge of detector 1.
    left = np.array(frames[0].wcs.pixel_to_world_values(64 + 10 + 3.0, 20.0))
    assert left == pytest.approx(np.array(frames[1].wcs.pixel_to_world_values(3.0, 20.0)), abs=1e-9)
    middle = np.array(frames[3].wcs.pixel_to_world_values(-5.5, -5.5))
    assert middle == pytest.approx(np.array([40.0, -20.0]), abs=1e-9)
    u, v = DetectorGeometry.of(config.camera, 2).field([-0.5, 63.5], [-0.5, 63.5])
    assert u == pytest.approx([-1.0, -10 / 138])
    assert v == pytest.approx([10 / 138, 1.0])
    with pytest.raises(ValueError, match="the camera has 4"):
        DetectorGeometry.of(config.camera, 4)


def test_counts_follow_the_power_law() -> None:
    config = scene("stars.density=3000", "stars.slope=0.3", "galaxies.count=0", size=1024)
    drawn = draw_sources(config, np.random.default_rng(2))
    brighter = (drawn.magnitude < 22.5).sum() / len(drawn)
    assert brighter == pytest.approx(10 ** (0.3 * (22.5 - 24.5)), rel=0.05)
    area = ((1024 + 120) * 0.2 / 60) ** 2
    assert len(drawn) == pytest.approx(3000 * area, rel=0.02)


def test_unknown_scene_names_the_nearest() -> None:
    with pytest.raises(UnknownSceneError, match="did you mean 'sparse'"):
        named_scene("sparce")


def test_without_galsim_one_sentence_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "galsim", None)
    with pytest.raises(MissingSimulatorError, match=r"pip install 'streamchar\[demo\]'"):
        profiles.sersic(3.21)
