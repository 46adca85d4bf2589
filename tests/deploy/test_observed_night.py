"""A night with real pixels and every misfortune, watched by a real Prometheus with the shipped configuration."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamchar.image import Exposure
from streamchar.image.fits import write_exposure
from streamchar.messages import PsfQuality, decode
from streamchar.monitor.metrics import DEFINITIONS, Metrics
from streamchar.stream.service import Service
from streamchar.stream.settings import ServiceSettings, load_settings
from streamchar.stream.topics import ensure_topics
from tests.debian import ProgramsMissingError, install
from tests.deploy.places import DEPLOY
from tests.sdss import read_frame
from tests.stream.brokers import BrokerProcess
from tests.stream.services import Night, running

PATIENCE = 90.0
"""Seconds to wait for what comes within a few on an idle machine."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frame with stars, one without, and a file that is none."""
    folder = tmp_path_factory.mktemp("night")
    whole = read_frame("r").exposure
    part = (slice(0, 700), slice(0, 700))
    planes = (whole.image[part].copy(), whole.mask[part].copy(), whole.variance[part].copy())
    write_exposure(folder / "good.fits", Exposure(*planes, wcs=whole.wcs, observation=whole.observation))
    noise = np.random.default_rng(1).normal(100.0, 5.0, (300, 300))
    write_exposure(folder / "dark.fits", Exposure.from_image(noise, gain=4.0, read_noise=5.0))
    (folder / "text.fits").write_text("this is no image")
    return folder


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    with BrokerProcess(tmp_path / "broker") as broker:
        yield Night(broker.bootstrap)


def settings_for(night: Night, files: Path, *overrides: str) -> ServiceSettings:
    ours = (
        "topics.partitions=2",
        "topics.replication=1",
        "workers.spares=0",
        "retry.in_process=1",
        "retry.backoff=0.05",
        "retry.rounds=1",
        "retry.delay=0.2",
        "http.port=0",
        f"fetch.roots=['{files}']",
    )
    return load_settings(None, [*ours, *night.overrides, *overrides], {})


def event(exposure: int, path: Path, band: str = "r") -> bytes:
    now = datetime.now(UTC)
    told = {
        "event_id": f"event-{exposure}",
        "instrument": "SDSS",
        "exposure": exposure,
        "detector": 4,
        "uri": str(path),
        "band": band,
        "exposure_time": 10.0,
        "mid_time": now.timestamp() / 86_400 + 40_587.0 - 7.0 / 86_400,
        "created_at": now.isoformat(),
    }
    return json.dumps(told).encode()


async def qualities(night: Night) -> dict[int, PsfQuality]:
    """The quality records by exposure."""
    read = [decode(each.value, each.headers) for each in await night.read(night.topics.psf_quality)]
    return {each.exposure: each for each in read if isinstance(each, PsfQuality)}


class Prometheus:
    """A real Prometheus, asked over its HTTP API."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client

    async def ask(self, path: str, **parameters: str) -> Any:
        async with self._client.get(f"/api/v1/{path}", params=parameters) as answer:
            return (await answer.json())["data"]

    async def values(self, expression: str) -> dict[str, float]:
        """Values of an instant query by the labels of the series, its name and origin left out."""
        found = {}
        for series in (await self.ask("query", query=expression))["result"]:
            labels = {k: v for k, v in series["metric"].items() if k not in {"__name__", "instance", "job"}}
            found[",".join(f"{k}={v}" for k, v in sorted(labels.items()))] = float(series["value"][1])
        return found

    async def until(self, expression: str) -> dict[str, float]:
        """Wait until an expression has values."""
        async with asyncio.timeout(PATIENCE):
            while not (values := await self.values(expression)):
                await asyncio.sleep(0.2)
        return values


@contextlib.asynccontextmanager
async def prometheus(port: int, folder: Path) -> AsyncIterator[Prometheus]:
    """Scrape a port by the shipped configuration, only more often and under this address."""
    try:
        install({"prometheus": "prometheus"})
    except ProgramsMissingError as error:
        pytest.skip(str(error))
    configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(DEPLOY / "prometheus/rules/*.yaml")]
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    folder.mkdir()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        own = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
        "--enable-feature=exemplar-storage",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{own}") as client:
            async with asyncio.timeout(PATIENCE):
                while True:
                    with contextlib.suppress(aiohttp.ClientConnectionError):
                        async with client.get("/-/ready") as answer:
                            if answer.status == 200:
                                break
                    await asyncio.sleep(0.1)
            yield Prometheus(client)
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the metrics that were changed."""
    names: set[str] = set()
    change = Metrics.change

    def note(self: Metrics, name: str, *arguments: Any, **options: Any) -> None:
        names.add(name)
        change(self, name, *arguments, **options)

    monkeypatch.setattr(Metrics, "change", note)
    return names


