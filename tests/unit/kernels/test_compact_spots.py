"""Compact spots against NumPy: one peak after the other, connected pixels by their labels."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from streamchar.kernels import compact_spots, cut_windows

EXCLUDED, ALLOWED = 2, 4
SIDE, PIXELS = 5, 25
LIMITS = {"improvement": 10.0, "advantage": 0.02, "long_gain": 10.0, "growth": 3.5, "counts": 100.0}


def lights(places, widths):
    """Gaussians about places in the middle pixel: float32 (25, models)."""
    offset = np.arange(SIDE) - SIDE // 2
    models = [
        np.exp(-0.5 * (((offset - dy) / along)[:, None] ** 2 + ((offset - dx) / across) ** 2)).ravel()
        for dy in places
        for dx in places
        for along, across in widths
    ]
    return np.array(models, np.float32).T.copy()


PLACES = np.linspace(-0.5, 0.5, 3)
ROUND, LONG = lights(PLACES, [(0.4, 0.4), (0.6, 0.6)]), lights(PLACES, [(0.9, 0.4), (0.4, 0.9)])


def stars(rows=2, columns=3, sigma=1.0):
    """Stars that widen from part to part, and the least light around one of each part."""
    models = np.array([lights(PLACES, [(s, s)]) for s in sigma + 0.05 * np.arange(rows * columns)])
    images = models.reshape(rows, columns, SIDE, SIDE, -1).astype(float)
    inner = images[:, :, 1:-1, 1:-1].sum(axis=(2, 3))
    sharpest = ((images.sum(axis=(2, 3)) - inner) / inner).min(axis=-1)
    return models.reshape(rows, columns, PIXELS, -1), sharpest


def explained(data, weight, models):
    """What the best model takes from chi-square, in single precision and in the kernel's order."""
    product, square = np.zeros((2, models.shape[1]), np.float32)
    for value, worth, light in zip(
        (data * weight).astype(np.float32), weight.astype(np.float32), models, strict=True
    ):
        product += value * light
        square += worth * (light * light)
    product = np.maximum(product, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.nanmax(product * product / square, initial=0))


def twin(mask, variance, y, x, around, level, excluded, models, sharpest, round_spots, long_spots, **p):
    height, width = mask.shape
    rows, columns = sharpest.shape
    spots = []
    for b, a, window in zip(y.tolist(), x.tolist(), around, strict=True):
        if not (2 <= b < height - 2 and 2 <= a < width - 2):
            continue
        near = np.s_[b - 2 : b + 3, a - 2 : a + 3]
        part = b * rows // height, a * columns // width
        data, spread = window.astype(float) - level, variance[near].ravel().astype(float)
        usable = np.isfinite(data).all() and (spread > 0).all() and not (mask[near] & excluded).any()
        if not usable:
            continue
        inner = data.reshape(SIDE, SIDE)[1:-1, 1:-1].sum()
        if not (data.sum() - inner) / max(inner, 1e-30) < sharpest[part]:
            continue
        star, spot = explained(data, 1 / spread, models[part]), explained(data, 1 / spread, round_spots)
        if spot > star - p["long_gain"]:
            spot = max(spot, explained(data, 1 / spread, long_spots))
        if not (spot - star > p["improvement"] and spot > (1 + p["advantage"]) * star):
            continue
        bright = (data * np.sqrt(1 / spread) > p["growth"]).reshape(SIDE, SIDE)
        bright[2, 2] = True
        names = label(bright, np.ones((3, 3)))[0]
        connected = names == names[2, 2]
        if data[connected.ravel()].sum() >= p["counts"]:
            spots.append((np.argwhere(connected) + np.array([b - 2, a - 2])).tolist())
    return spots


def spots_of(image, mask, variance, y, x, level=0.0, sharpest=None, **changes):
    """The kernel's spots, and the twin's, each a list of pixels."""
    y, x = (np.asarray(axis, np.int32) for axis in (y, x))
    around = cut_windows(image, x.astype(np.int64), y.astype(np.int64), 2)
    models, least = stars()
    arguments = (
        mask,
        variance,
        y,
        x,
        around,
        level,
        EXCLUDED,
        models,
        least if sharpest is None else sharpest,
        ROUND,
        LONG,
    )
    limits = LIMITS | changes
    rows, columns, start = compact_spots(*arguments, **limits)
    pixels = np.stack([rows, columns], axis=-1)
    found = [pixels[a:b].tolist() for a, b in pairwise(start)]
    return found, twin(*arguments, **limits)


