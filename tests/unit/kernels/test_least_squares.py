"""solve_least_squares against its definition in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import solve_least_squares


def solve_least_squares_twin(design, values, weights):
    root = np.sqrt(weights)
    solution, _, rank, _ = np.linalg.lstsq(design * root[:, None], values * root, rcond=None)
    return solution if rank == design.shape[1] else np.empty(0)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(1, 12), st.floats(0.0, 4.0))
def test_least_squares_equal_twin(seed, count, unknowns, spread):
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(count, unknowns)) * 10.0 ** rng.uniform(-3, 3, unknowns)
    values, weights = rng.normal(size=count), 10.0 ** rng.uniform(-spread, spread, count)
    found = solve_least_squares(design, values, weights)
    expected = solve_least_squares_twin(design, values, weights)
    assert found.shape == (unknowns if count >= unknowns else 0,)
    if len(expected) == len(found) > 0:
        # In units of what each unknown moves the values by.
        size = np.linalg.norm(design, axis=0)
        np.testing.assert_allclose(found * size, expected * size, atol=1e-7 * np.abs(expected * size).max())


def test_equal_weights_are_those_left_out():
    rng = np.random.default_rng(1)
    design, values = rng.normal(size=(9, 4)), rng.normal(size=9)
    np.testing.assert_array_equal(
        solve_least_squares(design, values), solve_least_squares(design, values, np.ones(9))
    )


def test_the_residuals_are_orthogonal_to_the_columns():
    x = np.linspace(-1.0, 1.0, 4096)
    design, values = np.polynomial.chebyshev.chebvander(x, 27), np.exp(3.0 * x) + np.sin(40.0 * x)
    weights = 1.0 + np.arange(4096) % 7
    residual = values - design @ solve_least_squares(design, values, weights)
    assert np.abs(design.T @ (weights * residual)).max() < 1e-9


@pytest.mark.parametrize("unknowns", [1, 2, 5])
def test_what_is_not_determined_is_not_solved(unknowns):
    rng = np.random.default_rng(2)
    design, values = rng.normal(size=(30, unknowns)), rng.normal(size=30)
    assert len(solve_least_squares(design, values)) == unknowns
    assert len(solve_least_squares(np.column_stack([design, design.sum(axis=1)]), values)) == 0
    assert len(solve_least_squares(np.column_stack([np.zeros(30), design]), values)) == 0
    assert len(solve_least_squares(design, values, np.zeros(30))) == 0
    weights = np.ones(30)
    values[3] = weights[3] = np.nan
    assert np.isnan(solve_least_squares(design, values)).all()
    assert len(solve_least_squares(design, np.ones(30), weights)) == 0
    design[3, 0] = np.nan
    assert len(solve_least_squares(design, np.ones(30))) == 0


def test_lengths_are_checked():
    with pytest.raises(ValueError, match="length"):
        solve_least_squares(np.zeros((3, 2)), np.zeros(4))
    with pytest.raises(ValueError, match="length"):
        solve_least_squares(np.zeros((3, 2)), np.zeros(3), np.zeros(2))
