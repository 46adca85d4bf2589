"""The real job on a real frame: what is published is what was measured, and decodes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.errors import ConfigurationError, StreamcharError
from streamchar.image import Exposure
from streamchar.image.errors import ChecksumError, FileMissingError, OutsideRootsError
from streamchar.image.fits import write_exposure
from streamchar.messages import CatalogChunk, CatalogManifest, PsfModel, PsfQuality, decode
from streamchar.messages.psf_chunks import join_psf_model
from streamchar.stream.characterize_job import characterize, digest_of, load_config
from streamchar.stream.errors import ConfigurationMismatchError
from streamchar.stream.job import Assignment, JobResult, parse_outcome, result_frame
from tests.sdss import read_frame

HEADERS = (("content-type", b"application/json"), ("traceparent", b"00-1-2-03"))


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of a real frame as a file."""
    whole = read_frame("r").exposure
    part = (slice(0, 1000), slice(0, 1000))
    exposure = Exposure(
        whole.image[part].copy(),
        whole.mask[part].copy(),
        whole.variance[part].copy(),
        wcs=whole.wcs,
        observation=whole.observation,
    )
    path: Path = tmp_path_factory.mktemp("night") / "frame.fits"
    write_exposure(path, exposure)
    return path


def settings_for(frame: Path, **characterization: Any) -> dict[str, Any]:
    config = load_config(characterization)
    return {
        "characterize": config.model_dump(mode="json"),
        "config_digest": digest_of(config),
        "fetch": {"roots": [str(frame.parent)]},
        "grades": {"default": {"seeing": {"yellow": 0.5, "orange": 1.0, "red": 5.0}}},
        "source": "night",
    }


def announce(uri: object, **fields: object) -> Assignment:
    event = {
        "event_id": "e-1",
        "instrument": "SDSS",
        "exposure": 63770399,
        "detector": 4,
        "uri": str(uri),
        "band": "r",
        "created_at": "2026-01-02T03:04:05Z",
        **fields,
    }
    return Assignment(json.dumps(event).encode(), HEADERS)


def test_products_of_a_real_frame(frame: Path) -> None:
    checksum = "sha256:" + hashlib.sha256(frame.read_bytes()).hexdigest()
    settings = settings_for(frame)
    result = parse_outcome(result_frame(characterize(settings)(announce(frame, checksum=checksum))))
    assert isinstance(result, JobResult)
    messages = [decode(bytes(message.value), message.headers) for message in result.messages]
    assert {message.key for message in result.messages} == {b"SDSS/63770399/4"}
    assert {dict(message.headers)["traceparent"] for message in result.messages} == {b"00-1-2-03"}

    quality = next(message for message in messages if isinstance(message, PsfQuality))
    assert quality.outcome == result.outcome
    assert quality.config_digest == settings["config_digest"]
    assert quality.seeing == pytest.approx(1.15, rel=0.15)
    assert quality.grade == "orange"
    assert [reason.code for reason in quality.grade_reasons] == ["seeing"]
    assert quality.psf_grid is not None
    assert len(quality.psf_grid.x) == 25
    assert len(result.messages[0].value) < 10_000

    manifest = next(message for message in messages if isinstance(message, CatalogManifest))
    chunks = [message for message in messages if isinstance(message, CatalogChunk)]
    assert sum(chunk.rows for chunk in chunks) == manifest.rows == quality.n_sources
    assert manifest.outcome == result.outcome
    assert manifest.metadata["NOISE_SEED_MULTIPLIER"] == 1
    radii = manifest.metadata["BASE_CIRCULARAPERTUREFLUX_RADII"]
    assert isinstance(radii, tuple)
    assert radii[:3] == (3.0, 4.5, 6.0)
    model, arrays = join_psf_model([message for message in messages if isinstance(message, PsfModel)])
    assert model.kind == quality.psf_kind
    if model.kind == "psfex":
        assert arrays["coefficients"].shape == (len(arrays["basis"]), len(model.x_powers))
    described = {product["product"]: product for product in result.products}
    assert described["source-catalog"]["rows"] == manifest.rows
    assert {"read", "characterize", "encode"} <= {stage for stage, _, _ in result.timings}


EXPOSURE = """
import json, sys
from streamchar.stream.characterize_job import characterize
from streamchar.stream.job import Assignment

settings, event = json.loads(sys.argv[1])
characterize(settings)(Assignment(event.encode(), (("content-type", b"application/json"),)))
print(json.dumps(sorted(sys.modules)))
"""


def test_an_exposure_imports_no_masked_arrays(frame: Path) -> None:
    """NumPy's median, quantile and unique do, which costs a process with one exposure a hundredth of its time."""
    arguments = json.dumps([settings_for(frame), announce(frame).value.decode()])
    run = subprocess.run(
        [sys.executable, "-c", EXPOSURE, arguments], capture_output=True, text=True, check=True, timeout=120
    )
    imported = set(json.loads(run.stdout))
    assert "numpy.random" in imported
    assert sorted({"numpy.ma", "scipy", "astropy"} & imported) == []


def test_one_task_serves_many_events_and_gives_the_same_bytes(frame: Path) -> None:
    job = characterize(settings_for(frame))
    first, second = (
        [bytes(m.value) for m in job(announce(frame)).messages if m.type == "source-catalog"][:-1]
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("uri", "fields", "error"),
    [
        ("{root}/absent.fits", {}, FileMissingError),
        ("/etc/passwd", {}, OutsideRootsError),
        ("{frame}", {"checksum": "sha256:" + "0" * 64}, ChecksumError),
        ("{frame}", {"config_digest": "sha256:" + "0" * 64}, ConfigurationMismatchError),
        ("{root}/text.fits", {}, StreamcharError),
        ("{root}/nan.fits", {}, StreamcharError),
        ("{root}/tiny.fits", {}, StreamcharError),
    ],
)
def test_what_cannot_be_used_is_a_typed_error(
    frame: Path, uri: str, fields: dict[str, object], error: type[Exception]
) -> None:
    (frame.parent / "text.fits").write_text("this is no image")
    for name, pixels in (("nan", np.full((200, 200), np.nan)), ("tiny", np.ones((10, 10)))):
        exposure = Exposure.from_image(pixels, gain=1.0, read_noise=5.0)
        write_exposure(frame.parent / f"{name}.fits", exposure)
    job = characterize(settings_for(frame))
    with pytest.raises(error):
        job(announce(uri.format(root=frame.parent, frame=frame), **fields))


def test_digests_follow_values_not_their_origin() -> None:
    assert digest_of(load_config({})) == digest_of(load_config({"preset": "best", "psf_iterations": 2}))
    assert digest_of(load_config({})) != digest_of(load_config({"psf_iterations": 1}))
    assert load_config({"preset": "reference"}) == CharacterizeImageConfig.preset("reference")
    with pytest.raises(ConfigurationError, match="'worst' is no preset"):
        load_config({"preset": "worst"})
    with pytest.raises(ConfigurationError, match="psf_iterations"):
        load_config({"psf_iteration": 1})
