"""The kernel-based Hough transform: lines from the outlines of detected pixels (reference: deblend-and-streaks.md section 2.2).

Fernandes & Oliveira 2008, Pattern Recognition 41, 299: chains of edge pixels are cut into straight clusters, each votes with a
Gaussian for its line and its errors, and lines are the peaks of the votes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen
from streamchar.kernels import hough_votes, link_chains, subdivide_chains

Array = NDArray[np.float64]

FLAT_VARIANCE = 0.1
"""Variance in degree² of the direction of a cluster that has none."""

SMOOTHING = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float64)
"""Weights of the votes around a bin."""


K_MEANS_ROUNDS = 300
"""Most rounds in which lines change their group."""


@frozen
class HoughLines:
    """Lines x cos θ + y sin θ = ρ, with coordinates from the middle of the image.

    Attributes
    ----------
    rho
        float64 (n): pixels.
    theta
        float64 (n): degrees, 0 to 180.
    """

    rho: Array
    theta: Array

    def __len__(self) -> int:
        return len(self.rho)


def outline(lit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Edge pixels of a binary image, as a Canny filter without smoothing and thresholds gives them.

    The gradient is Sobel's; an edge pixel is where its length is positive and not less than at the two places a pixel up and
    down the gradient, interpolated between pixels. The outermost ring of the image has no edges.

    Parameters
    ----------
    lit
        bool (height, width).
    """
    from scipy.ndimage import sobel

    edges = np.zeros(lit.shape, np.bool_)
    if min(lit.shape) < 3:
        return edges
    plane = lit.astype(np.float32)
    down, right = sobel(plane, axis=0), sobel(plane, axis=1)
    length = np.hypot(down, right)
    y, x = np.nonzero(length[1:-1, 1:-1] > 0)
    y, x = y + 1, x + 1
    gy, gx = down[y, x], right[y, x]
    steep = np.abs(gy) > np.abs(gx)
    longer, shorter = np.where(steep, np.abs(gy), np.abs(gx)), np.where(steep, np.abs(gx), np.abs(gy))
    part = shorter / longer
    step_y, step_x = np.sign(gy).astype(np.int64), np.sign(gx).astype(np.int64)
    straight_y, straight_x = np.where(steep, step_y, 0), np.where(steep, 0, step_x)
    greatest = np.ones(len(y), np.bool_)
    for side in (1, -1):
        straight = length[y + side * straight_y, x + side * straight_x]
        diagonal = length[y + side * step_y, x + side * step_x]
        greatest &= length[y, x] >= straight + part * (diagonal - straight)
    edges[y[greatest], x[greatest]] = True
    return edges


