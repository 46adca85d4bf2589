"""How well sources are found, placed, measured and classified."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamchar.characterize.task import CharacterizationResult
from streamchar.telescope.truth import Truth
from tests.science.truth.bounds import StarBounds, fraction_in_aperture, point_source_significance
from tests.science.truth.matching import Match

Figures = dict[str, float]
Array = NDArray[np.float64]

COMPLETE_ABOVE = 75.0
MEASURED_ABOVE = 55.0
"""Signal to noise above which detection at 50 sigma selects no upward fluctuations."""

BINS = ((55.0, 100.0), (100.0, 300.0), (300.0, 1000.0), (1000.0, 5000.0))
UNBIASED_ABOVE = 100.0
CLASSIFIED_ABOVE = 50.0
MAGNITUDE = 2500.0 / np.log(10.0)
"""Millimagnitudes of a relative change."""

EDGE_FWHM = 4.0
MEASURED_FWHM = 8.0
"""Distance from the edge at which a source can be found, and measured."""


def source_figures(result: CharacterizationResult, truth: Truth, match: Match, bounds: StarBounds) -> Figures:
    assert result.catalog is not None
    return {
        **_detection(result, truth, match),
        **_clean_stars(result, truth, match, bounds),
        **_crossed_stars(result, truth, match),
        **_classification(result, truth, match),
    }


def robust(values: Array) -> tuple[float, float]:
    """Median and half of the central 68.3%."""
    if len(values) < 5:
        return np.nan, np.nan
    low, middle, high = np.percentile(values, [15.865, 50.0, 84.135])
    return float(middle), 0.5 * float(high - low)


def _detection(result: CharacterizationResult, truth: Truth, match: Match) -> Figures:
    catalog, table = result.catalog, truth.sources
    assert catalog is not None
    wanted = (point_source_significance(truth) > COMPLETE_ABOVE) & _inside(truth, EDGE_FWHM)
    found = match.source >= 0
    figures: Figures = {"sources": len(catalog), "objects": int(wanted.sum())}
    close = wanted & (table["streak_distance"] < 4 * truth.psf.fwhm)
    for name, which in (("completeness", wanted), ("completeness_streaks", close)):
        if which.any():
            figures[name] = 100.0 * float(found[which].mean())
    figures["objects_near_streaks"] = int(close.sum())
    if not len(catalog):
        return figures
    x, y = np.nan_to_num(catalog["slot_Centroid_x"]), np.nan_to_num(catalog["slot_Centroid_y"])
    figures["purity"] = 100.0 * float(match.near.mean())
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
    return figures


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


def _clean_stars(result: CharacterizationResult, truth: Truth, match: Match, bounds: StarBounds) -> Figures:
    catalog = result.catalog
    assert catalog is not None
    table, source = truth.sources[bounds.row], match.source[bounds.row]
    significance = table["flux"] / bounds.flux
    flagged = catalog["base_PsfFlux_flag"] | catalog["base_SdssCentroid_flag"]
    chosen = (source >= 0) & (significance > MEASURED_ABOVE)
    figures: Figures = {"clean_stars": int(chosen.sum())}
    if not chosen.any():
        return figures
    figures["clean_stars_flagged_percent"] = 100.0 * float(flagged[source[chosen]].mean())
    chosen[chosen] &= ~flagged[source[chosen]]
    table, source, significance = table[chosen], source[chosen], significance[chosen]
    offset = np.concatenate([catalog[f"slot_Centroid_{axis}"][source] - table[axis] for axis in "xy"])
    best = np.concatenate([bounds.x[chosen], bounds.y[chosen]])
    quoted = np.concatenate([catalog[f"slot_Centroid_{axis}Err"][source] for axis in "xy"])
    figures["centroid_over_bound"] = robust(offset / best)[1]
    figures["centroid_pull_mean"], figures["centroid_pull_width"] = robust(offset / quoted)
    figures["centroid_rms_over_bound"] = float(np.sqrt(np.mean(np.clip(offset / best, -5, 5) ** 2)))
    flux, error = catalog["base_PsfFlux_instFlux"][source], catalog["base_PsfFlux_instFluxErr"][source]
    expected = table["flux"] * bounds.aperture[chosen]
    # The calibration aperture loses light; so does the smallest error.
    floor = bounds.flux[chosen] * bounds.aperture[chosen]
    figures["flux_pull_mean"], figures["flux_pull_width"] = robust((flux - expected) / error)
    figures["flux_over_floor"] = robust((flux - expected * _ratio(flux, expected, significance)) / floor)[1]
    relative = MAGNITUDE * (flux / expected - 1.0)
    for low, high in BINS:
        which = (significance > low) & (significance < high)
        if which.sum() >= 10:
            name = f"{low:.0f}_{high:.0f}"
            figures[f"flux_scatter_{name}"] = robust(relative[which])[1]
            figures[f"flux_floor_{name}"] = MAGNITUDE * float(np.median(1.0 / significance[which]))
            plain = bounds.plain_flux[chosen][which] / table["flux"][which]
            figures[f"flux_plain_{name}"] = MAGNITUDE * float(np.median(plain))
    bright = significance > UNBIASED_ABOVE
    if bright.sum() >= 5:
        weight = 1 / (floor[bright] / expected[bright]) ** 2
        error_of_mean = MAGNITUDE / np.sqrt(np.minimum(weight, 1e6).sum())
        figures["flux_bias"] = robust(relative[bright])[0]
        figures["flux_bias_error"] = max(
            float(error_of_mean), 1.25 * robust(relative[bright])[1] / np.sqrt(bright.sum())
        )
        for name in ("base_CircularApertureFlux_12_0", "slot_CalibFlux", "base_GaussianFlux"):
            values = catalog[f"{name}_instFlux"][source[bright]]
            figures[f"flux_bias_{name}"] = robust(MAGNITUDE * (values / expected[bright] - 1))[0]
        total = flux[bright] / table["flux"][bright]
        figures["flux_bias_to_total"] = robust(MAGNITUDE * (total - 1))[0]
    return figures


def _ratio(flux: Array, expected: Array, significance: Array) -> float:
    """Common factor of the fluxes, from the brighter half."""
    bright = significance >= np.median(significance)
    return float(np.median(flux[bright] / expected[bright]))


def _crossed_stars(result: CharacterizationResult, truth: Truth, match: Match) -> Figures:
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
        return {}
    hits, gain = truth.cosmic_rays, truth.scene.camera.gain
    tree = cKDTree(np.column_stack([hits.x, hits.y]))
    near = tree.query_ball_point(np.column_stack([table["x"][row], table["y"][row]]), 1.5 * truth.psf.fwhm)
    charge = np.array([hits.charge[which].sum() / gain for which in near])
    heavy = charge > 5 * table["flux"][row] / table["snr"][row]
    row, near = row[heavy], near[heavy]
    if len(row) < 5:
        return {}
    source = match.source[row]
    expected = table["flux"][row] * fraction_in_aperture(truth, table["x"][row], table["y"][row])
    flux, error = catalog["base_PsfFlux_instFlux"][source], catalog["base_PsfFlux_instFluxErr"][source]
    ratio, pull = MAGNITUDE * (flux / expected - 1), (flux - expected) / error
    offset = np.hypot(*(catalog[f"slot_Centroid_{axis}"][source] - table[axis][row] for axis in "xy"))
    flagged = (result.exposure.mask[hits.y, hits.x] & result.exposure.bits("CR")) != 0
    masked = np.array([flagged[which].any() for which in near])
    return {
        "crossed_stars": len(row),
        "crossed_flux_bias": robust(ratio)[0],
        "crossed_flux_scatter": robust(ratio)[1],
        "crossed_flux_rms": float(np.sqrt(np.mean(np.clip(ratio, -1000, 1000) ** 2))),
        "crossed_flux_pull": robust(pull)[1],
        "crossed_centroid_offset": float(np.median(offset)),
        "crossed_found_percent": 100.0 * float(masked.mean()),
    }


def _classification(result: CharacterizationResult, truth: Truth, match: Match) -> Figures:
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
        return {}
    alone = ~table["blended"][row]
    return {
        "star_purity": 100.0 * float(star[taken].mean()),
        "star_completeness": 100.0 * float(taken[star].mean()),
        "star_completeness_unblended": 100.0 * float(taken[star & alone].mean()),
        "unclassified_percent": 100.0 * float(np.isnan(value).mean()),
        "galaxies_classified": int(galaxy.sum()),
    }
