"""Exposures go to FITS and come back bit by bit; damaged files give one clear sentence."""

import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from streamchar.image import (
    Exposure,
    ExposureTooLargeError,
    Identity,
    InvalidExposureError,
    MaskPlanes,
    Observation,
    UnreadableExposureError,
)
from streamchar.image.fits import ReadOptions, read_exposure, write_exposure


@pytest.fixture
def exposure():
    rng = np.random.default_rng(1)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [30.0, 20.0]
    wcs.wcs.cd = np.array([[-0.2, 0.01], [0.01, 0.2]]) / 3600
    image = rng.normal(100, 10, (48, 64)).astype(np.float32)
    image[3, 4] = np.nan
    return Exposure(
        image,
        rng.integers(0, 2**11, (48, 64), dtype=np.int32),
        rng.uniform(90, 110, (48, 64)).astype(np.float32),
        planes=MaskPlanes().including("CROSSTALK"),
        wcs=wcs,
        identity=Identity("CAM", 123456789, 7, "r"),
        observation=Observation(30.0, 60000.25, 1.5, 4.5, 65000.0, "adu"),
    )


def test_round_trip_is_bit_identical(exposure, tmp_path):
    back = read_exposure(write_exposure(tmp_path / "a.fits", exposure))
    for plane in ("image", "mask", "variance"):
        before, after = getattr(exposure, plane), getattr(back, plane)
        assert after.dtype == before.dtype
        assert after.flags.c_contiguous
        np.testing.assert_array_equal(before.view(np.int32), after.view(np.int32))
    assert dict(back.planes) == dict(exposure.planes)
    assert back.identity == exposure.identity
    assert back.observation == exposure.observation
    np.testing.assert_allclose(
        back.wcs.all_pix2world([[5, 6]], 0), exposure.wcs.all_pix2world([[5, 6]], 0), atol=1e-12
    )
    assert back.pixel_scale == pytest.approx(0.2, rel=0.01)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.fits"]


def test_mask_planes_of_another_order_keep_their_names(exposure, tmp_path):
    exposure.planes = MaskPlanes({"SAT": 0, "BAD": 5})
    planes = read_exposure(write_exposure(tmp_path / "a.fits", exposure)).planes
    assert planes["SAT"] == 0
    assert planes["BAD"] == 5
    assert set(MaskPlanes()) <= set(planes)
    assert len(set(planes.values())) == len(planes)


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_plain_image_gets_variance_and_empty_mask(tmp_path, suffix):
    header = fits.Header({"GAIN": 2.0, "RDNOISE": 6.0, "MJD-OBS": 60000.0, "EXPTIME": 864.0, "INSTRUME": "X"})
    pixels = np.full((40, 50), 100, np.int16)
    pixels[0, 0] = -50
    path = tmp_path / f"plain{suffix}"
    fits.PrimaryHDU(pixels, header).writeto(path)
    exposure = read_exposure(path)
    assert exposure.image.dtype == np.float32
    assert exposure.variance[1, 1] == pytest.approx(100 / 2 + 9)
    assert exposure.variance[0, 0] == pytest.approx(9)
    assert not exposure.mask.any()
    assert exposure.observation.mid_time == pytest.approx(60000.005)


def test_tile_compressed_image_is_read(tmp_path):
    header = fits.Header({"GAIN": 1.0, "RDNOISE": 5.0})
    pixels = np.arange(64 * 64, dtype=np.int16).reshape(64, 64)
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels, header, compression_type="RICE_1")]).writeto(
        path
    )
    np.testing.assert_array_equal(read_exposure(path).image, pixels)


def test_missing_gain_is_named_and_can_be_given(tmp_path):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((40, 40), np.float32)).writeto(path)
    with pytest.raises(InvalidExposureError, match="GAIN is missing"):
        read_exposure(path)
    assert read_exposure(path, ReadOptions(gain=2.0, read_noise=4.0)).variance[0, 0] == 4.0


def _damaged(kind, tmp_path, exposure):
    path = tmp_path / "bad.fits"
    if kind == "missing":
        return path
    if kind == "directory":
        return tmp_path
    if kind == "text":
        path.write_text("this is not FITS\n" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        whole = write_exposure(tmp_path / "whole.fits", exposure).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "truncated gzip":
        whole = gzip.compress(write_exposure(tmp_path / "whole.fits", exposure).read_bytes())
        path = tmp_path / "bad.fits.gz"
        path.write_bytes(whole[: len(whole) // 2])
    return path


@pytest.mark.parametrize("kind", ["missing", "directory", "text", "empty", "truncated", "truncated gzip"])
def test_unreadable_files_are_named(kind, tmp_path, exposure):
    path = _damaged(kind, tmp_path, exposure)
    with pytest.raises(UnreadableExposureError, match=path.name) as caught:
        read_exposure(path)
    assert "\n" not in str(caught.value)


def test_limits_are_refused_before_pixels_are_read(tmp_path, exposure):
    path = write_exposure(tmp_path / "a.fits", exposure)
    with pytest.raises(ExposureTooLargeError, match="max_pixels"):
        read_exposure(path, ReadOptions(max_pixels=100))
    with pytest.raises(ExposureTooLargeError, match="max_hdus"):
        read_exposure(path, ReadOptions(max_hdus=2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.image.fill(np.nan), "no pixel of the image is finite"),
        (lambda e: e.image.fill(7), "same value, 7"),
        (lambda e: e.variance.fill(0), "100% of the pixels"),
        (lambda e: setattr(e, "mask", e.mask[:10]), "mask plane has shape"),
        (lambda e: setattr(e, "image", e.image.astype(np.float64)), "dtype float64"),
        (
            lambda e: [setattr(e, n, getattr(e, n)[:10, :10]) for n in ("image", "mask", "variance")],
            "10 x 10",
        ),
    ],
)
def test_impossible_pixels_are_refused(exposure, change, words):
    change(exposure)
    with pytest.raises(InvalidExposureError, match=words):
        exposure.check()


def test_a_usable_exposure_passes_the_check(exposure):
    exposure.check()