def find_hough_lines(
    edges: NDArray[np.bool_],
    *,
    min_size: int = 50,
    min_deviation: float = 2.0,
    delta: float = 0.2,
    min_height: float = 0.0,
    min_absolute_height: float = 5.0,
    n_sigma: float = 2.0,
) -> HoughLines:
    """Find lines along edge pixels.

    Parameters
    ----------
    edges
        bool (height, width).
    min_size
        Fewest pixels of a chain and of a cluster, at least 2.
    min_deviation
        Deviation from a straight line that is never too large, pixels.
    delta
        Bin of the votes, pixels and degrees.
    min_height, min_absolute_height
        Smallest height of a cluster's Gaussian, relative to the greatest and absolute.
    n_sigma
        Extent of a Gaussian, standard deviations.

    Returns
    -------
    HoughLines
        The line with most votes first; empty without clusters.
    """
    x, y, start = link_chains(np.ascontiguousarray(edges, np.uint8), min_size)
    first, last = subdivide_chains(x, y, start, min_size, min_deviation)
    kernels = _kernels(x, y, first, last, edges.shape, n_sigma)
    height = _heights(kernels)
    kept = (height >= min_absolute_height) & (height >= min_height * height.max(initial=0.0))
    kernels, height = kernels[kept], height[kept]
    if not len(kernels):
        return HoughLines(np.empty(0), np.empty(0))
    thetas = round(180.0 / delta)
    rhos = 2 * int(np.ceil(0.5 * np.hypot(*edges.shape) / delta)) + 1
    votes = hough_votes(kernels, _scale(kernels, height), delta, thetas, rhos)
    row, column = _peaks(votes)
    return HoughLines(np.multiply(column - rhos // 2, delta), np.multiply(row, delta))


def _kernels(
    x: NDArray[np.int32],
    y: NDArray[np.int32],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    shape: tuple[int, ...],
    n_sigma: float,
) -> Array:
    """Centre and covariance of each cluster's line: rho, theta, var rho, covariance, var theta in pixels and degrees."""
    count = (last - first).astype(np.float64)
    px, py = (np.asarray(v - 0.5 * n, np.float64) for v, n in ((x, shape[1]), (y, shape[0])))

    def total(values: Array) -> Array:
        sums = np.concatenate([np.zeros(1), np.cumsum(values)])
        return np.asarray(sums[last] - sums[first])

    mx, my = total(px) / count, total(py) / count
    xx = total(px * px) - count * mx * mx
    yy = total(py * py) - count * my * my
    xy = total(px * py) - count * mx * my
    # The principal axis (ux, uy), turned so that the normal (vx, vy) has vy >= 0.
    angle = 0.5 * np.arctan2(2.0 * xy, xx - yy)
    ux, uy = np.cos(angle), np.sin(angle)
    vx, vy = -uy, ux
    flip = np.where(vy < 0, -1.0, 1.0)
    vx, vy = vx * flip, vy * flip
    along = ux * ux * xx + 2.0 * ux * uy * xy + uy * uy * yy
    rho = vx * mx + vy * my
    theta = np.degrees(np.arccos(np.clip(vx, -1.0, 1.0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        slope_variance = np.where(along > 0, 1.0 / along, 0.0)
        turn = np.where(np.abs(vx) < 1.0, ux / np.sqrt(np.maximum(1.0 - vx * vx, 1e-30)), 0.0) * (
            180.0 / np.pi
        )
    lever = -(ux * mx + uy * my)
    rr = lever**2 * slope_variance + 1.0 / count
    rt = lever * turn * slope_variance
    tt = turn**2 * slope_variance
    tt = np.where(tt > 0, tt, FLAT_VARIANCE)
    return np.stack([rho, theta, rr * n_sigma**2, rt, tt * n_sigma**2], axis=1)


def _heights(kernels: Array) -> Array:
    """Value of each Gaussian at its centre."""
    determinant = kernels[:, 2] * kernels[:, 4] - kernels[:, 3] ** 2
    return np.asarray(1.0 / (2.0 * np.pi * np.sqrt(determinant)))


def _scale(kernels: Array, height: Array) -> float:
    """Votes per unit of density: at least one vote a standard deviation away along the shorter axis of every Gaussian.

    There the density is its height times e^(-1/2) whatever the axis.
    """
    return max(1.0, float((1.0 / (height * np.exp(-0.5))).max())) if len(kernels) else 1.0


def _peaks(votes: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bins whose smoothed votes are met before those of all their neighbours, going down from the greatest."""
    row, column = np.nonzero(votes)
    height, width = votes.shape
    padded = np.pad(votes.astype(np.float64), 1)
    smooth = np.zeros(len(row))
    for dy in range(3):
        for dx in range(3):
            smooth += SMOOTHING[dy, dx] * padded[row + dy, column + dx]
    order = np.argsort(-smooth, kind="stable")
    rank = np.full((height + 2, width + 2), len(row), np.int32)
    rank[row[order] + 1, column[order] + 1] = np.arange(len(row))
    own = rank[row + 1, column + 1]
    first = np.ones(len(row), np.bool_)
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) != (1, 1):
                first &= own < rank[row + dy, column + dx]
    chosen = order[first[order]]
    return row[chosen], column[chosen]


def group_lines(lines: HoughLines, rho_bin: float, theta_bin: float) -> HoughLines:
    """Join lines that belong to one streak.

    The lines are cut into 1, 2, ... groups until the standard deviation of every group is at most one bin in both
    coordinates, and the groups' means returned. The reference groups by k-means from random starts; here the farthest line
    from all centres starts each new group, so that the result is the same every time.

    Parameters
    ----------
    lines
        Lines, in any order.
    rho_bin, theta_bin
        Units of the two coordinates, pixels and degrees.
    """
    if not len(lines):
        return lines
    points = np.stack([lines.rho / rho_bin, lines.theta / theta_bin], axis=1)
    for count in range(1, len(points) + 1):
        member = _k_means(points, count)
        groups = [points[member == i] for i in range(count) if (member == i).any()]
        if all((group.std(axis=0) <= 1.0).all() for group in groups):
            break
    centres = np.array([group.mean(axis=0) for group in groups])
    return HoughLines(centres[:, 0] * rho_bin, centres[:, 1] * theta_bin)


def _k_means(points: Array, count: int) -> NDArray[np.int64]:
    """Group of each point after Lloyd's iteration from centres far apart."""
    chosen = [0]
    distance = np.full(len(points), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    centres = points[chosen]
    member = np.zeros(len(points), np.int64)
    for round_ in range(K_MEANS_ROUNDS):
        nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        if round_ and (nearest == member).all():
            break
        member = nearest
        centres = np.array(
            [points[member == i].mean(axis=0) if (member == i).any() else centres[i] for i in range(count)]
        )
    return member
