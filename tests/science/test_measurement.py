"""Measurement against simulated truth: centroids, moments and fluxes of stars, their errors, neighbours, edges, flags."""

import numpy as np
import pytest

from streamchar.characterize.catalog import Schema, SourceCatalog
from streamchar.characterize.errors import MissingPsfError
from streamchar.characterize.footprints import Footprints
from streamchar.characterize.measurement import PLUGINS, MeasurementConfig, SingleFrameMeasurement
from streamchar.characterize.measurement.neighbours import neighbours_replaced
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.image import Exposure
from tests.measurement_scenes import add_gaussian, footprints_of_disks, footprints_of_masks, star_field

FLUX, SIGMA, NOISE = 2e4, 2.0, 10.0
CENTROID_BOUND = NOISE * SIGMA**2 * np.sqrt(8 * np.pi) / FLUX
"""Cramer-Rao bound of a Gaussian star's centroid along one axis, in pixels."""


def measure(exposure, footprints, task=None, **options):
    task = task or SingleFrameMeasurement()
    catalog = SourceCatalog(Schema(task.columns, task.aliases), len(footprints), footprints)
    task.run(catalog, exposure, **options)
    return catalog


@pytest.fixture(scope="module")
def field():
    exposure, footprints, x, y = star_field(400, sigma=SIGMA, flux=FLUX, noise=NOISE, radius=14)
    before = exposure.image.copy()
    catalog = measure(exposure, footprints, exposure_id=7)
    np.testing.assert_array_equal(exposure.image, before)
    return catalog, x, y


def assert_pulls(values, errors, truth, *, width=0.12):
    """Unbiased to 4 standard errors of the mean, and errors that describe the scatter."""
    pulls = (values - truth) / errors
    assert abs(pulls.mean()) < 4 * pulls.std() / np.sqrt(len(pulls))
    assert pulls.std() == pytest.approx(1.0, abs=width)


def test_no_flag_is_raised_on_clean_stars(field):
    catalog, _, _ = field
    raised = {column.name for column in catalog.schema if column.is_flag and catalog[column.name].any()}
    assert raised == set()


def test_centroids_are_near_the_bound_and_their_errors_honest(field):
    catalog, x, y = field
    for name, truth in (("x", x), ("y", y)):
        assert_pulls(catalog[f"slot_Centroid_{name}"], catalog[f"slot_Centroid_{name}Err"], truth)
        scatter = (catalog[f"slot_Centroid_{name}"] - truth).std()
        assert scatter < 1.05 * CENTROID_BOUND


def test_moments_are_those_of_the_star(field):
    catalog, _, _ = field
    n = len(catalog)
    for name, truth in (("xx", SIGMA**2), ("yy", SIGMA**2), ("xy", 0.0)):
        values = catalog[f"slot_Shape_{name}"]
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(n)
        assert values.std() < 0.1


def test_psf_flux_is_optimal(field):
    catalog, _, _ = field
    assert_pulls(catalog["slot_PsfFlux_instFlux"], catalog["slot_PsfFlux_instFluxErr"], FLUX)
    assert catalog["slot_PsfFlux_instFluxErr"] == pytest.approx(NOISE * SIGMA * np.sqrt(4 * np.pi), rel=1e-3)
    assert catalog["base_PsfFlux_area"] == pytest.approx(4 * np.pi * SIGMA**2, rel=1e-3)
    pixels = catalog["base_PsfFlux_npixels"]
    assert (pixels == 41 * 41).all()
    assert (catalog["base_PsfFlux_chi2"] / pixels).mean() == pytest.approx(1.0, abs=0.01)


def test_gaussian_flux(field):
    catalog, _, _ = field
    flux, error = catalog["base_GaussianFlux_instFlux"], catalog["base_GaussianFlux_instFluxErr"]
    # The error is that of a fixed weight: the fitted one adds scatter but no bias.
    assert abs(flux.mean() - FLUX) < 4 * flux.std() / np.sqrt(len(flux))
    assert np.median(error) == pytest.approx(2 * NOISE * np.sqrt(np.pi) * SIGMA, rel=0.01)


