"""The fit of a source's width beside a companion against its formulas in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamchar.kernels import Scene, psf_broadening
from tests.measurement_scenes import bare_scene

FIRST = np.array([5 / 6, -5 / 21, 5 / 84, -5 / 504, 1 / 1260])
SECOND = np.array([5 / 3, -5 / 21, 5 / 126, -5 / 1008, 1 / 3150])
SIZES = {"reach": 3.5, "nearest": 1.4, "farthest": 3.75, "step": 0.6}


def window(stamp, half, dy=0, dx=0):
    """The square around the stamp's middle, shifted; zero beyond the stamp."""
    margin = 100
    padded = np.pad(stamp, margin)
    cy, cx = margin + stamp.shape[0] // 2 - dy, margin + stamp.shape[1] // 2 - dx
    return padded[cy - half : cy + half + 1, cx - half : cx + half + 1]


def terms_of(stamp, half):
    """Stamp, slopes and Laplacian by differences of tenth order."""
    middle = window(stamp, half)
    along_x, along_y, laplacian = np.zeros_like(middle), np.zeros_like(middle), -5269 / 900 * middle
    for k, (a, b) in enumerate(zip(FIRST, SECOND, strict=True), start=1):
        right, left, up, down = (window(stamp, half, *s) for s in ((0, -k), (0, k), (-k, 0), (k, 0)))
        along_x += a * (right - left)
        along_y += a * (up - down)
        laplacian += b * (right + left + up + down)
    return [middle, along_x, along_y, laplacian]


def solve(columns, data):
    return np.linalg.lstsq(np.stack(columns, axis=1), data, rcond=None)[0]


