"""Brokers for the chaos suite: three of Apache Kafka where it can be had, the embedded one otherwise."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stream.apache.fixtures import CHOICE
from tests.stream.apache.jars import ApacheUnavailableError, apache_jars
from tests.stream.apache.kafka import ApacheCluster
from tests.stream.brokers import BrokerProcess
from tests.stream.conformance.clients import fresh
from tests.stream.services import HERE, Night


@dataclass(frozen=True)
class Arena:
    """Brokers, a way to strike one of them, and what they are."""

    night: Night
    strike: Callable[[int], Awaitable[None]]
    kind: str
    replication: int


@pytest.fixture(scope="session")
def seed() -> int:
    """Of everything random; ``STREAMCHAR_CHAOS_SEED`` repeats a run as far as scheduling allows."""
    return int(os.environ.get("STREAMCHAR_CHAOS_SEED") or random.randrange(1 << 30))


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers find the stub jobs."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture
async def embedded(stubs: None, tmp_path: Path) -> AsyncIterator[Arena]:
    """One embedded broker."""
    with BrokerProcess(tmp_path / "broker") as broker:

        async def strike(_: int) -> None:
            await asyncio.to_thread(broker.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(broker.start)

        yield Arena(Night(broker.bootstrap, fresh("chaos")), strike, "embedded broker", 1)


@pytest.fixture
async def arena(request: pytest.FixtureRequest, stubs: None, tmp_path: Path) -> AsyncIterator[Arena]:
    """Three brokers of Apache Kafka, or the embedded one where they cannot be had."""
    try:
        if os.environ.get(CHOICE) == "off":
            raise ApacheUnavailableError(f"{CHOICE}=off")
        jars = await asyncio.to_thread(apache_jars)
    except ApacheUnavailableError as error:
        print(f"\nwithout Apache Kafka, on the embedded broker: {error}")
        yield request.getfixturevalue("embedded")
        return
    cluster = ApacheCluster(jars, tmp_path / "cluster", brokers=3)
    await asyncio.to_thread(cluster.start)
    try:
        await cluster.settled()

        async def strike(choice: int) -> None:
            freeze, victim = choice % 2 == 1, choice // 2 % len(cluster.brokers)
            if freeze:  # until another has taken its place; it wakes up and does not know
                cluster.brokers[victim].send(signal.SIGSTOP)
                await asyncio.sleep(4.0)
                cluster.brokers[victim].send(signal.SIGCONT)
            else:
                await asyncio.to_thread(cluster.kill, victim)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(cluster.restart, victim)
            await cluster.settled()

        yield Arena(Night(cluster.bootstrap, fresh("chaos")), strike, "3 brokers of Apache Kafka", 3)
    finally:
        await asyncio.to_thread(cluster.stop)
