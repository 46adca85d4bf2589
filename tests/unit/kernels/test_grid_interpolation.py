"""The piecewise polynomials against SciPy inside the grid, and the documented parabola outside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import Akima1DInterpolator, CubicSpline

from streamchar.characterize.splines import MIN_POINTS, add_interpolated, best_style
from streamchar.kernels import add_grid, add_separable

CENTRES = np.array([5.0, 14.5, 26.0, 37.5, 49.0, 60.0, 72.5])
LENGTH = 80


STYLES = ("constant", "linear", "natural_spline", "akima_spline")


def twin_line(values, centres, length, style):
    """One line of pixels through the finite values, in the style asked for or the best they allow."""
    good, x = np.isfinite(values), np.arange(length, dtype=float)
    values, centres = values[good], centres[good]
    if not len(values):
        return np.full(length, np.nan)
    style = min(STYLES.index(style), STYLES.index(best_style(len(values))))
    if style == 0:
        # Steps half way between neighbours, to their mean; the last one as far behind the last centre.
        ends = [0.5 * (3 * centres[-1] - centres[-2])] if len(values) > 1 else []
        steps = np.concatenate([0.5 * (centres[1:] + centres[:-1]), ends])
        levels = np.concatenate([values[:1], 0.5 * (values[1:] + values[:-1]), values[-1:][: len(ends)]])
        return levels[np.searchsorted(steps, x, side="right")]
    if style == 1:
        slope = np.diff(values) / np.diff(centres)
        k = np.clip(np.searchsorted(centres, x, side="right") - 1, 0, len(slope) - 1)
        return values[k] + slope[k] * (x - centres[k])
    curve = (
        CubicSpline(centres, values, bc_type="natural")
        if style == 2
        else Akima1DInterpolator(centres, values)
    )
    result = np.where((x >= centres[0]) & (x <= centres[-1]), curve(x), 0.0)
    for k, outside in ((0, x < centres[0]), (-1, x > centres[-1])):
        d = x - centres[k]
        end = values[k] + d * float(curve(centres[k], 1)) + 0.5 * d * d * float(curve(centres[k], 2))
        result = np.where(outside, end, result)
    return result


def twin_grid(grid, y, x, shape, style):
    """Along y through every column of the grid, then along x through the columns that have values."""
    columns = np.stack([twin_line(column, y, shape[0], style) for column in grid.T], axis=1)
    return np.stack([twin_line(row, x, shape[1], style) for row in columns])


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    points=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    style=st.sampled_from(STYLES),
    missing=st.sampled_from([0.0, 0.2, 1.0]),
    factor=st.sampled_from([1.0, -1.0, 0.5]),
)
def test_grid_equals_twin(seed, shape, points, style, missing, factor):
    rng = np.random.default_rng(seed)
    grid = rng.normal(100, 10, points)
    grid[rng.random(points) < missing] = rng.choice([np.nan, np.inf, -np.inf])
    y, x = (rng.uniform(-5, 5) + np.cumsum(rng.uniform(2, 9, n)) for n in points)
    plane = rng.normal(0, 1, shape).astype(np.float32)
    expected = plane + factor * twin_grid(grid, y, x, shape, style)
    add_grid(plane, grid, y, x, STYLES.index(style), factor)
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
    np.testing.assert_allclose(plane, expected, rtol=1e-5, atol=1e-5 * largest)


def twin_product(left, right):
    """Sums of products over the terms, term after term."""
    with np.errstate(invalid="ignore", over="ignore"):
        return sum(left[:, k, None] * right[None, k] for k in range(left.shape[1]))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(0, 12), st.integers(0, 40)),
    terms=st.integers(1, 9),
    special=st.sampled_from([0.0, np.nan, np.inf, -np.inf]),
)
def test_product_equals_twin(seed, shape, terms, special):
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(shape[0], terms)), rng.normal(size=(terms, shape[1]))
    for values in (left, right):
        if values.size:
            values.flat[rng.integers(values.size)] += special
    plane = rng.normal(size=shape).astype(np.float32)
    with np.errstate(invalid="ignore"):
        expected = plane + 0.5 * twin_product(left, right).astype(np.float32)
    add_separable(plane, left, right, 0.5)
    np.testing.assert_allclose(plane, expected, rtol=1e-5, atol=1e-6)


def line(values, style, centres=CENTRES, length=LENGTH):
    """Interpolate along x only: a grid of one row."""
    plane = np.zeros((1, length), np.float32)
    add_interpolated(plane, np.asarray(values, float)[None], np.zeros(1), centres, style)
    return plane[0].astype(float)


def smooth_values(seed=0):
    return 100 + np.random.default_rng(seed).normal(0, 5, len(CENTRES)).cumsum()


def curves(style, values):
    if style == "linear":
        return None
    if style == "natural_spline":
        return CubicSpline(CENTRES, values, bc_type="natural", extrapolate=False)
    return Akima1DInterpolator(CENTRES, values)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("style", ["linear", "natural_spline", "akima_spline"])
def test_agrees_with_scipy_inside_and_continues_as_a_parabola_outside(style, seed):
    values = smooth_values(seed)
    x = np.arange(LENGTH, dtype=float)
    found = line(values, style)
    inside = (x >= CENTRES[0]) & (x <= CENTRES[-1])
    if style == "linear":
        np.testing.assert_allclose(found[inside], np.interp(x, CENTRES, values)[inside], rtol=1e-6)
        first, last = (np.diff(values) / np.diff(CENTRES))[[0, -1]]
        ends = {0: (first, 0.0), -1: (last, 0.0)}
    else:
        curve = curves(style, values)
        np.testing.assert_allclose(found[inside], curve(x[inside]), rtol=1e-6)
        ends = {k: (float(curve(CENTRES[k], 1)), float(curve(CENTRES[k], 2))) for k in (0, -1)}
    for k, outside in ((0, x < CENTRES[0]), (-1, x > CENTRES[-1])):
        d = x[outside] - CENTRES[k]
        np.testing.assert_allclose(
            found[outside], values[k] + d * ends[k][0] + 0.5 * d * d * ends[k][1], rtol=2e-6
        )


def test_akima_is_linear_where_slopes_agree():
    """Flat data next to a step: the reference keeps the flat part flat up to its last interval."""
    found = line([1, 1, 1, 1, 2, 2, 2], "akima_spline")
    np.testing.assert_array_equal(found[: int(CENTRES[3]) + 1], 1.0)
    np.testing.assert_array_equal(found[int(CENTRES[4]) :], 2.0)


def test_constant_steps_at_midpoints():
    found = line([1.0, 3.0, 9.0], "constant", centres=np.array([10.0, 20.0, 30.0]), length=50)
    np.testing.assert_array_equal(found[:15], 1.0)
    np.testing.assert_array_equal(found[15:25], 2.0)
    np.testing.assert_array_equal(found[25:35], 6.0)
    np.testing.assert_array_equal(found[35:], 9.0)


@pytest.mark.parametrize("style", MIN_POINTS)
def test_one_point_is_a_constant(style):
    np.testing.assert_array_equal(line([3.5], style, centres=np.array([4.0]), length=9), 3.5)


@pytest.mark.parametrize(
    ("points", "style"),
    [(1, "constant"), (2, "linear"), (3, "natural_spline"), (4, "natural_spline"), (5, "akima_spline")],
)
def test_missing_values_are_skipped_and_the_style_lowered(points, style):
    assert best_style(points) == style
    values = smooth_values()
    values[points:] = np.nan
    np.testing.assert_allclose(
        line(values, "akima_spline"), line(values[:points], style, centres=CENTRES[:points]), rtol=1e-6
    )


def test_two_dimensions_are_two_passes_and_missing_columns_are_bridged():
    rng = np.random.default_rng(4)
    y = np.array([4.0, 13.0, 22.0, 31.0, 40.0])
    grid = rng.normal(50, 3, (len(y), len(CENTRES)))
    grid[:, 2] = np.nan
    grid[1, 4] = np.inf
    plane = np.zeros((45, LENGTH), np.float32)
    add_interpolated(plane, grid, y, CENTRES, "akima_spline")
    columns = np.full((45, len(CENTRES)), np.nan)
    for i in (0, 1, 3, 4, 5, 6):
        good = np.isfinite(grid[:, i])
        columns[:, i] = line(grid[good, i], "akima_spline", centres=y[good], length=45)
    good = np.arange(len(CENTRES)) != 2
    for j in (0, 20, 44):
        np.testing.assert_allclose(
            plane[j], line(columns[j, good], "akima_spline", centres=CENTRES[good]), rtol=1e-5
        )


def test_nothing_finite_is_nan():
    plane = np.zeros((6, 7), np.float32)
    add_interpolated(plane, np.full((2, 2), np.nan), np.array([1.0, 4.0]), np.array([1.0, 5.0]), "linear")
    assert np.isnan(plane).all()


def test_subtracting_restores_what_adding_made():
    rng = np.random.default_rng(0)
    plane = np.zeros((30, LENGTH), np.float32)
    args = (rng.normal(9, 1, (3, len(CENTRES))), np.array([5.0, 15.0, 25.0]), CENTRES, "natural_spline")
    add_interpolated(plane, *args)
    assert plane.any()
    add_interpolated(plane, *args, factor=-1.0)
    assert not plane.any()


@pytest.mark.parametrize("centres", [[0.0, 0.0], [1.0, 0.0], [0.0, np.nan], [0.0]])
def test_bad_centres_are_refused(centres):
    with pytest.raises(ValueError):
        add_grid(np.zeros((5, 5), np.float32), np.zeros((1, 2)), np.zeros(1), np.array(centres), 1, 1.0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 511), (5, 512), (4, 1300)])
@pytest.mark.parametrize("terms", [1, 7])
def test_separable_model_is_a_matrix_product(shape, terms):
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(shape[0], terms)), rng.normal(size=(terms, shape[1]))
    plane = rng.normal(size=shape).astype(np.float32)
    expected = plane - (left @ right).astype(np.float32)
    add_separable(plane, left, right, -1.0)
    np.testing.assert_allclose(plane, expected, rtol=1e-5, atol=1e-6)


def test_separable_model_checks_shapes():
    with pytest.raises(ValueError):
        add_separable(np.zeros((3, 4), np.float32), np.zeros((3, 2)), np.zeros((3, 4)), 1.0)


@pytest.mark.parametrize("wrong", [np.zeros((8, 6), np.float32).T, np.zeros((6, 8))])
def test_planes_to_be_modified_are_never_converted(wrong):
    with pytest.raises(TypeError):
        add_separable(wrong, np.ones((6, 1)), np.ones((1, 8)), 1.0)
    with pytest.raises(TypeError):
        add_grid(wrong, np.ones((1, 1)), np.zeros(1), np.zeros(1), 0, 1.0)
