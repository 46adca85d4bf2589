"""Plugins that are not run by default, against simulated truth."""

import numpy as np
import pytest
from astropy.wcs import WCS

from streamchar.characterize.catalog import Column, Schema, SourceCatalog
from streamchar.characterize.classification import CatalogCalculation, CatalogCalculationConfig
from streamchar.characterize.measurement import MeasurementConfig, SingleFrameMeasurement, Slots
from streamchar.characterize.psf.gaussian import GaussianPsf
from tests.measurement_scenes import add_gaussian, star_field

SKY = (Column("coord_ra", "<f8", "rad", "right ascension"), Column("coord_dec", "<f8", "rad", "declination"))


def measure(exposure, footprints, *names, calculation=None, **settings):
    config = MeasurementConfig(names=(*MeasurementConfig().names, *names), **settings)
    task = SingleFrameMeasurement(config)
    extra = () if calculation is None else calculation.columns
    catalog = SourceCatalog(Schema((*SKY, *task.columns, *extra), task.aliases), len(footprints), footprints)
    task.run(catalog, exposure)
    return catalog


class TestSdssShape:
    @pytest.fixture(scope="class", name="stars")
    @classmethod
    def measured(cls):
        exposure, footprints, x, y = star_field(225, sigma=2.0, flux=2e4, noise=10.0, radius=12)
        return measure(exposure, footprints, "base_SdssShape"), x, y

    @pytest.mark.parametrize(("name", "truth"), [("xx", 4.0), ("yy", 4.0), ("xy", 0.0), ("instFlux", 2e4)])
    def test_unbiased_with_honest_errors(self, stars, name, truth):
        catalog, _, _ = stars
        values, errors = catalog[f"base_SdssShape_{name}"], catalog[f"base_SdssShape_{name}Err"]
        pulls = (values - truth) / errors
        assert abs(pulls.mean()) < 4 * pulls.std() / np.sqrt(len(pulls))
        assert pulls.std() == pytest.approx(1.0, abs=0.2)

    def test_agrees_with_the_adaptive_moments_of_hsm(self, stars):
        catalog, _, _ = stars
        # The centre is fixed here and free there: equal up to the noise of the centroid, squared.
        difference = catalog["base_SdssShape_xx"] - catalog["ext_shapeHSM_HsmSourceMoments_xx"]
        assert np.abs(difference).max() < 0.01

    def test_psf_and_flags(self, stars):
        catalog, _, _ = stars
        assert (catalog["base_SdssShape_psf_xx"] == 4.0).all()
        assert not catalog["base_SdssShape_flag"].any()

    def test_a_flat_source_falls_back_to_unweighted_moments(self):
        exposure, footprints, _, _ = star_field(4, noise=1.0, radius=10)
        exposure.image[...] = -1.0
        catalog = measure(exposure, footprints, "base_SdssShape")
        for name in ("", "_unweighted", "_unweightedBad"):
            assert catalog[f"base_SdssShape_flag{name}"].all()


def test_psf_moments_and_size_extendedness():
    exposure, footprints, x, y = star_field(9, sigma=1.8, noise=0.5, radius=14)
    add_gaussian(exposure.image, x[4], y[4], 5e4, 25.0, 16.0, 3.0)
    calculation = CatalogCalculation(CatalogCalculationConfig(names=("base_ClassificationSizeExtendedness",)))
    slots = Slots(psf_shape="ext_shapeHSM_HsmPsfMoments")
    catalog = measure(
        exposure, footprints, "ext_shapeHSM_HsmPsfMoments", slots=slots, calculation=calculation
    )
    calculation.run(catalog)
    for axis, truth in (("xx", 1.8**2), ("yy", 1.8**2), ("xy", 0.0), ("x", 0.0), ("y", 0.0)):
        assert catalog[f"slot_PsfShape_{axis}"] == pytest.approx(truth, abs=1e-4)
    value = catalog["base_ClassificationSizeExtendedness_value"]
    assert value[4] > 0.99
    assert np.delete(value, 4).max() < 0.01


