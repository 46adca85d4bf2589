"""Real pixels through the whole service: products for a good frame, one clear reason for each bad one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import pytest

from streamchar.cli.serve import prepare_characterization
from streamchar.image import Exposure
from streamchar.image.fits import write_exposure
from streamchar.stream.job import Assignment, JobFailure, JobResult
from streamchar.stream.pool import WorkerPool
from streamchar.stream.service import Service, pool_options
from streamchar.stream.settings import load_settings
from streamchar.stream.topics import ensure_topics
from tests.sdss import read_frame
from tests.stream.brokers import BrokerProcess
from tests.stream.services import Night, running


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    with BrokerProcess(tmp_path / "broker") as broker:
        yield Night(broker.bootstrap)


def write_files(folder: Path) -> None:
    """A good frame, and everything an operator may find instead of one."""
    folder.mkdir()
    whole = read_frame("r").exposure
    part = (slice(0, 800), slice(0, 800))
    write_exposure(
        folder / "good.fits",
        Exposure(
            whole.image[part].copy(),
            whole.mask[part].copy(),
            whole.variance[part].copy(),
            wcs=whole.wcs,
            observation=whole.observation,
        ),
    )
    (folder / "truncated.fits").write_bytes((folder / "good.fits").read_bytes()[:100_000])
    (folder / "text.fits").write_text("this is no image")
    for name, pixels in (("nan", np.full((300, 300), np.nan)), ("tiny", np.ones((10, 10)))):
        write_exposure(folder / f"{name}.fits", Exposure.from_image(pixels, gain=1.0, read_noise=5.0))


def event(number: int, uri: object) -> bytes:
    told = {
        "event_id": f"event-{number}",
        "instrument": "SDSS",
        "exposure": number,
        "detector": 4,
        "uri": str(uri),
        "band": "r",
        "created_at": datetime.now(UTC).isoformat(),
    }
    return json.dumps(told).encode()


async def test_good_and_bad_frames(night: Night, tmp_path: Path) -> None:
    folder = tmp_path / "night"
    write_files(folder)
    settings = load_settings(
        None,
        [
            f"kafka.bootstrap='{night.bootstrap}'",
            "topics.partitions=2",
            "topics.replication=1",
            f"fetch.roots=['{folder}']",
            "retry.in_process=0",
            "retry.rounds=0",
            "http.enabled=false",
        ],
        {},
    )
    await ensure_topics(settings)
    names = ["good", "truncated", "text", "nan", "tiny", "absent"]
    uris = [folder / f"{name}.fits" for name in names] + ["/etc/passwd"]
    await night.announce([*(event(n, uri) for n, uri in enumerate(uris)), event(7, uris[0])])
    async with running(Service(settings)):
        statuses = {status.exposure: status for status in await night.wait_for_statuses(8, 60)}
    assert {n for n, status in statuses.items() if status.outcome in {"succeeded", "degraded"}} == {0, 7}
    good = {product.product: product for product in statuses[0].products}
    assert set(good) == {"psf-quality", "source-catalog", "psf-model"}
    assert len(await night.read(night.topics.psf_quality)) == 2
    assert len(await night.read(night.topics.dlq)) == 6
    for number in range(1, 7):
        [reason] = statuses[number].reasons
        assert reason.message
        assert "Traceback" not in reason.message
        assert reason.code not in {"unexpected_error", "operating_system"}, reason
    assert statuses[5].reasons[0].code == "file_missing"
    assert statuses[6].reasons[0].code == "outside_roots"


async def test_a_killed_worker_is_replaced_within_a_second_by_one_that_has_all_imports(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "night"
    write_files(folder)
    settings = load_settings(None, ["workers.count=1", f"fetch.roots=['{folder}']"], {})
    digest, tree = prepare_characterization(settings)
    settings = settings.model_copy(update={"characterize": tree})
    pool = WorkerPool(pool_options(settings, digest, None))
    await pool.start()
    try:
        async with asyncio.timeout(60):
            while pool.spare < 1:
                await asyncio.sleep(0.01)
        assignment = Assignment(event(0, folder / "good.fits"), (("content-type", b"application/json"),))
        lost = pool.submit(assignment)
        while lost.started is None:
            await asyncio.sleep(0.01)
        busy = [
            child for child in psutil.Process().children() if "streamchar.stream.worker" in child.cmdline()
        ]
        killed = time.monotonic()
        busy[0].kill()
        failure = await lost.outcome
        assert isinstance(failure, JobFailure)
        assert failure.code == "worker_killed"
        again = pool.submit(assignment, first=True)
        while again.started is None:
            await asyncio.sleep(0.001)
        print(f"from SIGKILL to running again: {1000 * (again.started - killed):.0f} ms")
        assert again.started - killed < 1.0
        assert isinstance(await again.outcome, JobResult)
    finally:
        await pool.close()
