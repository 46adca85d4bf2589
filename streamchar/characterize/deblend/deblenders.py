"""The registry of deblenders: how blended footprints are divided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from streamchar.characterize.deblend import baseline, multi_threshold
from streamchar.characterize.deblend.result import Children
from streamchar.characterize.footprints import Footprints
from streamchar.frozen import frozen
from streamchar.image import Exposure

if TYPE_CHECKING:
    from streamchar.characterize.deblend.task import SourceDeblendConfig


@frozen
class Deblender:
    """A way to divide footprints.

    Attributes
    ----------
    divide
        Makes children of footprints with several peaks.
    finds_sources
        Whether it decides itself how many sources a footprint has; else there is one for each peak.
    """

    divide: Callable[[Exposure, Footprints, SourceDeblendConfig], Children]
    finds_sources: bool


DEBLENDERS: Mapping[str, Deblender] = MappingProxyType(
    {
        "baseline": Deblender(
            lambda exposure, blends, config: baseline.divide(exposure, blends, config.baseline), False
        ),
        "sep": Deblender(
            lambda exposure, blends, config: multi_threshold.divide(exposure, blends, config.sep), True
        ),
    }
)
"""Deblender by name."""
