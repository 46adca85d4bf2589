"""Small numerical parts that stand in for SciPy, compared with it."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from scipy.spatial import KDTree

from streamchar.characterize import statistics
from streamchar.characterize.line_search import SMOOTHING, _counts, _running_mean, _views
from streamchar.characterize.summary import largest_distance
from streamchar.kernels import line_sums


@pytest.mark.parametrize("shape", [(SMOOTHING, SMOOTHING), (40, 131), (8, 64)])
def test_running_means_are_those_of_scipy(shape):
    plane = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(_running_mean(plane), uniform_filter(plane, SMOOTHING), atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (7, 30), (30, 7)])
@pytest.mark.parametrize("unused", [0, 1])
def test_counts_are_the_sums_of_what_is_used(shape, unused):
    used = np.ones(shape, np.int16)
    used.flat[:unused] = 0
    for count, view in zip(_counts(used), _views(used), strict=True):
        np.testing.assert_array_equal(count, line_sums(view))


def test_quartiles_of_bins_need_no_moments():
    image = np.random.default_rng(3).normal(size=(40, 60)).astype(np.float32)
    mask, edges = np.zeros(image.shape, np.int32), (np.array([0, 20, 40]), np.array([0, 25, 60]))
    whole = statistics.bins(image, mask, 0, *edges, clip=False, with_median=True)
    part = statistics.bins(image, mask, 0, *edges, clip=False, with_median=True, with_moments=False)
    for name in ("usable", "lower_quartile", "median"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))
    assert np.isfinite(whole.mean).all()
    assert np.isnan(part.mean).all()
    assert (part.kept == 0).all()


@pytest.mark.parametrize(("places", "others"), [(1, 1), (5000, 80), (1024, 3), (20, 700)])
def test_the_largest_distance_is_that_of_a_tree(places, others):
    random = np.random.default_rng(2)
    points, stars = random.uniform(0, 4096, (places, 2)), random.uniform(0, 4096, (others, 2))
    expected = KDTree(stars).query(points)[0].max()
    assert largest_distance(points, stars.T) == pytest.approx(expected, rel=1e-9)


def test_a_place_on_another_has_no_distance():
    assert largest_distance(np.full((3, 2), 4000.0), np.full((2, 1), 4000.0)) == 0.0