def scene(seed, shape):
    """Hits and stars with noise, pixels that are not finite, excluded, or of no known variance."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 10, shape)
    rows, columns = np.indices(shape)
    for _ in range(shape[0] * shape[1] // 60):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        along, across = rng.choice([(0.5, 0.5), (0.9, 0.4), (1.1, 1.1)])
        image += rng.uniform(0, 1500) * np.exp(
            -0.5 * (((rows - y) / along) ** 2 + ((columns - x) / across) ** 2)
        )
    image[rng.random(shape) < 0.002] = rng.choice([np.nan, np.inf, -np.inf])
    variance = rng.uniform(80, 120, shape)
    variance[rng.random(shape) < 0.004] = rng.choice([np.nan, np.inf, 0, -1])
    mask = rng.choice([0, ALLOWED, EXCLUDED], shape, p=[0.8, 0.195, 0.005])
    return image.astype(np.float32), mask.astype(np.int32), variance.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(1, 1), (5, 5), (4, 30), (40, 50)]),
    level=st.sampled_from([0.0, 5.0]),
    changes=st.sampled_from([{}, {"improvement": 0.0, "counts": 0.0}, {"growth": 0.0}, {"long_gain": -1e3}]),
)
def test_same_spots_as_one_by_one(seed, shape, level, changes):
    image, mask, variance = scene(seed, shape)
    y, x = np.nonzero(image > 60)
    found, expected = spots_of(image, mask, variance, y, x, level, **changes)
    assert found == expected


def test_scenes_are_not_empty():
    image, mask, variance = scene(1, (200, 200))
    found, expected = spots_of(image, mask, variance, *np.nonzero(image > 60))
    assert found == expected
    assert len(found) > 20


def one_hit():
    image, one = np.zeros((20, 30), np.float32), np.ones((20, 30), np.float32)
    image[10:12, 15:17] = 900
    return image, np.zeros((20, 30), np.int32), 100 * one


def test_pixels_of_a_hit():
    found, _ = spots_of(*one_hit(), [10], [15])
    assert found == [[[10, 15], [10, 16], [11, 15], [11, 16]]]
    image, mask, variance = one_hit()
    image[:] = 900
    assert spots_of(image, mask, variance, [10], [15]) == ([], [])


def test_a_winding_path_is_followed_to_its_end():
    path = np.array(
        [[0, 0, 0, 0, 1], [0, 1, 1, 0, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 1], [0, 1, 1, 1, 0]], bool
    )
    image, mask, variance = one_hit()
    image[8:13, 13:18] = np.where(path, 40, 0)
    image[10, 15] = 9000
    everything = np.full((2, 3), np.inf)
    found, _ = spots_of(image, mask, variance, [10], [15], sharpest=everything)
    assert len(found[0]) == path.sum()
    image[12, 16] = 0
    found, _ = spots_of(image, mask, variance, [10], [15], sharpest=everything)
    assert len(found[0]) == path.sum() - 5


@pytest.mark.parametrize(("y", "x"), [(1, 15), (18, 15), (10, 1), (10, 28), (-5, 3), (10, 400)])
def test_peaks_near_the_border_or_beyond_are_left_out(y, x):
    assert spots_of(*one_hit(), [y], [x])[0] == []


def test_wrong_input_is_refused():
    _, mask, variance = one_hit()
    models, sharpest = stars()
    one, around = np.full(1, 10, np.int32), np.zeros((1, PIXELS), np.float32)
    right = [mask, variance, one, one, around, 0.0, EXCLUDED, models, sharpest, ROUND, LONG]
    compact_spots(*right, **LIMITS)
    for place, wrong, message in (
        (1, variance[1:].copy(), "shape"),
        (2, np.full(2, 10, np.int32), "length"),
        (4, np.zeros((2, PIXELS), np.float32), "length"),
        (7, models[:1].copy(), "same parts"),
        (8, sharpest[:, :1].copy(), "same parts"),
    ):
        with pytest.raises(ValueError, match=message):
            compact_spots(*(wrong if k == place else value for k, value in enumerate(right)), **LIMITS)
