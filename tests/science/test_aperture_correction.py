"""Aperture corrections and normalisation against known ratios, and classification against its rule."""

import numpy as np
import pytest

from streamchar.characterize.aperture_correction import (
    ApplyApertureCorrections,
    ApplyApertureCorrectionsConfig,
    BoundedField,
    FieldFitConfig,
    MeasureApertureCorrections,
    MeasureApertureCorrectionsConfig,
    NormalizedCalibrationFlux,
    NormalizedCalibrationFluxConfig,
    fit_ratio,
    psf_light,
)
from streamchar.characterize.catalog import Column, Schema, SourceCatalog, flag
from streamchar.characterize.chebyshev import ChebyshevField, design_matrix
from streamchar.characterize.classification import CatalogCalculation, CatalogCalculationConfig
from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.characterize.errors import ApertureCorrectionError, NormalizationError
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.source_selection import SourceSelectorConfig, select_sources
from streamchar.image import Exposure
from tests.measurement_scenes import footprints_of_disks

SHAPE = (1000, 2000)
RAW, CIRCLE, NORMALIZED = (
    "base_CompensatedTophatFlux_12",
    "base_CircularApertureFlux_12_0",
    "base_NormalizedCompensatedTophatFlux",
)
FLUXES = (RAW, CIRCLE, "base_GaussianFlux", "base_PsfFlux")


@pytest.fixture
def exposure():
    image = np.zeros(SHAPE, np.float32)
    return Exposure(image, np.zeros(SHAPE, np.int32), np.ones_like(image))


def make_catalog(n=300, *, seed=1, tasks=()):
    """Stars whose PSF flux misses a part that varies over the field."""
    generator = np.random.default_rng(seed)
    columns = [flag("calib_psf_used", ""), flag("calib_psf_reserved", ""), Column("slot_x", "<f8", "", "")]
    columns += [Column(f"slot_Centroid_{axis}", "<f8", "pixel", "") for axis in "xy"]
    for name in FLUXES:
        columns += [
            Column(f"{name}_instFlux", "<f8", "", ""),
            Column(f"{name}_instFluxErr", "<f8", "", ""),
            flag(f"{name}_flag", ""),
        ]
    aliases = {
        "slot_CalibFlux": CIRCLE,
        "slot_ModelFlux": "base_GaussianFlux",
        "slot_PsfFlux": "base_PsfFlux",
    }
    for task in tasks:
        columns += task.columns
        aliases.update(getattr(task, "aliases", {}))
    catalog = SourceCatalog(Schema(tuple(columns), aliases), n)
    catalog["calib_psf_used"] = True
    catalog["slot_Centroid_x"], catalog["slot_Centroid_y"] = (
        generator.uniform(0, SHAPE[1], n),
        generator.uniform(0, SHAPE[0], n),
    )
    total = 10 ** generator.uniform(5, 6, n)
    for name in FLUXES:
        catalog[f"{name}_instFlux"] = total
        catalog[f"{name}_instFluxErr"] = total / 1000
    catalog["base_PsfFlux_instFlux"] = total / true_factor(catalog)
    return catalog


def true_factor(catalog):
    u, v = catalog["slot_Centroid_x"] / SHAPE[1], catalog["slot_Centroid_y"] / SHAPE[0]
    return 1.1 + 0.05 * u - 0.03 * v + 0.04 * u * v - 0.02 * u * u


EQUAL = MeasureApertureCorrectionsConfig(weights="equal")


