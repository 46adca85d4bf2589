"""Characterized exposures in a store: what comes back is what was measured, named by event and configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image
from pydantic import ValidationError

from streamchar.characterize import CharacterizationResult, CharacterizeImage
from streamchar.characterize.aperture_correction import StandardError
from streamchar.characterize.background import BackgroundList
from streamchar.characterize.chebyshev import ChebyshevField
from streamchar.characterize.psf.gaussian import GaussianPsf
from streamchar.characterize.psf.moffat import MoffatPsf
from streamchar.image import Exposure, UnreadableExposureError
from streamchar.image.access import Access
from streamchar.image.errors import InvalidExposureError
from streamchar.messages import ExposureReady
from streamchar.stored import read_stored, write_stored
from streamchar.stream.exposure_store import ExposureStore, StoreError
from streamchar.stream.store_settings import StoreSettings
from streamchar.stream.worker import describe
from tests import fits_files
from tests.pretended_s3 import pretended_s3
from tests.sdss import read_frame

DIGEST = "sha256:" + "a" * 64
PLACES = np.array([10.0, 300.0, 555.5]), np.array([20.0, 5.0, 610.2])


def announced(**fields: Any) -> ExposureReady:
    event = {"event_id": "e-1", "instrument": "SDSS", "exposure": 63770399, "detector": 4, **fields}
    return ExposureReady.model_validate(
        {"uri": "/data/a.fits", "created_at": "2026-11-22T00:00:00Z", **event}
    )


@pytest.fixture(scope="module")
def result() -> CharacterizationResult:
    """What the characterization makes of a part of a real frame."""
    whole = read_frame("r").exposure
    part = (slice(0, 700), slice(0, 700))
    planes = [plane[part].copy() for plane in (whole.image, whole.mask, whole.variance)]
    exposure = Exposure(*planes, wcs=whole.wcs, observation=whole.observation, identity=whole.identity)
    found = CharacterizeImage().run(exposure)
    assert found.exposure.psf is not None
    assert found.exposure.aperture_corrections
    assert len(found.background)
    return found


def assert_same(result: CharacterizationResult, path: str | Path, access: Access | None = None) -> None:
    """Compare everything bit by bit."""
    stored, exposure = read_stored(path, access=access), result.exposure
    back = stored.exposure
    for name in ("image", "mask", "variance"):
        one, other = getattr(exposure, name), getattr(back, name)
        np.testing.assert_array_equal(one.view(np.int32), other.view(np.int32), name)
    assert dict(back.planes) == dict(exposure.planes)
    assert back.identity == exposure.identity
    assert back.observation == exposure.observation
    assert back.metadata.keys() == exposure.metadata.keys()
    assert exposure.psf is not None
    assert back.psf is not None
    assert type(back.psf) is type(exposure.psf)
    np.testing.assert_array_equal(back.psf.images(*PLACES).images, exposure.psf.images(*PLACES).images)
    fields, others = exposure.aperture_corrections, back.aperture_corrections
    assert fields is not None
    assert others is not None
    assert fields.keys() == others.keys()
    for name, field in fields.items():
        np.testing.assert_array_equal(field.evaluate(*PLACES), others[name].evaluate(*PLACES))
    np.testing.assert_array_equal(stored.background.image(), result.background.image())
    assert exposure.wcs is not None
    assert back.wcs is not None
    np.testing.assert_array_equal(back.wcs.all_pix2world(*PLACES, 0), exposure.wcs.all_pix2world(*PLACES, 0))


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_folder_keeps_everything_under_a_name_of_the_event(
    result: CharacterizationResult, tmp_path: Path, compression: Any
) -> None:
    store = ExposureStore(StoreSettings(uri=str(tmp_path), compression=compression), DIGEST)
    described, thumbnail = store.put(announced(), result)
    path = Path(str(described.uri).removeprefix("file://"))
    assert path.parent == tmp_path / "SDSS" / "63770399" / "4"
    assert described.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert described.size_bytes == path.stat().st_size
    assert_same(result, str(described.uri))
    picture = Path(str(thumbnail.uri).removeprefix("file://"))
    assert set(path.parent.iterdir()) == {path, picture}
    # A redelivery is the same files with the same bytes.
    assert store.put(announced(), result) == (described, thumbnail)
    assert set(path.parent.iterdir()) == {path, picture}
    # Other events and configurations have files of their own.
    other = ExposureStore(StoreSettings(uri=str(tmp_path)), "sha256:" + "b" * 64)
    assert (
        len(
            {store.address(announced()), store.address(announced(event_id="e-2")), other.address(announced())}
        )
        == 3
    )
    if compression == "gzip":
        assert path.stat().st_size < 0.8 * 12 * 700 * 700


def test_a_thumbnail_is_a_small_picture_of_the_exposure(
    result: CharacterizationResult, tmp_path: Path
) -> None:
    store = ExposureStore(StoreSettings(uri=str(tmp_path), exposures=False), DIGEST)
    [described] = store.put(announced(), result)
    path = Path(str(described.uri).removeprefix("file://"))
    assert described.product == "thumbnail"
    assert list(path.parent.iterdir()) == [path]
    assert described.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    with Image.open(path) as picture:
        assert max(picture.size) <= 256
        shades = np.asarray(picture)
    # The brightest star is the darkest place, turned upside down.
    y, x = np.unravel_index(np.argmax(result.exposure.image), result.exposure.shape)
    scale = result.exposure.shape[0] / shades.shape[0]
    assert shades[shades.shape[0] - 1 - int(y / scale), int(x / scale)] < 60
    assert np.median(shades) > 150


def test_nothing_is_kept_when_nothing_is_wanted(result: CharacterizationResult, tmp_path: Path) -> None:
    settings = StoreSettings(uri=str(tmp_path), exposures=False, thumbnails=False)
    assert ExposureStore(settings, DIGEST).put(announced(), result) == ()
    assert not list(tmp_path.iterdir())


def test_quantised_files_are_small_and_say_so(result: CharacterizationResult, tmp_path: Path) -> None:
    path = write_stored(tmp_path / "a.fits", result, compression="rice")
    back = read_stored(path).exposure
    noise = np.sqrt(np.median(result.exposure.variance))
    change = back.image - result.exposure.image
    assert 0 < np.std(change) < noise / 16
    np.testing.assert_array_equal(back.mask, result.exposure.mask)
    assert path.stat().st_size < 0.35 * 12 * 700 * 700
    assert fits.getheader(path, "IMAGE")["EXTNAME"] == "IMAGE"
    with fits.open(path, disable_image_compression=True) as hdus:
        assert hdus["IMAGE"].header["ZQUANTIZ"] == "SUBTRACTIVE_DITHER_2"


def test_odd_names_stay_below_the_root(tmp_path: Path) -> None:
    store = ExposureStore(StoreSettings(uri=f"file://{tmp_path}"), DIGEST)
    for instrument in ("..", ".", "a b", "%2e%2e", "é#?"):
        result = CharacterizationResult(fits_files.exposure(), BackgroundList())
        described, _ = store.put(announced(instrument=instrument), result)
        with fits.open(str(described.uri).removeprefix("file://").replace("%25", "%")) as hdus:
            assert hdus[0].header["EXPID"] == 2026112200123
    found = list(tmp_path.rglob("*.fits"))
    assert len(found) == 5
    assert {len(path.relative_to(tmp_path).parts) for path in found} == {4}
    assert not list(tmp_path.parent.glob("*.fits"))


@pytest.mark.parametrize(
    "psf", [GaussianPsf(2.1, 31, (1.5, 2.5)), MoffatPsf(4.1, 3.9, 0.2, 3.3, 25, (1.5, 2.5)), None]
)
def test_all_models_and_plain_fields_come_back(tmp_path: Path, psf: Any) -> None:
    exposure = fits_files.exposure()
    exposure.psf = psf
    exposure.aperture_corrections = {
        "flux": ChebyshevField.constant(1 / 3, 56, 40),
        "fluxErr": StandardError(np.eye(3) / 7, 1, 56, 40),
    }
    back = read_stored(write_stored(tmp_path / "a.fits", CharacterizationResult(exposure, BackgroundList())))
    assert back.exposure.psf == psf
    assert back.exposure.aperture_corrections is not None
    for name, field in exposure.aperture_corrections.items():
        assert back.exposure.aperture_corrections[name].evaluate(3, 4) == field.evaluate(3, 4)
    assert len(back.background) == 0


def test_what_cannot_be_stored_is_tried_again(tmp_path: Path) -> None:
    result = CharacterizationResult(fits_files.exposure(), BackgroundList())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="could not be stored") as caught:
        ExposureStore(StoreSettings(uri=str(tmp_path / "file")), DIGEST).put(announced(), result)
    failure = describe(caught.value)
    assert (failure.category, failure.code) == ("retryable", "store_failed")


def test_damaged_and_other_files_are_no_stored_exposure(tmp_path: Path) -> None:
    result = CharacterizationResult(fits_files.exposure(), BackgroundList())
    result.exposure.psf = GaussianPsf(2.0, 31)
    path = write_stored(tmp_path / "a.fits", result)
    with fits.open(path) as hdus:
        hdus["PSF"].data["kind"] = "nonsense"
        hdus.writeto(tmp_path / "b.fits")
    with pytest.raises(Exception, match="the kind 'nonsense' is not known"):
        read_stored(tmp_path / "b.fits")
    with pytest.raises(InvalidExposureError, match="needs an image extension 'IMAGE'"):
        read_stored(fits_files.plain(tmp_path))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UnreadableExposureError, match="truncated"):
        read_stored(path)


@pytest.mark.parametrize(
    "uri", ["relative/folder", "s3:///prefix", "https://host/folder", "file://host/folder", "gs://bucket"]
)
def test_addresses_that_are_no_store_are_refused_at_the_start(uri: str) -> None:
    with pytest.raises(ValidationError, match=r"uri|path|file://"):
        StoreSettings(uri=uri)


def test_addresses_of_buckets() -> None:
    store = ExposureStore(StoreSettings(uri="s3://night/characterized/"), DIGEST)
    assert store.address(announced()).startswith("s3://night/characterized/SDSS/63770399/4/")


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A pretended S3 with one bucket."""
    with pretended_s3("characterized") as pretended:
        yield pretended


def test_a_bucket_keeps_everything_too(result: CharacterizationResult, s3: Any) -> None:
    settings = StoreSettings(uri="s3://characterized/kept", compression="gzip", endpoint=s3.endpoint)
    described, thumbnail = ExposureStore(settings, DIGEST).put(announced(), result)
    listed = s3.client.list_objects_v2(Bucket="characterized")["Contents"]
    sizes = {f"s3://characterized/{item['Key']}": item["Size"] for item in listed}
    assert sizes == {kept.uri: kept.size_bytes for kept in (described, thumbnail)}
    assert_same(result, str(described.uri), Access(endpoint=s3.endpoint))
    for broken in ({"uri": "s3://absent/kept"}, {"endpoint": "http://127.0.0.1:1", "timeout": 0.5}):
        with pytest.raises(StoreError):
            ExposureStore(settings.model_copy(update=broken), DIGEST).put(announced(), result)