@pytest.mark.parametrize("radius", [3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0])
def test_aperture_fluxes(field, radius):
    catalog, _, _ = field
    name = f"base_CircularApertureFlux_{radius:.1f}".replace(".", "_")
    flux, error = catalog[f"{name}_instFlux"], catalog[f"{name}_instFluxErr"]
    enclosed = FLUX * (1 - np.exp(-0.5 * (radius / SIGMA) ** 2))
    # Lanczos interpolation of the weights leaves a bias of 5e-4 at the smallest radius.
    assert flux.mean() == pytest.approx(enclosed, abs=4 * flux.std() / np.sqrt(len(flux)) + 5e-4 * FLUX)
    assert ((flux - enclosed) / error).std() == pytest.approx(1.0, abs=0.12)
    assert error.mean() == pytest.approx(NOISE * np.sqrt(np.pi) * radius, rel=0.05)


def test_compensated_tophat(field):
    catalog, _, _ = field
    flux, error = (catalog[f"base_CompensatedTophatFlux_12_{name}"] for name in ("instFlux", "instFluxErr"))
    assert_pulls(flux, error, FLUX)


@pytest.mark.parametrize(("areas", "seen"), [("pixels", 1e-5), ("nominal", 0.06)])
def test_the_tophat_does_not_see_a_constant_background(areas, seen):
    settings = {"base_CompensatedTophatFlux": {"areas": areas}, "base_SdssCentroid": {"refine": "none"}}
    task = SingleFrameMeasurement(MeasurementConfig(plugins=settings))
    exposure, footprints, _, _ = star_field(9, noise=0.0)
    exposure.image[...] = 0.0
    exposure.image += np.float32(100.0)
    # Without a maximum the centroid stays where the search starts.
    flux = measure(exposure, footprints, task)["base_CompensatedTophatFlux_12_instFlux"]
    # Whole pixels: the annulus does not have exactly the area its radii say.
    assert np.abs(flux).max() < seen * 100 * np.pi * 12**2


def test_equal_seeds_give_equal_catalogues():
    exposure, footprints, _, _ = star_field(25)
    first, second, other = (measure(exposure, footprints, exposure_id=i) for i in (3, 3, 4))
    name = "base_CircularApertureFlux_70_0_instFlux"
    np.testing.assert_array_equal(first[name], second[name])
    assert (first[name] != other[name]).any()


def test_only_the_wanted_sources_are_measured_as_if_all_were():
    exposure, footprints, _, _ = star_field(49, spacing=25, radius=11)
    whole = measure(exposure, footprints, exposure_id=3)
    wanted = np.arange(49) % 3 == 1
    part = measure(exposure, footprints, exposure_id=3, wanted=wanted)
    untouched = SourceCatalog(part.schema, 49)
    for column in part.schema:
        np.testing.assert_array_equal(part[column.name][wanted], whole[column.name][wanted])
        np.testing.assert_array_equal(part[column.name][~wanted], untouched[column.name][~wanted])


def test_only_the_plugins_of_the_named_columns_run():
    exposure, footprints, _, _ = star_field(16, spacing=40)
    names = ["slot_PsfFlux_instFlux", "base_PixelFlags_flag_edge", "whatever"]
    catalog = measure(exposure, footprints, columns=names)
    for name in ("base_PsfFlux_instFlux", "slot_Centroid_x", "slot_Shape_xx"):
        assert np.isfinite(catalog[name]).all()
    for name in ("base_CircularApertureFlux_12_0_instFlux", "base_GaussianFlux_instFlux"):
        assert np.isnan(catalog[name]).all()


