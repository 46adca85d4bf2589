"""How well sources are found, placed, measured and classified."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.task import CharacterizationResult
from streamchar.telescope.truth import Table, Truth
from tests.science.truth.bounds import StarBounds, fraction_in_aperture, point_source_significance
from tests.science.truth.matching import Match, Rows
from tests.science.truth.pooling import Sample

Figures = dict[str, float]
Samples = dict[str, Sample]
Array = NDArray[np.float64]

COMPLETE_ABOVE = 75.0
MEASURED_ABOVE = 55.0
"""Signal to noise above which detection at 50 sigma selects no upward fluctuations."""

BINS = ((55.0, 100.0), (100.0, 300.0), (300.0, 1000.0), (1000.0, 5000.0))
UNBIASED_ABOVE = 100.0
CLASSIFIED_ABOVE = 50.0
MAGNITUDE = 2500.0 / np.log(10.0)
"""Millimagnitudes of a relative change."""

ISOLATED = 0.1
"""Light of other sources, in standard deviations of the flux, below which a star is isolated: positions and fluxes are
judged on such stars, or that light alone would use up what the mean of the pulls is allowed."""

EDGE_FWHM = 4.0
MEASURED_FWHM = 8.0
"""Distance from the edge at which a source can be found, and measured."""


def source_figures(result: CharacterizationResult, truth: Truth, match: Match, bounds: StarBounds) -> Figures:
    """Counts, and the statistics of the samples in this exposure alone."""
    figures, samples = source_findings(result, truth, match, bounds)
    return figures | {name: sample.value for name, sample in samples.items()}


def source_findings(
    result: CharacterizationResult, truth: Truth, match: Match, bounds: StarBounds
) -> tuple[Figures, Samples]:
    """Counts, and what is known of each star or source."""
    figures: Figures = {}
    samples: Samples = {}
    for more, further in (
        _detection(result, truth, match),
        _clean_stars(result, truth, match, bounds),
        _crossed_stars(result, truth, match),
        _classification(result, truth, match),
    ):
        figures |= more
        samples |= further
    return figures, samples


def _detection(result: CharacterizationResult, truth: Truth, match: Match) -> tuple[Figures, Samples]:
    catalog, table = result.catalog, truth.sources
    assert catalog is not None
    wanted = (point_source_significance(truth) > COMPLETE_ABOVE) & _inside(truth, EDGE_FWHM)
    found = match.source >= 0
    figures: Figures = {"sources": len(catalog), "objects": int(wanted.sum())}
    close = wanted & (table["streak_distance"] < 4 * truth.psf.fwhm)
    samples = {
        name: Sample("percent", found[which])
        for name, which in (("completeness", wanted), ("completeness_streaks", close))
    }
    figures["objects_near_streaks"] = int(close.sum())
    if not len(catalog):
        return figures, samples
    x, y = np.nan_to_num(catalog["slot_Centroid_x"]), np.nan_to_num(catalog["slot_Centroid_y"])
    samples["purity"] = Sample("percent", match.near)
    false = np.flatnonzero(~match.near)
    streak = np.zeros(len(false), bool)
    for line in truth.streaks:
        streak |= line.distance(x[false], y[false]) < 3 * truth.psf.fwhm
    near_hit = _near_hits(truth, x[false], y[false]) & ~streak
    figures |= {
        "false_sources": len(false),
        "false_on_streaks": int(streak.sum()),
        "false_on_cosmic_rays": int(near_hit.sum()),
    }
    return figures, samples


def _inside(truth: Truth, fwhms: float) -> NDArray[np.bool_]:
    table, margin = truth.sources, fwhms * truth.psf.fwhm
    inside = (table["x"] > margin) & (table["x"] < truth.geometry.width - margin)
    return np.asarray(inside & (table["y"] > margin) & (table["y"] < truth.geometry.height - margin))


def _near_hits(truth: Truth, x: Array, y: Array) -> NDArray[np.bool_]:
    mask = truth.cosmic_ray_mask()
    height, width = mask.shape
    result = np.zeros(len(x), bool)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            column = np.clip(np.floor(x + 0.5).astype(int) + dx, 0, width - 1)
            row = np.clip(np.floor(y + 0.5).astype(int) + dy, 0, height - 1)
            result |= mask[row, column]
    return result


def _clean_stars(
    result: CharacterizationResult, truth: Truth, match: Match, bounds: StarBounds
) -> tuple[Figures, Samples]:
    catalog = result.catalog
    assert catalog is not None
    table, source = truth.sources[bounds.row], match.source[bounds.row]
    significance = table["flux"] / bounds.flux
    flagged = catalog["base_PsfFlux_flag"] | catalog["base_SdssCentroid_flag"]
    chosen = (source >= 0) & (significance > MEASURED_ABOVE) & (bounds.contamination < ISOLATED)
    figures: Figures = {"clean_stars": int(chosen.sum())}
    if not chosen.any():
        return figures, {}
    figures["clean_stars_flagged_percent"] = 100.0 * float(flagged[source[chosen]].mean())
    chosen[chosen] &= ~flagged[source[chosen]]
    table, source, bounds = table[chosen], source[chosen], bounds.take(chosen)
    return figures, {**_positions(catalog, table, source, bounds), **_fluxes(catalog, table, source, bounds)}


def _positions(catalog: SourceCatalog, table: Table, source: Rows, bounds: StarBounds) -> Samples:
    offset = np.concatenate([catalog[f"slot_Centroid_{axis}"][source] - table[axis] for axis in "xy"])
    best = np.concatenate([bounds.x, bounds.y])
    pull = offset / np.concatenate([catalog[f"slot_Centroid_{axis}Err"][source] for axis in "xy"])
    return {
        "centroid_over_bound": Sample("width", offset / best),
        "centroid_pull_mean": Sample("median", pull),
        "centroid_pull_width": Sample("width", pull),
        "centroid_rms_over_bound": Sample("rms", np.clip(offset / best, -5, 5)),
    }


def _fluxes(catalog: SourceCatalog, table: Table, source: Rows, bounds: StarBounds) -> Samples:
    flux, error = catalog["base_PsfFlux_instFlux"][source], catalog["base_PsfFlux_instFluxErr"][source]
    # The calibration aperture loses light; so does the smallest error.
    expected, floor = table["flux"] * bounds.aperture, bounds.flux * bounds.aperture
    significance = table["flux"] / bounds.flux
    scaled = expected * _ratio(flux, expected, significance)
    pull, relative = (flux - expected) / error, MAGNITUDE * (flux / expected - 1.0)
    samples = {
        "flux_pull_mean": Sample("median", pull),
        "flux_pull_width": Sample("width", pull),
        "flux_over_floor": Sample("width", (flux - scaled) / floor),
    }
    for low, high in BINS:
        which = (significance > low) & (significance < high)
        name = f"{low:.0f}_{high:.0f}"
        plain = bounds.plain_flux[which] / table["flux"][which]
        samples |= {
            f"flux_over_floor_{name}": Sample("width", ((flux - scaled) / floor)[which]),
            f"flux_scatter_{name}": Sample("width", MAGNITUDE * (flux / scaled - 1.0)[which]),
            f"flux_floor_{name}": Sample("median", MAGNITUDE / significance[which]),
            f"flux_plain_{name}": Sample("median", MAGNITUDE * plain),
            f"flux_pull_mean_{name}": Sample("median", pull[which]),
            f"flux_pull_width_{name}": Sample("width", pull[which]),
        }
    bright = significance > UNBIASED_ABOVE
    samples["flux_bias"] = Sample("median", relative[bright])
    for name in ("base_CircularApertureFlux_12_0", "slot_CalibFlux", "base_GaussianFlux"):
        values = catalog[f"{name}_instFlux"][source[bright]]
        samples[f"flux_bias_{name}"] = Sample("median", MAGNITUDE * (values / expected[bright] - 1.0))
    samples["flux_bias_to_total"] = Sample("median", MAGNITUDE * (flux / table["flux"] - 1.0)[bright])
    return samples


def _ratio(flux: Array, expected: Array, significance: Array) -> float:
    """Common factor of the fluxes, from the brighter half."""
    bright = significance >= np.median(significance)
    return float(np.median(flux[bright] / expected[bright]))


def _crossed_stars(result: CharacterizationResult, truth: Truth, match: Match) -> tuple[Figures, Samples]:
    """PSF fluxes of stars with much charge of a cosmic ray on them."""
    catalog, table = result.catalog, truth.sources
    assert catalog is not None
    row = np.flatnonzero(
        table["cosmic_ray"]
        & ~table["galaxy"]
        & ~table["saturated"]
        & ~table["bad_pixel"]
        & ~table["blended"]
        & (table["snr"] > UNBIASED_ABOVE)
        & (match.source >= 0)
    )
    if not len(row):
        return {}, {}
    hits, gain = truth.cosmic_rays, truth.scene.camera.gain
    tree = cKDTree(np.column_stack([hits.x, hits.y]))
    near = tree.query_ball_point(np.column_stack([table["x"][row], table["y"][row]]), 1.5 * truth.psf.fwhm)
    charge = np.array([hits.charge[which].sum() / gain for which in near])
    heavy = charge > 5 * table["flux"][row] / table["snr"][row]
    row, near = row[heavy], near[heavy]
    if not len(row):
        return {}, {}
    source = match.source[row]
    expected = table["flux"][row] * fraction_in_aperture(truth, table["x"][row], table["y"][row])
    flux, error = catalog["base_PsfFlux_instFlux"][source], catalog["base_PsfFlux_instFluxErr"][source]
    ratio, pull = MAGNITUDE * (flux / expected - 1), (flux - expected) / error
    offset = np.hypot(*(catalog[f"slot_Centroid_{axis}"][source] - table[axis][row] for axis in "xy"))
    flagged = (result.exposure.mask[hits.y, hits.x] & result.exposure.bits("CR")) != 0
    masked = np.array([flagged[which].any() for which in near])
    return {"crossed_stars": len(row)}, {
        "crossed_flux_bias": Sample("median", ratio),
        "crossed_flux_scatter": Sample("width", ratio),
        "crossed_flux_rms": Sample("rms", np.clip(ratio, -1000, 1000)),
        "crossed_flux_pull": Sample("width", pull),
        "crossed_centroid_offset": Sample("median", offset),
        "crossed_found_percent": Sample("percent", masked),
    }


def _classification(result: CharacterizationResult, truth: Truth, match: Match) -> tuple[Figures, Samples]:
    catalog, table = result.catalog, truth.sources
    assert catalog is not None
    row = np.flatnonzero(
        (match.source >= 0)
        & (table["snr"] > CLASSIFIED_ABOVE)
        & _inside(truth, MEASURED_FWHM)
        & ~(table["saturated"] | table["bad_pixel"] | table["cosmic_ray"])
    )
    value = catalog["base_ClassificationExtendedness_value"][match.source[row]]
    star, galaxy = ~table["galaxy"][row], table["galaxy"][row]
    taken = value < 0.5
    if not star.any() or not taken.any():
        return {}, {}
    alone = ~table["blended"][row]
    return {"galaxies_classified": int(galaxy.sum())}, {
        "star_purity": Sample("percent", star[taken]),
        "star_completeness": Sample("percent", taken[star]),
        "star_completeness_unblended": Sample("percent", taken[star & alone]),
        "unclassified_percent": Sample("percent", np.isnan(value)),
    }
