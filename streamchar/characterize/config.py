"""The configuration tree of the whole characterization, and its presets."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from streamchar.characterize.aperture_correction import (
    ApplyApertureCorrectionsConfig,
    MeasureApertureCorrectionsConfig,
    NormalizedCalibrationFluxConfig,
)
from streamchar.characterize.background import BackgroundConfig
from streamchar.characterize.classification import CatalogCalculationConfig
from streamchar.characterize.deblend import SourceDeblendConfig
from streamchar.characterize.detection import DetectionConfig
from streamchar.characterize.identifiers import IdGeneratorConfig
from streamchar.characterize.measurement import MeasurementConfig
from streamchar.characterize.measurement.config import DEFAULT_PLUGINS
from streamchar.characterize.psf.measure import MeasurePsfConfig
from streamchar.characterize.psf.simple import InstallSimplePsfConfig
from streamchar.characterize.repair import RepairConfig
from streamchar.characterize.streaks import MaskStreaksConfig, SubtractStreaksConfig
from streamchar.characterize.summary import SummaryConfig
from streamchar.configuration import Configuration, Tree, merge, parse_override, validate

Preset = Literal["best", "reference"]

REFERENCE_PRESET: Tree = {
    "background": {"mask_sources": False},
    "detection": {
        "background": {"mask_sources": False},
        "re_estimate_background": True,
        "do_temp_local_background": True,
        "one_source_per_peak": False,
        "do_confirm": False,
    },
    "measurement": {
        "names": DEFAULT_PLUGINS,
        "psf_interpolation": "lanczos",
        "plugins": {
            "base_SdssCentroid": {"do_subtract_sky_variance": False, "refine": "none"},
            "base_PsfFlux": {
                "bad_mask_planes": (),
                "weighting": "uniform",
                "outliers": {"threshold": 0.0},
                "min_light": 0.0,
                "min_edge_light": 1.0,
            },
            "base_CircularApertureFlux": {"sinc_half_width": 8},
            "base_CompensatedTophatFlux": {"areas": "nominal"},
        },
    },
    "normalized_calibration_flux": {
        "measure_ap_corr": {
            "weights": "equal",
            "source_selector": {
                "flags": {"good": ("calib_psf_used",), "any_good": ()},
                "signal_to_noise": {"relaxed_minimum": None},
            },
        },
        "fallback_source_selector": {"flags": {"good": ("calib_psf_used",), "any_good": ()}},
    },
    "measure_ap_corr": {
        "weights": "equal",
        "psf_flux_name": None,
        "error_estimate": "scatter",
        "source_selector": {
            "flags": {"good": ("calib_psf_used",), "any_good": ()},
            "signal_to_noise": {"relaxed_minimum": None},
        },
    },
    "catalog_calculation": {"extendedness": {"flux_ratio": 0.95, "min_broadening": None}},
    "measure_psf": {
        "reserve": {"fraction": 0.0},
        "star_selector": {"object_size": {"follow_locus": False}},
        "psf_determiner": {"name": "psfex", "pca": {"constant_weight": True}},
        "preliminary": "full",
        "allow_fallback": False,
    },
    "psf_include_threshold_multiplier": None,
    "measure_for_psf_only": False,
    "compute_summary_stats": {"psf_grid_sampling": 96, "psf_distance_sampling": 8},
    "require_cr_for_psf": True,
    "do_subtract_streaks": False,
    "do_deblend": False,
    "deblend": {
        "max_footprint_area": 10000,
        "baseline": {"median_smooth_template": True, "max_template_radius": 1000},
    },
    "repair": {
        "cosmicray": {
            "min_dn": 150.0,
            "cond3_fac": 2.0,
            "cond3_fac2": 0.35,
            "judge_by_bad_pixels": True,
            "min_width": 0.0,
            "max_star_loss": None,
        },
    },
}
"""What the reference task does by default where ``best`` deviates."""


class CharacterizeImageConfig(Configuration):
    """Settings of :class:`~streamchar.characterize.task.CharacterizeImage`, named as in the reference in snake_case."""

    do_measure_psf: bool = True
    """Fit the PSF; otherwise keep the one the exposure brings, or install a simple one."""
    psf_iterations: int = Field(default=2, ge=1)
    """Rounds of detecting, measuring and fitting the PSF."""
    psf_include_threshold_multiplier: float | None = Field(default=10.0, ge=0)
    """Rounds that determine the PSF measure only sources whose peak reaches so many times the detection threshold: no star of
    the PSF is fainter. Absent: they measure all."""
    psf_min_sources: int = Field(default=500, ge=1)
    """These rounds measure at least so many, the most significant ones."""
    psf_width_min_sources: int = Field(default=50, ge=1)
    """The same for rounds of which only the PSF's width is taken, for which fewer stars do."""
    measure_for_psf_only: bool = True
    """These rounds run only the plugins whose columns the settings of the PSF's measurement name; otherwise all."""
    use_simple_psf: bool = True
    """Start every round from a Gaussian as wide as the present PSF."""
    require_cr_for_psf: bool = False
    """Fail when the cosmic-ray finder overflows; otherwise go on with a reason code."""
    do_subtract_streaks: bool = True
    """Find and subtract satellite streaks before anything is detected."""
    do_deblend: bool = True
    """Divide the light of blended sources among them."""
    do_mask_streaks: bool = False
    """Mask what is left of streaks after the final repair."""
    do_normalized_calibration: bool = True
    """Measure the normalised calibration flux."""
    do_ap_corr: bool = True
    """Measure and apply aperture corrections."""
    do_compute_summary_stats: bool = True
    """Compute summary statistics."""
    max_bad_fraction: float = Field(default=0.9, ge=0, le=1)
    """Largest tolerated fraction of pixels that are not finite or have no variance."""
    background: BackgroundConfig = BackgroundConfig()
    """Initial background."""
    subtract_streaks: SubtractStreaksConfig = SubtractStreaksConfig()
    """Satellite streaks."""
    install_simple_psf: InstallSimplePsfConfig = InstallSimplePsfConfig()
    """The starting PSF."""
    repair: RepairConfig = RepairConfig()
    """Cosmic rays and defects."""
    detection: DetectionConfig = DetectionConfig()
    """Sources to measure the PSF on, and the background around them."""
    deblend: SourceDeblendConfig = SourceDeblendConfig()
    """Blended sources."""
    mask_streaks: MaskStreaksConfig = MaskStreaksConfig()
    """Streaks masked as the reference does."""
    measurement: MeasurementConfig = MeasurementConfig()
    """What is measured on every source."""
    measure_psf: MeasurePsfConfig = MeasurePsfConfig()
    """Stars and the PSF model."""
    normalized_calibration_flux: NormalizedCalibrationFluxConfig = NormalizedCalibrationFluxConfig()
    """The flux that aperture corrections refer to."""
    measure_ap_corr: MeasureApertureCorrectionsConfig = MeasureApertureCorrectionsConfig()
    """Aperture corrections over the detector."""
    apply_ap_corr: ApplyApertureCorrectionsConfig = ApplyApertureCorrectionsConfig()
    """Which fluxes are corrected."""
    catalog_calculation: CatalogCalculationConfig = CatalogCalculationConfig()
    """Columns computed from other columns."""
    compute_summary_stats: SummaryConfig = SummaryConfig()
    """Statistics of the whole exposure."""
    id_generator: IdGeneratorConfig = IdGeneratorConfig()
    """How source ids are made."""
    subtasks: dict[str, str] = Field(default_factory=dict)
    """Replacements of subtasks: name to import path ``module:Class`` of a subclass of the task it replaces."""

    @field_validator("subtasks")
    @classmethod
    def _are_subtasks(cls, replacements: dict[str, str]) -> dict[str, str]:
        groups = {name for name, field in cls.model_fields.items() if _is_group(field.annotation)}
        tasks = groups - {"id_generator"}
        unknown = sorted(replacements.keys() - tasks)
        if unknown:
            raise ValueError(f"no subtask '{unknown[0]}'; known are {', '.join(sorted(tasks))}")
        return replacements

    @classmethod
    def preset(cls, name: Preset = "best", overrides: Sequence[str] = ()) -> Self:
        """Build a preset with ``dotted.name=value`` overrides.

        Parameters
        ----------
        name
            ``best`` (our default) or ``reference`` (what the reference task does by default).
        overrides
            Applied in order.

        Raises
        ------
        ConfigurationError
            When a name or value is not valid.
        """
        tree: dict[str, Any] = cls().model_dump()
        if name == "reference":
            merge(tree, REFERENCE_PRESET)
        for text in overrides:
            merge(tree, parse_override(text, cls))
        return validate(cls, tree, "characterize")


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Configuration)
