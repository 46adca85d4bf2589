"""star_modes against a NumPy twin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import star_modes

DIFFERENCES = (
    (1 / 2,),
    (2 / 3, -1 / 12),
    (3 / 4, -3 / 20, 1 / 60),
    (4 / 5, -1 / 5, 4 / 105, -1 / 280),
    (5 / 6, -5 / 21, 5 / 84, -5 / 504, 1 / 1260),
)
"""Central differences of second to tenth order."""


def derivative(size):
    """Matrix (size, size) that differentiates; of lower order towards the ends, zero at them."""
    result = np.zeros((size, size))
    for i in range(size):
        reach = min(i, size - 1 - i, len(DIFFERENCES))
        for k, weight in enumerate(DIFFERENCES[reach - 1] if reach else (), start=1):
            result[i, i + k], result[i, i - k] = weight, -weight
    return result


def fit_twin(pixels, model, weights, dx, dy):
    """The nine figures of one star and the residual."""
    size = len(model)
    slope_x, slope_y = model @ derivative(size).T, derivative(size) @ model
    x, y = np.arange(size) - size // 2 - dx, (np.arange(size) - size // 2 - dy)[:, None]
    templates = np.array(
        [model, slope_x, slope_y, -x * slope_x, -y * slope_x - x * slope_y, -y * slope_y]
    ).reshape(6, -1)
    weighted = templates * weights.ravel()
    normal, right = weighted @ templates.T, weighted @ pixels.ravel()
    figures, amplitudes = np.full(9, np.nan), np.full(6, np.nan)
    rank = determined(normal)
    if rank >= 3:
        first = np.linalg.solve(normal[:3, :3], right[:3])
        figures[:3] = first[0], *(-first[1:] / first[0])
    if rank == 6:
        amplitudes = np.linalg.solve(normal, right)
        figures[3:6] = amplitudes[3:] / first[0]
        figures[6:] = np.linalg.inv(normal).diagonal()[3:] / first[0] ** 2
    return figures, pixels - (amplitudes @ templates).reshape(size, size)


def determined(normal):
    """How many pivots of the matrix scaled to a unit diagonal, in turn, are not near zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = normal / np.sqrt(np.outer(normal.diagonal(), normal.diagonal()))
        for rank in range(6):
            if not rest[0, 0] > 1e-10:
                return rank
            rest = rest[1:, 1:] - np.outer(rest[1:, 0], rest[1:, 0]) / rest[0, 0]
    return 6


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 5),
    size=st.sampled_from([1, 3, 5, 8, 11, 12, 21, 31]),
    masked=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
)
def test_star_modes_equal_twin(seed, count, size, masked):
    rng = np.random.default_rng(seed)
    t = np.arange(size) - size // 2
    dx, dy = rng.uniform(-0.5, 0.5, (2, count))
    sigma = rng.uniform(1.0, 3.0, count)
    square = (t - dx[:, None, None]) ** 2 + (t[:, None] - dy[:, None, None]) ** 2
    model = np.exp(-0.5 * square / sigma[:, None, None] ** 2)
    pixels = 50 * model + rng.normal(size=model.shape)
    weights = rng.uniform(0.5, 2.0, model.shape) * (rng.uniform(size=model.shape) >= masked)
    found, residual = star_modes(pixels, model, weights, dx, dy)
    assert (found.shape, residual.shape) == ((count, 9), (count, size * size))
    for i in range(count):
        figures, rest = fit_twin(pixels[i], model[i], weights[i], dx[i], dy[i])
        scale = np.abs(figures).max(where=np.isfinite(figures), initial=1.0)
        np.testing.assert_allclose(found[i], figures, rtol=1e-5, atol=1e-9 * scale)
        np.testing.assert_allclose(residual[i].reshape(size, size), rest, rtol=1e-6, atol=1e-6)


def test_a_star_that_is_not_finite_is_lost_alone():
    t = np.arange(-6.0, 7.0)
    model = np.repeat(np.exp(-0.5 * (t**2 + t[:, None] ** 2) / 4)[None], 4, axis=0)
    pixels, weights, zero = 10 * model, np.ones_like(model), np.zeros(4)
    pixels[0, 6, 6] = np.nan
    model[1, 6, 6] = np.inf
    weights[2, 6, 6] = np.nan
    found, residual = star_modes(pixels, model, weights, zero, zero)
    assert np.isnan(found[:3, [0, 3, 5]]).all()
    np.testing.assert_allclose(found[3, :6], [10, 0, 0, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(residual[3], 0.0, atol=1e-12)


def test_shapes_must_agree():
    stamps, zero = np.zeros((2, 5, 5)), np.zeros(2)
    for wrong in (
        (np.zeros((2, 5, 4)), stamps, stamps, zero, zero),
        (stamps, stamps[:1].copy(), stamps, zero, zero),
        (stamps, stamps, np.zeros((2, 4, 4)), zero, zero),
        (stamps, stamps, stamps, zero[:1].copy(), zero),
    ):
        with pytest.raises(ValueError, match=r"stamps|shape|length"):
            star_modes(*wrong)
