"""The fixture that gives a test each kind of broker in turn."""

from __future__ import annotations

import asyncio

from tests.stream.brokers import Broker
from tests.stream.conformance.clients import fresh, producer, values


async def test_each_kind_of_broker_can_be_killed_and_comes_back(broker: Broker) -> None:
    topic = fresh("kept")
    async with producer(broker.bootstrap) as client:
        await client.send_and_wait(topic, b"kept", partition=0)
    await asyncio.to_thread(broker.restart)
    assert await values(broker.bootstrap, topic) == [b"kept"]
    broker.kill()


async def test_the_next_test_finds_it_running(broker: Broker) -> None:
    assert broker.running
