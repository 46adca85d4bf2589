"""Bits and codes of every integer type mean the same planes as a plain loop says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamchar.image import InvalidExposureError, MaskPlanes
from streamchar.image.mask_reading import translated
from streamchar.image.profiles.model import MaskPlane

TYPES = ("u1", ">i2", "<i2", ">u2", ">i4", "<u4", ">i8", "?")
PLANES = {"BAD": (0, 3, 15), "SAT": (1,), "CR": (7, 31), "SUSPECT": (0,)}


@given(st.sampled_from(TYPES).flatmap(lambda kind: arrays(kind, (4, 5))), st.sampled_from(["bits", "values"]))
def test_planes_follow_the_rules(values, kind):
    planes = MaskPlanes()
    mask = translated(values, MaskPlane(kind=kind, planes=PLANES), planes, "file")
    assert mask.dtype == np.int32
    for (y, x), value in np.ndenumerate(values):
        bits = int(value) & 0xFFFFFFFF
        for name, numbers in PLANES.items():
            meant = any(bits >> n & 1 for n in numbers) if kind == "bits" else int(value) in numbers
            if kind == "bits" and values.dtype.itemsize < 4:
                meant = any(bits >> n & 1 for n in numbers if n < 8 * values.dtype.itemsize)
            assert bool(mask[y, x] >> planes[name] & 1) == meant


def test_scaled_integers_and_fractions():
    rules = MaskPlane(kind="values", planes={"BAD": (5,)})
    mask = translated(np.array([[5.0, 4.0, np.nan]], np.float32), rules, MaskPlanes(), "file")
    assert mask.tolist() == [[1, 0, 0]]
    with pytest.raises(InvalidExposureError, match=r"file: the mask holds fractions"):
        translated(np.array([[5.5]], np.float32), rules, MaskPlanes(), "file")
    with pytest.raises(InvalidExposureError, match="dtype complex"):
        translated(np.array([[1j]]), rules, MaskPlanes(), "file")
