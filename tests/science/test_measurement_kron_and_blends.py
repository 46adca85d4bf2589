"""Plugins that are not run by default: Kron fluxes, blendedness, higher moments, and measurements with neighbours in place."""

import numpy as np
import pytest

from streamchar.characterize.catalog import Schema, SourceCatalog
from streamchar.characterize.measurement import MeasurementConfig, SingleFrameMeasurement
from streamchar.characterize.measurement.config import DEFAULT_PLUGINS
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.errors import ConfigurationError
from streamchar.image import Exposure
from tests.measurement_scenes import add_gaussian, footprints_of_disks, star_field

KRON, BLEND, HIGHER = (
    "ext_photometryKron_KronFlux",
    "base_Blendedness",
    "ext_shapeHSM_HigherOrderMomentsSource",
)
SIGMA = 2.0


def measure(exposure, footprints, *names, undeblended=None, **settings):
    task = SingleFrameMeasurement(
        MeasurementConfig(names=(*DEFAULT_PLUGINS, *names), plugins=settings, undeblended=undeblended or {})
    )
    catalog = SourceCatalog(Schema(task.columns, task.aliases), len(footprints), footprints)
    task.run(catalog, exposure)
    return catalog


def pair(distance, *, ratio=1.0, noise=0.0):
    """Two stars side by side, each with a footprint of its own, and a third far away."""
    image = np.zeros((160, 220), np.float32)
    x, y = np.array([60.0, 60.0 + distance, 160.0]), np.array([80.0, 80.0, 80.0])
    for i, flux in enumerate((1e5, 1e5 * ratio, 1e5)):
        add_gaussian(image, x[i], y[i], flux, SIGMA**2, SIGMA**2)
    image += np.random.default_rng(1).normal(0, noise, image.shape).astype(np.float32) if noise else 0
    exposure = Exposure.from_image(image, gain=1e6, read_noise=1e6 * max(noise, 1e-3))
    exposure.psf = GaussianPsf(SIGMA, 41)
    return exposure, footprints_of_disks(image.shape, x, y, int(distance // 2) - 1)


class TestKron:
    def test_radius_and_flux_of_gaussians(self):
        image = np.zeros((200, 200), np.float32)
        add_gaussian(image, 100.3, 99.8, 1e5, 36.0, 16.0, 6.0, reach=90)
        exposure = Exposure.from_image(image, gain=1e6, read_noise=1e3)
        exposure.psf = GaussianPsf(SIGMA, 41)
        catalog = measure(exposure, footprints_of_disks(image.shape, [100], [100], 60), KRON)
        determinant_radius = (36.0 * 16.0 - 36.0) ** 0.25
        # The mean radius of a Gaussian is sigma sqrt(pi/2); the ellipse of 2.5 of them holds 1 - exp(-2.5² pi/4) of its flux.
        assert catalog[f"{KRON}_radius"][0] == pytest.approx(
            determinant_radius * np.sqrt(np.pi / 2), rel=2e-3
        )
        assert catalog[f"{KRON}_instFlux"][0] == pytest.approx(
            1e5 * (1 - np.exp(-6.25 * np.pi / 4)), rel=2e-3
        )
        assert not catalog[f"{KRON}_flag"][0]

    def test_errors_are_honest_on_stars(self):
        exposure, footprints, _, _ = star_field(200, sigma=SIGMA, flux=2e4, noise=10.0, radius=14)
        catalog = measure(exposure, footprints, KRON)
        flux, error = catalog[f"{KRON}_instFlux"], catalog[f"{KRON}_instFluxErr"]
        assert not catalog[f"{KRON}_flag"].any()
        assert flux.std() == pytest.approx(np.median(error), rel=0.25)  # the radius scatters too
        assert np.median(flux) == pytest.approx(2e4 * (1 - np.exp(-6.25 * np.pi / 4)), rel=0.01)

    def test_the_least_radius_is_that_of_the_psf(self):
        exposure, footprints = pair(20)
        exposure.psf = GaussianPsf(4.0, 41)
        catalog = measure(exposure, footprints, KRON)
        assert catalog[f"{KRON}_radius"] == pytest.approx(catalog[f"{KRON}_psf_radius"])
        assert catalog[f"{KRON}_flag_used_psf_radius"].all()
        assert catalog[f"{KRON}_flag_small_radius"].all()
        free = measure(exposure, footprints, KRON, **{KRON: {"enforce_minimum_radius": False}})
        assert (free[f"{KRON}_radius"] < catalog[f"{KRON}_radius"]).all()
        assert not free[f"{KRON}_flag_used_psf_radius"].any()

    def test_neighbours_do_not_count(self):
        exposure, footprints = pair(14)
        catalog = measure(exposure, footprints, KRON)
        assert catalog[f"{KRON}_instFlux"][0] == pytest.approx(catalog[f"{KRON}_instFlux"][2], rel=0.01)

    def test_at_the_edge(self):
        image = np.zeros((64, 64), np.float32)
        add_gaussian(image, 3.0, 30.0, 1e5, 4, 4)
        exposure = Exposure.from_image(image, gain=1e6, read_noise=1e3)
        exposure.psf = GaussianPsf(SIGMA, 41)
        catalog = measure(exposure, footprints_of_disks(image.shape, [3], [30], 10), KRON)
        assert catalog[f"{KRON}_flag_edge"][0]
        assert catalog[f"{KRON}_flag"][0]


class TestBlendedness:
    def test_a_lonely_source_has_none(self):
        catalog = measure(*pair(40), BLEND)
        for kind in ("raw", "abs"):
            assert catalog[f"{BLEND}_{kind}"] == pytest.approx(0.0, abs=1e-3)
        assert (catalog[f"{BLEND}_old"] == 0).all()
        assert not catalog[f"{BLEND}_flag"].any()

    def test_grows_towards_the_neighbour(self):
        near, far = (measure(*pair(d), BLEND)[f"{BLEND}_raw"][0] for d in (6, 12))
        assert near > 0.01 > far > -1e-3

    def test_the_fainter_is_the_more_blended(self):
        catalog = measure(*pair(8, ratio=0.3), BLEND)
        assert catalog[f"{BLEND}_raw"][1] > 5 * abs(catalog[f"{BLEND}_raw"][0])

    def test_shared_light(self):
        exposure, footprints = pair(40)
        footprints = type(footprints)(
            footprints.shape,
            *(getattr(footprints, name) for name in ("span_y", "span_x0", "span_x1", "span_start")),
            *(getattr(footprints, name) for name in ("peak_x", "peak_y", "peak_value", "peak_significance")),
            footprints.peak_start,
            np.full(int(footprints.area.sum()), 0.75, np.float32),
        )
        # Own c = 3/4 p and others' p/4: the sum of products over the sum of squares is 1/3.
        assert measure(exposure, footprints, BLEND)[f"{BLEND}_old"] == pytest.approx(1 / 3, rel=1e-5)

    def test_the_image_is_as_before(self):
        exposure, footprints = pair(8, noise=5.0)
        before = exposure.image.copy()
        measure(exposure, footprints, BLEND, undeblended={"base_PsfFlux": {}})
        np.testing.assert_array_equal(exposure.image, before)


class TestHigherMoments:
    def test_stars_are_gaussian(self):
        exposure, footprints, _, _ = star_field(100, sigma=SIGMA, flux=1e6, noise=1.0, radius=14)
        catalog = measure(exposure, footprints, HIGHER)
        kurtosis = sum(k * catalog[f"{HIGHER}_{p}"] for k, p in ((1, "40"), (2, "22"), (1, "04")))
        assert np.median(kurtosis) == pytest.approx(2.0, abs=2e-3)
        for order in ("30", "21", "12", "03"):
            values = catalog[f"{HIGHER}_{order}"]
            assert abs(values.mean()) < 5 * values.std() / 10
        assert not catalog[f"{HIGHER}_flag"].any()

    def test_coma_has_its_direction(self):
        image = np.zeros((80, 80), np.float32)
        add_gaussian(image, 40.0, 40.0, 1e5, 4, 4)
        add_gaussian(image, 43.0, 40.0, 1e4, 4, 4)
        exposure = Exposure.from_image(image, gain=1e6, read_noise=1e3)
        exposure.psf = GaussianPsf(SIGMA, 41)
        catalog = measure(exposure, footprints_of_disks(image.shape, [40], [40], 25), HIGHER)
        assert catalog[f"{HIGHER}_30"][0] > 0.01
        assert catalog[f"{HIGHER}_03"][0] == pytest.approx(0, abs=1e-6)


class TestUndeblended:
    def test_neighbours_count(self):
        exposure, footprints = pair(14)
        catalog = measure(exposure, footprints, undeblended={"base_CircularApertureFlux": {"radii": [12.0]}})
        alone = catalog["base_CircularApertureFlux_12_0_instFlux"]
        together = catalog["undeblended_base_CircularApertureFlux_12_0_instFlux"]
        assert alone[0] == pytest.approx(1e5, rel=0.01)
        assert together[0] > 1.1e5
        assert together[2] == pytest.approx(alone[2])

    def test_an_unknown_plugin_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"did you mean 'base_PsfFlux'"):
            MeasurementConfig(undeblended={"base_PsfFlus": {}})