class TestNeighbours:
    """A faint star beside a bright one: its footprint alone is measured, the rest is noise."""

    def make(self):
        image = np.random.default_rng(5).normal(0, 1, (300, 300)).astype(np.float32)
        add_gaussian(image, 150.2, 150.1, 3e3, 4.0, 4.0)
        faint = image.copy()
        add_gaussian(image, 172.4, 150.3, 1e6, 4.0, 4.0)
        psf = GaussianPsf(2.0, 25)

        def make(pixels):
            return Exposure(pixels, np.zeros(pixels.shape, np.int32), np.ones_like(pixels), psf=psf)

        return make(image), make(faint), footprints_of_disks(image.shape, [150.2, 172.4], [150.1, 150.3], 11)

    NAMES = (
        "slot_Centroid_x",
        "slot_Shape_xx",
        "base_PsfFlux_instFlux",
        "base_GaussianFlux_instFlux",
        "base_CircularApertureFlux_25_0_instFlux",
    )

    def test_the_bright_neighbour_does_not_matter(self):
        both, faint, footprints = self.make()
        with_neighbour = measure(both, footprints)
        alone = measure(faint, footprints_of_disks(both.shape, [150.2], [150.1], 11))
        tolerance = {
            "slot_Centroid_x": 0.01,
            "slot_Shape_xx": 0.05,
            "base_CircularApertureFlux_25_0_instFlux": 200.0,
        }
        for name in self.NAMES:
            assert with_neighbour[name][0] == pytest.approx(alone[name][0], abs=tolerance.get(name, 30.0))

    def test_without_replacement_it_does(self):
        both, _, footprints = self.make()
        task = SingleFrameMeasurement(MeasurementConfig(do_replace_with_noise=False))
        name = "base_CircularApertureFlux_25_0_instFlux"
        assert measure(both, footprints, task)[name][0] > 1e5
        assert measure(both, footprints)[name][0] < 4e3

    @pytest.mark.parametrize("source", ["measure", "variance", "variance_median", "meta"])
    def test_noise_sources(self, source):
        both, _, footprints = self.make()
        both.metadata["BGMEAN"] = 1.0
        config = MeasurementConfig.model_validate({"noise_replacer": {"noise_source": source}})
        catalog = measure(both, footprints, SingleFrameMeasurement(config))
        assert catalog["base_PsfFlux_instFlux"][0] == pytest.approx(3e3, abs=40)
        assert catalog.metadata["NOISE_SOURCE"] == source

    def test_the_image_is_restored_after_an_error(self):
        both, _, footprints = self.make()
        before = both.image.copy()
        both.psf = None
        with pytest.raises(MissingPsfError):
            measure(both, footprints)
        np.testing.assert_array_equal(both.image, before)


def test_without_settings_neighbours_leave_the_sky_behind():
    exposure, footprints, _, _ = star_field(4, radius=12)
    before, where = exposure.image.copy(), footprints.label_image() > 0
    with neighbours_replaced(exposure, footprints, None):
        assert (exposure.image[where] == 0.0).all()
        np.testing.assert_array_equal(exposure.image[~where], before[~where])
    np.testing.assert_array_equal(exposure.image, before)
    with neighbours_replaced(exposure, Footprints.empty(exposure.shape), None) as scene:
        assert scene.footprints == 0


class TestEdges:
    """Stars whose boxes and circles leave the image."""

    POSITIONS = ((100.0, 100.0), (30.0, 100.0), (15.0, 100.0), (5.0, 100.0), (1.0, 100.0))

    @pytest.fixture
    def catalog(self):
        image = np.zeros((200, 200), np.float32)
        x, y = np.array(self.POSITIONS).T
        y = np.array([100.0, 150.0, 50.0, 130.0, 70.0])
        for position in zip(x, y, strict=True):
            add_gaussian(image, *position, 1e4, 4.0, 4.0)
        image += np.random.default_rng(1).normal(0, 1, image.shape).astype(np.float32)
        exposure = Exposure(
            image, np.zeros(image.shape, np.int32), np.ones_like(image), psf=GaussianPsf(2.0, 25)
        )
        return measure(exposure, footprints_of_disks(image.shape, x, y, 9))

    def test_centroids_fall_back_to_a_small_kernel_and_then_to_the_start(self, catalog):
        assert catalog["base_SdssCentroid_flag_near_edge"].tolist() == [False, False, False, True, False]
        assert catalog["base_SdssCentroid_flag_edge"].tolist() == [False, False, False, False, True]
        # The fit of the PSF takes what pixels there are.
        assert catalog["base_SdssCentroid_flag"].tolist() == [False, False, False, False, True]
        assert catalog["slot_Centroid_x"][4] == 1.0
        assert catalog["slot_Centroid_x"][3] == pytest.approx(5.0, abs=0.2)

    def test_circles(self, catalog):
        for radius, inside in (("9_0", 3), ("12_0", 3), ("17_0", 2), ("35_0", 1), ("70_0", 1)):
            expected = [k >= inside for k in range(5)]
            prefix = f"base_CircularApertureFlux_{radius}"
            assert catalog[f"{prefix}_flag_apertureTruncated"].tolist() == expected
            assert np.isnan(catalog[f"{prefix}_instFlux"]).tolist() == expected
        truncated = catalog["base_CircularApertureFlux_9_0_flag_sincCoeffsTruncated"]
        assert truncated.tolist() == [False, True, True, True, True]
        assert catalog["base_CompensatedTophatFlux_12_flag_bounds"].tolist() == [
            False,
            False,
            True,
            True,
            True,
        ]

    def test_psf_flux_is_measured_on_what_is_left(self, catalog):
        assert catalog["base_PsfFlux_flag_edge"].tolist() == [False, False, False, True, True]
        assert catalog["base_PsfFlux_instFlux"] == pytest.approx(1e4, rel=0.02)
        assert catalog["base_PsfFlux_npixels"][3] == 25 * 18