class TestEqualWeights:
    """The reference's fit."""

    def test_recovers_a_quadratic_field_among_outliers(self):
        generator = np.random.default_rng(3)
        x, y = generator.uniform(0, 2000, 200), generator.uniform(0, 1000, 200)
        truth = 1 + 1e-4 * x - 5e-8 * x * y
        ratio = truth + generator.normal(0, 1e-3, 200)
        ratio[:10] += 0.5
        config = EQUAL
        fit = fit_ratio(x, y, ratio, config, SHAPE)
        residual = fit.field.evaluate(x, y) - truth
        assert not fit.used[:10].any()
        assert fit.used[10:].mean() > 0.98
        assert np.abs(residual).max() < 1e-3
        assert fit.error.evaluate(0.0, 0.0) == pytest.approx(1e-3 * np.sqrt(6 / 190), rel=0.15)
        assert residual[10:].std() == pytest.approx(fit.error.evaluate(0.0, 0.0).item(), rel=0.6)
        scatter = fit_ratio(x, y, ratio, config.model_copy(update={"error_estimate": "scatter"}), SHAPE)
        assert scatter.error.evaluate(0.0, 0.0) == pytest.approx(1e-3, rel=0.15)

    @pytest.mark.parametrize(("stars", "order"), [(2, 0), (3, 0), (4, 1), (6, 1), (7, 2), (30, 2)])
    def test_the_order_drops_with_few_stars(self, stars, order):
        x, y = np.random.default_rng(1).uniform(0, 1000, (2, stars))
        fit = fit_ratio(x, y, np.full(stars, 1.25), EQUAL, SHAPE)
        assert fit.order == order
        assert fit.field.evaluate(500.0, 500.0) == pytest.approx(1.25)

    @pytest.mark.parametrize(
        "config", [MeasureApertureCorrectionsConfig(weights=w) for w in ("equal", "inverse_variance")]
    )
    @pytest.mark.parametrize("stars", [0, 1])
    def test_fails_with_too_few(self, stars, config):
        with pytest.raises(ApertureCorrectionError) as caught:
            fit_ratio(*np.ones((3, stars)), config, SHAPE, flux="some flux")
        assert caught.value.values == {"flux": "some flux", "stars": stars, "needed": 2}

    def test_the_median_shift(self):
        ratio = np.concatenate([np.ones(6), [1.02, 1.03, 1.04]])
        options = {"weights": "equal", "fit_config": FieldFitConfig(order=0), "num_sigma_clip": 1e9}
        x = np.arange(9.0)
        plain = fit_ratio(
            x, x, ratio, MeasureApertureCorrectionsConfig(**options, do_final_median_shift=False), SHAPE
        )
        shifted = fit_ratio(x, x, ratio, MeasureApertureCorrectionsConfig(**options), SHAPE)
        assert plain.field.evaluate(0, 0) == pytest.approx(ratio.mean())
        assert shifted.field.evaluate(0, 0) == pytest.approx(np.median(ratio))


def polynomial(kind):
    """True fields, relative: rms 0, 6e-3 and 9e-3."""

    def truth(x, y):
        u, v = 2 * x / SHAPE[1] - 1, 2 * y / SHAPE[0] - 1
        slope, curve = {"constant": (0, 0), "linear": (0.01, 0), "quadratic": (0.01, 0.02)}[kind]
        return 1.05 + slope * u + curve * (u * u + v * v - u * v)

    return truth


def simulated(kind, stars, seed, *, outliers=0.0):
    """Stars with S/N 50 to 1000 and what they are fitted with."""
    generator = np.random.default_rng([seed, stars])
    x, y = generator.uniform(0, SHAPE[1], stars), generator.uniform(0, SHAPE[0], stars)
    error = 1 / np.exp(generator.uniform(np.log(50), np.log(1000), stars))
    ratio = polynomial(kind)(x, y) + generator.normal(0, error)
    wrong = generator.random(stars) < outliers
    ratio[wrong] += generator.uniform(0.05, 0.5, int(wrong.sum()))
    return x, y, ratio, error


GRID = np.meshgrid(np.linspace(0, SHAPE[1] - 1, 21), np.linspace(0, SHAPE[0] - 1, 11))
SEEDS = range(40)


