"""Simulated sources and their footprints, for the tests of measurement."""

from itertools import pairwise

import numpy as np

from streamchar.characterize.footprints import Footprints
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.image import Exposure
from streamchar.kernels import Scene


def bare_scene(image):
    """A scene in which nothing is hidden."""
    none = np.empty(0, np.int32)
    return Scene(image, none, none, none, np.zeros(1, np.int64), np.empty(0, np.float32))


def footprints_of_masks(masks, peaks=None):
    """Footprints from boolean images, peaks at the given (x, y) or the first pixel."""
    y, x0, x1, start = [], [], [], [0]
    for mask in masks:
        for row in np.flatnonzero(mask.any(axis=1)):
            change = np.flatnonzero(np.diff(np.concatenate([[0], mask[row].astype(int), [0]])))
            for first, last in change.reshape(-1, 2):
                y.append(row)
                x0.append(first)
                x1.append(last - 1)
        start.append(len(y))
    if peaks is None:
        peaks = [(x0[s], y[s]) if s < end else (0, 0) for s, end in pairwise(start)]
    n = len(masks)
    px, py = np.array(peaks, np.float64).reshape(n, 2).T
    return Footprints(
        masks[0].shape if n else (0, 0),
        *(np.array(values, np.int32) for values in (y, x0, x1)),
        np.array(start, np.int64),
        np.floor(px + 0.5).astype(np.int32),
        np.floor(py + 0.5).astype(np.int32),
        np.ones(n, np.float32),
        np.ones(n),
        np.arange(n + 1, dtype=np.int64),
    )


def footprints_of_disks(shape, x, y, radius):
    """Disks around the positions, clipped to the image; peaks at the nearest pixels."""
    spans, start = [], [0]
    for cx, cy in zip(
        np.floor(np.add(x, 0.5)).astype(int), np.floor(np.add(y, 0.5)).astype(int), strict=True
    ):
        for dy in range(-radius, radius + 1):
            half = int(np.sqrt(radius * radius - dy * dy))
            first, last = max(cx - half, 0), min(cx + half, shape[1] - 1)
            if 0 <= cy + dy < shape[0] and first <= last:
                spans.append((cy + dy, first, last))
        start.append(len(spans))
    n = len(x)
    rows, first, last = np.array(spans, np.int32).reshape(-1, 3).T
    return Footprints(
        shape,
        np.ascontiguousarray(rows),
        np.ascontiguousarray(first),
        np.ascontiguousarray(last),
        np.array(start, np.int64),
        np.floor(np.add(x, 0.5)).astype(np.int32),
        np.floor(np.add(y, 0.5)).astype(np.int32),
        np.ones(n, np.float32),
        np.ones(n),
        np.arange(n + 1, dtype=np.int64),
    )


def add_gaussian(image, x, y, flux, xx, yy, xy=0.0, *, reach=40):
    """Add a point-sampled elliptical Gaussian to the image."""
    cx, cy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    rows = np.arange(max(cy - reach, 0), min(cy + reach + 1, image.shape[0]))
    columns = np.arange(max(cx - reach, 0), min(cx + reach + 1, image.shape[1]))
    dy, dx = rows[:, None] - y, columns[None, :] - x
    det = xx * yy - xy * xy
    q = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / det
    values = flux * np.exp(-0.5 * q) / (2 * np.pi * np.sqrt(det))
    image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += values.astype(image.dtype)


def star_field(count, *, sigma=2.0, flux=1e4, noise=10.0, spacing=60, seed=1, radius=10, width=41, margin=90):
    """Stars of one flux on a jittered grid, with noise; returns exposure, footprints and true positions."""
    generator = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(count)))
    size = 2 * margin + side * spacing
    grid = margin + spacing * np.arange(side)
    x, y = (axis.ravel()[:count] + generator.uniform(-0.5, 0.5, count) for axis in np.meshgrid(grid, grid))
    image = np.zeros((size, size), np.float32)
    for position in zip(x, y, strict=True):
        add_gaussian(image, *position, flux, sigma**2, sigma**2, reach=30)
    if noise:
        image += noise * generator.standard_normal(image.shape, dtype=np.float32)
    variance = np.full(image.shape, max(noise, 1e-3) ** 2, np.float32)
    exposure = Exposure(image, np.zeros(image.shape, np.int32), variance, psf=GaussianPsf(sigma, width))
    return exposure, footprints_of_disks(image.shape, x, y, radius), x, y
