"""Which catalogue source is which true object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamchar.characterize.catalog import SourceCatalog
from streamchar.telescope.truth import Truth
from tests.science.truth.bounds import point_source_significance

Rows = NDArray[np.int64]

FAINTEST = 5.0
"""True objects below this significance are no counterparts."""

SATURATED_REACH = 4.0
"""FWHM within which a saturated star's source may lie from it; others half of one, and two pixels at least."""


@dataclass(frozen=True)
class Match:
    """One to one, brightest true object first.

    ``source`` has a row of the catalogue for every true object or -1; ``truth`` the reverse. ``near`` says of every
    source whether any true object, matched or not, explains it.
    """

    source: Rows
    truth: Rows
    near: NDArray[np.bool_]


def match(catalog: SourceCatalog, truth: Truth) -> Match:
    table = truth.sources
    x, y = np.nan_to_num(catalog["slot_Centroid_x"]), np.nan_to_num(catalog["slot_Centroid_y"])
    source, back = np.full(len(table), -1), np.full(len(catalog), -1)
    near = np.zeros(len(catalog), bool)
    if len(catalog) == 0:
        return Match(source, back, near)
    fwhm = truth.psf.fwhm
    reach = np.where(table["saturated"], SATURATED_REACH * fwhm, max(2.0, 0.5 * fwhm))
    significance = point_source_significance(truth)
    bright = np.flatnonzero(significance > FAINTEST)
    bright = bright[np.argsort(-table["flux"][bright])]
    tree = cKDTree(np.column_stack([x, y]))
    flux = np.nan_to_num(catalog["base_PsfFlux_instFlux"])
    for row in bright:
        place = table["x"][row], table["y"][row]
        candidates = np.asarray(tree.query_ball_point(place, reach[row]), int)
        near[candidates] = True
        candidates = candidates[back[candidates] < 0]
        if len(candidates) == 0:
            continue
        distance = np.hypot(x[candidates] - place[0], y[candidates] - place[1])
        # Of several within reach of a saturated star its brightest part is the star.
        best = candidates[np.argmax(flux[candidates]) if table["saturated"][row] else np.argmin(distance)]
        source[row], back[best] = best, row
    # A galaxy's or a blend's peak may lie farther out, still within its light.
    wide = np.maximum(fwhm, np.nan_to_num(table["half_light_radius"]))
    for row in bright:
        near[tree.query_ball_point((table["x"][row], table["y"][row]), max(wide[row], reach[row]))] = True
    return Match(source, back, near)
