"""A night without pixels: announce stub events, run services on them, read what came out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streamchar.messages import ExposureStatus, TopicNames, decode
from streamchar.stream.reading import read_all
from streamchar.stream.settings import ServiceSettings, load_settings
from tests.stream.brokers import SHORTEST_SESSION
from tests.stream.conformance.raw import raw_client

HERE = Path(__file__).parent
INSTRUMENT = "StubCam"


BASE = (
    f"kafka.session_timeout={SHORTEST_SESSION}",
    "kafka.heartbeat_interval=0.5",
    "kafka.start_timeout=20",
    "topics.partitions=2",
    "topics.replication=1",
    "workers.job=stub_jobs:scripted",
    "workers.memory_limit=0",
    "workers.spares=0",
    "retry.backoff=0.05",
    "retry.delay=0.3",
    "retry.rounds=1",
    "http.port=0",
)


def stub_event(exposure: int, *, age: float = 0.0, detector: int = 0, **order: Any) -> bytes:
    """An exposure-ready event in JSON whose URI tells the stub job what to do."""
    event = {
        "event_id": f"event-{exposure}-{detector}" if detector else f"event-{exposure}",
        "instrument": INSTRUMENT,
        "exposure": exposure,
        "detector": detector,
        "uri": "stub:" + json.dumps(order),
        "band": "r",
        "created_at": (datetime.now(UTC) - timedelta(seconds=age)).isoformat(),
    }
    return json.dumps(event).encode()


JSON_HEADERS = [("content-type", b"application/json"), ("traceparent", b"00-1-2-03")]


EXTERNAL = os.environ.get("STREAMCHAR_TEST_BOOTSTRAP")
"""A broker to run the tests on instead of our own."""

on_one_broker = pytest.mark.parametrize("night", ["external" if EXTERNAL else "embedded"], indirect=True)
"""For tests in which the kind of broker plays no part."""

long_on_apache = pytest.mark.parametrize(
    "night",
    ["external"] if EXTERNAL else ["embedded", pytest.param("apache", marks=pytest.mark.chaos)],
    indirect=True,
)
"""For tests that take long: on Apache Kafka they belong to the chaos suite, whose storms contain them."""


@dataclass
class Night:
    """A broker with the topics of a service, seen from outside.

    Attributes
    ----------
    bootstrap
        The broker.
    prefix
        Of the topics' names; also the name of the group.
    """

    bootstrap: str
    prefix: str = "streamchar"

    @property
    def topics(self) -> TopicNames:
        """Names of the topics."""
        return TopicNames(self.prefix)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Settings that lead a service here."""
        return (
            f"kafka.bootstrap='{self.bootstrap}'",
            f"kafka.group={self.prefix}",
            f"topics.prefix={self.prefix}",
        )

    def settings(self, *overrides: str) -> ServiceSettings:
        """Settings with short times, for one service with two stub workers."""
        return load_settings(None, [*BASE, *self.overrides, *overrides], {})

    async def announce(self, events: Iterable[bytes], partition: int | None = None) -> None:
        """Publish events to the input topic, spread over its partitions."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            sent = []
            for number, value in enumerate(events):
                target = number % 2 if partition is None else partition
                sent.append(
                    await producer.send(
                        self.topics.exposure_ready, value, key=b"k", partition=target, headers=JSON_HEADERS
                    )
                )
            await asyncio.gather(*sent)

    async def announce_with_header(self, value: bytes, name: bytes, partition: int = 0) -> None:
        """Publish an event with a header of any name, also of bytes that are no text."""
        broker = self.bootstrap.split(",")[0]
        async with raw_client(broker) as client:
            answer = await client.produce(
                self.topics.exposure_ready, batch_with_header(value, name), index=partition
            )
        assert answer.error_code == 0

    async def read(self, topic: str) -> list[Any]:
        """All records of a topic that a reader of committed data sees."""
        async with AIOKafkaConsumer(
            topic,
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        ) as consumer:
            partitions = list(consumer.assignment())
            end = await consumer.end_offsets(partitions)
            records: list[Any] = []
            while any([await consumer.position(partition) < end[partition] for partition in partitions]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records += batch
            return records

    async def statuses(self) -> list[ExposureStatus]:
        """All statuses published so far."""
        found = [
            decode(record.value, record.headers) for record in await self.read(self.topics.exposure_status)
        ]
        return [status for status in found if isinstance(status, ExposureStatus)]

    async def wait_for_statuses(self, count: int, seconds: float = 45.0) -> list[ExposureStatus]:
        """Wait until there are so many statuses, and return all there are."""
        return await self._wait(count, seconds, different=False)

    async def wait_for_different(self, count: int, seconds: float = 45.0) -> list[ExposureStatus]:
        """Wait until there are statuses of so many exposures, and return all there are, repeats included."""
        return await self._wait(count, seconds, different=True)

    async def wait_for_sources(self, count: int, seconds: float) -> None:
        """Wait until so many announcements have a status each, repeats not counted."""
        found: set[tuple[int, int]] = set()
        begin: dict[TopicPartition, int] = {}
        settings = self.settings()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            async for record in read_all(
                settings.kafka, [self.topics.exposure_status], begin=begin, wait=False
            ):
                status = decode(record.value or b"", record.headers)
                assert isinstance(status, ExposureStatus)
                found.add((status.source.partition, status.source.offset))
                begin[TopicPartition(record.topic, record.partition)] = record.offset + 1
            if len(found) >= count:
                return
            await asyncio.sleep(0.3)
        raise AssertionError(f"{len(found)} of {count} announcements have a status after {seconds} s")

    async def _wait(self, count: int, seconds: float, *, different: bool) -> list[ExposureStatus]:
        deadline = time.monotonic() + seconds
        statuses: list[ExposureStatus] = []
        while time.monotonic() < deadline:
            statuses = await self.statuses()
            if (len({status.exposure for status in statuses}) if different else len(statuses)) >= count:
                return statuses
            await asyncio.sleep(0.1)
        raise AssertionError(f"{len(statuses)} of {count} statuses after {seconds} s: {outcomes(statuses)}")


def batch_with_header(
    value: bytes, name: bytes, headers: Sequence[tuple[str, bytes]] = JSON_HEADERS
) -> bytes:
    """A record batch of one record with a further header of any name, which no client would encode."""
    placeholder = "@" * len(name)
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    builder.append(0, int(time.time() * 1000), b"k", value, [*headers, (placeholder, b"1")])
    data = bytes(builder.build()).replace(placeholder.encode(), name)
    return data[:17] + struct.pack(">I", calc_crc32c(data[21:])) + data[21:]


def outcomes(statuses: Iterable[ExposureStatus]) -> Counter[str]:
    """How often each outcome occurs."""
    return Counter(status.outcome for status in statuses)


def assert_once(statuses: list[ExposureStatus], exposures: Iterable[int]) -> None:
    """Every exposure has exactly one status."""
    assert Counter(status.exposure for status in statuses) == Counter(exposures)


class ServiceProcess:
    """`streamchar serve` in a process of its own, with stub workers.

    Parameters
    ----------
    night
        Where its topics are.
    log_path
        Where its log goes.
    *overrides
        Settings.
    prelude
        Python statements that are executed before the service is started.
    """

    def __init__(self, night: Night, log_path: Path, *overrides: str, prelude: str = "") -> None:
        self._program = f"{prelude}; from streamchar.cli import main; main()".removeprefix("; ")
        self._arguments = [f"-c{text}" for text in (*BASE, *night.overrides, *overrides)]
        self.log_path = log_path
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it without waiting for anything."""
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                self._program,
                "serve",
                *self._arguments,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(HERE)},
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def is_ready(self) -> bool:
        """Whether its workers are ready."""
        return any("workers are ready" in line["message"] for line in self.log)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log records."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self, seconds: float = 45.0) -> int:
        """Wait for its end and return the exit code."""
        assert self._process is not None
        async with asyncio.timeout(seconds):
            return await self._process.wait()

    async def ready(self, seconds: float = 45.0) -> None:
        """Wait until its workers are ready."""
        async with asyncio.timeout(seconds):
            while not self.is_ready:
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it with SIGKILL when it still runs."""
        assert self._process is not None
        if self._process.returncode is None:
            self.send(signal.SIGKILL)
            await self.wait()

    async def stop(self) -> int:
        """Drain it when it still runs; return the exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self.send(signal.SIGTERM)
        return await self.wait()


@contextlib.asynccontextmanager
async def running(service: Any) -> AsyncIterator[Any]:
    """A service in this process, stopped at the end."""
    task = asyncio.ensure_future(service.run())
    try:
        yield service
    finally:
        service.request_stop()
        await task


Start = Callable[..., Awaitable[ServiceProcess]]


@contextlib.asynccontextmanager
async def service_processes(night: Night, folder: Path, *, ready: bool = False) -> AsyncIterator[Start]:
    """Give a function that starts services with further settings; none of them outlives the block.

    Parameters
    ----------
    night
        Where their topics are.
    folder
        For their logs.
    ready
        Whether to wait until the workers of each are ready.
    """
    started: list[ServiceProcess] = []

    async def begin(*overrides: str) -> ServiceProcess:
        service = ServiceProcess(night, folder / f"service-{len(started)}.log", *overrides)
        started.append(service)
        await service.start()
        if ready:
            await service.ready()
        return service

    try:
        yield begin
    finally:
        for service in started:
            await service.kill()
