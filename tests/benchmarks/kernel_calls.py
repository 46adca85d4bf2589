"""Calls the main kernels on fixed inputs; under callgrind each call's instructions are counted on their own.

Run as a module with the library of :mod:`tests.benchmarks.instructions`, which switches counting on and off.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from streamchar import kernels
from streamchar.characterize import cosmic_rays
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.image import Exposure

SIZE = 512
STARS_ALONG = 12
STAMP = 41
SIGMA = 1.7
SKY_NOISE = 10.0

Spans = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]
Calls = Iterator[tuple[str, Callable[[], object]]]


@dataclass(frozen=True, slots=True)
class Inputs:
    """A small field of stars with noise, everything of it fixed.

    Attributes
    ----------
    image, variance, mask
        Planes, (SIZE, SIZE).
    x, y
        Positions of the stars.
    spans
        Footprints above 5 sigma.
    stamps
        A Gaussian at each star, (stars, STAMP, STAMP).
    random
        For what else is needed.
    """

    image: NDArray[np.float32]
    variance: NDArray[np.float32]
    mask: NDArray[np.int32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    spans: Spans
    stamps: NDArray[np.float64]
    random: np.random.Generator

    @property
    def corners(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First column and row of each stamp."""
        first = (np.floor(position + 0.5).astype(np.int64) - STAMP // 2 for position in (self.x, self.y))
        return next(first), next(first)

    def scene(self) -> kernels.Scene:
        """The image with nothing hidden."""
        none = np.empty(0, np.int32)
        return kernels.Scene(self.image, none, none, none, np.zeros(1, np.int64), np.empty(0, np.float32))


def make_inputs() -> Inputs:
    """Draw the field."""
    random = np.random.default_rng(20260101)
    image = random.normal(0.0, SKY_NOISE, (SIZE, SIZE)).astype(np.float32)
    places = (np.arange(STARS_ALONG) + 0.5) * SIZE / STARS_ALONG
    x, y = (axis.ravel() + random.uniform(-3, 3, STARS_ALONG**2) for axis in np.meshgrid(places, places))
    flux = 10.0 ** random.uniform(3.5, 5.0, len(x))
    half = STAMP // 2
    stamps = np.empty((len(x), STAMP, STAMP))
    for i, (cx, cy) in enumerate(zip(x, y, strict=True)):
        ix, iy = round(cx), round(cy)
        rows, columns = np.mgrid[iy - half : iy + half + 1, ix - half : ix + half + 1]
        stamp = np.exp(-((rows - cy) ** 2 + (columns - cx) ** 2) / (2 * SIGMA**2))
        stamps[i] = stamp / stamp.sum()
        inside = (rows >= 0) & (rows < SIZE) & (columns >= 0) & (columns < SIZE)
        image[rows[inside], columns[inside]] += (flux[i] * stamps[i][inside]).astype(np.float32)
    for row, column in random.integers(20, SIZE - 20, (60, 2)):
        image[row, column : column + 4] += 3000.0
    variance = np.full((SIZE, SIZE), SKY_NOISE**2, np.float32) + np.maximum(image, 0)
    mask = np.zeros((SIZE, SIZE), np.int32)
    spans = kernels.detect(image, variance, 5.0, 1.0, 1, False)[0]
    return Inputs(image, variance, mask, x, y, spans, stamps, random)


def calls(inputs: Inputs) -> Calls:
    """Every measured kernel with its arguments bound."""
    yield from plane_calls(inputs)
    yield from footprint_calls(inputs)
    yield from source_calls(inputs)
    yield from psf_calls(inputs)


def plane_calls(inputs: Inputs) -> Calls:
    """Kernels over whole planes."""
    image, variance, mask = inputs.image, inputs.variance, inputs.mask
    taps = np.exp(-0.5 * (np.arange(7) / SIGMA) ** 2).astype(np.float32)
    smoothed = np.empty((SIZE - 12, SIZE - 12), np.float32)
    yield "smooth", lambda: kernels.smooth(image, taps, smoothed)
    edges = np.linspace(0, SIZE, 5).astype(np.int64)
    yield "bin_statistics", lambda: kernels.bin_statistics(image, mask, 1, edges, edges, False, 3, 3.0)
    pixels, flags = image.reshape(-1), mask.reshape(-1)
    yield "sample_statistics", lambda: kernels.sample_statistics(pixels, flags, 1, True, 2, 3.0)
    yield "detect", lambda: kernels.detect(image, variance, 5.0, 1.0, 1, False)
    yield "detect smoothed", lambda: kernels.detect(image, variance, 5.0, 1.0, 1, False, taps**2, taps)
    plane, side = image.copy(), np.linspace(1, 2, 6 * SIZE).reshape(6, SIZE)
    left = np.ascontiguousarray(side.T)
    yield "add_separable", lambda: kernels.add_separable(plane, left, side, -1.0)
    centres = np.linspace(64, SIZE - 64, 4)
    yield (
        "add_grid",
        lambda: kernels.add_grid(plane, inputs.random.normal(size=(4, 4)), centres, centres, 1, -1.0),
    )
    yield "block_means", lambda: kernels.block_means(image, mask, 0, 4, -50.0, 50.0)
    steps = np.clip(np.rint(image[:256, :256] / SKY_NOISE), -5, 5).astype(np.int16)
    yield "line_sums", lambda: kernels.line_sums(steps)
    exposure = Exposure(image.copy(), mask.copy(), variance, psf=GaussianPsf(SIGMA, STAMP))
    yield "cosmic_rays.find", lambda: cosmic_rays.find(exposure, cosmic_rays.CosmicRayConfig())


def footprint_calls(inputs: Inputs) -> Calls:
    """Kernels over footprints."""
    image, spans = inputs.image, inputs.spans
    yield "find_peaks", lambda: kernels.find_peaks(image, *spans, False)
    widths = np.array([4, 4, 3, 2, 1], np.int32)
    yield "grow_merging", lambda: kernels.grow_merging(*spans, SIZE, SIZE, widths)
    yield "grow_each", lambda: kernels.grow_each(*spans, SIZE, SIZE, widths)
    yield (
        "split_footprints",
        lambda: kernels.split_footprints(image, inputs.variance, 0, *spans, 5.0, 3.0, 0.1),
    )
    yield "footprint_bits", lambda: kernels.footprint_bits(inputs.mask, *spans)


def source_calls(inputs: Inputs) -> Calls:
    """Kernels that measure sources."""
    scene, x, y = inputs.scene(), inputs.x, inputs.y
    image, variance, mask, stamps = inputs.image, inputs.variance, inputs.mask, inputs.stamps
    count = len(x)
    sigma = np.full(count, SIGMA)
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / SIGMA) ** 2)
    kernel2d = np.outer(kernel, kernel)[None] / kernel.sum() ** 2
    positive = np.zeros(count, bool)
    yield "sdss_centroid", lambda: kernels.sdss_centroid(scene, variance, x, y, positive, kernel2d, sigma)
    yield "sdss_shape", lambda: kernels.sdss_shape_image(image, x, y)
    columns, rows = inputs.corners
    low = [np.maximum(first, 0) for first in (columns, rows)]
    high = [np.minimum(first + STAMP, SIZE) - 1 for first in (columns, rows)]
    boxes = np.stack([low[0], low[1], high[0], high[1]], axis=1).astype(np.int32)
    yield "hsm_moments", lambda: kernels.hsm_moments(scene, mask, 1, boxes, x, y, sigma)
    xx, zero = np.full(count, SIGMA**2), np.zeros(count)
    yield "gaussian_flux", lambda: kernels.gaussian_flux(scene, x, y, xx, xx, zero)
    yield "psf_flux", lambda: kernels.psf_flux(scene, variance, mask, 1, stamps, columns, rows)
    every = np.arange(count)
    yield (
        "psf_fit",
        lambda: kernels.psf_fit(
            scene,
            variance,
            mask,
            1,
            every,
            stamps,
            columns,
            rows,
            position=True,
            reject=5.0,
            tolerance=0.1,
            reject_max=20,
        ),
    )
    radii = np.array([12.0, 17, 25, 35, 50, 70])
    yield "circular_apertures", lambda: kernels.circular_apertures(scene, variance, x, y, radii)
    weights = inputs.random.normal(size=(31, 31)).astype(np.float32)
    yield "sinc_aperture", lambda: kernels.sinc_aperture(scene, variance, x, y, weights, 6.0)


