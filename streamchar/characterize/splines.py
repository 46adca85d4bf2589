"""Interpolating a grid of bin values to every pixel (reference: background.md section 3.2)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamchar.kernels import add_grid

InterpolationStyle = Literal["constant", "linear", "natural_spline", "akima_spline"]

MIN_POINTS: dict[InterpolationStyle, int] = {
    "constant": 1,
    "linear": 2,
    "natural_spline": 3,
    "akima_spline": 5,
}
"""Points along an axis that a style needs."""

_CODES: dict[InterpolationStyle, int] = {name: code for code, name in enumerate(MIN_POINTS)}


def best_style(points: int) -> InterpolationStyle:
    """Return the smoothest style that ``points`` (at least 1) allow."""
    return max(
        (style for style, needed in MIN_POINTS.items() if needed <= points),
        key=lambda style: MIN_POINTS[style],
    )


def add_interpolated(
    plane: NDArray[np.float32],
    grid: NDArray[np.floating],
    y_centres: NDArray[np.float64],
    x_centres: NDArray[np.float64],
    style: InterpolationStyle,
    factor: float = 1.0,
) -> None:
    """Add ``factor`` times the interpolated grid to a plane, in place.

    One-dimensional curves are drawn down every grid column, then along every row of the result. Values that
    are not finite are skipped; a column or row left with fewer points than the style needs uses the
    smoothest style they allow, and a plane without any finite value becomes NaN. Beyond the outermost
    centres the curve continues as the parabola with its end's derivatives (a constant stays constant).
    Akima's method is that of Akima (1970, J. ACM 17, 589), an interval being linear where its neighbouring
    slopes agree.

    Parameters
    ----------
    plane
        float32 (height, width), C-contiguous, modified.
    grid
        (ny, nx) values.
    y_centres, x_centres
        float64 (ny), (nx): pixel positions of the values, ascending.
    style
        Interpolant.
    factor
        +1 adds, −1 subtracts; the model is rounded to float32 first.
    """
    add_grid(plane, np.ascontiguousarray(grid, np.float64), y_centres, x_centres, _CODES[style], factor)
