"""Aperture corrections: measured on PSF stars and on the PSF model, applied to all (reference: aperture-correction.md)."""

from streamchar.characterize.aperture_correction.apply import (
    ApplyApertureCorrections,
    ApplyApertureCorrectionsConfig,
)
from streamchar.characterize.aperture_correction.fields import BoundedField, StandardError
from streamchar.characterize.aperture_correction.measure import (
    CORRECTED,
    Corrections,
    MeasureApertureCorrections,
    MeasureApertureCorrectionsConfig,
)
from streamchar.characterize.aperture_correction.normalization import (
    NormalizationFitConfig,
    NormalizedCalibrationFlux,
    NormalizedCalibrationFluxConfig,
)
from streamchar.characterize.aperture_correction.ratio_fit import (
    FieldFit,
    FieldFitConfig,
    RatioFitConfig,
    fit_ratio,
)

__all__ = [
    "CORRECTED",
    "ApplyApertureCorrections",
    "ApplyApertureCorrectionsConfig",
    "BoundedField",
    "Corrections",
    "FieldFit",
    "FieldFitConfig",
    "MeasureApertureCorrections",
    "MeasureApertureCorrectionsConfig",
    "NormalizationFitConfig",
    "NormalizedCalibrationFlux",
    "NormalizedCalibrationFluxConfig",
    "RatioFitConfig",
    "StandardError",
    "fit_ratio",
]
