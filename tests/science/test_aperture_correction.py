"""Aperture corrections and normalisation against known ratios, and classification against its rule."""

import numpy as np
import pytest

from streamchar.characterize.aperture_correction import (
    ApplyApertureCorrections,
    ApplyApertureCorrectionsConfig,
    FieldFitConfig,
    MeasureApertureCorrections,
    MeasureApertureCorrectionsConfig,
    NormalizedCalibrationFlux,
    NormalizedCalibrationFluxConfig,
    fit_ratio,
)
from streamchar.characterize.catalog import Column, Schema, SourceCatalog, flag
from streamchar.characterize.chebyshev import ChebyshevField
from streamchar.characterize.classification import CatalogCalculation, CatalogCalculationConfig
from streamchar.characterize.errors import ApertureCorrectionError, NormalizationError
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
    columns = [flag("calib_psf_used", ""), Column("slot_x", "<f8", "", "")]
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


class TestFit:
    def test_recovers_a_quadratic_field_among_outliers(self):
        generator = np.random.default_rng(3)
        x, y = generator.uniform(0, 2000, 200), generator.uniform(0, 1000, 200)
        truth = 1 + 1e-4 * x - 5e-8 * x * y
        ratio = truth + generator.normal(0, 1e-3, 200)
        ratio[:10] += 0.5
        config = MeasureApertureCorrectionsConfig()
        fit = fit_ratio(x, y, ratio, config, SHAPE)
        residual = fit.field.evaluate(x, y) - truth
        assert not fit.used[:10].any()
        assert fit.used[10:].mean() > 0.98
        assert np.abs(residual).max() < 1e-3
        assert fit.error == pytest.approx(1e-3 * np.sqrt(6 / 190), rel=0.15)
        assert residual[10:].std() == pytest.approx(fit.error, rel=0.6)
        scatter = fit_ratio(x, y, ratio, config.model_copy(update={"error_estimate": "scatter"}), SHAPE)
        assert scatter.error == pytest.approx(1e-3, rel=0.15)

    @pytest.mark.parametrize(("stars", "order"), [(2, 0), (3, 0), (4, 1), (6, 1), (7, 2), (30, 2)])
    def test_the_order_drops_with_few_stars(self, stars, order):
        x, y = np.random.default_rng(1).uniform(0, 1000, (2, stars))
        fit = fit_ratio(x, y, np.full(stars, 1.25), MeasureApertureCorrectionsConfig(), SHAPE)
        assert fit.field.order == order
        assert fit.field.evaluate(500.0, 500.0) == pytest.approx(1.25)

    @pytest.mark.parametrize("stars", [0, 1])
    def test_fails_with_too_few(self, stars):
        with pytest.raises(ApertureCorrectionError) as caught:
            fit_ratio(*np.ones((3, stars)), MeasureApertureCorrectionsConfig(), SHAPE, flux="some flux")
        assert caught.value.values == {"flux": "some flux", "stars": stars, "needed": 2}

    def test_the_median_shift(self):
        ratio = np.concatenate([np.ones(6), [1.02, 1.03, 1.04]])
        options = {"fit_config": FieldFitConfig(order=0), "num_sigma_clip": 1e9}
        x = np.arange(9.0)
        plain = fit_ratio(
            x, x, ratio, MeasureApertureCorrectionsConfig(**options, do_final_median_shift=False), SHAPE
        )
        shifted = fit_ratio(x, x, ratio, MeasureApertureCorrectionsConfig(**options), SHAPE)
        assert plain.field.evaluate(0, 0) == pytest.approx(ratio.mean())
        assert shifted.field.evaluate(0, 0) == pytest.approx(np.median(ratio))


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
        np.testing.assert_allclose(catalog["base_PsfFlux_instFlux"], catalog[f"{CIRCLE}_instFlux"], rtol=1e-6)
        np.testing.assert_allclose(catalog["base_PsfFlux_apCorr"], true_factor(catalog), rtol=1e-6)
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
        catalog["base_PsfFlux_instFluxErr"][20:40] = catalog["base_PsfFlux_instFlux"][20:40] / 100
        catalog["base_PsfFlux_flag"][40:50] = True
        catalog[f"{CIRCLE}_flag"][50:60] = True
        catalog[f"{CIRCLE}_instFlux"][60:70] = np.nan
        catalog["base_PsfFlux_instFlux"][70:80] *= -1
        self.run(catalog, exposure)
        assert np.flatnonzero(catalog["apcorr_base_PsfFlux_used"]).tolist() == list(range(80, 300))

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
            catalog["base_GaussianFlux_instFlux"], total * true_factor(catalog), rtol=1e-6
        )
        np.testing.assert_allclose(
            catalog["base_GaussianFlux_instFluxErr"], total / 1000 * true_factor(catalog), rtol=1e-6
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
    assert fit.source_selector.flags.good == ("calib_psf_used",)


def test_selection_by_other_columns():
    catalog = make_catalog(4)
    catalog["calib_psf_used"] = [True, True, False, True]
    catalog["base_PsfFlux_instFlux"] = [1e5, np.nan, 1e5, 1e5]
    catalog["base_PsfFlux_instFluxErr"] = [0.0, 1.0, 1.0, 1e3]
    assert select_sources(catalog, SourceSelectorConfig()).tolist() == [True, False, False, False]
    loose = SourceSelectorConfig.model_validate(
        {
            "do_signal_to_noise": False,
            "do_flux_limit": True,
            "flux_limit": {"flux_field": "base_PsfFlux_instFlux", "maximum": 2e5},
        }
    )
    assert select_sources(catalog, loose).tolist() == [True, False, False, True]


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