def test_peak_centroid():
    exposure, footprints, x, _ = star_field(4)
    catalog = measure(exposure, footprints, "base_PeakCentroid", slots=Slots(centroid="base_PeakCentroid"))
    assert catalog["slot_Centroid_x"].tolist() == np.floor(x + 0.5).tolist()
    assert catalog["base_SdssCentroid_x"] == pytest.approx(x, abs=0.2)


class TestLocalBackground:
    def test_level_and_deviation(self):
        exposure, footprints, _, _ = star_field(25, sigma=2.0, noise=10.0, spacing=40, radius=9)
        exposure.image += np.float32(123.0)
        catalog = measure(exposure, footprints, "base_LocalBackground")
        pixels = np.pi * (30.0**2 - 14.0**2)
        level, deviation = (
            catalog["base_LocalBackground_instFlux"],
            catalog["base_LocalBackground_instFluxErr"],
        )
        assert np.abs(level - 123.0).max() < 5 * 10 / np.sqrt(pixels) + 0.5
        assert deviation == pytest.approx(10.0, rel=0.1)

    def test_no_good_pixel(self):
        exposure, footprints, _, _ = star_field(4)
        exposure.set_plane("BAD", np.ones(exposure.shape, bool))
        catalog = measure(exposure, footprints, "base_LocalBackground")
        assert catalog["base_LocalBackground_flag_noGoodPixels"].all()
        assert catalog["base_LocalBackground_flag"].all()


def test_variance_ignores_the_source_itself():
    exposure, footprints, _, _ = star_field(4, noise=3.0, radius=6)
    footprints.set_bits(exposure.mask, exposure.bits("DETECTED"))
    exposure.variance[(exposure.mask & exposure.bits("DETECTED")) != 0] = 1e6
    catalog = measure(exposure, footprints, "base_Variance")
    assert catalog["base_Variance_value"] == pytest.approx(9.0)
    assert not catalog["base_Variance_flag"].any()
    exposure.set_plane("DETECTED", np.ones(exposure.shape, bool))
    assert measure(exposure, footprints, "base_Variance")["base_Variance_flag_emptyFootprint"].all()


class TestSkyCoord:
    def make(self):
        exposure, footprints, _, _ = star_field(9)
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [0.001, 60.0]
        wcs.wcs.crpix = [150.0, 150.0]
        wcs.wcs.cd = np.array([[-0.8, 0.6], [0.6, 0.8]]) * 0.2 / 3600
        exposure.wcs = wcs
        return exposure, footprints

    def test_coordinates_and_errors(self):
        exposure, footprints = self.make()
        catalog = measure(exposure, footprints, "base_SkyCoord")
        ra, dec = exposure.wcs.all_pix2world(catalog["slot_Centroid_x"], catalog["slot_Centroid_y"], 0)
        np.testing.assert_allclose(np.degrees(catalog["coord_ra"]), ra, atol=1e-12)
        np.testing.assert_allclose(np.degrees(catalog["coord_dec"]), dec, atol=1e-12)
        scale = np.radians(0.2 / 3600)
        xe, ye = (catalog[f"slot_Centroid_{axis}Err"] * scale for axis in "xy")
        np.testing.assert_allclose(catalog["coord_raErr"], np.hypot(0.8 * xe, 0.6 * ye), rtol=1e-3)
        np.testing.assert_allclose(catalog["coord_decErr"], np.hypot(0.6 * xe, 0.8 * ye), rtol=1e-3)
        expected = -0.48 * xe**2 + 0.48 * ye**2
        np.testing.assert_allclose(catalog["coord_ra_dec_Cov"], expected, atol=1e-3 * (xe**2).max())

    def test_without_coordinates(self):
        exposure, footprints = self.make()
        exposure.wcs = None
        assert np.isnan(measure(exposure, footprints, "base_SkyCoord")["coord_raErr"]).all()


def test_a_wider_psf_does_not_change_gaussian_fluxes():
    exposure, footprints, _, _ = star_field(9, noise=1.0)
    before = measure(exposure, footprints)["base_GaussianFlux_instFlux"]
    exposure.psf = GaussianPsf(2.5, 41)
    after = measure(exposure, footprints)["base_GaussianFlux_instFlux"]
    assert after == pytest.approx(before, rel=1e-3)
