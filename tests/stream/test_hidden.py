"""Transactions that stay open hide records from readers: the tools say so, and say how to end them."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

import streamchar.stream.hidden as module
from streamchar.stream.errors import HangingTransactionError, ReadStalledError
from streamchar.stream.hidden import OpenTransaction, hanging_transactions, open_transactions
from streamchar.stream.reading import read_all
from streamchar.stream.topics import ensure_topics
from streamchar.stream.verify import verify
from tests.stream.apache.kafka import ApacheBroker
from tests.stream.brokers import Broker
from tests.stream.conformance.clients import fresh
from tests.stream.services import Night, stub_event
from tests.stream.test_operations import command


def test_only_what_is_older_than_any_transaction_of_ours_hangs() -> None:
    settings, now = Night("b").settings("delivery.transaction_timeout=30"), datetime.now(UTC)
    ages = {None: False, 1: False, 59: False, 61: True}
    for age, hangs in ages.items():
        since = None if age is None else now - timedelta(seconds=age)
        assert OpenTransaction("t", 0, 5, 9, since).hangs(settings, now) == hangs
    text = OpenTransaction("t", 0, 5, 9, now - timedelta(seconds=61)).describe(now)
    assert text == (
        "t[0]: a transaction has been open for 61 s at offset 5; 4 records from there on are hidden from all readers"
    )


@pytest.mark.timeout(90)
async def test_a_transaction_that_hangs_is_told_with_the_command_that_ends_it(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.0)
    night = Night(broker.bootstrap, fresh("hidden"))
    settings = night.settings("delivery.transaction_timeout=0.2")
    await ensure_topics(settings)
    topic = night.topics.exposure_status
    async with AIOKafkaProducer(
        bootstrap_servers=night.bootstrap, transactional_id=fresh("forgotten"), transaction_timeout_ms=600_000
    ) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"never committed", partition=1)
        async with AIOKafkaProducer(bootstrap_servers=night.bootstrap) as other:
            await other.send_and_wait(topic, b"hidden", partition=1)
        await asyncio.sleep(0.3)

        (found,) = await hanging_transactions(settings)
        assert (found.topic, found.partition, found.offset, found.end) == (topic, 1, 0, 2)
        assert await hanging_transactions(night.settings("delivery.transaction_timeout=600")) == []
        with pytest.raises(HangingTransactionError, match="2 records from there on are hidden"):
            await verify(settings)
        with pytest.raises(ReadStalledError, match=r"status\.v1\[1\] from offset 0 on"):
            [record async for record in read_all(settings.kafka, [topic], patience=0.5)]
        assert [record async for record in read_all(settings.kafka, [topic], wait=False)] == []
        monkeypatch.setenv("STREAMCHAR__DELIVERY__TRANSACTION_TIMEOUT", "0.2")
        told = await command(night, "lag", "--json")
        assert told.exit_code == 0
        assert found.remedy(night.bootstrap) in told.stderr
        if not isinstance(broker, ApacheBroker):
            await producer.abort_transaction()
        else:
            follow_the_advice(found.remedy(night.bootstrap), broker, request.getfixturevalue("kafka_jars"))
        assert await open_transactions(settings.kafka, [topic]) == []
        assert [r.value async for r in read_all(settings.kafka, [topic], patience=5)] == [b"hidden"]


def follow_the_advice(advice: str, broker: ApacheBroker, jars: Path) -> None:
    """Run the command that Apache Kafka's shell script would run."""
    script, *arguments = shlex.split(advice)
    assert script == "kafka-transactions.sh"
    done = subprocess.run(
        ["java", "-cp", f"{jars}/*", "org.apache.kafka.tools.TransactionsCommand", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(60)
async def test_a_transaction_that_is_only_slow_is_waited_for(broker: Broker) -> None:
    night = Night(broker.bootstrap, fresh("hidden"))
    settings = night.settings()
    await ensure_topics(settings)
    async with AIOKafkaProducer(
        bootstrap_servers=night.bootstrap, transactional_id=fresh("slow")
    ) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(night.topics.exposure_ready, stub_event(1), partition=0)
        reading = asyncio.ensure_future(verify(settings))
        await asyncio.sleep(1)
        assert not reading.done()
        await producer.commit_transaction()
        report = await asyncio.wait_for(reading, 20)
    assert (report.announced, report.pending) == (1, 1)
