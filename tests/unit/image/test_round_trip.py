"""Exposure to FITS and back: every bit of planes, mask meanings, metadata and coordinates."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamchar.image import Exposure, Identity, MaskPlanes, Observation
from streamchar.image.fits import read_exposure, write_exposure
from tests import fits_files

X, Y = (axis.ravel() for axis in np.meshgrid(np.linspace(-5, 60, 9), np.linspace(-5, 45, 8)))


def assert_identical(before, after, *, pixels=True):
    for plane in ("image", "mask", "variance") if pixels else ("mask",):
        one, other = getattr(before, plane), getattr(after, plane)
        assert other.dtype == one.dtype
        np.testing.assert_array_equal(one.view(np.int32), other.view(np.int32), plane)
    assert dict(after.planes) == dict(before.planes)
    assert after.identity == before.identity
    assert after.observation == before.observation
    assert same(after.metadata, before.metadata)
    if before.wcs is None:
        assert after.wcs is None
        return
    for one, other in zip(before.wcs.all_pix2world(X, Y, 0), after.wcs.all_pix2world(X, Y, 0), strict=True):
        np.testing.assert_array_equal(one, other)


def same(one, other):
    """Equal values of equal type, NaN equal to itself."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_everything_comes_back(tmp_path, compression):
    exposure = fits_files.exposure()
    exposure.metadata["BGVAR"] = float(exposure.metadata["BGVAR"])
    exposure.image.view(np.uint32)[7, 7] = 0x7FC12345  # a NaN with a payload
    path = write_exposure(tmp_path / "a.fits", exposure, compression=compression)
    back = read_exposure(path)
    assert_identical(exposure, back)
    # Twice through the file: the coordinates read from it are written the same again.
    assert_identical(back, read_exposure(write_exposure(tmp_path / "b.fits", back)))


def test_rice_changes_pixels_by_less_than_a_fraction_of_their_noise(tmp_path):
    exposure = fits_files.exposure()
    exposure.metadata = {}
    path = write_exposure(tmp_path / "a.fits", exposure, compression="rice")
    back = read_exposure(path)
    assert_identical(exposure, back, pixels=False)
    finite = np.isfinite(exposure.image)
    assert not np.isfinite(back.image[~finite]).any()
    assert np.isfinite(back.image[finite]).all()
    change = back.image[finite] - exposure.image[finite]
    assert 0 < change.std() < 15.0 / 16


finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
positive = st.floats(min_value=1e-5, max_value=1e30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=100),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    identity=st.builds(
        Identity,
        st.from_regex(r"[A-Za-z][A-Za-z0-9 _./-]{0,30}[A-Za-z0-9]", fullmatch=True),
        st.integers(0, 2**62),
        st.integers(0, 10**6),
        st.sampled_from(["", "r", "zs", "F606W"]),
    ),
    numbers=st.tuples(*[st.none() | positive] * 5),
    metadata=st.dictionaries(st.text(max_size=20), values, max_size=4),
    crval=st.tuples(st.floats(0, 359.999), st.floats(-89, 89)),
    cd=st.tuples(*[st.floats(1e-6, 1e-4)] * 4),
    names=st.sets(st.from_regex(r"[A-Z][A-Z0-9_]{0,25}", fullmatch=True), max_size=8),
)
def test_whatever_an_exposure_holds_comes_back(tmp_path, identity, numbers, metadata, crval, cd, names):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = crval, [crval[1], 20 + crval[0] / 7]
    wcs.wcs.cd = [[-cd[0], cd[1] / 30], [cd[2] / 30, cd[3]]]
    exposure = Exposure(
        fits_files.sky(),
        np.zeros((fits_files.HEIGHT, fits_files.WIDTH), np.int32),
        np.ones((fits_files.HEIGHT, fits_files.WIDTH), np.float32),
        planes=MaskPlanes().including(*sorted(names - set(MaskPlanes()))),
        identity=identity,
        observation=Observation(*numbers, "adu"),
        metadata=metadata,
        wcs=wcs,
    )
    assert_identical(exposure, read_exposure(write_exposure(tmp_path / "a.fits", exposure)))


@pytest.mark.parametrize("compression", ["none", "gzip", "rice"])
def test_files_do_not_tell_when_they_were_written(tmp_path, compression, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1.7e9)
    one = write_exposure(tmp_path / "a.fits", fits_files.exposure(), compression=compression).read_bytes()
    monkeypatch.setattr("time.time", lambda: 1.8e9)
    assert (
        write_exposure(tmp_path / "b.fits", fits_files.exposure(), compression=compression).read_bytes()
        == one
    )


def test_what_cannot_be_kept_is_refused(tmp_path):
    exposure = replace(fits_files.exposure(), metadata={"x": object()})
    with pytest.raises(TypeError, match="type object cannot be kept"):
        write_exposure(tmp_path / "a.fits", exposure)
    assert not list(tmp_path.iterdir())


def test_foreign_coordinates_keep_digits_beyond_twenty_characters(tmp_path):
    header = fits.Header({**fits_files.TAN, "GAIN": 1.0, "RDNOISE": 5.0})
    hdu = fits.PrimaryHDU(fits_files.sky(), header)
    path = tmp_path / "a.fits"
    hdu.writeto(path)
    text = path.read_bytes()
    card = next(text[i : i + 80] for i in range(0, 5760, 80) if text[i : i + 8] == b"CD1_1   ")
    path.write_bytes(text.replace(card, b"CD1_1   = -4.6666666666612345e-05".ljust(80)))
    assert read_exposure(path).wcs.pixel_scale_matrix[0, 0] == -4.6666666666612345e-05
