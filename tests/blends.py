"""Footprints of random form with peaks on some of their pixels, for the tests of deblending kernels."""

from dataclasses import dataclass

import numpy as np

from streamchar.kernels import detect


@dataclass
class Blends:
    """Spans and peaks as kernels take them, and each footprint as a boolean image with its peaks (y, x)."""

    spans: tuple
    peak_x: np.ndarray
    peak_y: np.ndarray
    peak_start: np.ndarray
    members: list

    @property
    def peaks(self):
        return self.peak_x, self.peak_y, self.peak_start


def random_blends(rng, shape, density, most=3):
    """Connected pixels of random noise, with up to ``most`` peaks each."""
    spans = detect((rng.random(shape) < density).astype(np.float32), None, 0.5, 1.0, 1, False)[0]
    y, x0, x1, start = spans
    members, peaks, peak_start = [], [np.empty((0, 2), int)], [0]
    for i in range(len(start) - 1):
        inside = np.zeros(shape, bool)
        for s in range(start[i], start[i + 1]):
            inside[y[s], x0[s] : x1[s] + 1] = True
        pixels = np.argwhere(inside)
        chosen = pixels[rng.permutation(len(pixels))[: rng.integers(0, most + 1)]]
        members.append((inside, chosen))
        peaks.append(chosen)
        peak_start.append(peak_start[-1] + len(chosen))
    peak_y, peak_x = np.concatenate(peaks).astype(np.int32).T
    return Blends(
        spans,
        np.ascontiguousarray(peak_x),
        np.ascontiguousarray(peak_y),
        np.array(peak_start, np.int64),
        members,
    )


def painted(shape, y, x0, x1, start, values, i):
    """Pixels of footprint i, bool, and their values, 0 elsewhere."""
    lengths = x1 - x0 + 1
    first = int(lengths[: start[i]].sum())
    found, plane = np.zeros(shape, bool), np.zeros(shape, np.float32)
    for s in range(start[i], start[i + 1]):
        found[y[s], x0[s] : x1[s] + 1] = True
        plane[y[s], x0[s] : x1[s] + 1] = values[first : first + lengths[s]]
        first += int(lengths[s])
    return found, plane
