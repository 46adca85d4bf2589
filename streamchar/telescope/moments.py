"""Adaptive moments of noiseless drawings, many at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamchar.image.psf import Moments

Array = NDArray[np.float64]

MAX_ITERATIONS = 200
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class AdaptiveMoments:
    """Moments and centroids that agree with those of their own Gaussian weight.

    Attributes
    ----------
    moments
        Moments of the Gaussian, arrays of length n.
    x, y
        float64 (n): centroids in the coordinates of the drawing.
    """

    moments: Moments
    x: Array
    y: Array


def adaptive_moments(drawings: NDArray[np.floating], x: Array, y: Array) -> AdaptiveMoments:
    """Find the elliptical Gaussian weight W whose weighted covariance is W/2 (Bernstein & Jarvis 2002, section 3).

    Parameters
    ----------
    drawings
        (n, height, width), noiseless, with one peak.
    x, y
        float64 (width), (height): evenly spaced coordinates of the columns and rows.

    Returns
    -------
    AdaptiveMoments
        NaN where the iteration finds none in 200 steps.
    """
    data = drawings.astype(np.float64)
    count = len(data)
    cx, cy = np.zeros(count), np.zeros(count)
    start = (x[-1] - x[0]) / 12.0
    xx, yy, xy = np.full(count, start**2), np.full(count, start**2), np.zeros(count)
    converged = np.zeros(count, bool)
    for _ in range(MAX_ITERATIONS):
        dx, dy = x[None, None, :] - cx[:, None, None], y[None, :, None] - cy[:, None, None]
        determinant = xx * yy - xy**2
        exponent = (
            (yy / determinant)[:, None, None] * dx**2
            + (xx / determinant)[:, None, None] * dy**2
            - (2.0 * xy / determinant)[:, None, None] * dx * dy
        )
        weighted = data * np.exp(-0.5 * exponent)
        total = weighted.sum(axis=(1, 2))
        shift_x = (weighted * dx).sum(axis=(1, 2)) / total
        shift_y = (weighted * dy).sum(axis=(1, 2)) / total
        new_xx = 2.0 * ((weighted * dx**2).sum(axis=(1, 2)) / total - shift_x**2)
        new_yy = 2.0 * ((weighted * dy**2).sum(axis=(1, 2)) / total - shift_y**2)
        new_xy = 2.0 * ((weighted * dx * dy).sum(axis=(1, 2)) / total - shift_x * shift_y)
        change = np.abs(new_xx - xx) + np.abs(new_yy - yy) + np.abs(new_xy - xy)
        converged = change + np.abs(shift_x) + np.abs(shift_y) < TOLERANCE * (xx + yy)
        cx, cy, xx, yy, xy = cx + 2.0 * shift_x, cy + 2.0 * shift_y, new_xx, new_yy, new_xy
        if converged.all():
            break
    for values in (cx, cy, xx, yy, xy):
        values[~converged] = np.nan
    return AdaptiveMoments(Moments(xx, yy, xy), cx, cy)
