"""What belongs to a compact spot."""

import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from streamchar.characterize.cosmic_spots import REACH, _connected

SIDE = 2 * REACH + 1


@given(arrays(np.bool_, (SIDE, SIDE)))
def test_the_pixels_connected_with_the_middle_are_those_of_its_label(bright):
    bright[REACH, REACH] = True
    names = label(bright, np.ones((3, 3)))[0]
    np.testing.assert_array_equal(_connected(bright), names == names[REACH, REACH])


def test_a_winding_path_is_followed_to_its_end():
    path = np.array(
        [[0, 0, 0, 0, 1], [0, 1, 1, 0, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 1], [0, 1, 1, 1, 0]], np.bool_
    )
    assert _connected(path).sum() == path.sum()
    path[4, 3] = False
    assert _connected(path).sum() == path.sum() - 4
