"""The bins of a background, and polynomials over them (reference: background.md section 2)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from streamchar.characterize.chebyshev import ChebyshevField, Lattice, least_squares, terms
from streamchar.frozen import frozen

Grid = NDArray[np.float64]


def bin_edges(length: int, bins: int) -> NDArray[np.int64]:
    """First pixel of each of ``bins`` bins over ``length`` pixels and the end of the last, int64 (bins + 1).

    Bin i ends at ⌊((i + 1) length + ⌊bins/2⌋)/bins⌋.
    """
    ends = ((np.arange(bins, dtype=np.int64) + 1) * length + bins // 2) // bins
    return np.concatenate([np.zeros(1, np.int64), np.minimum(ends, length)])


def bin_centres(edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pixel position of the middle of each bin, float64 (bins)."""
    return np.asarray(edges[:-1] + 0.5 * np.diff(edges) - 0.5)


@frozen(eq=False)
class BinCentres:
    """Centres of the bins of a plane of pixels, where polynomials are fitted and evaluated.

    Attributes
    ----------
    lattice
        The centres in the plane.
    design
        float64 (bins, terms), read-only: values of the terms there, bins row by row.
    """

    lattice: Lattice
    design: Grid

    def fit(self, values: Grid, weights: Grid, order: int) -> tuple[ChebyshevField, int]:
        """Fit a polynomial to the bins whose value and weight are finite.

        Parameters
        ----------
        values, weights
            float64 (ny, nx): values of the bins, and factors of their squared residuals.
        order
            Largest total degree.

        Returns
        -------
        field, rank
            The polynomial, and how many of its terms the bins determine.
        """
        known = np.isfinite(values + weights).ravel()
        solution, rank = least_squares(
            self.design[known, : terms(order)], values.ravel()[known], weights.ravel()[known]
        )
        return ChebyshevField.of(solution, order, self.lattice.width, self.lattice.height), rank

    def evaluate(self, field: ChebyshevField) -> Grid:
        """Values of a field in the bins, float64 (ny, nx)."""
        return self.lattice.evaluate(field)


@lru_cache(maxsize=16)
def bins_of(shape: tuple[int, int], bins: tuple[int, int], order: int) -> BinCentres:
    """Centres of so many rows and columns of bins in (height, width) pixels, for polynomials of up to that order."""
    y, x = (bin_centres(bin_edges(length, n)) for length, n in zip(shape, bins, strict=True))
    lattice = Lattice.at(y, x, order=order, width=shape[1], height=shape[0])
    design = lattice.design()
    design.flags.writeable = False
    return BinCentres(lattice, design)
