"""point_significance and brightest_points against NumPy twins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.kernels import brightest_points, point_significance


def significance_twin(residual, weights, fwhm):
    """The matched filter as two products of matrices along either axis."""
    offset = np.arange(residual.shape[1])
    distance = np.abs(offset[:, None] - offset) / fwhm
    gaussian = np.where(distance <= 2.0, np.exp(-4.0 * np.log(2.0) * distance**2), 0.0)
    signal = gaussian @ (weights * residual) @ gaussian
    noise = gaussian**2 @ weights @ gaussian**2
    return np.divide(signal, np.sqrt(noise), out=np.zeros_like(signal), where=noise > 0)


def brightest_twin(significance, dx, dy, nearest):
    """Value and place of the highest pixel of one stamp away from the star."""
    size = len(significance)
    offset = np.arange(size) - size // 2
    significance = np.where((offset - dx) ** 2 + (offset[:, None] - dy) ** 2 < nearest**2, 0.0, significance)
    row, column = divmod(int(np.argmax(significance)), size)
    inner_row, inner_column = (min(max(axis, 1), size - 2) for axis in (row, column))

    def vertex(before, here, after):
        curvature = before - 2 * here + after
        return np.clip(0.5 * (before - after) / curvature, -0.5, 0.5) if curvature else 0.0

    x = (
        vertex(*significance[inner_row, inner_column - 1 : inner_column + 2])
        if column == inner_column
        else 0.0
    )
    y = vertex(*significance[inner_row - 1 : inner_row + 2, inner_column]) if row == inner_row else 0.0
    return significance[row, column], offset[column] + x, offset[row] + y


def stamps(seed, count, size, masked):
    rng = np.random.default_rng(seed)
    residual = rng.normal(0, 3, (count, size, size))
    weights = rng.uniform(0.05, 0.2, residual.shape) * (rng.uniform(size=residual.shape) >= masked)
    return rng, residual, weights


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 3),
    size=st.integers(1, 41),
    fwhm=st.floats(0.8, 12.0),
    masked=st.sampled_from([0.0, 0.3, 0.98, 1.0]),
)
def test_significance_equals_the_twin(seed, count, size, fwhm, masked):
    _, residual, weights = stamps(seed, count, size, masked)
    found = point_significance(residual, weights, fwhm)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, significance_twin(residual, weights, fwhm), rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.integers(2, 16).map(lambda half: 2 * half + 1),
    fwhm=st.floats(1.5, 6.0),
    nearest=st.sampled_from([0.0, 2.0, 100.0]),
)
def test_brightest_points_equal_the_twin(seed, size, fwhm, nearest):
    rng, residual, weights = stamps(seed, 5, size, 0.1)
    dx, dy = rng.uniform(-0.6, 0.6, (2, 5))
    stars = np.sort(rng.choice(5, rng.integers(0, 6), replace=False))
    found = brightest_points(residual, weights, dx, dy, stars, fwhm, nearest)
    significance = point_significance(residual, weights, fwhm).astype(np.float64)
    expected = [brightest_twin(significance[k], dx[k], dy[k], nearest) for k in stars]
    np.testing.assert_allclose(found, np.reshape(expected, (-1, 3)), rtol=1e-9, atol=1e-9)


def test_stars_that_were_not_fitted_or_are_masked_have_no_point():
    residual, weights = np.full((2, 7, 7), np.nan), np.ones((2, 7, 7))
    residual[1], weights[1] = 5.0, 0.0
    none = np.zeros(2)
    found = brightest_points(residual, weights, none, none, np.arange(2), 3.0, 1.0)
    assert not (found[:, 0] > 0).any()


def test_shapes_are_checked():
    cube, none = np.zeros((2, 5, 5)), np.zeros(2)
    for residual, weights in ((cube, cube[:1]), (cube[:, :4].copy(), cube[:, :4].copy())):
        with pytest.raises(ValueError, match=r"shape|square"):
            point_significance(residual, weights, 3.0)
    with pytest.raises(ValueError, match="width"):
        point_significance(cube, cube, np.nan)
    with pytest.raises(ValueError, match="length"):
        brightest_points(cube, cube, none[:1], none, np.arange(2), 3.0, 1.0)
    for stars in ([2], [-1]):
        with pytest.raises(ValueError, match="no such star"):
            brightest_points(cube, cube, none, none, np.array(stars), 3.0, 1.0)
    small = np.zeros((1, 2, 2))
    with pytest.raises(ValueError, match="three"):
        brightest_points(small, small, none[:1], none[:1], np.arange(1), 3.0, 1.0)
