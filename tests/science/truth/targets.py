"""What issue B asks of each figure, and in which scenes; which of them hold and are therefore asserted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamchar.telescope import SCENES
from tests.science.truth.scenes import CROSSED

Figures = dict[str, float]

SIZE = 4096
"""Width and height of the exposures in pixels; the targets are for these."""


@dataclass(frozen=True)
class Target:
    """A limit on one figure.

    ``limit`` may be the name of another figure, with ``factor``; ``asserted`` are the scenes where preset ``best`` is
    known to meet it with margin.
    """

    figure: str
    label: str
    kind: Literal["at most", "at least", "within"]
    limit: float | str
    factor: float = 1.0
    scenes: tuple[str, ...] = tuple(SCENES)
    asserted: tuple[str, ...] = ()

    def applies(self, scene: str, figures: Figures) -> bool:
        known = self.figure in figures and (not isinstance(self.limit, str) or self.limit in figures)
        return known and scene in self.scenes

    def value(self, figures: Figures) -> float:
        return self.factor * (figures[self.limit] if isinstance(self.limit, str) else self.limit)

    def met(self, figures: Figures) -> bool:
        found, limit = figures[self.figure], self.value(figures)
        if self.kind == "at least":
            return found >= limit
        return (abs(found) if self.kind == "within" else found) <= limit

    def text(self, figures: Figures) -> str:
        sign = {"at most": "<=", "at least": ">=", "within": "+-"}[self.kind]
        return f"{sign} {self.value(figures):.3g}"


EVERY = tuple(SCENES)

MANY_STARS = ("normal", "poor", "dense", "crowded", "cosmic-rays", "streaks", "gradients")

WELL_SAMPLED = ("normal", "poor", "dense", "crowded")

ORDINARY = ("normal", "sharp", "poor", "sparse", "dense", "cosmic-rays", "streaks", "gradients")

TARGETS = (
    Target(
        "psf_size_bias_unused",
        "PSF size bias, stars not in the fit (dT/T %)",
        "within",
        0.1,
        asserted=WELL_SAMPLED,
    ),
    Target("psf_size_bias_grid", "PSF size bias, grid (dT/T %)", "within", 0.1, asserted=WELL_SAMPLED),
    Target(
        "psf_size_rms_unused",
        "PSF size rms, stars not in the fit (dT/T %)",
        "at most",
        0.22,
        scenes=("sharp",),
        asserted=("sharp",),
    ),
    Target(
        "psf_size_rms_unused",
        "PSF size rms, stars not in the fit (dT/T %)",
        "at most",
        0.5,
        scenes=("sparse",),
        asserted=("sparse",),
    ),
    Target(
        "psf_size_rms_unused",
        "PSF size rms, stars not in the fit (dT/T %)",
        "at most",
        0.16,
        scenes=MANY_STARS,
        asserted=WELL_SAMPLED,
    ),
    Target(
        "psf_size_rms_grid",
        "PSF size rms, grid (dT/T %)",
        "at most",
        0.22,
        scenes=("sharp",),
        asserted=("sharp",),
    ),
    Target(
        "psf_size_rms_grid",
        "PSF size rms, grid (dT/T %)",
        "at most",
        0.5,
        scenes=("sparse",),
        asserted=("sparse",),
    ),
    Target(
        "psf_size_rms_grid",
        "PSF size rms, grid (dT/T %)",
        "at most",
        0.16,
        scenes=MANY_STARS,
        asserted=WELL_SAMPLED,
    ),
    Target(
        "psf_ellipticity_rms_unused",
        "ellipticity rms, stars not in the fit (1e-4)",
        "at most",
        50.0,
        scenes=("sparse",),
        asserted=("sparse",),
    ),
    Target(
        "psf_ellipticity_rms_unused",
        "ellipticity rms, stars not in the fit (1e-4)",
        "at most",
        "psf_ellipticity_bound",
        2.0,
        scenes=("sharp", *MANY_STARS),
        asserted=WELL_SAMPLED,
    ),
    Target("psf_galaxy_percent", "galaxies among PSF stars (%)", "at most", 1.0, asserted=EVERY),
    Target("centroid_over_bound", "centroid error / Cramer-Rao bound", "at most", 1.05),
    Target("centroid_pull_mean", "centroid pull, mean", "within", 0.1, asserted=EVERY),
    Target("centroid_pull_width_error", "centroid pull, width - 1", "within", 0.1, asserted=EVERY),
    Target(
        "flux_over_floor",
        "PSF flux scatter / noise floor",
        "at most",
        1.3,
        asserted=EVERY,
    ),
    Target(
        "flux_over_floor_300_1000",
        "PSF flux scatter / floor, S/N 300-1000",
        "at most",
        1.3,
        asserted=EVERY,
    ),
    Target(
        "flux_pull_mean",
        "PSF flux pull, mean",
        "within",
        0.1,
        asserted=("normal", "poor", "dense", "crowded", "cosmic-rays", "streaks", "gradients"),
    ),
    Target("flux_pull_width_error", "PSF flux pull, width - 1", "within", 0.1, asserted=EVERY),
    Target(
        "flux_bias",
        "PSF flux bias, S/N > 100 (mmag)",
        "within",
        2.0,
        asserted=("normal", "sharp", "poor", "dense", "crowded", "cosmic-rays", "streaks", "gradients"),
    ),
    Target("background_mean", "background mean (sky sigma)", "within", 0.02, asserted=EVERY),
    Target("background_rms", "background rms (sky sigma)", "at most", 0.03, asserted=EVERY),
    Target(
        "completeness",
        "objects > 75 sigma found (%)",
        "at least",
        98.0,
        scenes=ORDINARY,
        asserted=("normal", "sharp", "sparse", "dense", "cosmic-rays", "streaks", "gradients"),
    ),
    Target(
        "completeness",
        "objects > 75 sigma found (%)",
        "at least",
        86.0,
        scenes=("crowded",),
        asserted=("crowded",),
    ),
    Target(
        "completeness_streaks",
        "... near streaks (%)",
        "at least",
        80.0,
        scenes=("streaks",),
        asserted=("streaks",),
    ),
    Target(
        "purity",
        "sources that are real (%)",
        "at least",
        99.6,
        asserted=("normal", "poor", "sparse", "dense", "crowded", "streaks", "gradients"),
    ),
    Target(
        "cosmic_rays_found",
        "cosmic rays with a pixel > 6 sigma found (%)",
        "at least",
        98.0,
        asserted=("cosmic-rays",),
    ),
    Target(
        "cosmic_ray_charge",
        "... of their charge (%)",
        "at least",
        90.0,
        asserted=("poor", "dense", "cosmic-rays"),
    ),
    Target(
        "false_cosmic_ray_pixels",
        "false cosmic-ray pixels per megapixel",
        "at most",
        10.0,
        asserted=("normal", "poor", "sparse", "dense", "crowded", "cosmic-rays", "gradients"),
    ),
    Target("stars_lost", "stars taken for cosmic rays", "at most", 0.0, asserted=EVERY),
    Target(
        "crossed_flux_scatter",
        "PSF flux of stars crossed by a cosmic ray (mmag)",
        "at most",
        18.0,
        scenes=(CROSSED,),
        asserted=(CROSSED,),
    ),
    Target("crossed_flux_pull", "... pull width", "at most", 1.5, scenes=(CROSSED,), asserted=(CROSSED,)),
    Target("star_purity", "star/galaxy purity, S/N > 50 (%)", "at least", 99.4, asserted=EVERY),
    Target(
        "star_completeness",
        "star/galaxy completeness, S/N > 50 (%)",
        "at least",
        97.0,
        asserted=("normal", "sharp", "sparse", "cosmic-rays", "streaks", "gradients"),
    ),
)
"""The list of issue B, in its order."""

INFORMATIVE = (
    ("psf_size_bound", "PSF size, attainable in this scene (dT/T %)"),
    ("psf_ellipticity_bound", "ellipticity, attainable in this scene (1e-4)"),
    ("psf_ellipticity_rms_grid", "ellipticity rms, grid (1e-4)"),
    ("psf_order", "spatial degree chosen"),
    ("psf_stars_used", "PSF stars used"),
    ("psf_stars_available", "PSF star candidates"),
    ("psf_unmatched", "PSF stars that are nothing real"),
    ("sources", "sources"),
    ("objects", "objects > 75 sigma"),
    ("objects_near_streaks", "... near streaks"),
    ("clean_stars", "clean stars measured"),
    ("flux_scatter_55_100", "PSF flux scatter, S/N 55-100 (mmag)"),
    ("flux_floor_55_100", "... noise floor"),
    ("flux_plain_55_100", "... of an unweighted fit"),
    ("flux_scatter_100_300", "PSF flux scatter, S/N 100-300 (mmag)"),
    ("flux_floor_100_300", "... noise floor"),
    ("flux_plain_100_300", "... of an unweighted fit"),
    ("flux_scatter_300_1000", "PSF flux scatter, S/N 300-1000 (mmag)"),
    ("flux_floor_300_1000", "... noise floor"),
    ("flux_plain_300_1000", "... of an unweighted fit"),
    ("flux_scatter_1000_5000", "PSF flux scatter, S/N > 1000 (mmag)"),
    ("flux_floor_1000_5000", "... noise floor"),
    ("flux_plain_1000_5000", "... of an unweighted fit"),
    ("flux_pull_mean_55_100", "PSF flux pull, mean, S/N 55-100"),
    ("flux_pull_width_55_100", "... width"),
    ("flux_pull_mean_100_300", "PSF flux pull, mean, S/N 100-300"),
    ("flux_pull_width_100_300", "... width"),
    ("flux_pull_mean_300_1000", "PSF flux pull, mean, S/N 300-1000"),
    ("flux_pull_width_300_1000", "... width"),
    ("flux_pull_mean_1000_5000", "PSF flux pull, mean, S/N > 1000"),
    ("flux_pull_width_1000_5000", "... width"),
    ("flux_bias_base_CircularApertureFlux_12_0", "12-pixel aperture bias (mmag)"),
    ("flux_bias_slot_CalibFlux", "calibration flux bias (mmag)"),
    ("flux_bias_base_GaussianFlux", "Gaussian flux bias (mmag)"),
    ("flux_bias_to_total", "PSF flux over total flux (mmag)"),
    ("background_worst", "background, worst pixel (sky sigma)"),
    ("false_sources", "sources that are not real"),
    ("false_on_streaks", "... on streaks"),
    ("false_on_cosmic_rays", "... on cosmic rays"),
    ("cosmic_ray_hits", "cosmic rays with a pixel > 6 sigma"),
    ("stars_at_risk", "stars a cosmic-ray finder might take"),
    ("crossed_stars", "stars crossed by a cosmic ray"),
    ("crossed_flux_bias", "... flux bias (mmag)"),
    ("crossed_flux_rms", "... flux rms (mmag)"),
    ("crossed_centroid_offset", "... centroid offset (pixel)"),
    ("crossed_found_percent", "... hit found (%)"),
    ("star_completeness_unblended", "star/galaxy completeness, not blended (%)"),
    ("unclassified_percent", "not classified (%)"),
    ("cpu", "CPU (s)"),
    ("cpu_background", "... background"),
    ("cpu_repair", "... repair"),
    ("cpu_detection", "... detection"),
    ("cpu_measurement", "... measurement"),
    ("cpu_measure_psf", "... PSF"),
    ("cpu_compute_summary_stats", "... summary"),
    ("peak_memory", "peak memory (MB)"),
)
"""Figures shown without a target."""
