"""Fits of blended point sources against numpy.linalg.lstsq."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import fit_point_sources
from tests.blends import random_blends

BAD = 2


def stamps(rng, n, size, x, y):
    """Gaussians centred in (n, size, size) images, and the pixels of their corners."""
    grid = np.arange(size) - size // 2
    shape = np.exp(-0.2 * (grid[:, None] ** 2 + grid**2))
    images = shape * rng.uniform(0.5, 1.5, (n, 1, 1))
    return images, x.astype(np.int64) - size // 2, y.astype(np.int64) - size // 2


def value(stamp, x0, y0, x, y):
    """Values of a stamp at pixels, 0 beside it."""
    column, row = x - x0, y - y0
    within = (column >= 0) & (row >= 0) & (column < stamp.shape[1]) & (row < stamp.shape[0])
    result = np.zeros(len(x))
    result[within] = stamp[row[within], column[within]]
    return result


def twin(image, variance, mask, inside, k, x, y, own, others, inner, outer, shift):
    """Amplitude, chi-squared, degrees of freedom and shift of source k; amplitude NaN where it is not determined."""
    nothing = np.full(5, np.nan)
    if not np.isfinite([x, y]).all():
        return nothing, True
    with np.errstate(invalid="ignore"):
        usable = inside & np.isfinite(image) & (variance > 0) & np.isfinite(variance) & ((mask & BAD) == 0)
    rows, columns = np.nonzero(usable)
    radius = np.hypot(columns - x, rows - y)
    rows, columns, radius = (values[radius < outer] for values in (rows, columns, radius))
    share = np.where(radius <= inner, 1.0, (outer - radius) / (outer - inner))
    images, x0, y0 = own
    terms = [value(images[k], x0[k], y0[k], columns, rows), np.ones(len(rows)), columns - x, rows - y]
    for other, (stamp, left, top) in enumerate(zip(*others, strict=True)):
        nearest = np.clip(x, left, left + stamp.shape[1] - 1), np.clip(y, top, top + stamp.shape[0] - 1)
        if other != k and np.hypot(nearest[0] - x, nearest[1] - y) < outer:
            terms.append(value(stamp, left, top, columns, rows))
    if shift:
        for dx, dy in ((1, 0), (0, 1)):
            before, after = (
                value(images[k], x0[k], y0[k], columns + side * dx, rows + side * dy) for side in (-1, 1)
            )
            terms.append(0.5 * (before - after))
    freedom = share.sum() - len(terms)
    if not freedom > 0:
        return nothing, True
    root = np.sqrt(share / variance[rows, columns])
    matrix = np.stack(terms, axis=1) * root[:, None]
    data = image[rows, columns] * root
    solution, _, rank, _ = np.linalg.lstsq(matrix, data, rcond=1e-9)
    chi2 = np.square(data - matrix @ solution).sum()
    dx, dy = solution[-2:] / solution[0] if shift else (0.0, 0.0)
    scaled = matrix / np.maximum(np.linalg.norm(matrix, axis=0), 1e-300)
    determined = rank == len(terms) and np.linalg.cond(scaled) < 1e3
    return np.array([solution[0], chi2, freedom, dx, dy]), determined


def compare(
    seed, shape, density, shift, spoiled, masked, most=3, size=7, radii=(2.0, 3.0), one_for_all=False
):
    rng = np.random.default_rng(seed)
    blends = random_blends(rng, shape, density, most)
    n = len(blends.peak_x)
    image = rng.normal(0, 1, shape).astype(np.float32)
    variance = rng.uniform(0.5, 2, shape).astype(np.float32)
    image[rng.random(shape) < spoiled] = rng.choice([np.nan, np.inf])
    variance[rng.random(shape) < spoiled] = rng.choice([np.nan, np.inf, 0.0, -1.0])
    mask = (BAD * (rng.random(shape) < masked)).astype(np.int32)
    x, y = blends.peak_x + rng.uniform(-0.6, 0.6, n), blends.peak_y + rng.uniform(-0.6, 0.6, n)
    x[rng.random(n) < 0.05] = np.nan
    others = stamps(rng, n, size, blends.peak_x, blends.peak_y)
    own = stamps(rng, n, size, blends.peak_x + rng.integers(-1, 2, n), blends.peak_y)
    wanted = rng.random(n) < 0.9
    if one_for_all:
        for which in (own, others):
            which[0][:] = which[0][:1]
    kept = slice(0, 1) if one_for_all and n else slice(None)
    found = fit_point_sources(
        *(image, variance, mask, BAD, *blends.spans, blends.peak_start, wanted, x, y),
        *(own[0][wanted][kept], own[1][wanted], own[2][wanted], others[0][kept], *others[1:], *radii, shift),
    )
    assert found.shape == (n, 8 if shift else 3)
    start = 0
    for inside, peaks in blends.members:
        group = slice(start, start + len(peaks))
        parts = tuple([values[group] for values in which] for which in (own, others))
        for k in range(len(peaks)):
            row = found[start + k]
            if not wanted[start + k]:
                assert np.isnan(row).all()
                continue
            place = x[start + k], y[start + k]
            given = (image, variance, mask, inside, k, *place, *parts, *radii)
            agree(row[:3], *twin(*given, False))
            if shift:
                agree(row[3:], *twin(*given, True))
        start += len(peaks)
    assert start == n


def agree(row, expected, determined):
    np.testing.assert_allclose(row[2], expected[2], rtol=1e-12)
    if determined:
        np.testing.assert_allclose(row[1], expected[1], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(row[0], expected[0], rtol=1e-5, atol=1e-6)
        # A shift is a ratio: it has no value without amplitude.
        shift = expected[3 : len(row)]
        near = 1e-5 * (1 + np.abs(shift)) * max(1.0, 1 / abs(expected[0]))
        assert (np.abs(row[3:] - shift) <= near).all() or np.isnan(expected[0])
    else:
        # Dropping a dependent term leaves no more than what rounding hides of it.
        assert row[1] >= expected[1] - 1e-6 * (1 + expected[1])


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    density=st.sampled_from([0.0, 0.4, 0.9, 1.0]),
    shift=st.booleans(),
    spoiled=st.sampled_from([0.0, 0.1, 1.0]),
    masked=st.sampled_from([0.0, 0.2, 1.0]),
    one_for_all=st.booleans(),
)
def test_equals_twin(seed, shape, density, shift, spoiled, masked, one_for_all):
    compare(seed, shape, density, shift, spoiled, masked, one_for_all=one_for_all)


def test_many_peaks():
    compare(1, (60, 60), 1.0, True, 0.02, 0.02, most=300, size=3, radii=(4.0, 6.0))


def test_a_star_on_a_slope_beside_another():
    rows, columns = np.mgrid[:41, :41].astype(float)
    psf = np.exp(-(np.square(np.mgrid[-10:11, -10:11]).sum(0)) / 8)

    def star(x, y):
        return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)

    truth = 500 * star(20.2, 19.9) + 300 * star(26, 20) + 7 + 0.3 * columns - 0.2 * rows
    image, variance, mask = (
        truth.astype(np.float32),
        np.ones((41, 41), np.float32),
        np.zeros((41, 41), np.int32),
    )
    one = random_blends(np.random.default_rng(0), image.shape, 1.0, 0)
    x, y = np.array([20.0, 26.0]), np.array([20.0, 20.0])
    both = (np.stack([psf, psf]), x.astype(np.int64) - 10, y.astype(np.int64) - 10)
    found = fit_point_sources(
        *(image, variance, mask, 0, *one.spans, np.array([0, 2]), np.ones(2, bool), x, y, *both, *both),
        *(6.0, 9.0, True),
    )
    assert found[0, 3] == pytest.approx(500, rel=0.02)
    assert found[0, 6:] == pytest.approx([0.2, -0.1], abs=0.02)  # to first order


def test_wrong_input_is_refused():
    one = random_blends(np.random.default_rng(0), (5, 6), 1.0, 0)
    plane, mask, zero = np.ones((5, 6), np.float32), np.zeros((5, 6), np.int32), np.zeros(1, np.int64)
    stamp, x = (np.ones((1, 3, 3)), zero, zero), np.ones(1)

    def call(variance=plane, start=(0, 1), wanted=1, own=stamp, radii=(1.0, 2.0)):
        return fit_point_sources(
            *(plane, variance, mask, 0, *one.spans, np.array(start), np.ones(wanted, bool), x, x),
            *(*own, *stamp, *radii, False),
        )

    assert call().shape == (1, 3)
    for text, options in {
        "shape": {"variance": plane[1:]},
        "cover": {"start": (0, 2)},
        "each peak": {"wanted": 2},
        "stamp": {"own": (np.ones((2, 3, 3)), zero, zero)},
        "one for all": {"own": (np.ones((1, 3, 3)), np.zeros(2, np.int64), zero)},
        "ascend": {"radii": (2.0, 2.0)},
    }.items():
        with pytest.raises(ValueError, match=text):
            call(**options)