def test_nan_pixels_are_flagged_not_hidden():
    exposure, footprints, x, y = star_field(9, radius=12)
    exposure.image[int(y[4]) + 2, int(x[4]) + 2] = np.nan
    catalog = measure(exposure, footprints)
    others = np.arange(9) != 4
    for name in ("base_SdssCentroid", "ext_shapeHSM_HsmSourceMoments", "base_GaussianFlux", "base_PsfFlux"):
        assert catalog[f"{name}_flag"].tolist() == (~others).tolist()
    for name in ("base_GaussianFlux_instFlux", "slot_Shape_xx"):
        assert np.isfinite(catalog[name]).tolist() == others.tolist()
    # The PSF fit leaves such pixels out; as a plain sum it cannot.
    assert np.isfinite(catalog["base_PsfFlux_instFlux"]).all()
    assert catalog["base_PsfFlux_npixels"][4] == catalog["base_PsfFlux_npixels"][0] - 1
    plain = {"base_PsfFlux": {"weighting": "uniform", "outliers": {"threshold": 0.0}}}
    task = SingleFrameMeasurement(MeasurementConfig(plugins=plain))
    assert (
        np.isnan(measure(exposure, footprints, task)["base_PsfFlux_instFlux"]).tolist() == (~others).tolist()
    )
    assert catalog["base_SdssCentroid_flag_resetToPeak"][4]
    assert catalog["slot_Centroid_x"][4] == footprints.peak_x[4]


def test_one_source_and_no_source():
    exposure, footprints, x, _ = star_field(1, noise=1.0)
    assert measure(exposure, footprints)["slot_Centroid_x"] == pytest.approx(x, abs=0.01)
    assert len(measure(exposure, Footprints.empty(exposure.shape))) == 0


def test_footprints_are_required():
    exposure, footprints, _, _ = star_field(1)
    task = SingleFrameMeasurement()
    with pytest.raises(ValueError, match="footprints"):
        task.run(SourceCatalog(Schema(task.columns, task.aliases), 1), exposure)
    with pytest.raises(ValueError, match="footprints"):
        task.run(SourceCatalog(Schema(task.columns, task.aliases), 2, footprints), exposure)


