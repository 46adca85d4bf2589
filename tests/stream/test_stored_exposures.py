"""The service keeps characterized exposures, and their status leads to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamchar.characterize import CharacterizeImage
from streamchar.image import Exposure, Identity
from streamchar.image.fits import write_exposure
from streamchar.messages import ExposureStatus
from streamchar.stored import read_stored
from streamchar.stream.service import Service
from streamchar.stream.settings import ServiceSettings, load_settings
from streamchar.stream.topics import ensure_topics
from tests.sdss import read_frame
from tests.stream.brokers import BrokerProcess
from tests.stream.services import Night, running

SIZE = 600


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    with BrokerProcess(tmp_path / "broker") as broker:
        yield Night(broker.bootstrap)


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    """A part of a real frame."""
    (tmp_path / "night").mkdir()
    whole = read_frame("r").exposure
    part = (slice(0, SIZE), slice(0, SIZE))
    planes = [plane[part].copy() for plane in (whole.image, whole.mask, whole.variance)]
    exposure = Exposure(*planes, wcs=whole.wcs, observation=whole.observation)
    return write_exposure(tmp_path / "night" / "a.fits", exposure)


def settings_for(night: Night, frame: Path, *overrides: str) -> ServiceSettings:
    common = [
        f"kafka.bootstrap='{night.bootstrap}'",
        "topics.partitions=2",
        "topics.replication=1",
        f"fetch.roots=['{frame.parent}']",
        "http.enabled=false",
        "workers.count=1",
        "workers.spares=0",
    ]
    return load_settings(None, [*common, *overrides], {})


def event(frame: Path, **fields: Any) -> bytes:
    told = {
        "event_id": "event-1",
        "instrument": "SDSS",
        "exposure": 63770399,
        "detector": 4,
        "uri": str(frame),
        "created_at": datetime.now(UTC).isoformat(),
        **fields,
    }
    return json.dumps(told).encode()


def stored(status: ExposureStatus) -> tuple[Path, str | None]:
    [product] = [product for product in status.products if product.product == "exposure"]
    assert product.topic is None
    path = Path(str(product.uri).removeprefix("file://"))
    assert product.size_bytes == path.stat().st_size
    return path, product.digest


async def test_a_status_leads_to_pixels_and_psf_and_a_store_that_fails_is_tried_again(
    night: Night, frame: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    (kept / "SDSS").mkdir(parents=True)
    (kept / "SDSS" / "13").write_text("in the way")
    settings = settings_for(
        night,
        frame,
        f"store.uri='{kept}'",
        "store.compression='gzip'",
        "store.thumbnails=false",
        "limits.duplicate_window=0",
        "retry.in_process=1",
        "retry.backoff=0.1",
        "retry.rounds=0",
    )
    await ensure_topics(settings)
    once = event(frame)
    await night.announce([once, once, event(frame, event_id="unlucky", exposure=13)])
    async with running(Service(settings)):
        statuses = await night.wait_for_statuses(3, 90)
    [failed] = [status for status in statuses if status.event_id == "unlucky"]
    first, second = [status for status in statuses if status is not failed]
    assert (failed.outcome, failed.reasons[0].code, failed.attempts) == ("failed", "store_failed", 2)
    assert first.outcome in {"succeeded", "degraded"}
    assert "store" in {timing.stage for timing in first.timings}
    path, digest = stored(first)
    assert (path, digest) == stored(second)
    assert digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert {found for found in kept.rglob("*") if found.is_file()} == {path, kept / "SDSS" / "13"}

    exposure = Exposure.read(frame)
    exposure.identity = Identity("SDSS", 63770399, 4)
    result = CharacterizeImage().run(exposure)
    back = read_stored(path)
    np.testing.assert_array_equal(back.exposure.image, result.exposure.image)
    np.testing.assert_array_equal(back.exposure.mask, result.exposure.mask)
    np.testing.assert_array_equal(back.background.image(), result.background.image())
    assert back.exposure.psf is not None
    assert result.exposure.psf is not None
    place = np.array([100.0]), np.array([200.0])
    np.testing.assert_array_equal(
        back.exposure.psf.images(*place).images, result.exposure.psf.images(*place).images
    )