def twin(image, mask, bad, stamp, x0, y0, width, reach, nearest, farthest, step):
    """Laplacian and copy over stamp, the copy's shifts, light."""
    largest = (min(stamp.shape) - 1) // 2
    half = int(np.clip(np.ceil(reach * width), 1, largest))
    step = max(int(min(np.floor(step * width + 0.5), largest)), 1)
    near, far = nearest * width, min(farthest * width, 2 * largest)
    cy, cx = y0 + stamp.shape[0] // 2, x0 + stamp.shape[1] // 2
    rows, columns = np.mgrid[cy - half : cy + half + 1, cx - half : cx + half + 1]
    inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
    use = inside.copy()
    at = rows[inside], columns[inside]
    use[inside] = ((mask[at] & bad) == 0) & np.isfinite(image[at])
    data = image[rows[use], columns[use]].astype(float)
    terms = [term[use] for term in terms_of(stamp, half)]
    light = terms[0].sum()
    if np.linalg.matrix_rank(np.stack(terms), tol=1e-6 * np.abs(terms[0]).max(initial=0)) < 4:
        return np.r_[np.full(4, np.nan), light]
    residual = data - np.stack(terms[:3], axis=1) @ solve(terms[:3], data)
    most, best = 0.0, None
    for dy in range(-int(far) // step * step, int(far) + 1, step):
        for dx in range(-int(far) // step * step, int(far) + 1, step):
            if not max(near, 0.5) <= np.hypot(dx, dy) <= far:
                continue
            copy = window(stamp, half, dy, dx)[use]
            rest = copy - np.stack(terms[:3], axis=1) @ solve(terms[:3], copy)
            gain = (rest @ residual) / np.sqrt(rest @ rest) if rest @ rest > 1e-9 * (copy @ copy) else 0.0
            if gain > most:
                most, best = gain, (copy, dx, dy)
    found = solve(terms + ([best[0]] if best else []), data)
    if found[0] <= 0:
        return np.r_[np.full(4, np.nan), light]
    return np.array([found[3] / found[0], *((found[4] / found[0], *best[1:]) if best else (0, 0, 0)), light])


def fit(image, mask, bad, stamp, x0, y0, width, **sizes):
    place = np.array([[0], [x0], [y0]])
    return psf_broadening(
        bare_scene(image), mask, bad, place[0], stamp[None], *place[1:], np.array([width]), **(SIZES | sizes)
    )[0]


def gaussian(shape, x, y, flux, sigma):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / sigma**2)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    arrays(np.int32, (24, 25), elements=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2])),
    st.sampled_from([0, 1, 3]),
    st.floats(1.0, 2.5),
    st.tuples(st.integers(-6, 18), st.integers(-6, 18)),
    st.tuples(st.sampled_from([11, 13, 16]), st.sampled_from([11, 14, 15])),
    st.sampled_from([0.0, 1.0, 3.0]),
)
def test_it_equals_its_twin(seed, mask, bad, sigma, origin, shape, spoilt):
    generator = np.random.default_rng(seed)
    stamp = gaussian(shape, shape[1] // 2 + 0.2, shape[0] // 2 - 0.3, 1.0, sigma)
    x, y = origin[0] + shape[1] // 2 + 0.1, origin[1] + shape[0] // 2 - 0.2
    image = gaussian((24, 25), x, y, 1000.0, 1.1 * sigma) + generator.standard_normal((24, 25))
    image += gaussian((24, 25), x + 2.2 * sigma, y + 0.3 * sigma, 300.0, sigma)
    image[generator.random(image.shape) < 0.01 * spoilt] = np.nan
    image = image.astype(np.float32)
    expected = twin(image, mask, bad, stamp, *origin, sigma, *SIZES.values())
    values = fit(image, mask, bad, stamp, *origin, sigma)
    np.testing.assert_allclose(values[4], expected[4], atol=1e-12)
    if expected[4] > 0.5:
        np.testing.assert_allclose(values[:4], expected[:4], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sigma", [1.0, 1.7, 3.4])
def test_a_broader_source_has_the_width_that_was_put_in(sigma):
    stamp = gaussian((61, 61), 30.2, 30.1, 1.0, sigma)
    for excess in (0.0, 0.01, -0.01):
        image = gaussian((80, 80), 40.2, 40.1, 1e4, sigma * np.sqrt(1 + excess)).astype(np.float32)
        values = fit(image, np.zeros(image.shape, np.int32), 0, stamp, 10, 10, sigma)
        assert values[0] / sigma**2 == pytest.approx(0.5 * excess, abs=2e-4)


@pytest.mark.parametrize("angle", [0.0, 1.0, 2.5, 4.0])
def test_a_companion_is_found_and_does_not_broaden(angle):
    sigma = 1.8
    stamp = gaussian((41, 41), 20.0, 20.0, 1.0, sigma)
    dx, dy = 2.7 * sigma * np.cos(angle), 2.7 * sigma * np.sin(angle)
    image = gaussian((60, 60), 30.0, 30.0, 1e4, sigma) + gaussian((60, 60), 30 + dx, 30 + dy, 4e3, sigma)
    mask = np.zeros(image.shape, np.int32)
    values = fit(image.astype(np.float32), mask, 0, stamp, 10, 10, sigma)
    assert np.hypot(values[2] - dx, values[3] - dy) < 1.0
    assert values[1] == pytest.approx(0.4, abs=0.06)
    alone = fit(image.astype(np.float32), mask, 0, stamp, 10, 10, sigma, nearest=9.0)
    assert alone[1] == 0.0
    assert abs(values[0]) < 0.03 * sigma**2 < 0.07 * sigma**2 < alone[0]


def test_neighbours_of_the_scene_are_hidden():
    sigma = 1.8
    stamp = gaussian((41, 41), 20.0, 20.0, 1.0, sigma)
    image = (gaussian((60, 60), 30, 30, 1e4, sigma) + gaussian((60, 60), 37, 30, 2e4, sigma)).astype(
        np.float32
    )
    y, start = np.tile(np.arange(20, 41, dtype=np.int32), 2), np.array([0, 21, 42])
    x0, x1 = np.repeat(np.int32([20, 34]), 21), np.repeat(np.int32([33, 45]), 21)
    noise = np.zeros(int((x1 - x0 + 1).sum()), np.float32)
    scene = Scene(image, y, x0, x1, start, noise)
    scene.hide_all()
    mask, at = np.zeros(image.shape, np.int32), np.int64([10])
    values = psf_broadening(scene, mask, 0, np.int64([0]), stamp[None], at, at, np.array([sigma]), **SIZES)
    scene.show_all()
    shown = fit(image, mask, 0, stamp, 10, 10, sigma)
    assert abs(values[0, 1]) < 0.05 < shown[1]


@pytest.mark.parametrize("spoilt", ["stamp", "width", "pixels", "mask", "flux", "small"])
def test_what_cannot_be_fitted_is_nan(spoilt):
    stamp = gaussian((21, 21), 10.0, 10.0, 1.0, 1.5)
    image = gaussian((30, 30), 15.0, 15.0, -1e3 if spoilt == "flux" else 1e3, 1.5).astype(np.float32)
    mask = np.full(image.shape, 3 if spoilt == "mask" else 0, np.int32)
    if spoilt == "pixels":
        image[:] = np.inf
    if spoilt == "stamp":
        stamp[3, 4] = np.nan
    if spoilt == "small":
        stamp = stamp[9:11, 9:11]
    values = fit(image, mask, 2, stamp, 5, 5, np.nan if spoilt == "width" else 1.5)
    assert np.isnan(values[:4]).all()


def test_no_source_and_a_source_off_the_image():
    none, mask = np.empty(0, np.int64), np.zeros((9, 9), np.int32)
    image = np.zeros((9, 9), np.float32)
    empty = psf_broadening(
        bare_scene(image), mask, 0, none, np.empty((0, 5, 5)), none, none, np.empty(0), **SIZES
    )
    assert empty.shape == (0, 5)
    values = fit(image, mask, 0, gaussian((5, 5), 2, 2, 1.0, 1.0), 100, -100, 1.0)
    assert np.isnan(values[:4]).all()
    assert values[4] == 0


def test_arrays_that_do_not_fit_are_refused():
    mask, image = np.zeros((9, 9), np.int32), np.zeros((9, 9), np.float32)
    one, stamp = np.zeros(1, np.int64), np.ones((1, 5, 5))
    with pytest.raises(ValueError, match="differ in length"):
        psf_broadening(bare_scene(image), mask, 0, one, stamp, one, one, np.ones(2), **SIZES)
    with pytest.raises(ValueError, match="planes differ"):
        psf_broadening(bare_scene(image), mask[1:].copy(), 0, one, stamp, one, one, np.ones(1), **SIZES)
    with pytest.raises(ValueError, match="negative"):
        psf_broadening(bare_scene(image), mask, 0, one - 1, stamp, one, one, np.ones(1), **SIZES)
