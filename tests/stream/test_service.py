"""The whole service with stub workers: exactly one status per event, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiokafka.admin import NewTopic

from streamchar.stream.reading import read_all
from streamchar.stream.service import Service
from tests.stream.conformance.clients import admin
from tests.stream.services import (
    INSTRUMENT,
    Night,
    Start,
    assert_once,
    long_on_apache,
    on_one_broker,
    outcomes,
    running,
    service_processes,
    stub_event,
)

MODES = ["exactly_once", "at_least_once"]


@pytest.fixture
async def start(night: Night, tmp_path: Path) -> AsyncIterator[Start]:
    """Start services as processes; none outlives the test."""
    async with service_processes(night, tmp_path) as start:
        yield start


async def prepare(night: Night) -> None:
    """Create the topics before there is a service."""
    from streamchar.stream.topics import ensure_topics

    await ensure_topics(night.settings())


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.touch()
    return path


def attempts(journal: Path) -> Counter[int]:
    """How often the workers began each exposure."""
    return Counter(json.loads(line)["exposure"] for line in journal.read_text().splitlines())


@pytest.mark.parametrize("mode", MODES)
async def test_every_event_has_one_status_and_its_products(night: Night, mode: str) -> None:
    await prepare(night)
    await night.announce(stub_event(n, chunks=3) for n in range(20))
    async with running(Service(night.settings(f"delivery.mode={mode}"))):
        statuses = await night.wait_for_statuses(20)
    assert_once(statuses, range(20))
    assert outcomes(statuses) == {"succeeded": 20}
    assert {status.attempts for status in statuses} == {1}
    assert statuses[0].instrument == INSTRUMENT
    assert statuses[0].timings[0].stage == "total"
    assert {product.product: product.messages for product in statuses[0].products} == {
        "psf-quality": 1,
        "source-catalog": 3,
    }
    assert len(await night.read(night.topics.source_catalog)) == 60
    headers = dict((await night.read(night.topics.exposure_status))[0].headers)
    assert headers["traceparent"] == b"00-1-2-03"


@long_on_apache
async def test_misfortunes_end_in_their_own_way_and_stop_nobody_else(night: Night) -> None:
    await prepare(night)
    orders = {
        0: {},
        1: {"do": "segfault"},
        2: {"do": "segfault", "well_from": 2},
        3: {"do": "raise"},
        4: {"do": "missing"},
        5: {"do": "missing", "well_from": 3},
        6: {"do": "missing", "well_from": 5},
        7: {"do": "loop"},
        8: {"age": 100_000},
        9: {},
    }
    garbage = [b"", b"\xff\x00 nonsense", b'{"event_id": "e"}', b"[" * 10_000]
    await night.announce([*(stub_event(n, **order) for n, order in orders.items()), *garbage])
    async with running(Service(night.settings("workers.deadline=1"))):
        statuses = await night.wait_for_statuses(14)
    by_exposure = {status.exposure: status for status in statuses if status.exposure is not None}
    ends = {
        n: (status.outcome, status.attempts, [r.code for r in status.reasons])
        for n, status in by_exposure.items()
    }
    assert ends == {
        0: ("succeeded", 1, []),
        1: ("failed", 2, ["worker_crashed"]),
        2: ("succeeded", 2, []),
        3: ("failed", 1, ["unexpected_error"]),
        4: ("failed", 6, ["file_missing"]),
        5: ("succeeded", 3, []),
        6: ("succeeded", 5, []),
        7: ("failed", 2, ["worker_timeout"]),
        8: ("expired", 0, ["expired"]),
        9: ("succeeded", 1, []),
    }
    unread = [status for status in statuses if status.exposure is None]
    assert len(unread) == 4
    assert {status.outcome for status in unread} == {"failed"}
    assert len({status.event_id for status in unread}) == 4

    letters = await night.read(night.topics.dlq)
    codes = Counter(dict(letter.headers)["sc-error-code"].decode() for letter in letters)
    assert codes["malformed_message"] + codes["message_too_large"] == 4
    assert codes["worker_crashed"] == codes["unexpected_error"] == codes["file_missing"] == 1
    crashed = next(letter for letter in letters if dict(letter.headers)["sc-error-code"] == b"worker_crashed")
    assert json.loads(crashed.value)["exposure"] == 1
    headers = dict(crashed.headers)
    assert headers["content-type"] == b"application/json"
    assert headers["sc-origin-topic"] == night.topics.exposure_ready.encode()
    assert headers["sc-retry-lost-workers"] == b"2"


@long_on_apache
async def test_a_slow_exposure_blocks_nobody_and_a_restart_redoes_nothing(
    night: Night, journal: Path, start: Start
) -> None:
    """One partition, the first event slow: the others are published; after SIGKILL only the slow one runs again."""
    await prepare(night)
    await night.announce([stub_event(0, sleep=60), *(stub_event(n) for n in range(1, 30))], partition=0)
    overrides = (f"characterize.journal='{journal}'", "kafka.instance_id=one")
    service = await start(*overrides)
    assert_once(await night.wait_for_statuses(29), range(1, 30))
    workers = psutil.Process(service.pid).children(recursive=True)
    assert len(workers) == 2
    service.send(signal.SIGKILL)
    await service.wait()
    _, alive = psutil.wait_procs(workers, timeout=3)
    assert alive == []

    journal.write_text("")
    await start(*overrides)
    await night.announce([stub_event(30)], partition=0)
    assert_once(await night.wait_for_statuses(30), range(1, 31))
    assert attempts(journal) == {0: 1, 30: 1}


@long_on_apache
async def test_sigterm_drains_what_runs_and_leaves_the_rest(
    night: Night, journal: Path, start: Start
) -> None:
    await prepare(night)
    await night.announce(stub_event(n, sleep=0.25) for n in range(20))
    service = await start(f"characterize.journal='{journal}'", "limits.events_in_flight=2")
    await night.wait_for_statuses(2)
    service.send(signal.SIGTERM)
    assert await service.wait() == 0
    done = await night.statuses()
    assert len(done) < 20
    assert attempts(journal) == Counter(status.exposure for status in done)

    rest = await start(f"characterize.journal='{journal}'")
    statuses = await night.wait_for_statuses(20)
    assert await rest.stop() == 0
    assert_once(statuses, range(20))
    assert set(attempts(journal).values()) == {1}


@on_one_broker
async def test_the_second_sigterm_ends_at_once(night: Night, journal: Path, start: Start) -> None:
    await prepare(night)
    await night.announce([stub_event(0, sleep=60)])
    service = await start(f"characterize.journal='{journal}'")
    while not attempts(journal):
        await asyncio.sleep(0.05)
    workers = psutil.Process(service.pid).children(recursive=True)
    service.send(signal.SIGTERM)
    await asyncio.sleep(0.3)
    service.send(signal.SIGTERM)
    assert await service.wait(2) == -signal.SIGTERM
    _, alive = psutil.wait_procs(workers, timeout=3)
    assert alive == []


@on_one_broker
async def test_a_killed_worker_costs_its_event_less_than_a_second(night: Night, journal: Path) -> None:
    await prepare(night)
    async with running(Service(night.settings(f"characterize.journal='{journal}'"))):
        await night.announce([stub_event(0, sleep=1.5)])
        while not attempts(journal):
            await asyncio.sleep(0.01)
        killed = time.time()
        os.kill(json.loads(journal.read_text())["pid"], signal.SIGKILL)
        statuses = await night.wait_for_statuses(1)
    began = json.loads(journal.read_text().splitlines()[1])["time"]
    assert began - killed < 1.0
    assert [(status.outcome, status.attempts) for status in statuses] == [("succeeded", 2)]


@long_on_apache
async def test_two_services_share_the_work_and_one_takes_over(
    night: Night, journal: Path, start: Start
) -> None:
    await prepare(night)
    one = await start(f"characterize.journal='{journal}'")
    two = await start(f"characterize.journal='{journal}'")
    await night.announce(stub_event(n, sleep=0.05) for n in range(100))
    await night.wait_for_statuses(20)
    assert await one.stop() == 0
    await night.announce(stub_event(n) for n in range(100, 120))
    statuses = await night.wait_for_statuses(120)
    assert await two.stop() == 0
    assert_once(statuses, range(120))
    assert len({json.loads(line)["pid"] for line in journal.read_text().splitlines()}) >= 3


async def test_a_product_the_topic_refuses_becomes_a_dead_letter(night: Night) -> None:
    await prepare(night)
    await night.announce([stub_event(0), stub_event(1, size=2_000_000), stub_event(2)], partition=0)
    async with running(Service(night.settings())):
        statuses = await night.wait_for_statuses(3)
    ends = {
        status.exposure: (status.outcome, [reason.code for reason in status.reasons]) for status in statuses
    }
    assert ends == {0: ("succeeded", []), 1: ("failed", ["product_too_large"]), 2: ("succeeded", [])}
    assert len(await night.read(night.topics.source_catalog)) == 2


@on_one_broker
async def test_probes_and_metrics_tell_the_truth(night: Night) -> None:
    await prepare(night)
    await night.announce([stub_event(0), stub_event(1, do="raise")])
    service = Service(night.settings())
    async with running(service), aiohttp.ClientSession() as client:
        await night.wait_for_statuses(2)
        address = f"http://127.0.0.1:{service.health.port}"
        for probe in ("livez", "readyz", "startupz"):
            async with client.get(f"{address}/{probe}") as answer:
                assert answer.status == 200, await answer.text()
        async with client.get(f"{address}/metrics") as answer:
            text = await answer.text()
        assert 'streamchar_events_total{instrument="StubCam",outcome="failed"} 1.0' in text
        assert 'streamchar_event_failures_total{category="permanent",reason="unexpected_error"} 1.0' in text
        assert "streamchar_workers_ready 2.0" in text
        assert "streamchar_sources_total 2.0" in text
        assert f'streamchar_consumer_lag{{partition="0",topic="{night.topics.exposure_ready}"}}' in text
        async with client.get(f"{address}/version") as answer:
            assert (await answer.json())["delivery"] == "exactly_once"


async def test_header_names_that_are_no_text_stop_nothing_and_lose_nothing(night: Night) -> None:
    await prepare(night)
    await night.announce([stub_event(0), stub_event(1)], partition=0)
    await night.announce_with_header(stub_event(2), b"caf\xe9")
    await night.announce_with_header(stub_event(3, do="raise"), b"\xff\xfe")
    await night.announce([stub_event(4), stub_event(5)], partition=0)
    await night.announce([stub_event(6)], partition=1)
    async with running(Service(night.settings())):
        statuses = await night.wait_for_statuses(7)
    assert_once(statuses, range(7))
    assert outcomes(statuses) == {"succeeded": 6, "failed": 1}
    (letter,) = await night.read(night.topics.dlq)
    assert dict(letter.headers)["\\xff\\xfe"] == b"1"
    read = [record async for record in read_all(night.settings().kafka, [night.topics.exposure_ready])]
    assert sorted(json.loads(record.value or b"")["exposure"] for record in read) == list(range(7))


async def test_an_event_announced_twice_is_processed_once_also_after_a_restart(
    night: Night, journal: Path
) -> None:
    await prepare(night)
    settings = night.settings(f"characterize.journal='{journal}'", "limits.duplicate_window=20")
    await night.announce([*(stub_event(n) for n in range(5)), stub_event(3), stub_event(4)], partition=0)
    async with running(Service(settings)) as service:
        await night.wait_for_statuses(5)
        while b'streamchar_duplicates_total{instrument="StubCam"} 2.0' not in service.metrics.text():
            await asyncio.sleep(0.05)
    await night.announce([stub_event(2), stub_event(5)], partition=0)
    async with running(Service(settings)):
        statuses = await night.wait_for_statuses(6)
    await night.announce([*(stub_event(n) for n in range(6, 30)), stub_event(0)], partition=0)
    async with running(Service(settings)):
        statuses = await night.wait_for_statuses(31)
    assert_once(statuses, [*range(30), 0])  # the last one lies outside the window
    assert attempts(journal) == {**dict.fromkeys(range(30), 1), 0: 2}


async def test_detectors_of_a_visit_that_never_come_are_noticed_once(
    night: Night, caplog: pytest.LogCaptureFixture
) -> None:
    await prepare(night)
    settings = night.settings("visits.detectors={StubCam=4}", "visits.after=1.5")
    first, second = Service(settings), Service(settings)
    async with running(first), running(second):
        async with asyncio.timeout(30):
            while not (first._source.assigned and second._source.assigned):
                await asyncio.sleep(0.1)
        await asyncio.sleep(1.5)  # the watch is with the owner of the first partition, within a second
        whole = [stub_event(1, detector=n) for n in range(4)]
        await night.announce([*whole, stub_event(2, detector=0), stub_event(2, detector=3)])
        await night.wait_for_statuses(6)
        async with asyncio.timeout(30):
            while "StubCam 2: 2 of 4" not in caplog.text:
                await asyncio.sleep(0.1)
        await asyncio.sleep(1)
    assert caplog.text.count("detectors were never announced") == 1
    assert "StubCam 2: 2 of 4 detectors were never announced (1, 2)" in caplog.text
    text = first.metrics.text() + second.metrics.text()
    assert text.count(b'streamchar_missing_detectors_total{instrument="StubCam"} 2.0') == 1
    assert text.count(b'streamchar_incomplete_visits_total{instrument="StubCam"} 1.0') == 1


async def test_catalogues_are_divided_as_the_topic_demands(night: Night) -> None:
    topic = night.topics.source_catalog
    async with admin(night.bootstrap) as client:
        await client.create_topics([NewTopic(topic, 2, 1, topic_configs={"max.message.bytes": "40000"})])
    await prepare(night)
    await night.announce([stub_event(0, rows=20_000, chunk_bytes=10**6)])
    async with running(Service(night.settings("workers.job=stub_jobs:cataloguing"))):
        (status,) = await night.wait_for_statuses(1)
    assert status.outcome == "succeeded"
    chunks = await night.read(topic)
    assert len(chunks) > 8
    assert 20_000 < max(len(chunk.value) for chunk in chunks) <= 36_000
