"""Block means, sums along lines and quartiles of groups against plain NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.kernels import block_means, group_quartiles, line_scores, line_sums


def twin_block_means(image, mask, bits, block, low, high):
    rows, columns = (-(-n // block) for n in image.shape)
    mean, count = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.int32)
    usable = ((mask & bits) == 0) & ~np.isnan(image)
    for i in range(rows):
        for j in range(columns):
            where = np.s_[i * block : (i + 1) * block, j * block : (j + 1) * block]
            values = np.clip(image[where][usable[where]].astype(np.float64), low, high)
            count[i, j] = len(values)
            mean[i, j] = values.mean() if len(values) else 0
    return mean, count


def twin_line_sums(plane):
    """Lines by doubling, from a dictionary of pixels: (block, shift, column) to sum."""
    height, width = plane.shape
    rows = 1 << max(height - 1, 0).bit_length()
    columns = range(1 - rows, width)
    sums = {(r, 0, x): int(plane[r, x]) if r < height and x >= 0 else 0 for r in range(rows) for x in columns}
    h, blocks = 1, rows
    while blocks > 1:
        blocks //= 2
        sums = {
            (b, t, x): sums[2 * b, t // 2, x] + sums.get((2 * b + 1, t // 2, x + t // 2 + t % 2), 0)
            for b in range(blocks)
            for t in range(2 * h)
            for x in columns
        }
        h *= 2
    return np.array([[sums[0, s, x] for x in columns] for s in range(rows)], np.int16)


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 21), st.one_of(st.integers(1, 13), st.integers(50, 90))),
    block=st.one_of(st.integers(1, 15), st.sampled_from([4, 8])),
    special=st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=4),
    masked=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_block_means(seed, shape, block, special, masked):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 3, shape).astype(np.float32)
    for value in special:
        image.flat[rng.integers(image.size)] = value
    mask = np.where(rng.random(shape) < masked, 6, 1).astype(np.int32)
    mean, count = block_means(image, mask, 4, block, -2.0, 2.5)
    expected = twin_block_means(image, mask, 4, block, -2.0, 2.5)
    np.testing.assert_array_equal(count, expected[1])
    np.testing.assert_allclose(mean, expected[0], rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), shape=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_line_sums(seed, shape):
    plane = np.random.default_rng(seed).integers(-60, 61, shape).astype(np.int16)
    np.testing.assert_array_equal(line_sums(plane), twin_line_sums(plane))


@pytest.mark.parametrize("shape", [(100, 37), (33, 5), (64, 1)])
def test_line_sums_of_many_rows(shape):
    plane = np.random.default_rng(1).integers(-60, 61, shape).astype(np.int16)
    np.testing.assert_array_equal(line_sums(plane), twin_line_sums(plane))


@pytest.mark.parametrize("slope", [0.0, 0.25, 0.5, 0.73, 1.0])
def test_a_digital_line_is_summed_whole(slope):
    n = 64
    plane = np.zeros((n, 2 * n), np.int16)
    rows = np.arange(n)
    columns = np.rint(10 + slope * rows).astype(int)
    plane[rows, columns] = plane[rows, columns + 1] = plane[rows, columns - 1] = 1
    sums = line_sums(plane)
    shift, column = np.unravel_index(sums.argmax(), sums.shape)
    assert sums.max() == n
    assert abs(shift - slope * (n - 1)) <= 2
    assert abs(column - (n - 1) - 10) <= 2


def test_refusals():
    image, mask = np.zeros((4, 5), np.float32), np.zeros((4, 5), np.int32)
    with pytest.raises(ValueError, match="shape"):
        block_means(image, mask[1:], 0, 2, -1, 1)
    with pytest.raises(ValueError, match="pixel"):
        block_means(image, mask, 0, 0, -1, 1)
    with pytest.raises(ValueError, match="low"):
        block_means(image, mask, 0, 2, 1, -1)
    with pytest.raises(ValueError, match="no lines"):
        line_sums(np.zeros((0, 3), np.int16))
    with pytest.raises(ValueError, match="16 bits"):
        line_sums(np.full((128, 2), 300, np.int16))
    with pytest.raises(ValueError, match="length"):
        group_quartiles(np.zeros(3, np.float32), np.zeros(2, np.int32), 1)
    with pytest.raises(ValueError, match="negative"):
        group_quartiles(np.zeros(3, np.float32), np.zeros(3, np.int32), -1)


@given(
    values=st.lists(
        st.tuples(st.integers(-1, 4), st.floats(width=32, allow_nan=True, allow_infinity=True)), max_size=40
    )
)
def test_group_quartiles(values):
    group = np.array([g for g, _ in values], np.int32)
    value = np.array([v for _, v in values], np.float32)
    quartiles, count = group_quartiles(value, group, 4)
    for g in range(4):
        members = value[(group == g) & np.isfinite(value)].astype(np.float64)
        assert count[g] == len(members)
        if len(members):
            np.testing.assert_allclose(
                quartiles[g], np.quantile(members, [0.25, 0.5, 0.75]), rtol=1e-12, atol=0
            )
        else:
            assert np.isnan(quartiles[g]).all()


@given(seed=st.integers(0, 2**32 - 1), shape=st.tuples(st.integers(0, 5), st.integers(0, 40)))
def test_line_scores(seed, shape):
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2**15), 2**15, shape).astype(np.int16)
    counts = rng.integers(0, 6, shape).astype(np.int16)
    shortest = rng.choice([0, 2, 2.5, 4], shape[0]).astype(np.float32)
    expected = sums / np.sqrt(np.maximum(counts, 1)) * (counts >= shortest[:, None])
    found = line_scores(sums, counts, shortest)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_scores_need_counts_of_the_same_lines():
    with pytest.raises(ValueError, match="differ in shape"):
        line_scores(np.zeros((2, 3), np.int16), np.zeros((3, 2), np.int16), np.ones(2, np.float32))
    with pytest.raises(ValueError, match="differ in rows"):
        line_scores(np.zeros((2, 3), np.int16), np.zeros((2, 3), np.int16), np.ones(3, np.float32))