def many(kind, stars, *, outliers=0.0, config=None):
    """Root mean square error over the detector, its pull and the orders, over many catalogues."""
    truth, square, pulls, orders = polynomial(kind)(*GRID), [], [], []
    for seed in SEEDS:
        x, y, ratio, error = simulated(kind, stars, seed, outliers=outliers)
        fit = fit_ratio(x, y, ratio, config or MeasureApertureCorrectionsConfig(), SHAPE, variance=error**2)
        difference = fit.field.evaluate(*GRID) - truth
        square.append(np.mean(difference**2))
        pulls.append(difference / fit.error.evaluate(*GRID))
        orders.append(fit.order)
    return np.sqrt(np.median(square)), float(np.sqrt(np.mean(np.square(pulls)))), np.array(orders)


class TestWeightedFit:
    @pytest.mark.parametrize("stars", [5, 11, 40, 300])
    def test_a_constant_is_found_as_well_as_the_errors_allow(self, stars):
        rms, pull, orders = many("constant", stars)
        bound = np.median([(1 / np.sum(simulated("constant", stars, s)[3] ** -2.0)) ** 0.5 for s in SEEDS])
        assert rms < 1.6 * bound
        assert np.mean(orders == 0) >= 0.9
        assert 0.5 < pull < 1.35

    # Of five stars the other clips all in some catalogues.
    @pytest.mark.parametrize("stars", [11, 40, 300])
    @pytest.mark.parametrize("kind", ["constant", "linear", "quadratic"])
    def test_never_much_worse_than_equal_weights(self, kind, stars):
        missed = np.std(polynomial(kind)(*GRID)) if stars < 30 else 0.0
        assert many(kind, stars)[0] < max(1.05 * many(kind, stars, config=EQUAL)[0], 2.0 * missed)

    @pytest.mark.parametrize(
        ("kind", "stars", "order"), [("linear", 40, 1), ("linear", 300, 1), ("quadratic", 300, 2)]
    )
    def test_fields_that_stars_show_are_fitted(self, kind, stars, order):
        rms, pull, orders = many(kind, stars)
        assert np.mean(orders >= order) >= 0.9
        assert rms < 2.5e-3
        assert pull < 1.6

    @pytest.mark.parametrize("stars", [11, 40, 300])
    def test_outliers_hardly_matter(self, stars):
        clean, dirty = many("constant", stars)[0], many("constant", stars, outliers=0.1)[0]
        assert dirty < 1.5 * clean + 5e-4

    @pytest.mark.parametrize(("stars", "largest"), [(2, 0), (14, 0), (15, 1), (29, 1), (30, 2)])
    def test_every_term_needs_stars(self, stars, largest):
        x, y, _, error = simulated("quadratic", stars, 1)
        ratio = 1 + 50 * (polynomial("quadratic")(x, y) - 1.05)
        assert (
            fit_ratio(x, y, ratio, MeasureApertureCorrectionsConfig(), SHAPE, variance=error**2).order
            <= largest
        )

    def test_does_not_extrapolate(self):
        generator = np.random.default_rng(5)
        x, y = generator.uniform(800, 1200, 300), generator.uniform(400, 600, 300)
        ratio = polynomial("quadratic")(x, y) + generator.normal(0, 1e-4, 300)
        fit = fit_ratio(x, y, ratio, MeasureApertureCorrectionsConfig(min_scatter=1e-4), SHAPE)
        assert fit.order > 0
        assert ratio.min() - 1e-3 < fit.field.evaluate(*GRID).min()
        assert fit.field.evaluate(*GRID).max() < ratio.max() + 1e-3
        assert fit.error.evaluate(0.0, 0.0) > 3 * fit.error.evaluate(1000.0, 500.0)

    def test_one_bright_star_does_not_decide_alone(self):
        ratio, error = np.array([1.1, *np.full(20, 1.0)]), np.array([1e-5, *np.full(20, 2e-3)])
        x, y = np.random.default_rng(1).uniform(0, 1000, (2, 21))
        fit = fit_ratio(x, y, ratio, MeasureApertureCorrectionsConfig(), SHAPE, variance=error**2)
        assert fit.field.evaluate(0.0, 0.0) == pytest.approx(1.0, abs=1e-3)
        assert not fit.used[0]

    def test_a_star_without_error_is_left_out(self):
        x, y, ratio, error = simulated("constant", 20, 1)
        error[3], ratio[3] = np.nan, 1.05
        fit = fit_ratio(x, y, ratio, MeasureApertureCorrectionsConfig(), SHAPE, variance=error**2)
        assert not fit.used[3]
        assert np.isfinite(fit.field.evaluate(0.0, 0.0))

    def test_intrinsic_scatter_is_in_the_error(self):
        generator = np.random.default_rng(2)
        x, y = generator.uniform(0, 1000, (2, 200))
        ratio = 1 + generator.normal(0, 5e-3, 200)
        fit = fit_ratio(x, y, ratio, MeasureApertureCorrectionsConfig(), SHAPE, variance=np.full(200, 1e-8))
        assert fit.error.evaluate(0.0, 0.0) == pytest.approx(5e-3 / 200**0.5, rel=0.25)

    def test_bounded_field(self):
        whole = ChebyshevField.fit(
            *np.array([[0.0, 9, 0], [0, 0, 9], [1, 2, 1]]), order=1, width=10, height=10
        )
        field = BoundedField(whole, (1.0, 8.0), (2.0, 3.0))
        x, y = np.array([-50.0, 4.5, 50.0, np.nan]), np.zeros(4)
        np.testing.assert_allclose(field.evaluate(x, y), [10 / 9, 1.5, 17 / 9, np.nan])


