"""The kernel of the statistics against plain NumPy written from its specification."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.characterize import statistics
from streamchar.characterize.errors import EmptyStatisticsError
from streamchar.kernels import bin_statistics, sample_statistics, segment_statistics

IQR_TO_SIGMA = 0.741301109252802
pixels = st.floats(width=32, allow_nan=True, allow_infinity=True) | st.integers(-3, 3).map(float)


def twin(values, *, quartiles=True, rounds=3, sigmas=3.0):
    """Usable count, quartiles, mean, variance, kept count of the finite values."""
    v = np.asarray(values, np.float32).ravel()
    v = np.sort(v[np.isfinite(v)].astype(np.float64))
    n = len(v)
    row = np.full(7, np.nan)
    row[0], row[6] = n, 0
    if n == 0:
        return row
    if quartiles or rounds > 0:
        row[1:4] = np.quantile(v, [0.25, 0.5, 0.75])
    with np.errstate(divide="ignore", invalid="ignore"):
        if rounds == 0:
            row[4:7] = moments(v, v.mean())
        for k in range(max(rounds, 0)):
            if k == 0:
                centre, half = (
                    np.quantile(v, 0.5),
                    sigmas * IQR_TO_SIGMA * np.subtract(*np.quantile(v, [0.75, 0.25])),
                )
            else:
                centre = row[4]
                half = sigmas * np.sqrt(max(row[5], 0.0)) if n > 1 else half
            kept = v[np.abs(v - centre) <= half]
            row[4:7] = moments(kept, centre)
    return row


def moments(v, centre):
    n = np.float64(len(v))
    d = v - centre
    mean = d.sum() / n
    return centre + mean, ((d * d).sum() / n - mean * mean) * (n / (n - 1)), n


def scene(seed, shape, outliers=0.05):
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 7, shape).astype(np.float32)
    values[rng.random(shape) < outliers] += 400
    return values


@given(hnp.arrays(np.float32, st.integers(1, 200), elements=pixels))
def test_quartiles_of_anything(values):
    row = sample_statistics(values, None, 0, True, -1, 3.0)
    expected = twin(values, rounds=-1)
    np.testing.assert_allclose(row[:4], expected[:4], rtol=1e-14)
    assert np.isnan(row[4:6]).all()


@given(hnp.arrays(np.float32, st.integers(1, 100), elements=st.floats(-1e6, 1e6, width=32)))
def test_moments_of_anything(values):
    row = sample_statistics(values, None, 0, False, 0, 3.0)
    expected = twin(values, quartiles=False, rounds=0)
    np.testing.assert_allclose(row[[0, 4, 6]], expected[[0, 4, 6]], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(row[5], expected[5], rtol=1e-6, atol=1e-3)


@settings(max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
    st.sampled_from([5, 63, 64, 65, 1000, 9000, 20_011, 65_536, 80_011]),
)
def test_clipping(seed, rounds, size):
    values = scene(seed, size)
    values[::17] = np.nan
    mask = (np.random.default_rng(seed).random(size) < 0.3).astype(np.int32) * 6
    row = sample_statistics(values, mask, 2, True, rounds, 3.0)
    np.testing.assert_allclose(row, twin(values[mask == 0], rounds=rounds), rtol=1e-9)
    np.testing.assert_allclose(
        sample_statistics(values, mask, 1, True, rounds, 3.0), twin(values, rounds=rounds), rtol=1e-9
    )


@pytest.mark.parametrize("sigmas", [0.5, 2.0, 3.0, 6.0])
@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("shape", ["even", "skewed", "two", "coarse", "heavy"])
def test_limits_that_the_histogram_foretells_and_others(shape, rounds, sigmas):
    """Limits in the histogram's buckets, beyond them, or moving from round to round; many values equal to a limit."""
    rng = np.random.default_rng(rounds)
    values = {
        "even": lambda: rng.normal(1e3, 5, 80_000),
        "skewed": lambda: rng.exponential(3.0, 80_000) ** 2,
        "two": lambda: rng.normal(rng.choice([0.0, 4.0], 80_000, p=[0.8, 0.2]), 1.0),
        "coarse": lambda: np.rint(rng.normal(50, 6, 80_000)),
        "heavy": lambda: rng.standard_cauchy(80_000),
    }[shape]()
    values = values.astype(np.float32)
    values[::91] = np.nan
    mask = (rng.random(len(values)) < 0.1).astype(np.int32)
    row = sample_statistics(values, mask, 1, True, rounds, sigmas)
    expected = twin(values[mask == 0], rounds=rounds, sigmas=sigmas)
    np.testing.assert_allclose(row, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("decimals", [0, 1, 5])
@pytest.mark.parametrize("size", [63, 64, 4095, 4096, 65_536, 65_537, 100_003])
def test_ties_and_wide_ranges(size, decimals):
    values = np.round(np.random.default_rng(size).normal(0, 3, size), decimals).astype(np.float32)
    values[:50] = 1e30
    values[50:90] = -1e38
    row = sample_statistics(values, None, 0, True, 3, 3.0)
    np.testing.assert_allclose(row, twin(values), rtol=1e-9)


@pytest.mark.parametrize("times", [1, 14])
@pytest.mark.parametrize(
    "values",
    [
        np.full(10_000, 7.5, np.float32),
        np.repeat(np.float32([1, 2]), 6000),
        np.concatenate([np.zeros(9000, np.float32), np.arange(1000, dtype=np.float32)]),
        np.float32(10.0) ** np.linspace(-44, 38, 5000, dtype=np.float32),
    ],
)
def test_distributions_that_defeat_the_buckets(values, times):
    values = np.tile(values, times)
    np.testing.assert_allclose(
        sample_statistics(values, None, 0, True, -1, 3.0)[:4], twin(values, rounds=-1)[:4], rtol=1e-14
    )


def test_few_usable_pixels_of_many():
    values = scene(5, 70_000)
    mask = (np.arange(len(values)) % 20 != 0).astype(np.int32)
    row = sample_statistics(values, mask, 1, True, 3, 3.0)
    np.testing.assert_allclose(row, twin(values[::20]), rtol=1e-9)


def test_one_pixel_and_none():
    row = sample_statistics(np.float32([4.0]), None, 0, True, 3, 3.0)
    assert row[0] == row[6] == 1
    assert row[1] == row[2] == row[3] == row[4] == 4.0
    assert np.isnan(row[5])
    row = sample_statistics(np.float32([np.nan, np.inf, -np.inf]), None, 0, True, 3, 3.0)
    assert row[0] == row[6] == 0
    assert np.isnan(row[1:6]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(-1, True), (0, False), (3, False)]))