async def commit_too_far(night: Night, topic: str) -> None:
    """Leave the group an offset that does not exist."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=night.bootstrap, group_id=night.prefix, enable_auto_commit=False
    )
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.commit({partition: 7})
    finally:
        await consumer.stop()


async def test_prometheus_sees_every_metric_and_the_values_of_the_messages(
    night: Night, files: Path, tmp_path: Path, changed: set[str]
) -> None:
    settings = settings_for(
        night,
        files,
        "workers.recycle_after=2",
        "visits.detectors={SDSS=[4, 5]}",
        "visits.after=1",
        'plausible={"SDSS/z"={psf_fwhm={most=1.0}}}',
        "grades={default={seeing={yellow=0.1, orange=0.2, red=50}}}",
    )
    await ensure_topics(settings)
    await commit_too_far(night, night.topics.retry)
    service = Service(settings)
    async with running(service):
        async with asyncio.timeout(PATIENCE):
            while not service.health.port:
                await asyncio.sleep(0.05)
        async with prometheus(service.health.port, tmp_path / "prometheus") as eyes:
            await eyes.until("streamchar_partitions_assigned == 4")
            good = event(1, files / "good.fits")
            await night.announce([good, good], partition=0)
            await night.announce(
                [
                    event(2, files / "good.fits", "z"),
                    event(3, files / "dark.fits", "g"),
                    event(4, files / "text.fits"),
                    event(5, files / "absent.fits"),
                ]
            )
            statuses = {each.exposure: each for each in await night.wait_for_statuses(5, PATIENCE)}
            await eyes.until("sum(streamchar_events_total) == 5")
            await eyes.until("streamchar_missing_detectors_total > 0")
            await check_values(eyes, await qualities(night))
            await check_rules(eyes)
            exemplars = await eyes.ask(
                "query_exemplars",
                query='streamchar_event_failures_total{reason!=""}',
                start=str(time.time() - 600),
                end=str(time.time() + 60),
            )
            await check_names(eyes)
    failed = {f"SDSS/{n}/4" for n, status in statuses.items() if status.outcome == "failed"}
    assert failed == {"SDSS/4/4", "SDSS/5/4"}
    assert {each["labels"]["exposure"] for series in exemplars for each in series["exemplars"]} == failed
    assert {definition.name for definition in DEFINITIONS} - changed == set()


async def check_values(eyes: Prometheus, published: Mapping[int, PsfQuality]) -> None:
    """Values that Prometheus has recorded are those of the messages."""
    first, nonsense = published[1], published[2]
    assert first.seeing is not None
    assert await eyes.until('streamchar_psf_fwhm_arcsec{band="r"}') == {
        "band=r,instrument=SDSS": pytest.approx(first.seeing, rel=1e-12)
    }
    assert await eyes.values('streamchar_psf_fwhm_pixels{band="r"}') == {
        "band=r,instrument=SDSS": pytest.approx(first.psf_fwhm, rel=1e-12)
    }
    assert await eyes.values('streamchar_aperture_correction_scatter_ratio{band="r"}') == {
        "band=r,instrument=SDSS": pytest.approx(first.aperture_correction_scatter, rel=1e-12)
    }
    assert (first.grade, [reason.code for reason in first.grade_reasons]) == ("orange", ["seeing"])
    assert nonsense.grade == "red"
    assert nonsense.grade_reasons[0].code == "implausible_psf_fwhm"
    assert nonsense.grade_reasons[0].values["most"] == 1.0
    grades = await eyes.until("streamchar_quality_grades_total")
    assert grades["band=r,grade=orange,instrument=SDSS"] == 1
    assert grades["band=z,grade=red,instrument=SDSS"] == 1
    assert await eyes.values("streamchar_implausible_results_total") == {
        "instrument=SDSS,quantity=psf_fwhm": 1
    }
    # The middle of the exposure was 7 s ago and its length 10 s when it was announced.
    shutter = await eyes.values("streamchar_shutter_to_published_seconds_sum")
    events = await eyes.values("streamchar_end_to_end_seconds_sum")
    assert shutter["instrument=SDSS"] - events["instrument=SDSS"] == pytest.approx(5 * 2.0, abs=0.1)


async def check_rules(eyes: Prometheus) -> None:
    """Recording rules have values, and the alerts for what went wrong fire."""
    recorded = await eyes.until('instrument_band:streamchar_psf_fwhm_arcsec:median{band="r"}')
    assert recorded == await eyes.values('streamchar_psf_fwhm_arcsec{band="r"}')
    (late,) = (await eyes.until("instance:streamchar_loop_lag_seconds:p99_5m")).values()
    assert 0 < late < 10
    await eyes.until('topic:streamchar_consumer_lag:sum{topic!~".*retry"} == 0')
    await eyes.until('count(ALERTS{alertname="StreamcharDeadLetters",alertstate="firing"}) == 2')
    for name in ("StreamcharImplausibleResults", "StreamcharDetectorsMissing"):
        await eyes.until(f'ALERTS{{alertname="{name}",alertstate="firing"}}')
    assert await eyes.values('ALERTS{alertname="StreamcharBreakerOpen"}') == {}


async def check_names(eyes: Prometheus) -> None:
    """Every metric of the list has a series."""
    async with asyncio.timeout(PATIENCE):
        while True:
            names = set(await eyes.ask("label/__name__/values"))
            missing = {
                definition.name
                for definition in DEFINITIONS
                if definition.name + ("_bucket" if definition.kind == "histogram" else "") not in names
            }
            if not missing:
                return
            await asyncio.sleep(0.5)


async def test_nonsense_opens_the_breaker_and_partitions_that_are_gone_leave_no_series(
    night: Night, files: Path
) -> None:
    settings = settings_for(
        night,
        files,
        "workers.count=1",
        "plausible={default={psf_fwhm={most=1.0}}}",
        "breaker.consecutive=2",
        "limits.events_in_flight=1",
    )
    await ensure_topics(settings)
    service = Service(settings)
    async with running(service), aiohttp.ClientSession() as client:
        async with asyncio.timeout(PATIENCE):
            while not service.health.port:
                await asyncio.sleep(0.02)
        address = f"http://127.0.0.1:{service.health.port}"
        seen = set()
        async with asyncio.timeout(PATIENCE):
            while True:
                async with client.get(f"{address}/startupz") as answer:
                    seen.add((answer.status, *(await answer.json())["checks"].values()))
                    if answer.status == 200:
                        break
                await asyncio.sleep(0.02)
        assert (503, "waiting for 1 workers to become ready", "no partitions assigned yet") in seen
        await night.announce((event(n, files / "good.fits") for n in range(4)), partition=0)
        await night.wait_for_statuses(2, PATIENCE)
        async with client.get(f"{address}/readyz") as answer:
            assert answer.status == 503
            checks = (await answer.json())["checks"]
        assert {name for name, problem in checks.items() if problem != "ok"} == {"breaker"}
        assert "impossible results" in checks["breaker"]
        assert {each.grade for each in (await qualities(night)).values()} == {"red"}

        async def exposed() -> str:
            async with client.get(f"{address}/metrics") as answer:
                return await answer.text()

        assert "streamchar_breaker_open 1.0" in await exposed()
        async with asyncio.timeout(PATIENCE):
            while (await exposed()).count("\nstreamchar_high_water_offset{") < 4:
                await asyncio.sleep(0.1)
        await service._source.revoked([TopicPartition(night.topics.exposure_ready, 0)])
        for name in ("high_water_offset", "low_water_offset", "consumer_lag"):
            assert (await exposed()).count(f"\nstreamchar_{name}{{") == 3
    assert len(await night.statuses()) == 2
