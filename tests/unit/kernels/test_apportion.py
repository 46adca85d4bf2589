"""Sharing pixels among peaks against a plain NumPy definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import apportion
from tests.blends import painted, random_blends

TRIM, BY_PEAK, BY_FOOTPRINT, NEAREST = range(4)
ALWAYS, NECESSARY, NEVER = range(3)


def twin(inside, peaks, templates, points, stray, to_points, least, reach):
    """Shares of the peaks of one footprint, float64 (peaks, h, w), and where these are of stray light."""
    shape, n = inside.shape, len(peaks)
    positive = np.where(inside, np.clip(templates, 0, None), 0)
    total = positive.sum(axis=0, dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(positive > 0, positive / total, 0.0)
    open_pixels = inside & ~(total > 0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    claims = np.zeros((n, *shape))
    for k, (cy, cx) in enumerate(peaks):
        near = (abs(rows - cy) <= reach) & (abs(columns - cx) <= reach)
        box_y, box_x = (
            (values.min() <= axis) & (axis <= values.max())
            for values, axis in zip(np.nonzero(inside), (rows, columns), strict=True)
        )
        # The template's pixels that count are those of the rectangle in reach, whether in the footprint or not.
        covered = near & box_y & box_x & (np.clip(templates[k], 0, None) > 0)
        covered[cy, cx] = True
        if stray == BY_PEAK:
            square = (rows - cy) ** 2 + (columns - cx) ** 2
        else:
            y, x = np.nonzero(covered)
            square = ((rows[..., None] - y) ** 2 + (columns[..., None] - x) ** 2).min(axis=-1)
        claims[k] = np.where(near & open_pixels, 1 / (1 + square), 0)
    points = np.asarray(points, bool)
    if to_points == NEVER:
        claims[points] = 0
    if to_points == NECESSARY:
        claims[points] *= ~(claims[~points] > 0).any(axis=0)
    if stray == TRIM:
        claims[:] = 0
    elif stray == NEAREST and n:
        first = np.argmax(claims, axis=0) == np.arange(n)[:, None, None]
        claims = (first & (claims > 0)).astype(float)
    else:
        claims[claims < least * claims.sum(axis=0)] = 0
    whole = claims.sum(axis=0)
    strays = np.divide(claims, whole, out=np.zeros_like(claims), where=whole > 0)
    return shares + strays, strays > 0


def compare(seed, shape, density, stray, to_points, least, reach, most=4):
    rng = np.random.default_rng(seed)
    blends = random_blends(rng, shape, density, most)
    n = len(blends.peak_x)
    planes, values, start, boxes = [], [np.empty(0, np.float32)], [0], np.zeros((n, 4), np.int32)
    for k, (x, y) in enumerate(zip(blends.peak_x, blends.peak_y, strict=True)):
        rx, ry, dx, dy = rng.integers([0, 0, -1, -1], [4, 4, 2, 2])
        template = rng.normal(0.3, 1, (2 * ry + 1, 2 * rx + 1)).astype(np.float32)
        if rng.random() < 0.2:
            template = template[:0]
        x0, y0 = x - rx + dx, y - ry + dy
        boxes[k] = x0, y0, x0 + template.shape[1] - 1, y0 + template.shape[0] - 1
        values.append(template.ravel())
        start.append(start[-1] + template.size)
        plane = np.zeros((shape[0] + 20, shape[1] + 20), np.float32)
        plane[y0 + 10 : y0 + 10 + template.shape[0], x0 + 10 : x0 + 10 + template.shape[1]] = template
        planes.append(plane[10:-10, 10:-10])
    points = rng.random(n) < 0.4
    *children, has_stray = apportion(
        *(*shape, *blends.spans, *blends.peaks, np.concatenate(values), np.array(start, np.int64), boxes),
        *(points, stray, to_points, least, reach),
    )
    y, x0, x1, child_start, share = children
    assert len(child_start) == n + 1
    k = 0
    for inside, peaks in blends.members:
        own = slice(k, k + len(peaks))
        templates = np.array(planes[own]).reshape(-1, *shape)
        expected, strays = twin(inside, peaks, templates, points[own], stray, to_points, least, reach)
        found = [painted(shape, y, x0, x1, child_start, share, i) for i in range(own.start, own.stop)]
        for (member, shares), wanted, other, peak in zip(found, expected, strays, peaks, strict=True):
            np.testing.assert_allclose(shares, wanted, rtol=2e-5, atol=1e-7)
            on_peak = np.zeros(shape, bool)
            on_peak[tuple(peak)] = True
            np.testing.assert_array_equal(member, (wanted > 0) | on_peak)
            assert has_stray[k] == other.any()
            k += 1
        if stray != TRIM and to_points != NEVER and reach >= max(shape) and len(peaks):
            np.testing.assert_allclose(sum(shares for _, shares in found), inside, atol=1e-5)
    assert k == n


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    density=st.sampled_from([0.0, 0.4, 0.8, 1.0]),
    stray=st.sampled_from([TRIM, BY_PEAK, BY_FOOTPRINT, NEAREST]),
    to_points=st.sampled_from([ALWAYS, NECESSARY, NEVER]),
    least=st.sampled_from([0.0, 0.001, 0.3]),
    reach=st.sampled_from([0, 2, 100]),
)
def test_equals_twin(seed, shape, density, stray, to_points, least, reach):
    compare(seed, shape, density, stray, to_points, least, reach)


def test_many_peaks():
    compare(1, (20, 25), 1.0, BY_FOOTPRINT, NECESSARY, 0.001, 6, most=200)


def call(
    *, shape=(5, 6), peak=(2, 2), values=1, box=(2, 2, 2, 2), stray=TRIM, points=ALWAYS, least=0.0, reach=3
):
    one = random_blends(np.random.default_rng(0), (5, 6), 1.0, 0)
    x, y = (np.array([value], np.int32) for value in peak)
    return apportion(
        *(*shape, *one.spans, x, y, np.array([0, 1]), np.ones(values, np.float32), np.array([0, values])),
        *(np.array([box], np.int32), np.zeros(1, bool), stray, points, least, reach),
    )


def test_wrong_input_is_refused():
    assert call()[4].tolist() == [1.0]
    for text, options in {
        "outside": {"peak": (6, 2)},
        "plane": {"shape": (5, 5)},
        "shape": {"shape": (-1, 5)},
        "rectangle": {"values": 2},
        "rule": {"stray": 4},
        "no such": {"points": -1},
        "range": {"least": 1.0},
        "reach": {"reach": -1},
    }.items():
        with pytest.raises(ValueError, match=text):
            call(**options)