def test_design_matrix_is_sorted_by_degree():
    x, y = np.random.default_rng(1).uniform(0, 100, (2, 8))
    whole = design_matrix(x, y, order=3, width=100, height=80)
    for order, count in ((0, 1), (1, 3), (2, 6)):
        np.testing.assert_array_equal(
            whole[:, :count], design_matrix(x, y, order=order, width=100, height=80)
        )
    solution = np.arange(10.0)
    np.testing.assert_allclose(ChebyshevField.of(solution, 3, 100, 80).evaluate(x, y), whole @ solution)


class TestCorrections:
    def run(self, catalog, exposure, measure=None, apply=None):
        measure, apply = measure or MeasureApertureCorrections(), apply or ApplyApertureCorrections()
        corrections = measure.run(catalog, exposure)
        apply.run(catalog, corrections)
        return corrections

    def make(self, **options):
        return make_catalog(tasks=(MeasureApertureCorrections(), ApplyApertureCorrections()), **options)

    def test_corrected_fluxes_equal_the_reference_flux(self, exposure):
        catalog = self.make()
        before, errors = catalog["base_PsfFlux_instFlux"].copy(), catalog["base_PsfFlux_instFluxErr"].copy()
        corrections = self.run(catalog, exposure)
        assert set(corrections) == {
            f"{n}_instFlux{e}" for n in ("base_GaussianFlux", "base_PsfFlux") for e in ("", "Err")
        }
        # Down-weighting and the bounds leave no more than this.
        np.testing.assert_allclose(catalog["base_PsfFlux_instFlux"], catalog[f"{CIRCLE}_instFlux"], rtol=3e-5)
        np.testing.assert_allclose(catalog["base_PsfFlux_apCorr"], true_factor(catalog), rtol=3e-5)
        factor, factor_error = catalog["base_PsfFlux_apCorr"], catalog["base_PsfFlux_apCorrErr"]
        expected = np.hypot(errors * factor, before * factor_error)
        np.testing.assert_allclose(catalog["base_PsfFlux_instFluxErr"], expected)
        assert not catalog["base_PsfFlux_flag_apCorr"].any()
        assert not catalog["base_PsfFlux_flag"].any()
        assert catalog["apcorr_base_PsfFlux_used"].all()
        assert not catalog["apcorr_slot_CalibFlux_used"].any()

    def test_only_bright_unflagged_psf_stars_count(self, exposure):
        catalog = self.make()
        catalog["calib_psf_used"][:20] = False
        catalog["calib_psf_reserved"][:5] = True
        catalog["base_PsfFlux_instFluxErr"][20:40] = catalog["base_PsfFlux_instFlux"][20:40] / 100
        catalog["base_PsfFlux_flag"][40:50] = True
        catalog[f"{CIRCLE}_flag"][50:60] = True
        catalog[f"{CIRCLE}_instFlux"][60:70] = np.nan
        catalog["base_PsfFlux_instFlux"][70:80] *= -1
        self.run(catalog, exposure)
        assert np.flatnonzero(catalog["apcorr_base_PsfFlux_used"]).tolist() == [*range(5), *range(80, 300)]

    def test_a_source_without_position_is_flagged_and_left_alone(self, exposure):
        catalog = self.make()
        catalog["slot_Centroid_x"][7] = np.nan
        before = catalog["base_PsfFlux_instFlux"][7]
        self.run(catalog, exposure)
        assert np.flatnonzero(catalog["base_PsfFlux_flag_apCorr"]).tolist() == [7]
        assert np.flatnonzero(catalog["base_PsfFlux_flag"]).tolist() == [7]
        assert catalog["base_PsfFlux_instFlux"][7] == before

    def test_a_flux_without_correction_is_flagged_and_left_alone(self, exposure):
        catalog = self.make()
        before = catalog["base_PsfFlux_instFlux"].copy()
        ApplyApertureCorrections().run(catalog, {})
        assert catalog["base_PsfFlux_flag_apCorr"].all()
        assert not catalog["base_PsfFlux_flag"].any()
        np.testing.assert_array_equal(catalog["base_PsfFlux_instFlux"], before)

    def test_unusable_factors(self):
        catalog = self.make()
        field = {f"base_PsfFlux_instFlux{e}": ChebyshevField.constant(-1.0, 10, 10) for e in ("", "Err")}
        ApplyApertureCorrections().run(catalog, field)
        assert catalog["base_PsfFlux_flag_apCorr"].all()
        assert catalog["base_PsfFlux_flag"].all()

    def test_ignored_fluxes_and_proxies(self, exposure):
        config = ApplyApertureCorrectionsConfig(
            ignore_list=("base_PsfFlux",),
            proxies={"base_GaussianFlux": "base_PsfFlux"},
            do_propagate_errors=False,
        )
        apply = ApplyApertureCorrections(config)
        assert [c.name for c in apply.columns] == [
            f"base_GaussianFlux_{n}" for n in ("apCorr", "apCorrErr", "flag_apCorr")
        ]
        catalog = self.make()
        total = catalog["base_GaussianFlux_instFlux"].copy()
        self.run(catalog, exposure, apply=apply)
        np.testing.assert_allclose(
            catalog["base_GaussianFlux_instFlux"], total * true_factor(catalog), rtol=3e-5
        )
        np.testing.assert_allclose(
            catalog["base_GaussianFlux_instFluxErr"], total / 1000 * true_factor(catalog), rtol=3e-5
        )

    def test_no_star_fails_unless_allowed(self, exposure):
        catalog = self.make()
        catalog["calib_psf_used"] = False
        with pytest.raises(ApertureCorrectionError):
            MeasureApertureCorrections().run(catalog, exposure)
        config = MeasureApertureCorrectionsConfig(allow_failure=("base_PsfFlux", "base_GaussianFlux"))
        assert MeasureApertureCorrections(config).run(catalog, exposure) == {}

    def test_propagated_errors_describe_the_scatter(self, exposure):
        """Pulls of sources that the correction was not measured on, over many fields."""
        pulls = []
        for seed in range(60):
            catalog = self.make(n=80, seed=seed)
            catalog["calib_psf_used"][40:] = False
            generator = np.random.default_rng(1000 + seed)
            truth = catalog[f"{CIRCLE}_instFlux"].copy()
            for name in (CIRCLE, "base_PsfFlux", "base_GaussianFlux"):
                catalog[f"{name}_instFlux"] += generator.normal(0, catalog[f"{name}_instFluxErr"])
            self.run(catalog, exposure)
            error = catalog["base_PsfFlux_instFluxErr"]
            pulls.append(((catalog["base_PsfFlux_instFlux"] - truth) / error)[40:])
        assert np.std(pulls) == pytest.approx(1.0, abs=0.12)


