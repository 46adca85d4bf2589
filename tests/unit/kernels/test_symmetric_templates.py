"""Templates of blended sources against a plain NumPy definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from streamchar.kernels import symmetric_templates
from tests.blends import random_blends

CLIP, RAMP, NOCLIP = 0, 1, 2
EDGE = 4


def twin(image, variance, mask, inside, peak, smooth, reach, edge, profile, significance):
    """Values of one template, its rectangle x0, y0, x1, y1, and what was done at the edge."""
    data = np.nan_to_num(image, posinf=0, neginf=0)
    rows, columns = np.nonzero(inside)
    (cy, cx), treated = peak, 0
    near = min(cx - columns.min(), columns.max() - cx, reach), min(cy - rows.min(), rows.max() - cy, reach)
    far = (
        min(max(cx - columns.min(), columns.max() - cx), reach),
        min(max(cy - rows.min(), rows.max() - cy), reach),
    )

    def is_in(y, x):
        return 0 <= y < image.shape[0] and 0 <= x < image.shape[1] and bool(inside[y, x])

    def is_beyond(y, x):
        if not (0 <= y < image.shape[0] and 0 <= x < image.shape[1]):
            return True
        return not inside[y, x] and bool(mask[y, x] & EDGE)

    def lacks(v, u):
        return is_in(cy + v, cx + u) and is_beyond(cy - v, cx - u)

    def offsets(rx, ry):
        return [(v, u) for v in range(-ry, ry + 1) for u in range(-rx, rx + 1)]

    cut = edge != CLIP and any(lacks(*offset) for offset in offsets(*far))
    rx, ry = far if cut else near
    t = np.zeros((2 * ry + 1, 2 * rx + 1), np.float32)
    for v, u in offsets(rx, ry):
        if is_in(cy + v, cx + u) and is_in(cy - v, cx - u):
            t[v + ry, u + rx] = max(min(data[cy + v, cx + u], data[cy - v, cx - u]), 0)
    if cut and edge == NOCLIP:
        treated = 2
        for v, u in offsets(rx, ry):
            if lacks(v, u):
                t[v + ry, u + rx] = max(data[cy + v, cx + u], 0)
    if cut and edge == RAMP:
        hy, hx = profile.shape[0] // 2, profile.shape[1] // 2
        with np.errstate(invalid="ignore"):
            rim = [
                (v, u)
                for v, u in offsets(rx, ry)
                if is_in(cy + v, cx + u)
                and is_in(cy - v, cx - u)
                and t[v + ry, u + rx] > significance * np.sqrt(np.float64(variance[cy + v, cx + u]))
                and any(lacks(v + dv, u + du) for dv, du in ((0, 1), (0, -1), (1, 0), (-1, 0)))
            ]
        if rim and profile[hy, hx] > 0:
            treated = 1
            for v, u in offsets(rx, ry):
                if lacks(v, u):
                    slopes = [
                        profile[v - q + hy, u - p + hx] / profile[hy, hx]
                        for q, p in rim
                        if abs(v - q) <= hy and abs(u - p) <= hx
                    ]
                    t[v + ry, u + rx] = max(data[cy + v, cx + u], 0) * np.float32(max(slopes, default=0))
    if smooth and min(t.shape) >= 5:
        t[2:-2, 2:-2] = ndimage.generic_filter(t, np.median, 5)[2:-2, 2:-2]
    t = fall_outward(t, rx, ry)
    rows, columns = np.nonzero(t > 0)
    ring = max([0, *abs(rows - ry), *abs(columns - rx)])
    t = t[max(ry - ring, 0) : ry + ring + 1, max(rx - ring, 0) : rx + ring + 1]
    rx, ry = min(rx, ring), min(ry, ring)
    return t, (cx - rx, cy - ry, cx + rx, cy + ry), treated


def fall_outward(t, rx, ry):
    """Let no pixel exceed one whose shadow it is in."""
    t, caster = t.copy(), t.copy()
    rows, columns = np.mgrid[-ry : ry + 1, -rx : rx + 1]
    ring_of = np.maximum(abs(rows), abs(columns))
    for ring in range(max(rx, ry) + 1):
        if ring % 5 == 0:
            caster = t.copy()
        for y, x in zip(rows[ring_of == ring], columns[ring_of == ring], strict=True):
            for sy, sx in shadowed(int(y), int(x)):
                if abs(sy) <= ry and abs(sx) <= rx:
                    t[sy + ry, sx + rx] = min(t[sy + ry, sx + rx], caster[y + ry, x + rx])
    return t


def shadowed(y, x):
    if x == 0 and y == 0:
        return [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    longer, other = (x, y) if abs(x) >= abs(y) else (y, x)
    pixels = []
    for step in range(1, 6):
        low, high = (step * ((other + side) / abs(longer)) for side in (-0.3, 0.3))
        away = lambda value: int(np.sign(value) * np.floor(abs(value) + 0.5))  # noqa: E731
        for aside in range(away(low), away(high) + 1):
            far, beside = longer + int(np.sign(longer)) * step, other + aside
            pixels.append((beside, far) if abs(x) >= abs(y) else (far, beside))
    return pixels


def compare(seed, shape, density, smooth, reach, edge, spoiled=0.0, masked=0.0, most=3):
    rng = np.random.default_rng(seed)
    image = rng.normal(4, 4, shape).astype(np.float32)
    image[rng.random(shape) < spoiled] = rng.choice([np.nan, np.inf, -np.inf])
    variance = rng.choice([0.1, 1.0, np.nan, -1.0], shape, p=[0.5, 0.4, 0.05, 0.05]).astype(np.float32)
    mask = (EDGE * (rng.random(shape) < masked)).astype(np.int32)
    blends = random_blends(rng, shape, density, most)
    profile = np.exp(-0.3 * np.square(np.mgrid[-3:4, -2:3]).sum(0)) * rng.choice([1.0, 0.0], p=[0.9, 0.1])
    wanted = rng.random(len(blends.peak_x)) < 0.8
    values, start, boxes, treated = symmetric_templates(
        *(image, variance, mask, EDGE, *blends.spans, *blends.peaks, wanted),
        *(smooth, reach, edge, profile, 3.0),
    )
    assert (values.dtype, start.dtype, boxes.dtype) == (np.float32, np.int64, np.int32)
    assert len(start) == len(wanted) + 1
    k = 0
    for inside, peaks in blends.members:
        for peak in peaks:
            template = values[start[k] : start[k + 1]]
            if wanted[k]:
                args = (smooth, reach, edge, profile, 3.0)
                expected, box, done = twin(image, variance, mask, inside, tuple(peak), *args)
                assert tuple(boxes[k]) == box
                assert treated[k] == done
                np.testing.assert_allclose(template, expected.ravel(), rtol=1e-6)
            else:
                assert len(template) == 0
                assert boxes[k, 2] < boxes[k, 0]
            k += 1
    assert k == len(wanted)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    density=st.sampled_from([0.0, 0.4, 0.8, 1.0]),
    smooth=st.booleans(),
    reach=st.sampled_from([0, 3, 100]),
    edge=st.sampled_from([CLIP, RAMP, NOCLIP]),
    spoiled=st.sampled_from([0.0, 0.1, 1.0]),
    masked=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_equals_twin(seed, shape, density, smooth, reach, edge, spoiled, masked):
    compare(seed, shape, density, smooth, reach, edge, spoiled, masked)


def test_many_peaks():
    compare(1, (30, 30), 1.0, False, 4, RAMP, most=500)


def call(shape=(5, 6), *, peak=(2, 2), wanted=1, reach=3, edge=CLIP, profile=(3, 3), variance=None):
    one = random_blends(np.random.default_rng(0), shape, 1.0, 0)
    x, y = (np.array([value], np.int32) for value in peak)
    plane = np.ones(shape, np.float32)
    return symmetric_templates(
        *(plane, plane if variance is None else variance, np.zeros(shape, np.int32), 0, *one.spans),
        *(x, y, np.array([0, 1]), np.ones(wanted, bool), False, reach, edge, np.ones(profile), 3.0),
    )


def test_wrong_input_is_refused():
    assert len(call()[0]) == 25
    for text, options in {
        "outside": {"peak": (6, 2)},
        "choice": {"wanted": 2},
        "reach": {"reach": -1},
        "edge": {"edge": 3},
        "odd": {"profile": (4, 3)},
        "shape": {"variance": np.ones((5, 5), np.float32)},
    }.items():
        with pytest.raises(ValueError, match=text):
            call(**options)
