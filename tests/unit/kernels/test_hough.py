"""Chains, their subdivision and votes of the Hough transform against plain Python."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import hough_votes, link_chains, subdivide_chains

STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, 1), (-1, -1), (1, -1))


def twin_chains(edges, shortest):
    left = {(int(x), int(y)) for y, x in zip(*np.nonzero(edges), strict=True)}

    def follow(pixel, chain):
        while pixel is not None:
            chain.append(pixel)
            left.discard(pixel)
            pixel = successor(pixel)

    def successor(pixel):
        near = [(pixel[0] + dx, pixel[1] + dy) for dx, dy in STEPS]
        return next((p for p in near if p in left), None)

    chains = []
    for y in range(1, edges.shape[0] - 1):
        for x in range(1, edges.shape[1] - 1):
            if (x, y) not in left:
                continue
            chain = []
            follow((x, y), chain)
            chain.reverse()
            follow(successor((x, y)), chain)
            if len(chain) >= shortest:
                chains.append(chain)
    return chains


def twin_divide(points, offset, smallest, deviation):
    """Quality and clusters (first, last + 1) of a chain."""
    points = np.asarray(points, float)
    chord = points[0] - points[-1]
    length = np.hypot(*chord)
    away = np.zeros(len(points))
    if length > 0:
        relative = points - points[-1]
        away = np.abs(relative[:, 0] * chord[1] - relative[:, 1] * chord[0]) / length
    k = int(away.argmax())
    quality = length / max(away[k], deviation)
    if k + 1 >= smallest and len(points) - k >= smallest:
        one, left = twin_divide(points[: k + 1], offset, smallest, deviation)
        other, right = twin_divide(points[k:], offset + k, smallest, deviation)
        if max(one, other) > quality:
            return max(one, other), left + right
    return quality, [(offset, offset + len(points))]


def twin_votes(kernels, scale, delta, thetas, rhos):
    votes = np.zeros((thetas, rhos), np.int64)
    for rho, theta, rr, rt, tt in kernels:
        inverse = np.linalg.inv([[rr, rt], [rt, tt]])
        height = scale / (2 * np.pi * np.sqrt(rr * tt - rt**2))
        first = (int(np.floor(rho / delta + 0.5)) + rhos // 2, int(np.floor(theta / delta + 0.5)))
        for sign_r, sign_t in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
            empty, j = 0, 0
            while empty < 2 and j < thetas:
                row = first[1] + sign_t * j - (sign_t < 0)
                any_vote = False
                for i in range(rhos):
                    column = first[0] + sign_r * i - (sign_r < 0)
                    z = np.array([(column - rhos // 2) * delta - rho, row * delta - theta])
                    vote = int(height * np.exp(-0.5 * z @ inverse @ z) + 0.5)
                    if vote <= 0:
                        break
                    any_vote = True
                    turns, bin_row = divmod(row, thetas)
                    bin_column = 2 * (rhos // 2) - column if turns % 2 else column
                    if 0 <= bin_column < rhos:
                        votes[bin_row, bin_column] += vote
                empty = 0 if any_vote else empty + 1
                j += 1
    return votes


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    density=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    shortest=st.integers(1, 6),
)
def test_chains(seed, shape, density, shortest):
    edges = (np.random.default_rng(seed).random(shape) < density).astype(np.uint8)
    x, y, start = link_chains(edges, shortest)
    found = [list(zip(x[a:b].tolist(), y[a:b].tolist(), strict=True)) for a, b in itertools.pairwise(start)]
    assert found == twin_chains(edges, shortest)


@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(1, 40), max_size=3),
    smallest=st.integers(2, 8),
    bend=st.sampled_from([0, 1, 3]),
)
def test_subdivision(seed, lengths, smallest, bend):
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    steps = rng.integers(-1, 2, (n, 2)) if bend == 0 else np.sign(np.sin(np.arange(2 * n) / (4 * bend)) * 3)
    points = np.cumsum(steps.reshape(n, 2), axis=0).astype(np.int32)
    start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    begin, end = subdivide_chains(points[:, 0].copy(), points[:, 1].copy(), start, smallest, 2.0)
    expected = []
    for a, b in itertools.pairwise(start):
        expected += twin_divide(points[a:b], int(a), smallest, 2.0)[1]
    assert list(zip(begin.tolist(), end.tolist(), strict=True)) == expected


@settings(deadline=None, max_examples=30)
@given(
    kernels=st.lists(
        st.tuples(
            st.floats(-12, 12), st.floats(0, 179), st.floats(0.2, 3), st.floats(-0.8, 0.8), st.floats(0.2, 3)
        ),
        max_size=3,
    ),
    scale=st.sampled_from([1.0, 20.0, 300.0]),
)
def test_votes(kernels, scale):
    table = np.array([(r, t, rr, c * np.sqrt(rr * tt), tt) for r, t, rr, c, tt in kernels], float).reshape(
        -1, 5
    )
    votes = hough_votes(table, scale, 1.0, 180, 31)
    # exp() of the two libraries may differ in the last bit, which moves a vote at a rounding limit by one.
    np.testing.assert_allclose(votes, twin_votes(table, scale, 1.0, 180, 31), atol=1)


def test_refusals():
    x, start = np.arange(4, dtype=np.int32), np.array([0, 4])
    with pytest.raises(ValueError, match="length"):
        subdivide_chains(x, x[1:].copy(), start, 2, 2.0)
    with pytest.raises(ValueError, match="cover"):
        subdivide_chains(x, x, np.array([0, 3]), 2, 2.0)
    with pytest.raises(ValueError, match="without pixels"):
        subdivide_chains(x, x, np.array([0, 0, 4]), 2, 2.0)
    with pytest.raises(ValueError, match="two pixels"):
        subdivide_chains(x, x, start, 1, 2.0)
    with pytest.raises(ValueError, match="positive definite"):
        hough_votes(np.array([[0.0, 0, 1, 1, 1]]), 1.0, 1.0, 10, 10)
    with pytest.raises(ValueError, match="bins"):
        hough_votes(np.zeros((0, 5)), 1.0, 0.0, 10, 10)
    with pytest.raises(ValueError, match="covariances"):
        hough_votes(np.zeros((0, 4)), 1.0, 1.0, 10, 10)
