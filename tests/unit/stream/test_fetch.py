"""What the worker opens: the announced file by its instrument profile, nothing beyond the settings."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streamchar.errors import ConfigurationError
from streamchar.image.errors import (
    ChecksumError,
    CompanionMissingError,
    FileMissingError,
    HostRefusedError,
    InvalidExposureError,
    OutsideRootsError,
)
from streamchar.image.fits import ReadOptions
from streamchar.messages import ExposureReady
from streamchar.stream.fetch import ExposureReader, FetchSettings
from streamchar.stream.worker import describe
from tests.fits_files import decam, plain


def announced(uri: object, **fields: Any) -> ExposureReady:
    event = {"event_id": "e", "instrument": "Announced", "exposure": 5, "detector": 60, **fields}
    return ExposureReady.model_validate({"created_at": "2026-11-22T00:00:00Z", "uri": str(uri), **event})


def test_nothing_may_be_read_by_default(tmp_path: Path) -> None:
    reader = ExposureReader(FetchSettings())
    for uri, error in (
        (plain(tmp_path), OutsideRootsError),
        ("https://example.org/a.fits", HostRefusedError),
        ("s3://bucket/a.fits", HostRefusedError),
    ):
        with pytest.raises(error, match="none are configured"):
            reader.read(announced(uri))


def test_the_announced_detector_chooses_among_the_images_of_a_file(tmp_path: Path) -> None:
    image = decam(tmp_path)
    reader = ExposureReader(FetchSettings(roots=(tmp_path,)))
    exposure = reader.read(announced(image))
    assert (exposure.identity.instrument, exposure.identity.detector) == ("Announced", 60)
    assert exposure.image.mean() == pytest.approx(
        reader.read(announced(image, detector=33)).image.mean() + 27
    )
    with pytest.raises(InvalidExposureError, match="none is detector 4; say which"):
        reader.read(announced(image, detector=4))


def test_companions_are_found_by_name_or_announced(tmp_path: Path) -> None:
    image = decam(tmp_path)
    mask, weight = (image.with_name(image.name.replace("_ooi_", f"_oo{letter}_")) for letter in "dw")
    reader = ExposureReader(FetchSettings(roots=(tmp_path,)))
    moved = mask.rename(tmp_path / "elsewhere.fits.fz")
    with pytest.raises(
        CompanionMissingError, match=r"_ood_.*the profile decam-instcal needs the mask"
    ) as caught:
        reader.read(announced(image))
    assert describe(caught.value).category == "retryable"
    exposure = reader.read(announced(image, uris=(str(moved), str(weight))))
    assert exposure.mask.any()
    with pytest.raises(InvalidExposureError, match="3 further files"):
        reader.read(announced(image, uris=(str(moved), str(weight), str(weight))))
    outside = tmp_path.parent / "outside.fits.fz"
    outside.write_bytes(moved.read_bytes())
    with pytest.raises(OutsideRootsError):
        reader.read(announced(image, uris=(str(outside), str(weight))))
    mask.symlink_to(outside)
    with pytest.raises(OutsideRootsError):
        reader.read(announced(image))


def test_profiles_limits_and_checksums_are_honoured(tmp_path: Path) -> None:
    image = plain(tmp_path)
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    reader = ExposureReader(FetchSettings(roots=(tmp_path,)), ReadOptions(gain=4.0, profile="plain"))
    assert reader.read(announced(image, checksum=f"sha256:{digest}")).observation.gain == 4.0
    with pytest.raises(ChecksumError):
        reader.read(announced(image, checksum="sha256:" + "0" * 64))
    with pytest.raises(ConfigurationError, match="neither a known profile"):
        ExposureReader(FetchSettings(), ReadOptions(profile="unheard-of"))
    with pytest.raises(ConfigurationError, match="not a directory"):
        ExposureReader(FetchSettings(), ReadOptions(profile_directories=(tmp_path / "absent",)))


@pytest.mark.parametrize(("name", "category"), [("absent.fits", "retryable"), ("text.fits", "permanent")])
def test_failures_are_retried_only_where_that_may_help(tmp_path: Path, name: str, category: str) -> None:
    (tmp_path / "text.fits").write_text("no image")
    with pytest.raises(Exception) as caught:
        ExposureReader(FetchSettings(roots=(tmp_path,))).read(announced(tmp_path / name))
    assert describe(caught.value).category == category
    assert isinstance(caught.value, FileMissingError) == (category == "retryable")


def test_access_cannot_be_switched_off_by_accident() -> None:
    with pytest.raises(ValidationError):
        FetchSettings.model_validate({"roots": None})
