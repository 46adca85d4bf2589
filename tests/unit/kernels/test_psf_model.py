"""psf_draw, its transpose, the least-squares solution and lanczos_resample against NumPy twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from streamchar.kernels import lanczos_resample, psf_draw, psf_draw_transposed, psf_solve

SPLINE = 0


def weights(positions, inputs, order):
    """Interpolation matrix (positions, inputs)."""
    t = np.asarray(positions)[:, None] - np.arange(inputs)
    if order == SPLINE:
        matrix = np.nan_to_num(BSpline.basis_element(np.arange(-3.0, 4.0), extrapolate=False)(t))
    else:
        matrix = np.where(np.abs(t) < order, np.sinc(t) * np.sinc(t / order), 0.0)
    outside = (np.asarray(positions) < -0.5) | (np.asarray(positions) > inputs - 0.5)
    matrix[outside] = 0.0
    if order != SPLINE:
        total = matrix.sum(axis=1, keepdims=True)
        matrix = np.where(total > 0, matrix / np.where(total > 0, total, 1.0), matrix)
    return matrix


def matrices(shift, grid, stamp, scale, order):
    return [weights(grid // 2 + (np.arange(stamp) - stamp // 2 - s) * scale, grid, order) for s in shift]


def draw_twin(components, basis, dx, dy, size, scale, order):
    grid = components.shape[1]
    images = np.einsum("nc,cij->nij", basis, components)
    x, y = (matrices(shift, grid, size, scale, order) for shift in (dx, dy))
    return np.array([b @ image @ a.T for a, b, image in zip(x, y, images, strict=True)]).reshape(
        -1, size, size
    )


problems = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31),
        "count": st.integers(0, 4),
        "terms": st.integers(1, 7),
        "grid": st.integers(1, 17),
        "stamp": st.integers(1, 15),
        "scale": st.sampled_from([0.6, 1.0, 1.7, 2.0]),
        "order": st.sampled_from([SPLINE, 3, 4, 5, 11]),
    }
)


def make(problem):
    rng = np.random.default_rng(problem["seed"])
    n, terms, grid, stamp = (problem[key] for key in ("count", "terms", "grid", "stamp"))
    components, basis = rng.normal(size=(terms, grid, grid)), rng.normal(size=(n, terms))
    dx, dy = rng.uniform(-0.6, 0.6, (2, n))
    return components, basis, dx, dy, rng.normal(size=(n, stamp, stamp)), rng.uniform(size=(n, stamp, stamp))


@settings(max_examples=60, deadline=None)
@given(problems)
def test_draw_equals_twin(problem):
    components, basis, dx, dy, *_ = make(problem)
    common = problem["stamp"], problem["scale"], problem["order"]
    expected = draw_twin(components, basis, dx, dy, *common)
    np.testing.assert_allclose(psf_draw(components, basis, dx, dy, *common), expected, rtol=1e-9, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(problems)
def test_transpose(problem):
    components, basis, dx, dy, stamps, _ = make(problem)
    grid, scale, order = problem["grid"], problem["scale"], problem["order"]
    drawn = psf_draw(components, basis, dx, dy, problem["stamp"], scale, order)
    back = psf_draw_transposed(stamps, basis, dx, dy, grid, scale, order)
    assert back.shape == components.shape
    # Transposed products are summed in single precision.
    close = 3e-6 * np.linalg.norm(drawn) * np.linalg.norm(stamps)
    assert np.vdot(drawn, stamps) == pytest.approx(np.vdot(components, back), abs=close)


def solve_twin(
    misfit, weights, basis, dx, dy, root, pull, shrink, overlap, inverse, scale, order, steps, converged
):
    """Conjugate gradients with the preconditioner of psf_solve, on matrices."""
    terms, grid, stamp = len(root), root.shape[1], misfit.shape[1]
    unit = np.eye(root.size).reshape(-1, terms, grid, grid)
    design = np.array([draw_twin(u, basis, dx, dy, stamp, scale, order).ravel() for u in unit]).T
    every = np.eye(terms)
    prior = root.ravel()[:, None] * np.kron(every, np.kron(overlap, overlap)) * root.ravel()
    decouple = shrink.ravel()[:, None] * np.kron(every, np.kron(inverse, inverse)) * shrink.ravel()
    normal = design.T @ (weights.ravel()[:, None] * design) + prior
    residual = design.T @ misfit.ravel() + prior @ pull.ravel()
    solution, direction = np.zeros(root.size), decouple @ residual
    power = residual @ direction
    for _ in range(steps):
        if power <= converged:
            break
        step = power / (direction @ normal @ direction)
        solution += step * direction
        residual = residual - step * (normal @ direction)
        towards = decouple @ residual
        before, power = power, residual @ towards
        direction = towards + power / before * direction
    return solution.reshape(root.shape)


@settings(max_examples=60, deadline=None)
@given(problems, st.integers(0, 3), st.booleans())
def test_solve_equals_twin(problem, steps, banded):
    """The first steps; in the limit it is the solution itself (test_solver_finds_the_minimum)."""
    problem = problem | {"terms": min(problem["terms"], 3), "grid": min(problem["grid"], 13)}
    pull, basis, dx, dy, misfit, weights = make(problem)
    rng = np.random.default_rng(problem["seed"] + 1)
    root, shrink = rng.uniform(0.5, 2.0, (2, *pull.shape))
    grid = pull.shape[1]
    overlap = 0.7 ** np.abs(np.arange(grid)[:, None] - np.arange(grid))
    if banded:
        overlap = np.where(overlap > 0.3, overlap, 0.0) + np.eye(grid)
    inverse = np.linalg.inv(overlap)
    common = misfit, weights, basis, dx, dy, root, pull, shrink, overlap, inverse
    common = *common, problem["scale"], problem["order"]
    found, expected = (solve(*common, steps, 1e-8) for solve in (psf_solve, solve_twin))
    np.testing.assert_allclose(found, expected, atol=1e-3 * max(1.0, np.abs(expected).max()))
    assert not psf_solve(*common, 3, np.inf).any()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 12), st.integers(1, 12)),
    step=st.sampled_from([0.5, 0.9, 1.0, 2.0]),
    size=st.integers(1, 14),
    order=st.sampled_from([3, 4, 5]),
)
def test_resample_equals_twin(seed, shape, step, size, order):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=shape)
    x, y = rng.uniform(-3, 3, (2, shape[0]))
    got = lanczos_resample(images, x, y, step, size, order)
    for i, image in enumerate(images):
        a, b = (
            weights(start + step * np.arange(size), n, order)
            for start, n in ((x[i], shape[2]), (y[i], shape[1]))
        )
        np.testing.assert_allclose(got[i], b @ image @ a.T, rtol=1e-9, atol=1e-10)


def test_nan_spreads_only_as_far_as_the_interpolation_reaches():
    components = np.zeros((1, 21, 21))
    components[0, 2, 2] = np.nan
    drawn = psf_draw(components, np.ones((1, 1)), np.array([0.3]), np.array([0.3]), 21, 1.0, 4)
    assert np.isnan(drawn[0, 2, 2])
    assert np.isfinite(drawn[0, 10:, 10:]).all()


def test_spline_reproduces_a_smooth_function():
    x = np.arange(41) - 20.0
    values = np.exp(-0.5 * (x / 2.0) ** 2)
    coefficients = np.linalg.solve(weights(np.arange(41.0), 41, SPLINE), values)
    drawn = psf_draw(
        np.ascontiguousarray(np.outer(coefficients, coefficients)[None]),
        np.ones((1, 1)),
        np.array([0.4]),
        np.zeros(1),
        21,
        1.0,
        SPLINE,
    )
    offset = np.arange(21) - 10.0
    expected = np.exp(-0.5 * (offset / 2) ** 2)[:, None] * np.exp(-0.5 * ((offset - 0.4) / 2) ** 2)
    assert np.abs(drawn[0] - expected).max() < 1e-4


@pytest.mark.parametrize(
    "call",
    [
        lambda: psf_draw(np.zeros((2, 5, 5)), np.zeros((3, 1)), np.zeros(3), np.zeros(3), 5, 1.0, 4),
        lambda: psf_draw(np.zeros((1, 5, 5)), np.zeros((3, 1)), np.zeros(2), np.zeros(3), 5, 1.0, 4),
        lambda: psf_draw(np.zeros((1, 5, 5)), np.zeros((1, 1)), np.zeros(1), np.zeros(1), 5, -1.0, 4),
        lambda: psf_draw_transposed(
            np.zeros((1, 5, 4)), np.zeros((1, 1)), np.zeros(1), np.zeros(1), 5, 1.0, 4
        ),
        lambda: psf_solve(
            *(np.zeros((1, 5, 5)), np.zeros((1, 5, 5)), np.zeros((1, 1)), np.zeros(1), np.zeros(1)),
            *(np.zeros((1, 5, 5)), np.zeros((1, 5, 5)), np.zeros((1, 5, 4))),
            *(np.eye(5), np.eye(5), 1.0, 4, 3, 0.0),
        ),
        lambda: lanczos_resample(np.zeros((1, 5, 5)), np.zeros(1), np.zeros(1), 1.0, 5, 0),
    ],
)
def test_shapes_are_checked(call):
    with pytest.raises(ValueError):
        call()