def test_bins(seed, kind):
    rounds, quartiles = kind
    image = scene(seed, (61, 83))
    rng = np.random.default_rng(seed)
    image[rng.random(image.shape) < 0.02] = np.nan
    mask = rng.integers(0, 4, image.shape).astype(np.int32)
    y_edges, x_edges = np.array([0, 20, 20, 41, 61]), np.array([0, 30, 31, 83])
    mask[20:41, 31:] = 1
    table = bin_statistics(image, mask, 1, y_edges, x_edges, quartiles, rounds, 3.0)
    assert table.shape == (4, 3, 7)
    for j in range(4):
        for i in range(3):
            part = np.s_[y_edges[j] : y_edges[j + 1], x_edges[i] : x_edges[i + 1]]
            expected = twin(image[part][(mask[part] & 1) == 0], quartiles=quartiles, rounds=rounds)
            np.testing.assert_allclose(table[j, i], expected, rtol=1e-9)


@pytest.mark.parametrize("edges", [[0], [0, 5, 4, 10], [-1, 10], [0, 11]])
def test_bad_edges_are_refused(edges):
    plane = np.zeros((10, 10), np.float32)
    with pytest.raises(ValueError):
        bin_statistics(
            plane, np.zeros((10, 10), np.int32), 0, np.array(edges), np.array([0, 10]), False, 3, 3.0
        )


def test_shapes_are_checked():
    with pytest.raises(ValueError):
        sample_statistics(np.zeros(4, np.float32), np.zeros(3, np.int32), 1, True, 3, 3.0)
    with pytest.raises(ValueError):
        bin_statistics(
            np.zeros((4, 4), np.float32),
            np.zeros((4, 3), np.int32),
            1,
            np.array([0, 4]),
            np.array([0, 4]),
            True,
            3,
            3.0,
        )


def test_the_interface():
    values = scene(1, (40, 50))
    found = statistics.clipped(values)
    expected = twin(values)
    assert found.count == expected[6]
    assert found.mean == pytest.approx(expected[4])
    assert found.standard_deviation == pytest.approx(np.sqrt(expected[5]))
    assert found.error == pytest.approx(np.sqrt(expected[5] / expected[6]))
    assert statistics.median(values) == np.median(values.astype(float))
    assert statistics.quartiles(values).interquartile_range == pytest.approx(expected[3] - expected[1])
    assert statistics.moments(values).variance == pytest.approx(values.astype(float).var(ddof=1))
    assert statistics.clipped(values.astype(np.float64)[::2]).count > 0
    with pytest.raises(EmptyStatisticsError):
        statistics.clipped(np.zeros((0, 5), np.float32))
    with pytest.raises(ValueError):
        statistics.clipped(values, iterations=0)
    nothing = statistics.clipped(np.full(5, np.nan))
    assert nothing.count == 0
    assert np.isnan(nothing.mean)


def test_clipping_recovers_a_contaminated_gaussian():
    values = np.random.default_rng(3).normal(500, 20, (300, 300))
    values[:30] += 5000
    found = statistics.clipped(values)
    assert found.mean == pytest.approx(500, abs=4 * 20 / 300)
    assert found.standard_deviation == pytest.approx(20, rel=0.03)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from([0, 1, 2, 7, 63, 64, 65, 500]), max_size=6),
    spoiled=st.sampled_from([0.0, 0.2, 1.0]),
    rounds=st.sampled_from([-1, 0, 1, 3]),
)
def test_segments(seed, sizes, spoiled, rounds):
    values = scene(seed, int(np.sum(sizes)))
    rng = np.random.default_rng(seed)
    values[rng.random(len(values)) < spoiled] = rng.choice([np.nan, np.inf])
    start = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
    table = segment_statistics(values, start, True, rounds, 3.0)
    assert table.shape == (len(sizes), 7)
    for row, first, end in zip(table, start[:-1], start[1:], strict=True):
        expected = twin(values[first:end], rounds=rounds)
        np.testing.assert_allclose(row, expected, rtol=1e-9, atol=1e-9)


def test_ten_thousand_segments_and_wrong_ones():
    values = scene(1, 30_000)
    start = np.sort(np.append(np.random.default_rng(1).integers(0, 30_001, 9_999), [0, 30_000]))
    table = segment_statistics(values, start, True, 3, 3.0)
    np.testing.assert_array_equal(table[:, 0], np.diff(start))
    for i in range(0, 10_000, 501):
        np.testing.assert_allclose(table[i], twin(values[start[i] : start[i + 1]]), rtol=1e-9)
    for wrong in ([], [0, 5], [1, 30_000], [0, 20_000, 10_000, 30_000]):
        with pytest.raises(ValueError, match="start"):
            segment_statistics(values, np.array(wrong, np.int64), True, 3, 3.0)
