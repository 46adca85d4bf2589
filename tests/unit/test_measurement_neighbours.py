"""Which pixels the noise of what replaces neighbours is measured on."""

import numpy as np
import pytest

from streamchar.characterize.measurement.neighbours import SAMPLE, SAMPLED_ROWS, sampled


@pytest.mark.parametrize(
    "shape", [(100, 200), (512, 512), (4096, 4096), (31, 4000), (4000, 31), (1, 10**6), (2048, 4096)]
)
def test_a_sample_is_large_enough_and_of_many_rows_and_all_kinds_of_columns(shape):
    height, width = shape
    y, x = np.divmod(np.arange(height * width).reshape(shape), width)
    taken = sampled(y), sampled(x)
    assert min(SAMPLE / 2, y.size) <= taken[0].size <= 2.5 * SAMPLE
    assert len(np.unique(taken[0])) >= min(SAMPLED_ROWS, height)
    columns = np.unique(taken[1])
    assert abs(np.count_nonzero(columns % 2) - len(columns) / 2) <= 1
    assert columns.max() > 0.98 * (width - 1)


def test_a_small_image_is_measured_whole():
    image = np.arange(100 * 200).reshape(100, 200)
    np.testing.assert_array_equal(sampled(image), image)
