"""Deblending: the light of a footprint divided among its sources (reference: deblend-and-streaks.md section 1)."""

from streamchar.characterize.deblend.baseline import BaselineConfig
from streamchar.characterize.deblend.multi_threshold import MultiThresholdConfig
from streamchar.characterize.deblend.result import DEBLEND_COLUMNS, Children, Deblending
from streamchar.characterize.deblend.task import SourceDeblend, SourceDeblendConfig

__all__ = [
    "DEBLEND_COLUMNS",
    "BaselineConfig",
    "Children",
    "Deblending",
    "MultiThresholdConfig",
    "SourceDeblend",
    "SourceDeblendConfig",
]
