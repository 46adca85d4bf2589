"""The adapter to Piff: its solution taken over, against truth and against Piff's own drawing."""

import sys

import numpy as np
import pytest

from streamchar.characterize.errors import TooFewPsfStarsError
from streamchar.characterize.psf import piff_fit
from streamchar.characterize.psf.determiners import PsfDeterminerConfig, determine_psf
from streamchar.characterize.psf.piff_fit import PiffConfig, fit_piff
from streamchar.errors import MissingPackageError
from tests.psf_scenes import PsfField, errors, star_scene

SMALL = {"model_size": 15, "stamp_size": 21, "interpolant_order": 5, "piff_pixel_grid_fit_center": True}


@pytest.fixture(scope="module")
def fitted():
    field = PsfField(4.0, 1, seed=1, size=500)
    scene = star_scene(field, 24, 1, faintest=150.0)
    kept = {}
    solve = piff_fit._solve

    def remembering(*arguments):
        kept["piff"] = solve(*arguments)
        return kept["piff"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(piff_fit, "_solve", remembering)
        found = fit_piff(scene.exposure, scene.catalog, np.arange(24), PiffConfig(spatial_order=1, **SMALL))
    return field, found, kept["piff"]


def test_size_over_the_field(fitted):
    field, found, _ = fitted
    bias, rms, _ = errors(found.psf, field)
    assert abs(bias) < 1.0
    assert rms < 1.5
    assert found.degree == 1
    assert len(found.used) >= 20


@pytest.mark.parametrize("position", [(100.0, 120.0), (400.0, 333.0)])
def test_draws_what_piff_draws(fitted, position):
    _, found, psf = fitted
    theirs = psf.draw(x=position[0], y=position[1], stamp_size=21, center=True).array
    ours = found.psf.kernel_images(*position)[0]
    np.testing.assert_allclose(ours, theirs / theirs.sum(), atol=2e-3 * theirs.max())


def test_chosen_by_name_and_lowered_with_few_stars():
    scene = star_scene(PsfField(4.0, 0), 4, 1, faintest=300.0)
    config = PsfDeterminerConfig(name="piff", piff=PiffConfig(spatial_order=2, **SMALL))
    found = determine_psf(scene.exposure, scene.catalog, np.arange(4), config)
    assert found.reasons == ("psf_order_lowered",)
    assert found.degree == 1
    with pytest.raises(TooFewPsfStarsError):
        determine_psf(scene.exposure, scene.catalog, np.arange(0), config)


def test_without_piff_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "piff", None)
    scene = star_scene(PsfField(4.0, 0), 2, 1)
    with pytest.raises(MissingPackageError, match=r"streamchar\[piff\]"):
        fit_piff(scene.exposure, scene.catalog, np.arange(2), PiffConfig())