def psf_calls(inputs: Inputs) -> Calls:
    """Kernels that draw and fit PSF models, by Lanczos interpolation (4) and by splines (0)."""
    random, count = inputs.random, len(inputs.x)
    components, basis = random.normal(size=(6, STAMP, STAMP)), random.normal(size=(count, 6))
    dx, dy = random.uniform(-0.5, 0.5, (2, count))
    weights = random.uniform(size=(count, STAMP, STAMP))
    every, both_ways = np.ones_like(components), random.uniform(size=(STAMP, STAMP))
    for order, name in ((4, "lanczos"), (0, "spline")):
        draw = partial(kernels.psf_draw, components, basis, dx, dy, STAMP, 1.0, order)
        yield f"psf_draw {name}", draw
        given = weights, weights, basis, dx, dy, every, components, every, both_ways, both_ways
        yield f"psf_solve {name}", partial(kernels.psf_solve, *given, 1.0, order, 1, 0.0)
    model, pixels = random.normal(size=(2, count, STAMP, STAMP))
    yield "star_modes", partial(kernels.star_modes, pixels, model, weights, dx, dy)
    yield "point_significance", partial(kernels.point_significance, pixels, weights, 2.35 * SIGMA)


def main(library: str) -> None:
    """Call each kernel twice, the second time counted, and print the names in order."""
    collector = ctypes.CDLL(library)
    names = []
    for name, call in calls(make_inputs()):
        call()
        collector.start()
        call()
        collector.stop(name.encode())
        names.append(name)
    print(json.dumps(names))


if __name__ == "__main__":
    main(json.loads(sys.argv[1])["library"])