class TestLightOfTheModel:
    """The PSF flux is corrected by what the PSF model says, unless the stars contradict it."""

    GAUSSIAN = GaussianPsf(5.0, 41)
    """Counting parts of pixels spreads its light by their variance."""
    INSIDE = 1.0 - np.exp(-0.5 * 12.0**2 / (5.0**2 + 1 / 12))

    def test_parts_of_pixels(self):
        circle = psf_light.circle((9, 7), 2.5)
        sub = (np.arange(100) + 0.5) / 100 - 0.5
        y = (np.arange(-4, 5)[:, None] + sub).ravel()[:, None]
        x = (np.arange(-3, 4)[:, None] + sub).ravel()
        inside = (x * x + y * y < 2.5**2).reshape(9, 100, 7, 100).mean(axis=(1, 3))
        np.testing.assert_allclose(circle, inside, atol=2e-3)
        assert circle.sum() == pytest.approx(np.pi * 2.5**2, rel=1e-4)

    def test_of_a_gaussian(self):
        field = psf_light.light_within(self.GAUSSIAN, 12.0, SHAPE)
        found = field.evaluate([0.0, 700.0, 1999.0], [0.0, 300.0, 999.0])
        np.testing.assert_allclose(found, self.INSIDE, atol=1e-4)

    @pytest.mark.parametrize(("contamination", "believed"), [(1.005, True), (1.05, False)])
    def test_stars_with_neighbours(self, exposure, contamination, believed):
        exposure.psf = self.GAUSSIAN
        measure, apply = MeasureApertureCorrections(), ApplyApertureCorrections()
        catalog = make_catalog(tasks=(measure, apply))
        light = catalog[f"{CIRCLE}_instFlux"].copy()
        catalog["base_PsfFlux_instFlux"] = light / self.INSIDE
        catalog["base_GaussianFlux_instFlux"] = 0.9 * light
        catalog[f"{CIRCLE}_instFlux"] *= contamination
        apply.run(catalog, measure.run(catalog, exposure))
        expected = light if believed else contamination * light
        for name in ("base_PsfFlux", "base_GaussianFlux"):
            np.testing.assert_allclose(catalog[f"{name}_instFlux"], expected, rtol=1e-3)
            assert catalog[f"apcorr_{name}_used"].all()
        assert measure.metadata["model_over_stars"][0] == pytest.approx(1 / contamination - 1, abs=1e-3)

    def test_the_reference_asks_the_stars_alone(self, exposure):
        exposure.psf = self.GAUSSIAN
        config = CharacterizeImageConfig.preset("reference").measure_ap_corr
        measure, apply = MeasureApertureCorrections(config), ApplyApertureCorrections()
        catalog = make_catalog(tasks=(measure, apply))
        apply.run(catalog, measure.run(catalog, exposure))
        np.testing.assert_allclose(catalog["base_PsfFlux_apCorr"], true_factor(catalog), rtol=3e-5)


