"""Images of point-spread functions."""

import numpy as np
import pytest

from streamchar.image.psf import cut_middle


@pytest.mark.parametrize("shape", [(5, 7), (2, 7, 3), (1, 1), (9, 9)])
@pytest.mark.parametrize("half", [0, 1, 3, 6])
def test_the_middle_is_cut_out_and_nothing_lies_beyond(shape, half):
    images = np.random.default_rng(1).random(shape)
    cut = cut_middle(images, half)
    assert cut.shape == (*shape[:-2], 2 * half + 1, 2 * half + 1)
    around = np.pad(images, [(0, 0)] * (len(shape) - 2) + [(half, half)] * 2)
    y, x = (length // 2 for length in shape[-2:])
    np.testing.assert_array_equal(cut, around[..., y : y + 2 * half + 1, x : x + 2 * half + 1])