class TestSecondPass:
    """The final pass on the catalogue of an earlier one."""

    def test_flags_accumulate_and_failed_values_do_not_stay(self):
        exposure, footprints, _, _ = star_field(9, radius=12)
        task = SingleFrameMeasurement()
        catalog = measure(exposure, footprints, task)
        first = catalog["slot_Shape_xx"].copy()
        catalog["base_PsfFlux_flag"][2] = True
        catalog["base_GaussianFlux_flag"][2] = True
        exposure.psf = GaussianPsf(2.2, 31)
        rows, columns = (slice(int(p[5]) - 3, int(p[5]) + 4) for p in (footprints.peak_y, footprints.peak_x))
        exposure.image[rows, columns] = np.nan
        task.run(catalog, exposure)
        assert catalog["base_PsfFlux_flag"][2]
        assert not catalog["base_GaussianFlux_flag"][2]
        assert np.isnan(catalog["slot_Shape_xx"][5])
        assert np.isnan(catalog["base_GaussianFlux_instFlux"][5])
        assert catalog["base_GaussianFlux_flag"][5]
        others = np.arange(9) != 5
        assert catalog["slot_Shape_xx"][others] == pytest.approx(first[others], rel=1e-3)
        assert (catalog["base_PsfFlux_npixels"][others] == 31 * 31).all()

    def test_moments_start_where_they_ended_also_when_the_centroid_is_subtracted(self):
        exposure, footprints, _, _ = star_field(9, radius=12)
        name = "ext_shapeHSM_HsmSourceMoments"
        passes = {}
        for subtracted in (False, True):
            config = MeasurementConfig.model_validate({"plugins": {name: {"subtract_center": subtracted}}})
            task = SingleFrameMeasurement(config)
            catalog = measure(exposure, footprints, task)
            task.run(catalog, exposure)
            passes[subtracted] = np.stack(
                [catalog[f"{name}_{axis}"] for axis in ("x", "y", "xx", "yy", "xy")]
            )
        passes[True][:2] += catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
        # A fit that begins elsewhere ends within a millionth, but not nearer.
        np.testing.assert_allclose(passes[True], passes[False], rtol=1e-11)

    def test_the_search_starts_at_the_last_centroid(self):
        exposure, footprints, _, _ = star_field(4, radius=12)
        task = SingleFrameMeasurement()
        catalog = measure(exposure, footprints, task)
        once = catalog["slot_Centroid_x"].copy()
        task.run(catalog, exposure)
        assert catalog["slot_Centroid_x"] == pytest.approx(once, abs=1e-6)


class TestPixelFlags:
    """Flags of hand-made masks."""

    @pytest.fixture
    def scene(self):
        exposure, footprints, x, y = star_field(4, radius=6)
        return exposure, footprints, np.floor(x + 0.5).astype(int), np.floor(y + 0.5).astype(int)

    def test_footprint_centre_and_all_of_the_centre(self, scene):
        exposure, footprints, x, y = scene
        exposure.mask[y[0] + 5, x[0]] = exposure.bits("SAT")
        exposure.mask[y[1] + 1, x[1] - 1] = exposure.bits("CR")
        exposure.mask[y[2] - 2 : y[2] + 3, x[2] - 2 : x[2] + 3] = exposure.bits("INTRP", "SUSPECT")
        exposure.mask[y[3] + 9, x[3]] = exposure.bits("BAD")
        catalog = measure(exposure, footprints)
        raised = [
            {
                c.name.removeprefix("base_PixelFlags_flag_")
                for c in catalog.schema
                if c.name.startswith("base_PixelFlags") and catalog[c.name][i]
            }
            for i in range(4)
        ]
        assert raised[0] == {"saturated"}
        assert raised[1] == {"cr", "crCenter"}
        both = {"interpolated", "suspect"}
        assert raised[2] == both | {f"{name}Center" for name in both} | {f"{name}CenterAll" for name in both}
        assert raised[3] == set()

    def test_a_centre_off_the_image(self):
        image = np.ones((64, 64), np.float32)
        exposure = Exposure(
            image, np.zeros(image.shape, np.int32), np.ones_like(image), psf=GaussianPsf(1.5, 11)
        )
        inside = np.zeros(image.shape, bool)
        inside[10:20, :5] = True
        catalog = measure(exposure, footprints_of_masks([inside], [(-3.0, 15.0)]))
        for name in ("offimage", "edge", "edgeCenter", "edgeCenterAll"):
            assert catalog[f"base_PixelFlags_flag_{name}"][0]
        assert not catalog["base_PixelFlags_flag"][0]

    def test_further_planes(self, scene):
        exposure, footprints, _, _ = scene
        exposure.planes = exposure.planes.including("SPIKE")
        exposure.set_plane("SPIKE", np.ones(exposure.shape, bool))
        settings = {"masks_fp_anywhere": ["SPIKE"], "masks_fp_center": ["SPIKE"]}
        task = SingleFrameMeasurement(MeasurementConfig(plugins={"base_PixelFlags": settings}))
        catalog = measure(exposure, footprints, task)
        for name in ("spike", "spikeCenter", "spikeCenterAll"):
            assert catalog[f"base_PixelFlags_flag_{name}"].all()

    def test_standard_planes_named_as_further_ones_keep_their_flags(self, scene):
        exposure, footprints, _, _ = scene
        exposure.set_plane("SAT", np.ones(exposure.shape, bool))
        settings = {"masks_fp_anywhere": ["SAT", "EDGE"], "masks_fp_center": ["SAT", "CR"]}
        task = SingleFrameMeasurement(MeasurementConfig(plugins={"base_PixelFlags": settings}))
        catalog = measure(exposure, footprints, task)
        for name in ("saturated", "saturatedCenter", "saturatedCenterAll"):
            assert catalog[f"base_PixelFlags_flag_{name}"].all()
        assert "base_PixelFlags_flag_sat" not in catalog


