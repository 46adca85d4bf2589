"""The judge judged: statistics of pooled samples, and how much light other sources add to a star."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from photutils.aperture import CircularAperture, aperture_photometry

from streamchar.telescope import named_scene, simulate_exposure
from streamchar.telescope.painter import Painter
from streamchar.telescope.population import Sources
from streamchar.telescope.transform import images
from tests.science.truth.bounds import CALIBRATION_RADIUS, contamination, fraction_in_aperture
from tests.science.truth.pooling import Sample, pooled
from tests.science.truth.report import Run, summarize, verdicts


def _samples(statistic, exposures, stars, shift=0.0, seed=1):
    random = np.random.default_rng(seed)
    return [Sample(statistic, random.normal(shift * random.normal(), 1.0, stars)) for _ in range(exposures)]


class TestPooled:
    @pytest.mark.parametrize(("statistic", "factor"), [("median", 1.2533), ("width", 0.96), ("rms", 0.7071)])
    def test_the_error_of_independent_values_is_that_of_theory(self, statistic, factor):
        found = pooled(_samples(statistic, 2, 2000))
        assert found.error == pytest.approx(factor / 4000**0.5, rel=0.15)
        assert abs(found.value - (statistic != "median")) < 4 * found.error

    def test_exposures_that_err_as_a_whole_count_as_few(self):
        together = pooled(_samples("median", 10, 1000, shift=0.2))
        assert together.error == pytest.approx(0.2 / 10**0.5, rel=0.5)

    def test_a_percentage_is_of_all_values(self):
        found = pooled([Sample("percent", np.ones(10, bool)), Sample("percent", np.zeros(30, bool))])
        assert found.value == 25.0
        assert found.error == pytest.approx(100 * (0.25 * 0.75 / 40) ** 0.5, rel=0.15)

    def test_few_values_in_many_exposures_are_enough(self):
        assert np.isnan(Sample("width", np.zeros(2)).value)
        assert pooled([Sample("width", np.arange(2.0))] * 4).value > 0

    def test_too_few_have_no_statistic(self):
        assert np.isnan(pooled([Sample("median", np.zeros(0))]).value)


class TestSummary:
    def test_samples_are_pooled_and_figures_averaged(self):
        runs = [
            Run(
                "normal",
                seed,
                "best",
                {"cpu": float(seed), "psf_size_rms_grid": 0.1 * seed},
                {"flux_pull_mean": sample},
            )
            for seed, sample in enumerate(_samples("median", 2, 50), start=1)
        ]
        found = summarize(runs)
        assert found["cpu"].value == 1.5
        assert found["cpu"].error == 0.5
        assert found["psf_size_rms_grid"].value == pytest.approx((0.025) ** 0.5)
        both = np.concatenate([run.samples["flux_pull_mean"].values for run in runs])
        assert found["flux_pull_mean"].value == np.median(both)

    def test_a_verdict_goes_by_the_pooled_figure(self):
        runs = [
            Run("normal", 1, "best", {}, {"flux_pull_mean": Sample("median", np.full(9, value))})
            for value in (0.0, 0.3)
        ]
        assert [verdict.met for verdict in verdicts(runs[:1])] == [True]
        assert [verdict.met for verdict in verdicts(runs[1:])] == [False]


@pytest.mark.parametrize("distance", [3.0, 9.0, 30.0, 120.0])
def test_contamination_is_what_a_neighbour_adds_to_a_psf_flux(distance):
    truth = simulate_exposure(named_scene("sparse", size=512), 1).truth
    table = truth.sources[:2].copy()
    table["galaxy"], table["half_light_radius"] = False, np.nan
    table["x"], table["y"] = (250.0, 250.0 + distance), 255.0
    table["flux"] = 1e3, 1e5
    truth = replace(truth, sources=table)
    nothing = np.zeros(1)
    neighbour = Sources(
        **dict.fromkeys(Sources.__dataclass_fields__, nothing)
        | {"x": table["x"][1:], "y": table["y"][1:], "flux": table["flux"][1:], "galaxy": np.zeros(1, bool)}
    )
    image = np.zeros((512, 512), np.float32)
    Painter(truth.psf, 1e-6).paint(image, neighbour)
    stamps = truth.psf.images(table["x"][:1], table["y"][:1])
    psf, x, y = stamps.images[0], int(stamps.x0[0]), int(stamps.y0[0])
    light = image[y : y + psf.shape[0], x : x + psf.shape[1]]
    added = (psf * light).sum() / (psf**2).sum()
    # The profile is that in the middle of the detector along the axes; the PSF varies and is not round.
    assert contamination(truth, np.array([0]))[0] == pytest.approx(added, rel=0.2)


def test_the_light_in_the_aperture_is_that_of_whole_and_partial_pixels():
    psf = (truth := simulate_exposure(named_scene("poor", size=256), 1).truth).psf
    grid, phases = psf.grid(256), np.linspace(-0.4, 0.4, 5)
    dx, dy = (axis.ravel().astype(np.float32) for axis in np.meshgrid(phases, phases))
    transform = psf.transform(psf.parameters(*psf.center), grid)
    sums = []
    for x, y in zip(dx, dy, strict=True):
        star = images(transform.copy(), grid, x[None], y[None])[0]
        aperture = CircularAperture((128 + x, 128 + y), CALIBRATION_RADIUS)
        sums.append(aperture_photometry(star, aperture)["aperture_sum"][0])
    found = fraction_in_aperture(truth, *np.array([psf.center]).T)[0]
    assert found == pytest.approx(np.mean(sums), rel=2e-5)
    # A sharp circle holds more.
    assert psf.aperture_fluxes(*psf.center, CALIBRATION_RADIUS)[0] > found * (1 + 2e-4)
