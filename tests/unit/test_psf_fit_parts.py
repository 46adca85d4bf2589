"""Parts of the PSF fit against plain definitions: the solver, the spatial functions, the choice of degree."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.ndimage import binary_dilation

from streamchar.characterize.psf.degree import choose_degree
from streamchar.characterize.psf.forward.rejection import grown
from streamchar.characterize.psf.forward.stretch import stretches
from streamchar.characterize.psf.informative import (
    BRIGHTEST,
    CELLS,
    FEW,
    STARS_PER_CELL,
    most_informative,
)
from streamchar.characterize.psf.neighbours import find_neighbours
from streamchar.characterize.psf.pixel_fit import Grid, centre_of, fit_components
from streamchar.characterize.psf.polynomial import PositionPolynomial
from streamchar.characterize.psf.quintic_splines import SPLINE, coefficients, overlaps
from streamchar.characterize.psf.samples import Samples
from streamchar.characterize.psf.shape_fields import stretched
from streamchar.characterize.psf.spatial_functions import spatial_functions
from streamchar.characterize.psf.star_modes import fit_star_modes


def stars(rng, count, grid):
    """Stamps of noise with fluxes and sub-pixel positions."""
    zero = np.zeros(count)
    pixels = rng.normal(size=(count, grid.stamp, grid.stamp))
    shift = rng.uniform(-0.5, 0.5, (2, count))
    usable = rng.uniform(size=pixels.shape) > 0.1
    flux = rng.uniform(0.5, 2.0, count)
    return Samples(np.arange(count), zero, zero, *shift, flux, pixels, usable, zero + 1.0, zero)


def test_solver_finds_the_minimum():
    rng = np.random.default_rng(1)
    grid = Grid(9, 0.8, 7, SPLINE)
    samples = stars(rng, 12, grid)
    weights = samples.usable * rng.uniform(0.5, 1.5, samples.pixels.shape)
    basis = np.column_stack([np.ones(12), rng.normal(size=12)])
    ridge = rng.uniform(0.1, 0.2, (2, 9, 9))
    expected = rng.normal(size=(2, 9, 9))
    found = fit_components(
        grid,
        samples,
        weights,
        basis,
        np.zeros((2, 9, 9)),
        ridge,
        iterations=400,
        converged=1e-12,
        expected=expected,
    )
    unit = np.eye(162).reshape(162, 2, 9, 9)
    design = np.array(
        [grid.draw(u, basis, samples.dx, samples.dy) * samples.flux[:, None, None] for u in unit]
    )
    design = design.reshape(162, -1).T
    w = weights.ravel()
    overlap = overlaps(grid.size)
    both = np.kron(overlap, overlap)
    penalty = np.zeros((162, 162))
    for term in range(2):
        root = np.sqrt(ridge[term].ravel())
        part = slice(81 * term, 81 * term + 81)
        penalty[part, part] = root[:, None] * both * root
    right = design.T @ (w * samples.pixels.ravel()) + penalty @ expected.ravel()
    exact = np.linalg.solve(design.T @ (w[:, None] * design) + penalty, right)
    # Products are summed in single precision; the prior alone leaves the components an error of 2.
    np.testing.assert_allclose(found.ravel(), exact, atol=2e-4)


def test_overlaps_are_those_of_the_splines():
    spline = BSpline.basis_element(np.arange(-3.0, 4.0), extrapolate=False)
    t = np.arange(-9.0, 9.0, 1 / 64) + 1 / 128
    values = np.array([np.nan_to_num(spline(t - k)) for k in range(6)])
    integrals = values @ values[0]
    np.testing.assert_allclose(overlaps(13)[6, 6:12], integrals / integrals[0], rtol=1e-7, atol=1e-12)


def test_cropped_grid_draws_the_same_centre():
    rng = np.random.default_rng(2)
    grid = Grid.covering(41, 0.7, SPLINE)
    core = grid.cropped(15)
    components, basis = rng.normal(size=(2, grid.size, grid.size)), rng.normal(size=(5, 2))
    dx, dy = rng.uniform(-0.5, 0.5, (2, 5))
    whole = grid.draw(components, basis, dx, dy)
    part = core.draw(np.ascontiguousarray(centre_of(components, core.size)), basis, dx, dy)
    np.testing.assert_allclose(part, centre_of(whole, 15), atol=1e-12)
    assert Grid.covering(11, 2.0, SPLINE).cropped(11).size == 5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(20, 80), st.integers(0, 4), st.booleans())
@example(25, 25, 3, False)  # the fields hold a monomial but for a little
def test_spatial_functions_are_orthonormal_and_hold_the_monomials(seed, count, degree, curved):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 1000, (2, count))
    weights = rng.uniform(0.1, 10.0, count)
    shapes, variance = rng.normal(0, 0.03, (count, 3)), rng.uniform(1e-4, 2e-4, (count, 3))
    found = spatial_functions(x, y, weights, shapes, variance, degree, curved=curved)
    values, share = found.basis(x, y), weights / weights.sum()
    np.testing.assert_allclose(found.values, values, atol=1e-6)
    np.testing.assert_allclose(values[:, 0], 1.0, atol=1e-9)
    np.testing.assert_allclose((values * share[:, None]).T @ values, np.eye(values.shape[1]), atol=1e-5)
    monomials = PositionPolynomial.over(x, y, degree).basis(x, y)
    # A monomial of which less than 1e-4, rms, is left after those before it is taken for one that repeats them.
    residual = monomials - values @ ((values * share[:, None]).T @ monomials)
    np.testing.assert_allclose(np.sqrt(share @ residual**2), 0.0, atol=2e-4)
    terms = (degree + 1) * (degree + 2) // 2
    assert len(found.basis) <= terms + (3 if curved and degree else 0)
    kinds = np.stack([found.linear, found.curvature, found.other]) > 0
    assert (kinds.sum(axis=0) == 1).all()
    assert kinds[0].sum() == (min(3, terms - 1) if degree else 0)
    assert kinds[[0, 2]].sum() == (terms - 1 if degree else 0)


def gaussian(grid, size, e1, e2):
    """Coefficients of a Gaussian 5 super-pixels wide, of unit light."""
    t = np.arange(grid.size) - grid.size // 2
    trace = 2 * 25.0 * (1 + size) ** 2
    xx, yy, xy = 0.5 * trace * (1 + e1), 0.5 * trace * (1 - e1), 0.5 * trace * e2
    det = xx * yy - xy**2
    exponent = (yy * t**2 - 2 * xy * t * t[:, None] + xx * t[:, None] ** 2) / det
    return coefficients(np.exp(-0.5 * exponent) / np.sqrt(det) / (2 * np.pi))


def test_stretches_are_what_size_and_ellipticity_do():
    grid, step = Grid(61, 1.0, 61, SPLINE), 1e-3
    found = stretches(gaussian(grid, 0.0, 0.0, 0.0))
    for change, at in zip(found, np.eye(3), strict=True):
        more, less = (gaussian(grid, *(sign * step * at)) for sign in (1, -1))
        np.testing.assert_allclose(change, (more - less) / (2 * step), atol=1e-4 * np.abs(change).max())
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 0.0, atol=1e-6)


@pytest.mark.parametrize("curved", [False, True])
def test_changes_are_those_of_the_fields(curved):
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 1000, (2, 80))
    weights = rng.uniform(0.1, 10.0, 80)
    u, v = x / 500 - 1, y / 500 - 1
    shapes = np.stack([0.03 * u, 0.01 * v * v, 0.02 * u * v - 0.01 * u], axis=1)
    found = spatial_functions(x, y, weights, shapes, np.full((80, 3), 1e-6), 2, curved=curved)
    mean = weights @ shapes / weights.sum()
    np.testing.assert_allclose(found.values[:, 1:] @ found.changes, shapes - mean, atol=1e-8)


def test_second_order_terms_describe_a_gaussian():
    """Images of Gaussians of quadratic covariance are in the span of the functions to third order."""
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 1000, (2, 300))
    u, v = x / 500 - 1, y / 500 - 1
    size, e1, e2 = 0.03 * (u * u + 0.3 * v), 0.03 * (v * v - u), 0.03 * (u * v + v)
    trace = (1 + size) ** 2
    xx, yy, xy = trace * (1 + e1), trace * (1 - e1), trace * e2
    t = np.arange(-2.0, 2.1, 0.5)
    det = xx * yy - xy**2
    a, b = np.meshgrid(t, t)
    images = np.exp(-0.5 * (yy[:, None] * a.ravel() ** 2 + xx[:, None] * b.ravel() ** 2
                            - 2 * xy[:, None] * (a * b).ravel()) / det[:, None]) / np.sqrt(det)[:, None]  # fmt: skip
    shapes = np.stack([size, e1, e2], axis=1)
    errors = []
    for curved in (False, True):
        basis = spatial_functions(
            x, y, np.ones(300), shapes, np.full((300, 3), 1e-6), 2, curved=curved
        ).basis(x, y)
        model = basis @ np.linalg.lstsq(basis, images, rcond=None)[0]
        residual = model - images
        radius = (a**2 + b**2).ravel()
        errors.append(np.std(residual @ (np.exp(-0.5 * radius) * (radius - 1.0))))
    assert errors[1] < 0.25 * errors[0]


def test_the_fewest_stars_that_hold_the_information_and_some_everywhere():
    rng = np.random.default_rng(6)
    x, y = rng.uniform(0, 1000, (2, 900))
    ratio = 50.0 * rng.uniform(size=900) ** -0.8
    chosen = most_informative(x, y, ratio, fraction=0.9, most=600)
    square = ratio**2 / (1 + (ratio / BRIGHTEST) ** 2)
    brightest = np.argsort(-ratio)
    needed = 1 + int(np.searchsorted(np.cumsum(square[brightest]), 0.9 * square.sum()))
    assert FEW < needed < 600
    assert np.isin(brightest[:needed], chosen).all()
    assert len(chosen) <= needed + STARS_PER_CELL * CELLS**2
    cell = (CELLS * np.stack([x, y]) / 1000).astype(int)
    for number in range(CELLS**2):
        inside = (cell[0] == number // CELLS) & (cell[1] == number % CELLS)
        # Cells are of the stars' own range, a little smaller.
        assert np.isin(np.flatnonzero(inside)[np.argsort(-ratio[inside])[:2]], chosen).all()
    few = most_informative(x, y, ratio, fraction=0.9, most=250)
    assert 250 <= len(few) <= 250 + STARS_PER_CELL * CELLS**2
    unknown = most_informative(x, y, np.where(np.arange(900) < 450, np.nan, ratio), fraction=0.9, most=900)
    assert len(unknown) > 100
    np.testing.assert_array_equal(
        most_informative(x[:FEW], y[:FEW], ratio[:FEW], fraction=0.5, most=3), np.arange(FEW)
    )
    assert len(most_informative(x[:0], y[:0], ratio[:0], fraction=0.5, most=3)) == 0


def test_left_out_residuals_by_leaving_out():
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 1000, (2, 30))
    values = (0.01 * (x / 1000) + rng.normal(0, 1e-3, 30))[:, None]
    variance = np.full((30, 1), 1e-6)
    choice = choose_degree(x, y, values, variance, 2)
    best = int(np.argmin(choice.scores))
    losses = []
    for degree, score in enumerate(choice.scores):
        basis = PositionPolynomial.over(x, y, degree).basis(x, y)
        residual = []
        for i in range(30):
            kept = np.arange(30) != i
            fit = np.linalg.lstsq(basis[kept], values[kept, 0], rcond=None)[0]
            residual.append((values[i, 0] - basis[i] @ fit) ** 2 / choice.variance[i, 0])
        losses.append(np.minimum(residual, 16.0))
        assert score == pytest.approx(losses[-1].sum(), rel=1e-6)
    excess = [loss - losses[best] for loss in losses]
    near = [degree for degree in range(3) if excess[degree].sum() <= np.sqrt(30) * excess[degree].std()]
    assert choice.degree == near[0] == 1


def test_a_degree_must_pay_beyond_the_chance_of_a_few_stars():
    chosen, far = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(0, 1000, (2, 39))
        variance = np.full((39, 3), 1e-4)
        noise = rng.normal(0, 1e-2, (39, 3))
        chosen.append(choose_degree(x, y, noise, variance, 4).degree)
        far.append(choose_degree(x, y, noise + 0.05 * (x / 500 - 1)[:, None] ** 2, variance, 4).degree)
    assert np.mean(np.array(chosen) == 0) >= 0.9
    assert np.mean(np.array(far) == 2) >= 0.9


def test_degree_with_hardly_any_stars():
    one = choose_degree(np.ones(1), np.ones(1), np.ones((1, 3)), np.ones((1, 3)), 4)
    assert one.degree == 0
    line = np.linspace(0, 1, 9)
    # Stars on a line determine no polynomial of two variables.
    assert choose_degree(line, np.zeros(9), np.ones((9, 3)), np.ones((9, 3)), 3).degree == 0


def test_bright_stars_keep_their_weight():
    """An excess in the residuals of faint stars must not be added to the errors of bright ones."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(0, 1000, (2, 400))
    error = np.where(np.arange(400) < 40, 1e-4, 1e-2)
    values = (1.1 * error * rng.normal(size=400))[:, None]
    choice = choose_degree(x, y, values, (error**2)[:, None], 2)
    assert np.sqrt(choice.variance[0, 0]) < 3e-4


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_star_modes_recover_flux_shift_and_shape(sigma):
    t = np.arange(-10.0, 11.0)

    def image(dx, dy, xx, yy, xy):
        x, y = t - dx, (t - dy)[:, None]
        determinant = xx * yy - xy**2
        form = (yy * x**2 - 2 * xy * x * y + xx * y**2) / determinant
        return np.exp(-0.5 * form) / np.sqrt(determinant)

    square = sigma**2
    model = image(0.3, -0.2, square, square, 0.0)[None]
    star = image(0.32, -0.23, square * 1.02, square * 0.99, square * 0.006)[None]
    place = np.array([0.3]), np.array([-0.2])
    modes, residual = fit_star_modes(100 * star, model, np.ones_like(model), *place)
    assert modes.flux[0] == pytest.approx(100, rel=0.01)
    assert (modes.dx[0], modes.dy[0]) == (pytest.approx(0.02, abs=2e-3), pytest.approx(-0.03, abs=2e-3))
    np.testing.assert_allclose(modes.shape[0], [0.01, 0.003, -0.005], atol=1e-3)
    changes, _ = stretched(modes.shape, modes.variance)
    expected = [np.sqrt(2.01 / 2) - 1, 0.03 / 2.01, 2 * 0.006 / 2.01]
    np.testing.assert_allclose(changes[0], expected, atol=1.5e-3)
    np.testing.assert_allclose(residual, 0.0, atol=0.2)
    lost, _ = fit_star_modes(model, model, np.zeros_like(model), *place)
    assert np.isnan(lost.flux[0])
    assert np.isnan(lost.shape).all()
    assert len(fit_star_modes(model[:0], model[:0], model[:0], *np.empty((2, 0)))[0].flux) == 0


