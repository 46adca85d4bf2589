"""Sharing pixels among peaks against a plain NumPy definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from streamchar.kernels import apportion, detect


def twin_template(data, inside, cx, cy, smooth, reach):
    """Template of one peak on the whole box, zero outside its rectangle."""
    height, width = data.shape
    rx, ry = min(cx, width - 1 - cx, reach), min(cy, height - 1 - cy, reach)
    where = np.s_[cy - ry : cy + ry + 1, cx - rx : cx + rx + 1]
    part, member = data[where], inside[where]
    t = np.minimum(part, part[::-1, ::-1]).clip(0)
    t[~(member & member[::-1, ::-1])] = 0
    if smooth and min(t.shape) >= 5:
        t[2:-2, 2:-2] = ndimage.generic_filter(t, np.median, 5)[2:-2, 2:-2]
    caster = t.copy()
    rows, columns = np.mgrid[-ry : ry + 1, -rx : rx + 1]
    ring_of = np.maximum(abs(rows), abs(columns))
    for ring in range(max(rx, ry) + 1):
        if ring % 5 == 0:
            caster = t.copy()
        for y, x in zip(rows[ring_of == ring], columns[ring_of == ring], strict=True):
            for sy, sx in shadowed(int(y), int(x)):
                if abs(sy) <= ry and abs(sx) <= rx:
                    t[sy + ry, sx + rx] = min(t[sy + ry, sx + rx], caster[y + ry, x + rx])
    full = np.zeros_like(data)
    full[where] = t
    return full


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


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    density=st.sampled_from([0.4, 0.8, 1.0]),
    smooth=st.booleans(),
    reach=st.sampled_from([0, 3, 100]),
    bad=st.integers(0, 2),
)
def test_shares(seed, shape, density, smooth, reach, bad):
    rng = np.random.default_rng(seed)
    image = rng.normal(2, 2, shape).astype(np.float32)
    image.flat[rng.integers(0, image.size, bad)] = np.nan
    spans = detect((rng.random(shape) < density).astype(np.float32), None, 0.5, 1.0, 1, False)[0]
    y, x0, x1, start = spans
    peak_x, peak_y, peak_start, boxes = [], [], [0], []
    for i in range(len(start) - 1):
        inside = np.zeros(shape, bool)
        for s in range(start[i], start[i + 1]):
            inside[y[s], x0[s] : x1[s] + 1] = True
        pixels = np.argwhere(inside)
        chosen = pixels[rng.permutation(len(pixels))[: rng.integers(0, 4)]]
        peak_x += chosen[:, 1].tolist()
        peak_y += chosen[:, 0].tolist()
        peak_start.append(len(peak_x))
        boxes.append((inside, chosen))
    cy, cx0, cx1, cstart, share = apportion(
        image,
        *spans,
        np.array(peak_x, np.int32),
        np.array(peak_y, np.int32),
        np.array(peak_start),
        smooth,
        reach,
    )
    assert len(cstart) - 1 == len(peak_x)
    child = offset = 0
    for inside, chosen in boxes:
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        top, left = rows[0], columns[0]
        box = np.s_[top : rows[-1] + 1, left : columns[-1] + 1]
        data = np.where(inside, np.nan_to_num(image), 0)[box]
        templates = [twin_template(data, inside[box], x - left, y_ - top, smooth, reach) for y_, x in chosen]
        total = np.sum(templates, axis=0)
        for (py, px), template in zip(chosen, templates, strict=True):
            expected = np.zeros(shape, np.float32)
            with np.errstate(invalid="ignore", divide="ignore"):
                expected[box] = np.where(template > 0, template / total, 0)
            member = np.zeros(shape, bool)
            member[box] = template > 0
            member[py, px] = True
            found, pixels = np.zeros(shape, bool), np.zeros(shape, np.float32)
            for s in range(cstart[child], cstart[child + 1]):
                n = cx1[s] - cx0[s] + 1
                found[cy[s], cx0[s] : cx1[s] + 1] = True
                pixels[cy[s], cx0[s] : cx1[s] + 1] = share[offset : offset + n]
                offset += n
            np.testing.assert_array_equal(found, member)
            np.testing.assert_allclose(pixels, expected, rtol=1e-5, atol=1e-6)
            child += 1
    assert offset == len(share)


def test_refusals():
    image = np.ones((4, 4), np.float32)
    spans = [np.array([v], np.int32) for v in (1, 0, 2)]
    start, one = np.array([0, 1]), np.array([1], np.int32)
    with pytest.raises(ValueError, match="outside its footprint"):
        apportion(image, *spans, start, one, one + 1, np.array([0, 1]), True, 5)
    with pytest.raises(ValueError, match="cover"):
        apportion(image, *spans, start, one, one, np.array([0, 2]), True, 5)
    with pytest.raises(ValueError, match="reach"):
        apportion(image, *spans, start, one, one, np.array([0, 1]), True, -1)
