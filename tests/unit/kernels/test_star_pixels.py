"""star_pixels against a twin of NumPy and SciPy's connected components."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, label

from streamchar.kernels import star_pixels

BAD, DETECTED, OTHER = 1, 2, 4


def detached_twin(detected):
    middle = len(detected) // 2
    seeded = detected.copy()
    seeded[middle, middle] = True
    areas = label(seeded, np.ones((3, 3)))[0]
    return detected & (areas != areas[middle, middle])


def line_twin(pixels, variance):
    """Sky and slope from the usable pixels of one star."""
    if not len(pixels):
        return np.nan, 0.0
    centred = pixels - pixels.mean()
    square = (centred**2).sum()
    slope = max((centred * variance).sum() / square, 0.0) if square > 0 else 0.0
    sky = variance.mean() - slope * pixels.mean()
    return (sky, slope) if sky > 0 else (np.quantile(variance, 0.1), 0.0)


def stamp_twin(image, variance, mask, within, foreign, margin):
    """Pixels, usable, sky and slope of one star from its stamps."""
    reach = np.arange(-margin, margin + 1)
    apart = detached_twin((mask & DETECTED != 0) & ~foreign)
    circle = np.hypot(reach[:, None], reach) <= margin
    near = binary_dilation(apart, circle) if apart.any() else apart
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(image) & np.isfinite(variance) & (variance > 0) & (mask & BAD == 0)
    usable &= within & ~foreign & ~near
    pixels = np.where(usable, image, 0.0).astype(np.float64)
    return pixels, usable, *line_twin(pixels[usable], variance[usable].astype(np.float64))


def planes(seed, density, flaws):
    rng = np.random.default_rng(seed)
    image = rng.gamma(1.0, 50.0, (40, 45)).astype(np.float32)
    variance = (10.0 + 0.2 * image + rng.normal(0, 1, image.shape)).astype(np.float32)
    mask = DETECTED * (rng.uniform(size=image.shape) < density) + OTHER * (
        rng.uniform(size=image.shape) < 0.3
    )
    mask = (mask + BAD * (rng.uniform(size=image.shape) < flaws)).astype(np.int32)
    for plane in (image, variance):
        plane[rng.uniform(size=image.shape) < flaws] = rng.choice([np.nan, np.inf, -np.inf])
    variance[rng.uniform(size=image.shape) < flaws] = 0.0
    return rng, image, variance, mask


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(0, 4),
    half=st.integers(0, 12),
    density=st.sampled_from([0.0, 0.05, 0.3, 0.6, 1.0]),
    flaws=st.sampled_from([0.0, 0.02, 1.0]),
    margin=st.integers(0, 3),
    slope=st.sampled_from([1.0, -1.0, 1e4]),
)
def test_star_pixels_equal_the_twin(seed, count, half, density, flaws, margin, slope):
    rng, image, variance, mask = planes(seed, density, flaws)
    image *= np.float32(slope)
    size = 2 * half + 1
    x, y = (rng.integers(half, length - half, count) for length in (45, 40))
    within = rng.uniform(size=(size, size)) < 0.9
    foreign = rng.uniform(size=(count, size, size)) < 0.05
    found = star_pixels(image, variance, mask, x, y, within, foreign, BAD, DETECTED, margin)
    assert [part.shape for part in found] == [(count, size**2), (count, size**2), (count,), (count,)]
    for i in range(count):
        part = slice(y[i] - half, y[i] + half + 1), slice(x[i] - half, x[i] + half + 1)
        stamps = (plane[part] for plane in (image, variance, mask))
        pixels, usable, sky, slope_found = stamp_twin(*stamps, within, foreign[i], margin)
        np.testing.assert_array_equal(found[0][i].reshape(size, size), pixels)
        np.testing.assert_array_equal(found[1][i].reshape(size, size), usable)
        np.testing.assert_allclose([found[2][i], found[3][i]], [sky, slope_found], rtol=1e-9, atol=1e-12)


def test_neighbours_are_left_out_with_a_margin_and_the_star_is_not():
    image, mask = np.ones((21, 50), np.float32), np.zeros((21, 50), np.int32)
    mask[8:13, 8:13] = DETECTED
    mask[13, 13] = DETECTED  # touches by a corner: the star's own
    mask[3, 3] = DETECTED
    x, y = np.array([10, 35]), np.array([10, 10])
    within, foreign = np.ones((21, 21), bool), np.zeros((2, 21, 21), bool)
    usable = star_pixels(image, image, mask, x, y, within, foreign, BAD, DETECTED, 3)[1].reshape(2, 21, 21)
    grid_y, grid_x = np.indices((21, 21))
    np.testing.assert_array_equal(usable[0], (grid_x - 3) ** 2 + (grid_y - 3) ** 2 > 9)
    assert usable[1].all()


def test_a_variance_that_falls_below_zero_gives_the_lowest_tenth():
    image = np.full((5, 5), 100.0, np.float32)
    image[2, 2], image[0, 0] = 200.0, 90.0
    variance = np.arange(1.0, 26.0).reshape(5, 5).astype(np.float32)
    variance[2, 2] = 900.0
    middle, whole = np.array([2]), np.ones((5, 5), bool)
    mask = np.zeros((5, 5), np.int32)
    _, _, sky, slope = star_pixels(image, variance, mask, middle, middle, whole, ~whole[None], 0, 0, 3)
    assert sky[0] == pytest.approx(np.quantile(variance, 0.1))
    assert slope[0] == 0.0


def test_shapes_are_checked():
    plane, mask, one = np.ones((9, 9), np.float32), np.zeros((9, 9), np.int32), np.array([4])
    within, foreign = np.ones((5, 5), bool), np.zeros((1, 5, 5), bool)

    def call(**change):
        given = {"image": plane, "variance": plane, "mask": mask, "x": one, "y": one, "within": within}
        given |= {"foreign": foreign, "bad": 0, "detected": 0, "margin": 3}
        return star_pixels(**given | change)

    assert call()[1].all()
    for change in ({"x": np.array([1])}, {"y": np.array([7])}, {"x": np.array([-4])}):
        with pytest.raises(ValueError, match="leaves"):
            call(**change)
    with pytest.raises(ValueError, match="odd"):
        call(within=np.ones((4, 4), bool))
    for change in ({"y": np.array([4, 4])}, {"foreign": foreign[:0]}, {"mask": mask[:8].copy()}):
        with pytest.raises(ValueError, match="differ in shape"):
            call(**change)
    with pytest.raises(ValueError, match="margin"):
        call(margin=-1)
