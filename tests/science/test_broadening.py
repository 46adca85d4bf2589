"""How broad stars, stars with a companion and small galaxies are, and how the three are classified."""

import numpy as np
import pytest

from streamchar.characterize.catalog import Schema, SourceCatalog
from streamchar.characterize.classification import CatalogCalculation, CatalogCalculationConfig
from streamchar.characterize.measurement import MeasurementConfig, SingleFrameMeasurement
from streamchar.characterize.measurement.broadening import BROADENING, Broadening
from tests.measurement_scenes import add_gaussian, star_field

SIGMA, NOISE, COUNT = 1.8, 10.0, 144
VALUE = f"{BROADENING}_value"


def field(kind, signal_to_noise, seed=1):
    """Exposure and footprints of stars alone, of stars with a companion that makes no peak, or of small galaxies."""
    flux = signal_to_noise * NOISE * 2 * SIGMA * np.sqrt(np.pi)
    exposure, footprints, x, y = star_field(
        COUNT, sigma=SIGMA, flux=1e-3, noise=NOISE, radius=12, seed=seed, width=61
    )
    generator = np.random.default_rng(seed)
    angle = generator.uniform(0, 2 * np.pi, COUNT)
    wide = SIGMA**2 * (1.5 if kind == "galaxies" else 1.0)
    for i in range(COUNT):
        add_gaussian(exposure.image, x[i], y[i], flux, wide, wide)
        if kind == "pairs":
            dx, dy = 2.6 * SIGMA * np.cos(angle[i]), 2.6 * SIGMA * np.sin(angle[i])
            add_gaussian(exposure.image, x[i] + dx, y[i] + dy, 0.4 * flux, SIGMA**2, SIGMA**2)
    return exposure, footprints


def measured(exposure, footprints, calculation=None, settings=None, **others):
    config = MeasurementConfig.model_validate(
        {"plugins": {BROADENING: {"min_flux_ratio": 0.0, **(settings or {})}}, **others}
    )
    task, calculation = SingleFrameMeasurement(config), CatalogCalculation(calculation)
    schema = Schema((*task.columns, *calculation.columns), task.aliases)
    catalog = SourceCatalog(schema, len(footprints), footprints)
    task.run(catalog, exposure)
    calculation.run(catalog)
    return catalog


@pytest.fixture(scope="module", name="catalogs")
def measure_the_fields():
    return {kind: measured(*field(kind, 60.0)) for kind in ("stars", "pairs", "galaxies")}


def test_a_star_has_the_width_of_the_psf(catalogs):
    # The best of many companions is always a little too good: it narrows a star by less than its noise.
    value = catalogs["stars"][VALUE]
    assert np.std(value) < 0.03
    assert -0.02 < np.mean(value) < 0.005
    assert (value < 0.06).mean() > 0.97


def test_a_companion_on_one_side_is_told_from_a_galaxy(catalogs):
    pairs, galaxies = catalogs["pairs"], catalogs["galaxies"]
    assert (pairs[VALUE] < 0.06).mean() > 0.9
    assert (galaxies[VALUE] > 0.06).mean() > 0.97
    assert np.median(pairs[f"{BROADENING}_companion"]) == pytest.approx(0.4, abs=0.1)


def test_stars_beside_companions_are_stars_by_their_width_and_not_by_their_fluxes(catalogs):
    by_flux = CatalogCalculationConfig.model_validate({"extendedness": {"min_broadening": None}})
    name = "base_ClassificationExtendedness_value"
    assert (catalogs["pairs"][name] == 0).mean() > 0.9
    assert (measured(*field("pairs", 60.0), calculation=by_flux)[name] == 0).mean() < 0.2
    assert (catalogs["galaxies"][name] == 1).mean() > 0.97


def test_without_the_broadening_the_fluxes_decide():
    names = tuple(name for name in MeasurementConfig().names if name != BROADENING)
    catalog = measured(*field("galaxies", 60.0), names=names)
    assert VALUE not in catalog
    assert (catalog["base_ClassificationExtendedness_value"] == 1).mean() > 0.97