class TestNormalization:
    def make(self, task=None, **options):
        catalog = make_catalog(tasks=(task or NormalizedCalibrationFlux(),), **options)
        catalog[f"{RAW}_instFlux"] *= 0.8
        catalog[f"{RAW}_instFluxErr"] *= 0.8
        return catalog

    def test_scales_to_the_aperture_flux(self, exposure):
        task, catalog = NormalizedCalibrationFlux(), self.make()
        corrections = task.run(catalog, exposure)
        assert set(corrections) == {f"{RAW}_instFlux", f"{RAW}_instFluxErr"}
        np.testing.assert_allclose(catalog[f"{NORMALIZED}_instFlux"], catalog[f"{CIRCLE}_instFlux"])
        np.testing.assert_allclose(catalog[f"{NORMALIZED}_instFluxErr"], catalog[f"{CIRCLE}_instFluxErr"])
        assert corrections[f"{RAW}_instFluxErr"].evaluate(1.0, 1.0) == 0
        assert catalog[f"apcorr_{RAW}_used"].all()
        assert catalog.schema.resolve("slot_CalibFlux_instFlux") == f"{NORMALIZED}_instFlux"

    def test_flags(self, exposure):
        catalog = self.make()
        catalog[f"{RAW}_flag"][3] = True
        NormalizedCalibrationFlux().run(catalog, exposure)
        assert np.flatnonzero(catalog[f"{NORMALIZED}_flag"]).tolist() == [3]

    def test_falls_back_to_the_median_of_faint_stars(self, exposure):
        task, catalog = NormalizedCalibrationFlux(), self.make()
        catalog[f"{RAW}_instFluxErr"] = catalog[f"{RAW}_instFlux"] / 10
        task.run(catalog, exposure)
        np.testing.assert_allclose(catalog[f"{NORMALIZED}_instFlux"], catalog[f"{CIRCLE}_instFlux"])
        assert "fallback" in task.metadata

    def test_no_star_is_an_error_with_numbers(self, exposure):
        catalog = self.make()
        catalog["calib_psf_used"][5:] = False
        catalog[f"{RAW}_flag"][:3] = True
        catalog[f"{CIRCLE}_flag"][2:] = True
        with pytest.raises(NormalizationError) as caught:
            NormalizedCalibrationFlux().run(catalog, exposure)
        assert caught.value.values == {"stars": 5, "raw_flagged": 3, "reference_flagged": 3}

    def test_reuses_what_the_exposure_has(self, exposure):
        task = NormalizedCalibrationFlux(NormalizedCalibrationFluxConfig(do_measure_ap_corr=False))
        catalog = self.make(task)
        exposure.aperture_corrections = {f"{RAW}_instFlux": ChebyshevField.constant(2.0, 10, 10)}
        task.run(catalog, exposure)
        np.testing.assert_allclose(catalog[f"{NORMALIZED}_instFlux"], 2 * catalog[f"{RAW}_instFlux"])
        exposure.aperture_corrections = None
        task.run(catalog, exposure)
        np.testing.assert_allclose(catalog[f"{NORMALIZED}_instFlux"], catalog[f"{RAW}_instFlux"])
        assert "identity" in task.metadata


