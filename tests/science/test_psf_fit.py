"""The PSF fit of positions and fluxes: at the bound, honest, and undisturbed by cosmic rays, edges and the PSF's noise."""

from dataclasses import replace

import numpy as np
import pytest

from streamchar.characterize.catalog import Schema, SourceCatalog
from streamchar.characterize.measurement import MeasurementConfig, SingleFrameMeasurement
from streamchar.characterize.measurement.templates import PsfTemplates, ShapeTable, kernel_images
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.moffat import MoffatPsf
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from tests.measurement_scenes import footprints_of_disks, star_field
from tests.science.test_measurement import measure

SIGMA, NOISE = 1.7, 10.0
PEAK = {"base_SdssCentroid": {"refine": "none"}, "base_PsfFlux": {"weighting": "uniform"}}
"""Settings of the reference's centroid."""


def pixel_psf(sigma=SIGMA, *, step=0.5, width=41, noise=0.0, seed=0):
    """A constant model on a grid of super-pixels with the noise of a fit to stars."""
    half = int((width // 2 + 1) / step)
    offset = step * np.arange(-half, half + 1)
    image = np.exp(-0.5 * (offset[:, None] ** 2 + offset**2) / sigma**2)
    image += noise * np.random.default_rng(seed).normal(size=image.shape) * image
    polynomial = PositionPolynomial.over(np.zeros(3), np.zeros(3), 0)
    return PixelBasisPsf(image[None], SpatialBasis.constant(polynomial), step, width, (0.0, 0.0))


def centroid_of(images):
    offset = np.arange(images.shape[1]) - images.shape[1] // 2
    total = images.sum(axis=(1, 2))
    return (images.sum(axis=1) @ offset) / total, (images.sum(axis=2) @ offset) / total


class TestTemplates:
    def test_splines_put_the_psf_where_it_belongs_and_lanczos_does_not(self):
        psf = pixel_psf()
        x = 100 + np.linspace(-0.5, 0.49, 23)
        y = 100 + np.roll(x - 100, 7)
        worst = {}
        for name in ("lanczos", "spline"):
            images = PsfTemplates.of(psf, name).psf.images(x, y).images
            found_x, found_y = centroid_of(images)
            errors = found_x - (x - np.floor(x + 0.5)), found_y - (y - np.floor(y + 0.5))
            worst[name] = max(np.abs(error).max() for error in errors)
        assert worst["lanczos"] > 2e-3
        assert worst["spline"] < 2e-5

    def test_splines_keep_the_values_at_the_super_pixels(self):
        psf = pixel_psf(noise=0.01)
        spline = PsfTemplates.of(psf).psf
        np.testing.assert_allclose(spline.kernel_images(0, 0), psf.kernel_images(0, 0), atol=1e-12)

    def test_the_template_for_positions_is_symmetric_small_and_of_the_same_width(self):
        psf = pixel_psf(noise=0.05)
        kernel = PsfTemplates.of(psf).centred.kernel_images(0, 0)
        np.testing.assert_allclose(kernel, kernel[:, ::-1, ::-1], atol=1e-15)
        assert kernel.shape[1] == 2 * int(np.ceil(5 * SIGMA)) + 1
        wide = PsfTemplates.of(psf).centred.shapes(0, 0).determinant_radius
        assert wide == pytest.approx(psf.shapes(0, 0).determinant_radius, rel=0.01)

    def varying(self):
        """Grows by a tenth from one corner of 1024 pixels to the other and turns elongated on the way."""
        one, other = (pixel_psf(sigma).components[0] for sigma in (1.7, 2.1))
        wide = np.array([one, (other - one).T * 0.5, np.roll(other, 1, axis=0) * 0.05])
        polynomial = PositionPolynomial(1, 512.0, 512.0, 1024.0, 1024.0)
        return PixelBasisPsf(wide, SpatialBasis.monomials(polynomial), 0.5, 41, (512.0, 512.0))

    @pytest.mark.parametrize("interpolation", ["lanczos", "spline"])
    def test_kernels_are_those_of_the_model(self, interpolation):
        templates = PsfTemplates.of(self.varying(), interpolation)
        x, y = np.array([3.0, 400.0, 1020.0, np.nan]), np.array([1000.0, 0.0, 512.0, 5.0])
        np.testing.assert_allclose(
            kernel_images(templates.centred, x, y),
            templates.centred.images(x, y).images,
            rtol=1e-12,
            atol=1e-15,
        )

    def test_tabulated_widths_are_those_of_the_model(self):
        templates = PsfTemplates.of(self.varying(), shape=(1024, 1024))
        x, y = np.random.default_rng(3).uniform(0, 1023, (2, 200))
        exact, tabulated = templates.centred.shapes(x, y), templates.shapes(x, y)
        assert np.ptp(exact.determinant_radius) > 0.05 * exact.determinant_radius.mean()
        np.testing.assert_allclose(tabulated.determinant_radius, exact.determinant_radius, rtol=2e-4)
        np.testing.assert_allclose(tabulated.trace_radius, exact.trace_radius, rtol=2e-4)

    def test_where_a_node_has_no_shape_the_model_is_asked(self):
        psf = self.varying()
        table = ShapeTable.over(psf, (1024, 1024))
        broken = table.moments.copy()
        broken[:, 0, 0] = np.nan
        x, y = np.array([10.0, 900.0]), np.array([20.0, 900.0])
        found = replace(table, moments=broken)(x, y)
        assert found.xx[0] == psf.shapes(10.0, 20.0).xx[0]
        assert found.xx[1] == table(x, y).xx[1]

    def test_a_gaussian_is_no_larger_for_positions_than_they_take(self):
        wide, narrow = GaussianPsf(2.0, 41), GaussianPsf(2.0, 11)
        templates = PsfTemplates.of(wide)
        assert templates.psf is wide
        assert templates.centred == GaussianPsf(2.0, 21)
        assert kernel_images(templates.centred, np.zeros(5), np.zeros(5)).shape == (1, 21, 21)
        assert PsfTemplates.of(narrow).centred == narrow
        assert PsfTemplates.of(wide, "lanczos").centred is wide

    def test_nor_for_fluxes_that_are_to_cost_little(self):
        templates = PsfTemplates.of(GaussianPsf(2.0, 41), compact=True)
        assert templates.psf == templates.centred == GaussianPsf(2.0, 21)

    def test_a_moffat_profile_needs_its_wings_for_fluxes_alone(self):
        psf = MoffatPsf(18.0, 18.0, 0.0, 3.9, 31)
        templates = PsfTemplates.of(psf)
        assert templates.psf is psf
        assert templates.centred == replace(psf, width=19)
        widths = [each.shapes(0.0, 0.0).determinant_radius[0] for each in (psf, templates.centred)]
        assert widths == pytest.approx([1.76, 1.76], abs=0.02)
        assert PsfTemplates.of(psf, "lanczos").centred is psf


@pytest.mark.parametrize("flux", [3e3, 3e4, 1e5])
def test_the_noise_of_the_psf_model_does_not_move_the_stars(flux):
    exposure, footprints, x, y = star_field(225, sigma=SIGMA, flux=flux, noise=NOISE, radius=10)
    scatter = {}
    for name, psf, settings in (
        ("true", GaussianPsf(SIGMA, 41), {}),
        ("fitted", pixel_psf(noise=0.003), {}),
        ("peak", pixel_psf(noise=0.003), PEAK),
    ):
        exposure.psf = psf
        catalog = measure(exposure, footprints, SingleFrameMeasurement(MeasurementConfig(plugins=settings)))
        offset = np.concatenate([catalog["slot_Centroid_x"] - x, catalog["slot_Centroid_y"] - y])
        scatter[name] = np.sqrt((offset**2).mean())
        if name == "fitted":
            errors = np.concatenate([catalog[f"slot_Centroid_{axis}Err"] for axis in "xy"])
            assert (offset / errors).std() == pytest.approx(1.0, abs=0.1)
    assert scatter["fitted"] == pytest.approx(scatter["true"], rel=0.05)
    assert scatter["fitted"] < 1.01 * scatter["peak"]


def test_rough_positions_are_those_of_the_smoothed_peak():
    exposure, footprints, _, _ = star_field(9, sigma=SIGMA, flux=1e5, noise=NOISE, radius=10)
    exposure.psf = pixel_psf()
    found = []
    for settings, rough in (({}, True), (PEAK, False), ({}, False)):
        task = SingleFrameMeasurement(MeasurementConfig(plugins=settings))
        catalog = SourceCatalog(Schema(task.columns, task.aliases), len(footprints), footprints)
        task.run(catalog, exposure, rough=rough)
        found.append(catalog["slot_Centroid_x"])
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_a_track_across_stars_takes_little_from_their_fluxes():
    exposure, footprints, x, y = star_field(100, sigma=SIGMA, flux=2e4, noise=NOISE, radius=10)
    clean = measure(exposure, footprints)["base_PsfFlux_instFlux"]
    random = np.random.default_rng(3)
    for k in range(100):
        # Brightness falls along the track, so that its end is below any threshold.
        row, column = int(y[k]) + random.integers(-2, 3), int(x[k]) + random.integers(-3, 1)
        exposure.image[row, column : column + 6] += np.float32([2000, 1200, 400, 120, 60, 30])
    scatter = {}
    for name, outliers in (("kept", {"threshold": 0.0}), ("left out", {})):
        plugins = {
            "base_PsfFlux": {"outliers": outliers},
            "base_SdssCentroid": {"psf_fit": {"outliers": outliers}},
        }
        catalog = measure(exposure, footprints, SingleFrameMeasurement(MeasurementConfig(plugins=plugins)))
        scatter[name] = np.median(np.abs(catalog["base_PsfFlux_instFlux"] / clean - 1))
    assert scatter["kept"] > 0.08
    assert scatter["left out"] < 0.01


def test_masked_pixels_do_not_count():
    exposure, footprints, x, y = star_field(25, sigma=SIGMA, flux=2e4, noise=NOISE, radius=10)
    clean = measure(exposure, footprints)
    bits = [exposure.bits(name) for name in ("BAD", "SAT", "CR", "INTRP", "NO_DATA")]
    for k in range(25):
        pixel = int(y[k]) + 1, int(x[k]) - 1
        exposure.image[pixel] += 3000
        exposure.mask[pixel] |= bits[k % 5]
    catalog = measure(exposure, footprints)
    assert np.hypot(
        catalog["slot_Centroid_x"] - clean["slot_Centroid_x"],
        catalog["slot_Centroid_y"] - clean["slot_Centroid_y"],
    ) == pytest.approx(0.0, abs=0.05)
    pulls = (catalog["base_PsfFlux_instFlux"] - 2e4) / catalog["base_PsfFlux_instFluxErr"]
    assert pulls.std() == pytest.approx(1.0, abs=0.35)
    assert (catalog["base_PsfFlux_npixels"] < clean["base_PsfFlux_npixels"]).all()


def test_faint_charge_beside_what_was_found_of_a_cosmic_ray_does_not_count():
    exposure, footprints, x, y = star_field(100, sigma=SIGMA, flux=2e4, noise=NOISE, radius=10)
    clean = measure(exposure, footprints)["base_PsfFlux_instFlux"]
    for k in range(100):
        row, column = int(y[k]) - 1, int(x[k])
        exposure.image[row - 1 : row + 2, column : column + 4] += np.float32(2 * NOISE)
        exposure.image[row, column : column + 4] += np.float32(1000)
        exposure.mask[row, column : column + 4] |= exposure.bits("CR")
    bias = {}
    for name, planes in (("counted", ()), ("left out", ("CR",))):
        settings = {"spreading_mask_planes": planes}
        plugins = {"base_PsfFlux": settings, "base_SdssCentroid": {"psf_fit": settings}}
        catalog = measure(exposure, footprints, SingleFrameMeasurement(MeasurementConfig(plugins=plugins)))
        bias[name] = np.median(catalog["base_PsfFlux_instFlux"] / clean - 1)
    assert bias["counted"] > 0.005
    assert abs(bias["left out"]) < 0.002


def test_errors_tell_what_a_masked_side_costs():
    exposure, footprints, x, y = star_field(400, sigma=SIGMA, flux=2e4, noise=NOISE, radius=10)
    for k in range(400):
        row, column = int(y[k] + 0.5), int(x[k] + 0.5)
        exposure.mask[row - 4 : row + 5, column + 1 : column + 3] |= exposure.bits("CR")
    catalog = measure(exposure, footprints)
    assert not catalog["base_PsfFlux_flag"].any()
    offset = catalog["base_PsfFlux_instFlux"] - 2e4
    assert (offset / catalog["base_PsfFlux_instFluxErr"]).std() == pytest.approx(1.0, abs=0.12)
    # Of a star whose place is known the flux would be better known.
    place = GaussianPsf(SIGMA, 41).images(x, y).images
    right = np.arange(41) - 20
    used = place * ((right < 0) | (right > 3))
    known = NOISE / np.sqrt((used * place).sum(axis=(1, 2)))
    assert (catalog["base_PsfFlux_instFluxErr"] > 1.5 * known).all()


def test_a_peak_that_a_cosmic_ray_moved_is_left_by_the_fit():
    exposure, footprints, x, y = star_field(25, sigma=SIGMA, flux=5e4, noise=NOISE, radius=10)
    for k in range(25):
        row, column = int(y[k] + 0.5), int(x[k] + 0.5)
        exposure.mask[row - 1 : row + 2, column - 1 : column + 1] |= exposure.bits("CR")
        exposure.image[row - 1 : row + 2, column - 1 : column + 1] = 0.0
        footprints.peak_x[k] = column + 1
    catalog = measure(exposure, footprints)
    offset = np.hypot(catalog["slot_Centroid_x"] - x, catalog["slot_Centroid_y"] - y)
    assert offset.max() < 0.15
    pulls = (catalog["base_PsfFlux_instFlux"] - 5e4) / catalog["base_PsfFlux_instFluxErr"]
    assert abs(pulls).max() < 4


def test_a_star_without_its_core_is_flagged():
    exposure, footprints, x, y = star_field(4, sigma=SIGMA, flux=2e5, noise=NOISE, radius=10)
    row, column = int(y[0] + 0.5), int(x[0] + 0.5)
    exposure.mask[row - 5 : row + 6, column - 5 : column + 6] |= exposure.bits("SAT")
    catalog = measure(exposure, footprints)
    assert catalog["base_PsfFlux_flag_noGoodPixels"].tolist() == [True, False, False, False]
    assert catalog["base_PsfFlux_flag"].tolist() == [True, False, False, False]


def test_wide_sources_keep_the_peak_or_stay_near_it():
    exposure, _, x, y = star_field(25, sigma=4.0, flux=2e4, noise=1.0, radius=14)
    exposure.psf = GaussianPsf(SIGMA, 41)
    footprints = footprints_of_disks(exposure.shape, x, y, 14)
    fitted = measure(exposure, footprints)
    assert np.hypot(fitted["slot_Centroid_x"] - x, fitted["slot_Centroid_y"] - y).max() < 0.2


def test_stars_half_over_the_edge_are_measured():
    exposure, _, x, y = star_field(49, sigma=SIGMA, flux=5e4, noise=NOISE, radius=10)
    cut = int(x.min()) - 6
    exposure = type(exposure)(
        *(
            np.ascontiguousarray(plane[:, cut:])
            for plane in (exposure.image, exposure.mask, exposure.variance)
        ),
        psf=exposure.psf,
    )
    x = x - cut
    footprints = footprints_of_disks(exposure.shape, x, y, 8)
    catalog = measure(exposure, footprints)
    edge = x < 12
    assert edge.any()
    assert catalog["base_PsfFlux_flag_edge"][edge].all()
    assert not catalog["base_PsfFlux_flag"].any()
    assert not catalog["base_SdssCentroid_flag"].any()
    pulls = (catalog["base_PsfFlux_instFlux"] - 5e4) / catalog["base_PsfFlux_instFluxErr"]
    assert abs(pulls[edge]).max() < 4
