"""Small numerical parts that stand in for SciPy, compared with it."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from scipy.spatial import KDTree

from streamchar.characterize.line_search import SMOOTHING, _running_mean
from streamchar.characterize.summary import largest_distance


@pytest.mark.parametrize("shape", [(SMOOTHING, SMOOTHING), (40, 131), (8, 64)])
def test_running_means_are_those_of_scipy(shape):
    plane = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(_running_mean(plane), uniform_filter(plane, SMOOTHING), atol=1e-6)


@pytest.mark.parametrize(("places", "others"), [(1, 1), (5000, 80), (1024, 3)])
def test_the_largest_distance_is_that_of_a_tree(places, others):
    random = np.random.default_rng(2)
    points, stars = random.uniform(0, 4096, (places, 2)), random.uniform(0, 4096, (others, 2))
    expected = KDTree(stars).query(points)[0].max()
    assert largest_distance(points, stars.T) == pytest.approx(expected, rel=1e-9)


def test_a_place_on_another_has_no_distance():
    assert largest_distance(np.full((3, 2), 4000.0), np.full((2, 1), 4000.0)) == 0.0