def test_partial_settings_keep_the_other_defaults():
    settings = {"measure_ap_corr": {"source_selector": {"signal_to_noise": {"minimum": 50}}}}
    fit = NormalizedCalibrationFluxConfig.model_validate(settings).measure_ap_corr
    assert fit.fit_config.order == 0
    assert fit.source_selector.signal_to_noise.minimum == 50
    assert fit.source_selector.signal_to_noise.flux_field == f"{RAW}_instFlux"
    assert fit.source_selector.flags.any_good == ("calib_psf_used", "calib_psf_reserved")


def test_selection_by_other_columns():
    catalog = make_catalog(4)
    catalog["calib_psf_used"] = [True, True, False, True]
    catalog["base_PsfFlux_instFlux"] = [1e5, np.nan, 1e5, 1e5]
    catalog["base_PsfFlux_instFluxErr"] = [0.0, 1.0, 1.0, 1e3]
    strict = SourceSelectorConfig.model_validate({"signal_to_noise": {"relaxed_minimum": None}})
    assert select_sources(catalog, strict).tolist() == [True, False, False, False]
    assert select_sources(catalog, SourceSelectorConfig()).tolist() == [True, False, False, True]
    loose = SourceSelectorConfig.model_validate(
        {
            "do_signal_to_noise": False,
            "do_flux_limit": True,
            "flux_limit": {"flux_field": "base_PsfFlux_instFlux", "maximum": 2e5},
        }
    )
    assert select_sources(catalog, loose).tolist() == [True, False, False, True]


