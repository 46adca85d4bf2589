"""Named mask planes."""

import pytest

from streamchar.image import MaskPlanes, UnknownMaskPlaneError


def test_planes_that_are_not_there():
    planes = MaskPlanes({"SAT": 0, "CR": 4})
    assert planes.value("SAT", "CR") == 0b10001
    assert planes.present_value("CR", "SPIKE") == 0b10000
    assert planes.present_value() == 0
    with pytest.raises(UnknownMaskPlaneError, match="SPIKE"):
        planes.value("CR", "SPIKE")


def test_including_takes_the_lowest_free_bits_and_changes_nothing_else():
    planes = MaskPlanes({"SAT": 0, "CR": 2})
    assert dict(planes.including("SPIKE", "SAT", "GHOST")) == {"SAT": 0, "CR": 2, "SPIKE": 1, "GHOST": 3}
    assert planes.including("CR") is planes
    assert dict(planes) == {"SAT": 0, "CR": 2}