def test_quoted_errors_of_the_modes_describe_their_scatter():
    rng = np.random.default_rng(9)
    t = np.arange(-8.0, 9.0)
    model = np.exp(-0.5 * (t**2 + t[:, None] ** 2) / 1.5**2)
    noise = rng.normal(0, 0.02, (2000, 17, 17))
    models, zero = np.repeat(model[None], 2000, axis=0), np.zeros(2000)
    modes, _ = fit_star_modes(models + noise, models, np.full_like(models, 0.02**-2), zero, zero)
    for values, variance in ((modes.shape, modes.variance), stretched(modes.shape, modes.variance)):
        # Along the axes size and ellipticity are not independent of each other.
        assert (np.abs(values.std(axis=0) / np.sqrt(variance.mean(axis=0)) - 1) < 0.2).all()


def test_neighbours_in_residuals():
    rng = np.random.default_rng(8)
    t = np.arange(-12.0, 13.0)

    def source(dx, dy):
        return np.exp(-0.5 * ((t - dx) ** 2 + (t[:, None] - dy) ** 2) / 1.7**2)

    residual, weights = rng.normal(0, 1, (4, 25, 25)), np.ones((4, 25, 25))
    residual[0] += 8 * source(5.3, -4.2)
    residual[1] += 2 * source(0.5, 0.4)  # at the star itself
    residual[2] += 8 * source(-6.0, 3.0)
    weights[2, 8:, :10] = 0.0  # but masked
    residual[3] += 4 * source(-8.0, 0.0) + 8 * source(9.9, 9.2)
    none, every = np.zeros(4), np.arange(4)
    found = find_neighbours(residual, weights, none, none, every, fwhm=4.0, threshold=6.0)
    assert found.star.tolist() == [0, 3]
    np.testing.assert_allclose(np.stack([found.dx, found.dy]), [[5.3, 9.9], [-4.2, 9.2]], atol=0.4)
    some = find_neighbours(residual, weights, none, none, every[1:], fwhm=4.0, threshold=6.0)
    assert some.star.tolist() == [3]
    # The threshold is a signal to noise: three sigma are rare in the 600 pixels, about 40 independent ones, of a stamp.
    pure, zeros, every = rng.normal(0, 2, (300, 25, 25)), np.zeros(300), np.arange(300)

    def count(weights, stars, threshold):
        return len(find_neighbours(pure, weights, zeros, zeros, stars, fwhm=4.0, threshold=threshold))

    rate = [count(np.full_like(pure, 0.25), every, limit) / 300 for limit in (3.0, 4.5)]
    assert 0.02 < rate[0] < 0.4
    assert rate[1] < 0.02
    assert count(np.full_like(pure, 0.25), every[:0], 3.0) == 0
    assert count(np.zeros_like(pure), every, 3.0) == 0


def test_grown_pixels():
    pixels = np.random.default_rng(3).uniform(size=(5, 12, 12)) < 0.1
    pixels[2] = False
    expected = [binary_dilation(stamp) for stamp in pixels]
    np.testing.assert_array_equal(grown(pixels), expected)
