"""Two Gaussians fitted to pixels against the same method in NumPy, and against their own truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.kernels import fit_two_gaussians

OFFSETS = np.arange(-9, 10)
SQUARES = (OFFSETS**2 + OFFSETS[:, None] ** 2).astype(float).ravel()
LIMITS = np.log([[0.3, 1.0, 0.1, 1e-4], [2.0, 4.0, 3.0, 1.0]])
START = np.log([0.85, 2.0, 0.9, 0.1])


def twin(squares, values, start, limits, steps):
    low, high = limits
    place, damping = start, 1e-3
    residual, slopes = deviations(place, squares, values)
    cost = residual @ residual
    for _ in range(steps):
        gradient = slopes @ residual
        held = (place <= low) & (gradient > 0.0) | (place >= high) & (gradient < 0.0)
        free = np.where(held[:, None], 0.0, slopes)
        normal = free @ free.T
        diagonal = normal.diagonal()
        np.fill_diagonal(normal, np.where(diagonal > 0.0, diagonal * (1.0 + damping), 1.0))
        step = np.linalg.solve(normal, -(free @ residual))
        target = np.minimum(np.maximum(place + step, low), high)
        residual_there, slopes_there = deviations(target, squares, values)
        cost_there = residual_there @ residual_there
        if cost_there > cost:
            damping *= 10.0
            continue
        settled = cost - cost_there <= 1e-10 * cost and damping < 1.0
        place, residual, slopes, cost = target, residual_there, slopes_there, cost_there
        damping = max(damping / 10.0, 1e-12)
        if settled:
            break
    return place


def deviations(parameters, squares, values):
    relative = squares / np.exp(2.0 * parameters[:2, None])
    parts = np.exp(parameters[2:, None] - 0.5 * relative)
    return parts.sum(axis=0) - values, np.concatenate([parts * relative, parts])


def drawn(squares, parameters):
    return deviations(np.asarray(parameters), squares, 0.0)[0]


@given(
    st.lists(st.floats(-0.9, 0.9), min_size=4, max_size=4),
    st.floats(0.0, 0.05),
    st.integers(0, 2**32 - 1),
    st.integers(4, len(SQUARES)),
    st.integers(0, 3),
)
def test_steps(where, noise, seed, count, steps):
    low, high = LIMITS
    truth = low + (np.array(where) + 1) / 2 * (high - low)
    values = drawn(SQUARES[:count], truth) + np.random.default_rng(seed).normal(0, noise, count)
    found = fit_two_gaussians(SQUARES[:count], values, START, LIMITS, steps)
    expected = twin(SQUARES[:count], values, START, LIMITS, steps)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("truth", [(0.9, 2.5, 0.8, 0.2), (1.2, 3.0, 1.0, 0.05), (0.5, 1.5, 2.0, 0.4)])
def test_the_truth_is_found(truth):
    found = fit_two_gaussians(SQUARES, drawn(SQUARES, np.log(truth)), START, LIMITS, 100)
    np.testing.assert_allclose(np.exp(found), truth, rtol=1e-3)


def test_limits_are_kept():
    low, high = LIMITS
    for values in (np.zeros_like(SQUARES), np.full_like(SQUARES, 1e3), np.exp(-0.5 * SQUARES / 0.1**2)):
        found = fit_two_gaussians(SQUARES, values, START, LIMITS, 100)
        assert (found >= low).all()
        assert (found <= high).all()


def test_without_pixels_nothing_moves():
    none = np.empty(0)
    np.testing.assert_array_equal(fit_two_gaussians(none, none, START, LIMITS, 10), START)


@pytest.mark.parametrize(
    ("squares", "start", "limits"),
    [
        (SQUARES[:3], START, LIMITS),
        (SQUARES, START[:3], LIMITS),
        (SQUARES, START, LIMITS[:1]),
        (SQUARES, START, LIMITS[::-1].copy()),
    ],
)
def test_wrong_shapes(squares, start, limits):
    with pytest.raises(ValueError, match=r"squares and values|start needs|lower limits"):
        fit_two_gaussians(squares, SQUARES, start, limits, 10)
