"""The registry of star selectors: which sources are stars (psf.md section 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import SourceCatalog
from streamchar.characterize.psf.object_size import ObjectSizeConfig, select_by_size
from streamchar.characterize.psf.references import ReferencesConfig, select_references
from streamchar.characterize.source_selection import SourceCriteria, select_sources
from streamchar.configuration import Configuration
from streamchar.image import Exposure

Flags = NDArray[np.bool_]


class FlaggedConfig(Configuration):
    """Sources that an earlier step marked."""

    field: str = "calib_psf_used"
    """Flag column."""


class StarSelectorConfig(Configuration):
    """Which selector is used, and the settings of each."""

    name: Literal["object_size", "science", "flagged", "null", "references"] = "object_size"
    """Selector: the compact cluster of sizes, criteria on columns, a flag, everything, or a given list of stars."""
    object_size: ObjectSizeConfig = ObjectSizeConfig()
    """Settings of the selector by size."""
    science: SourceCriteria = SourceCriteria()
    """Settings of the selector by criteria."""
    flagged: FlaggedConfig = FlaggedConfig()
    """Settings of the selector by flag."""
    references: ReferencesConfig = ReferencesConfig()
    """Settings of the selector by a list of stars."""


Selector = Callable[[Exposure, SourceCatalog, StarSelectorConfig], Flags]

SELECTORS: Mapping[str, Selector] = MappingProxyType(
    {
        "object_size": lambda _, catalog, config: select_by_size(catalog, config.object_size),
        "science": lambda _, catalog, config: select_sources(catalog, config.science),
        "flagged": lambda _, catalog, config: catalog[config.flagged.field].copy(),
        "null": lambda _, catalog, __: np.ones(len(catalog), np.bool_),
        "references": lambda exposure, catalog, config: select_references(
            exposure, catalog, config.references
        ),
    }
)
"""Selector function by name."""


def select_stars(exposure: Exposure, catalog: SourceCatalog, config: StarSelectorConfig) -> Flags:
    """Run the configured selector; returns bool, one per source."""
    return SELECTORS[config.name](exposure, catalog, config)
