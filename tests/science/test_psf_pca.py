"""The principal-component determiner against simulated truth, and against the properties of its construction."""

import numpy as np
import pytest

from streamchar.characterize.errors import TooFewPsfStarsError
from streamchar.characterize.psf.measure import MeasurePsf, MeasurePsfConfig
from streamchar.characterize.psf.pca import PcaConfig, fit_pca
from streamchar.characterize.psf.psfex import PsfexConfig, fit_psfex
from tests.psf_scenes import PsfField, errors, measure, star_scene


def fit(scene, **settings):
    return fit_pca(scene.exposure, scene.catalog, np.arange(len(scene.catalog)), PcaConfig(**settings))


@pytest.mark.parametrize(("fwhm", "order", "limit"), [(4.0, 2, 0.6), (6.0, 1, 0.6)])
def test_size_over_the_field(fwhm, order, limit):
    field = PsfField(fwhm, order, seed=1)
    found = fit(star_scene(field, 150, 1))
    bias, rms, _ = errors(found.psf, field)
    assert abs(bias) < 0.4
    assert rms < limit


def test_comes_near_the_other_determiner_of_the_reference():
    field = PsfField(4.0, 2, seed=2)
    scene = star_scene(field, 200, 2)
    pca, psfex = fit(scene), fit_psfex(scene.exposure, scene.catalog, np.arange(200), PsfexConfig())
    assert errors(pca.psf, field)[1] < 2 * errors(psfex.psf, field)[1]


def test_components_are_a_mean_star_and_its_changes():
    psf = fit(star_scene(PsfField(4.0, 2, seed=1), 100, 3)).psf
    assert psf.components.shape == (4, 41, 41)
    assert psf.components.sum(axis=(1, 2)) == pytest.approx([1, 0, 0, 0], abs=1e-12)
    assert psf.spatial(3.0, 700.0)[0, 0] == 1.0
    images = psf.kernel_images([100, 900], [100, 900])
    assert images.sum(axis=(1, 2)) == pytest.approx(1)


def test_gaps_do_not_enter():
    field = PsfField(4.0, 1, seed=1)
    clean, broken = star_scene(field, 100, 4), star_scene(field, 100, 4)
    random = np.random.default_rng(5)
    bad = random.random(broken.exposure.shape) < 0.02
    broken.exposure.image[bad] = 5e4
    broken.exposure.set_plane("BAD", bad)
    rms = [errors(fit(scene).psf, field)[1] for scene in (clean, broken)]
    assert rms[1] < rms[0] + 0.3


def test_cosmic_rays_nobody_found_are_rejected_with_their_stars():
    scene = star_scene(PsfField(4.0, 1, seed=1), 100, 4)
    bright = np.argsort(-scene.catalog["base_PsfFlux_instFlux"])[:10]
    for star in bright:
        x, y = (int(scene.catalog[f"slot_Centroid_{axis}"][star]) for axis in "xy")
        scene.exposure.image[y + 4, x - 6 : x + 7] += 3000.0
    found = fit(scene)
    assert not set(found.used) & set(bright)
    assert len(found.used) > 60


def test_few_stars():
    scene = star_scene(PsfField(4.0, 0), 60, 1)
    everything = scene.exposure, scene.catalog
    one = fit_pca(*everything, np.arange(1), PcaConfig())
    assert (one.degree, one.reasons) == (0, ("psf_order_lowered",))
    four = fit_pca(*everything, np.arange(4), PcaConfig())
    assert four.degree == 1
    with pytest.raises(TooFewPsfStarsError):
        fit_pca(*everything, np.arange(0), PcaConfig())


def test_chosen_by_name():
    scene = star_scene(PsfField(4.0, 1), 120, 2)
    measure(scene.exposure, scene.catalog)
    config = MeasurePsfConfig().with_overrides(
        "psf_determiner.name=pca", "psf_determiner.pca.n_eigen_components=3"
    )
    found = MeasurePsf(config).run(scene.exposure, scene.catalog, exposure_id=1)
    assert len(found.psf.components) == 3


def test_an_even_stamp_is_refused():
    with pytest.raises(ValueError, match="odd number of pixels"):
        PcaConfig(stamp_size=40)
