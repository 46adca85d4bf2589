"""Short-lived Kafka clients and readers that know when they have read everything."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic


def fresh(prefix: str) -> str:
    """Return a name nobody has used."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


@contextlib.asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def make_topic(
    bootstrap: str, partitions: int = 1, configs: Mapping[str, str] | None = None, name: str | None = None
) -> str:
    """Create a topic and wait until it can be used."""
    name = name or fresh("topic")
    async with admin(bootstrap) as client:
        await client.create_topics([NewTopic(name, partitions, 1, topic_configs=dict(configs or {}))])
        await until(lambda: _has_leaders(client, name, partitions))
    return name


async def _has_leaders(client: AIOKafkaAdminClient, name: str, partitions: int) -> bool:
    described = (await client.describe_topics([name]))[0]["partitions"]
    return len(described) == partitions and all(p["error_code"] == 0 for p in described)


@contextlib.asynccontextmanager
async def producer(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    client = AIOKafkaProducer(bootstrap_servers=bootstrap, **{"request_timeout_ms": 15_000, **options})
    try:
        await asyncio.wait_for(client.start(), 20)
        yield client
    finally:
        await asyncio.wait_for(client.stop(), 10)


@contextlib.asynccontextmanager
async def doomed_producer(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """Give a producer that is abandoned at the end like that of a killed process."""
    client = AIOKafkaProducer(bootstrap_servers=bootstrap, **{"request_timeout_ms": 15_000, **options})
    await asyncio.wait_for(client.start(), 20)
    try:
        yield client
    finally:
        sender = client._sender._sender_task
        if sender is not None:
            sender.cancel()
            await asyncio.wait({sender})
            if not sender.cancelled():
                sender.exception()
        waiter = client._txn_manager._transaction_waiter
        if waiter is not None and waiter.done() and not waiter.cancelled():
            waiter.exception()
        await client.client.close()
        client._closed = True


@contextlib.asynccontextmanager
async def consumer(bootstrap: str, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    defaults = {
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "fetch_max_wait_ms": 100,
        "session_timeout_ms": 10_000,
        "heartbeat_interval_ms": 300,
    }
    client = AIOKafkaConsumer(*topics, bootstrap_servers=bootstrap, **(defaults | options))
    await asyncio.wait_for(client.start(), 30)
    try:
        yield client
    finally:
        await asyncio.wait_for(client.stop(), 10)


async def drain(client: AIOKafkaConsumer, count: int, timeout: float = 15.0) -> list[ConsumerRecord]:
    """Read until there are ``count`` records."""
    records: list[ConsumerRecord] = []
    deadline = time.monotonic() + timeout
    while len(records) < count and time.monotonic() < deadline:
        for batch in (await client.getmany(timeout_ms=100)).values():
            records += batch
    return records


async def listen(client: AIOKafkaConsumer, seconds: float) -> list[ConsumerRecord]:
    """Read whatever comes within some seconds."""
    records: list[ConsumerRecord] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for batch in (await client.getmany(timeout_ms=50)).values():
            records += batch
    return records


async def read_all(
    bootstrap: str,
    topic: str,
    partitions: Iterable[int] = (0,),
    isolation: str = "read_committed",
    timeout: float = 30.0,
    **options: Any,
) -> list[ConsumerRecord]:
    """Read everything a new reader can see now, by reading up to the end offsets and no further."""
    async with consumer(bootstrap, isolation_level=isolation, **options) as client:
        wanted = [TopicPartition(topic, index) for index in partitions]
        client.assign(wanted)
        await client.seek_to_beginning()
        ends = await client.end_offsets(wanted)
        records: list[ConsumerRecord] = []
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if all([await client.position(tp) >= ends[tp] for tp in wanted]):
                return records
            for batch in (await client.getmany(timeout_ms=50)).values():
                records += batch
    raise AssertionError(f"{topic}: {len(records)} records, then stuck below {ends}")


async def values(bootstrap: str, topic: str, **options: Any) -> list[bytes]:
    return [record.value for record in await read_all(bootstrap, topic, **options)]


async def committed(bootstrap: str, group: str, partition: TopicPartition) -> int | None:
    """Return a committed offset."""
    async with admin(bootstrap) as client:
        found = (await client.list_consumer_group_offsets(group)).get(partition)
    return None if found is None or found.offset < 0 else found.offset


async def until(
    condition: Callable[[], Awaitable[bool]], timeout: float = 20.0, pause: float = 0.02
) -> float:
    """Wait for a condition and return the seconds it took."""
    begin = time.monotonic()
    while not await condition():
        assert time.monotonic() - begin < timeout, f"still false after {timeout} s"
        await asyncio.sleep(pause)
    return time.monotonic() - begin


async def settle(clients: list[AIOKafkaConsumer], total: int, timeout: float = 20.0) -> list[int]:
    """Poll until the clients share ``total`` partitions without overlap, and return the shares."""

    async def shared() -> bool:
        for client in clients:
            await client.getmany(timeout_ms=20)
        shares = [client.assignment() for client in clients]
        return all(shares) and sum(map(len, shares)) == total == len(frozenset().union(*shares))

    await until(shared, timeout)
    return sorted(len(client.assignment()) for client in clients)