@pytest.mark.parametrize(("few", "expected"), [(2, 3), (3, 3), (5, 5), (7, 7), (10, 8)])
def test_the_signal_to_noise_limit_falls_until_there_are_enough(few, expected):
    catalog = make_catalog(10)
    catalog["base_PsfFlux_instFlux"] = [1000, 500, 300, 200, 150, 120, 100, 60, 50, 10]
    catalog["base_PsfFlux_instFluxErr"] = 1.0
    config = SourceSelectorConfig.model_validate({"signal_to_noise": {"few": few}})
    assert np.flatnonzero(select_sources(catalog, config)).tolist() == list(range(expected))


class TestClassification:
    def test_extendedness(self):
        task = CatalogCalculation()
        catalog = make_catalog(5, tasks=(task,))
        catalog["base_PsfFlux_instFlux"] = [1.0, 1.0, 1.0, np.nan, 1.0]
        catalog["base_GaussianFlux_instFlux"] = [1.08, 1.09, 1.0871, 1.0, 1.0]
        catalog["base_GaussianFlux_flag"] = [False, False, False, False, True]
        catalog.footprints = footprints_of_disks((50, 50), [25.0] * 5, [25.0] * 5, 1)
        task.run(catalog)
        np.testing.assert_array_equal(
            catalog["base_ClassificationExtendedness_value"], [0, 1, 1, np.nan, np.nan]
        )
        assert catalog["base_ClassificationExtendedness_flag"].tolist() == [False, False, False, True, True]
        assert catalog["base_FootprintArea_value"].tolist() == [5] * 5

    def test_error_factors(self):
        settings = {"extendedness": {"model_err_factor": -1.0, "psf_err_factor": 1.0}}
        task = CatalogCalculation(CatalogCalculationConfig.model_validate(settings))
        catalog = make_catalog(1, tasks=(task,))
        catalog["base_PsfFlux_instFlux"], catalog["base_GaussianFlux_instFlux"] = 1.0, 1.2
        catalog["base_PsfFlux_instFluxErr"], catalog["base_GaussianFlux_instFluxErr"] = 0.1, 0.1
        task.run(catalog)
        assert catalog["base_ClassificationExtendedness_value"][0] == 0

    def test_size_extendedness(self):
        task = CatalogCalculation(CatalogCalculationConfig(names=("base_ClassificationSizeExtendedness",)))
        columns = [
            Column(f"{s}_{m}", "<f8", "", "")
            for s in ("slot_Shape", "slot_PsfShape")
            for m in ("xx", "yy", "xy")
        ]
        catalog = SourceCatalog(Schema((*columns, flag("slot_Shape_flag", ""), *task.columns)), 3)
        for moment in ("xx", "yy"):
            catalog[f"slot_Shape_{moment}"] = [2.0, 3.0, 3.0]
            catalog[f"slot_PsfShape_{moment}"] = 2.0
        catalog["slot_Shape_flag"] = [False, False, True]
        task.run(catalog)
        expected = [0.0, 1 - np.exp(-0.5 * (2.0 / 4.0**0.5) ** 2), np.nan]
        np.testing.assert_allclose(catalog["base_ClassificationSizeExtendedness_value"], expected)
