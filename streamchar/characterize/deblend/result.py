"""What deblending makes of footprints, and its columns in the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.deblend.assembly import joined
from streamchar.characterize.footprints import Footprints
from streamchar.frozen import frozen

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Array = NDArray[np.float64]

DEBLEND_COLUMNS = (
    flag("deblend_deblendedAsPsf", "the source's template is a point source"),
    Column("deblend_psfCenter_x", "<f8", "pixel", "x of that point source"),
    Column("deblend_psfCenter_y", "<f8", "pixel", "y of that point source"),
    Column("deblend_psf_instFlux", "<f8", "count", "flux of that point source"),
    flag("deblend_tooManyPeaks", "fainter peaks of the footprint were left out"),
    flag("deblend_parentTooBig", "not deblended because the footprint is too large or too thin"),
    flag("deblend_masked", "not deblended because too much of the footprint is masked"),
    flag("deblend_skipped", "the footprint has several peaks and was not deblended"),
    flag("deblend_rampedTemplate", "the template was continued beyond the mirror image of the edge"),
    flag(
        "deblend_patchedTemplate",
        "the template has the pixels themselves beyond the mirror image of the edge",
    ),
    flag("deblend_hasStrayFlux", "light that no template claims was given to the source"),
    Column("deblend_peak_center_x", "<i4", "pixel", "column of the first peak"),
    Column("deblend_peak_center_y", "<i4", "pixel", "row of the first peak"),
    Column("deblend_nPeaks", "<i4", "", "peaks of the source's own footprint"),
    Column("deblend_parentNPeaks", "<i4", "", "peaks of the footprint that the source was detected in"),
)
"""Columns that :meth:`Deblending.columns` fills."""


@frozen
class Children:
    """Sources that footprints were divided into.

    Attributes
    ----------
    footprints
        One for each source, with the shares of their pixels when they divide them.
    parent
        int64 (n): number of the footprint that each comes from.
    point_source
        bool (n): the template is a point source.
    psf_x, psf_y, psf_flux
        float64 (n): its position in pixels and flux in image units; NaN for others.
    ramped, patched
        bool (n): how the template was continued beyond the mirror image of the exposure's edge.
    has_stray
        bool (n): light that no template claims is among its pixels.
    """

    footprints: Footprints
    parent: Numbers
    point_source: Flags
    psf_x: Array
    psf_y: Array
    psf_flux: Array
    ramped: Flags
    patched: Flags
    has_stray: Flags

    def __len__(self) -> int:
        return len(self.footprints)

    @classmethod
    def plain(cls, footprints: Footprints, parent: Numbers) -> Self:
        """Sources without templates."""
        no, unknown = np.zeros(len(footprints), np.bool_), np.full(len(footprints), np.nan)
        return cls(footprints, parent, no, unknown, unknown, unknown, no, no, no)

    @classmethod
    def of(cls, sets: Sequence[Children], order: Numbers | None = None) -> Children:
        """Join at least one set, in the given order of all their sources if there is one."""
        if len(sets) == 1 and order is None:
            return sets[0]
        chosen = slice(None) if order is None else order
        rest = (item.name for item in fields(cls) if item.name != "footprints")
        return cls(
            joined([each.footprints for each in sets], order),
            *(np.concatenate([getattr(each, name) for each in sets])[chosen] for name in rest),
        )


@frozen
class Deblending:
    """What became of detected footprints.

    Attributes
    ----------
    children
        The sources of divided footprints, and the other footprints as they were; in the order of the footprints given.
    parent_peaks
        int64 (n): peaks of the footprint that each comes from.
    too_big, masked
        bool (n): the footprint has several peaks and was left alone for this reason.
    too_many_peaks
        bool (n): fainter peaks of the footprint were left out.
    """

    children: Children
    parent_peaks: Numbers
    too_big: Flags
    masked: Flags
    too_many_peaks: Flags

    def __len__(self) -> int:
        return len(self.children)

    @property
    def footprints(self) -> Footprints:
        """One for each source."""
        return self.children.footprints

    @property
    def parent(self) -> Numbers:
        """Number of the footprint that each source comes from, int64 (n)."""
        return self.children.parent

    @property
    def separated(self) -> Flags:
        """Sources that share their footprint with others, bool (n)."""
        count = np.bincount(self.parent, minlength=1)[self.parent] if len(self) else self.parent
        return (count > 1) & ~self.too_big & ~self.masked

    def columns(self) -> dict[str, NDArray[np.integer] | Flags | Array]:
        """Values of :data:`DEBLEND_COLUMNS`."""
        children, first = self.children, self.footprints.peak_start[:-1]
        return {
            "deblend_deblendedAsPsf": children.point_source,
            "deblend_psfCenter_x": children.psf_x,
            "deblend_psfCenter_y": children.psf_y,
            "deblend_psf_instFlux": children.psf_flux,
            "deblend_tooManyPeaks": self.too_many_peaks,
            "deblend_parentTooBig": self.too_big,
            "deblend_masked": self.masked,
            "deblend_skipped": self.too_big | self.masked,
            "deblend_rampedTemplate": children.ramped,
            "deblend_patchedTemplate": children.patched,
            "deblend_hasStrayFlux": children.has_stray,
            "deblend_peak_center_x": self.footprints.peak_x[first],
            "deblend_peak_center_y": self.footprints.peak_y[first],
            "deblend_nPeaks": self.footprints.peak_count,
            "deblend_parentNPeaks": self.parent_peaks,
        }