def test_bad_pixels_enter_the_fits_as_configured():
    exposure, footprints, x, y = star_field(4, radius=12, noise=1.0)
    row, column = int(y[0]) + 3, int(x[0]) + 3
    exposure.image[row, column] = 1e6
    exposure.mask[row, column] = exposure.bits("BAD")
    task = SingleFrameMeasurement(MeasurementConfig(plugins={"base_PsfFlux": {"bad_mask_planes": ["BAD"]}}))
    catalog = measure(exposure, footprints, task)
    assert catalog["base_PsfFlux_npixels"][0] == 41 * 41 - 1
    assert catalog["base_PsfFlux_instFlux"][0] == pytest.approx(1e4, rel=0.01)
    assert catalog["slot_Shape_xx"][0] == pytest.approx(4.0, rel=0.1)
    plain = {"weighting": "uniform", "bad_mask_planes": (), "outliers": {"threshold": 0.0}}
    task = SingleFrameMeasurement(MeasurementConfig(plugins={"base_PsfFlux": plain}))
    assert measure(exposure, footprints, task)["base_PsfFlux_instFlux"][0] > 1.5e4


@pytest.mark.parametrize("kind", ["zero", "nan", "some nan", "some infinite", "huge", "tiny", "noise"])
def test_whatever_the_pixels_hold(kind):
    """No crash, no warning, finite positions, and the image comes back, for every plugin, on tiny images too."""
    generator = np.random.default_rng(len(kind))
    names = tuple(name for name in PLUGINS if name != "base_SkyCoord")
    task = SingleFrameMeasurement(MeasurementConfig(names=names))
    for _ in range(12):
        height, width, count = *generator.integers(5, 90, 2), generator.integers(1, 8)
        image = generator.normal(0, 1, (height, width)).astype(np.float32)
        image *= {"zero": 0.0, "nan": np.nan, "huge": 1e30, "tiny": 1e-30}.get(kind, 1.0)
        some = generator.random(image.shape) < 0.1
        image[some] = {"some nan": np.nan, "some infinite": np.inf}.get(kind, image[some])
        variance = np.ones_like(image)
        variance[generator.random(image.shape) < 0.2] = generator.choice([0, np.nan, -1, np.inf, 1])
        mask = generator.integers(0, 2**11, image.shape).astype(np.int32)
        psf = GaussianPsf(generator.uniform(0.3, 4), 2 * int(generator.integers(1, 20)) + 1)
        exposure, before = Exposure(image, mask, variance, psf=psf), image.copy()
        x, y = generator.uniform(0, width - 1, count), generator.uniform(0, height - 1, count)
        catalog = measure(
            exposure, footprints_of_disks(image.shape, x, y, int(generator.integers(0, 12))), task
        )
        task.run(catalog, exposure)
        np.testing.assert_array_equal(image, before)
        assert np.isfinite(catalog["slot_Centroid_x"]).all()
        flux = catalog["base_PsfFlux_instFlux"]
        assert (np.isfinite(flux) | catalog["base_PsfFlux_flag"]).all()