def test_only_sources_that_their_fluxes_suggest_are_fitted():
    catalog = measured(*field("stars", 60.0), settings={"min_flux_ratio": 1.0})
    fainter = catalog["base_GaussianFlux_instFlux"] < catalog["base_PsfFlux_instFlux"]
    assert 10 < fainter.sum() < COUNT - 10
    assert (np.isnan(catalog[VALUE]) == fainter).all()
    assert not catalog[f"{BROADENING}_flag"].any()


def test_faint_sources_are_not_fitted_whose_broadening_the_noise_hides():
    galaxies = field("galaxies", 12.0)
    assert np.isnan(measured(*galaxies)[VALUE]).mean() > 0.95
    assert np.isfinite(measured(*galaxies, settings={"min_significance": 5.0})[VALUE]).mean() > 0.95


def test_the_error_is_no_less_than_the_inverse_of_the_significance():
    stars = measured(*field("stars", 25.0), settings={"min_significance": 0.0})
    assert 1 / 25 < np.nanstd(stars[VALUE]) < 3 / 25


def test_without_slots_of_fluxes_all_sources_are_fitted():
    exposure, footprints = field("stars", 60.0)
    task = SingleFrameMeasurement(MeasurementConfig.model_validate({"slots": {"model_flux": ""}}))
    catalog = SourceCatalog(Schema(task.columns, task.aliases), len(footprints), footprints)
    task.run(catalog, exposure)
    assert np.isfinite(catalog[VALUE]).all()


def test_too_little_of_the_psf_is_flagged_and_leaves_the_decision_to_the_fluxes():
    exposure, footprints = field("galaxies", 60.0)
    x, y = footprints.peak_x[5], footprints.peak_y[5]
    exposure.mask[y - 1 : y + 2, x - 2 : x + 3] = exposure.bits("SAT")
    catalog = measured(exposure, footprints, settings={"min_light": 0.6})
    assert np.flatnonzero(catalog[f"{BROADENING}_flag"]).tolist() == [5]
    assert np.flatnonzero(np.isnan(catalog[VALUE])).tolist() == [5]
    assert np.isnan(catalog[f"{BROADENING}_companion"][5])


def test_classification_needs_both_the_fluxes_and_the_width():
    plugin, task = Broadening(Broadening.config_class(), MeasurementConfig().slots), CatalogCalculation()
    measurement = SingleFrameMeasurement()
    assert plugin.columns[0] in measurement.columns
    schema = Schema((*measurement.columns, *task.columns), measurement.aliases)
    catalog = SourceCatalog(schema, 5)
    catalog["base_PsfFlux_instFlux"] = [1.0, 1.0, 1.0, 1.0, np.nan]
    catalog["base_GaussianFlux_instFlux"] = [1.2, 1.2, 1.2, 1.0, 1.2]
    catalog[VALUE] = [0.1, 0.05, np.nan, 0.1, 0.1]
    task.run(catalog)
    np.testing.assert_array_equal(catalog["base_ClassificationExtendedness_value"], [1, 0, 1, 0, np.nan])


def test_a_narrow_source_is_a_star_though_its_fluxes_are_doubtful():
    measurement, task = SingleFrameMeasurement(), CatalogCalculation()
    catalog = SourceCatalog(Schema((*measurement.columns, *task.columns), measurement.aliases), 2)
    catalog["base_PsfFlux_flag"] = True
    catalog["base_PsfFlux_instFlux"] = catalog["base_GaussianFlux_instFlux"] = 1.0
    catalog[VALUE] = [0.01, 0.1]
    task.run(catalog)
    np.testing.assert_array_equal(catalog["base_ClassificationExtendedness_value"], [0, np.nan])
    assert catalog["base_ClassificationExtendedness_flag"].tolist() == [False, True]
