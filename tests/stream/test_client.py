"""The subscriber on a real broker: typed, whole, once, and where it left off."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
import warnings

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import streamchar
from streamchar.characterize.catalog import Column, flag
from streamchar.client import Subscription, SubscriptionWarning
from streamchar.messages import (
    ExposureStatus,
    IncompleteCatalogError,
    MalformedMessageError,
    ProductIdentity,
    Provenance,
    PsfQuality,
    TopicNames,
    encode,
    encode_catalog,
)
from streamchar.messages.catalog import Catalog
from streamchar.messages.examples import make_examples
from tests.stream.brokers import BrokerProcess

PROVENANCE = Provenance(software_version="1")
COLUMNS = [Column("id", "<i8", "", "identifier"), Column("flux", "<f8", "adu", "flux"), flag("bad", "flag")]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory):
    with BrokerProcess(tmp_path_factory.mktemp("client") / "data") as broker:
        yield broker.bootstrap


@pytest.fixture
async def topics(bootstrap):
    """Fresh topics with two partitions each."""
    names = TopicNames(f"test-{uuid.uuid4().hex[:8]}")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1) for name in names.all()])
    finally:
        await admin.close()
    return names


def identity(exposure, detector=0, instrument="DemoCam", band="r"):
    return ProductIdentity(
        f"event {instrument} {exposure}", instrument, exposure, detector, "sha256:" + "ab" * 32, band
    )


def quality(exposure, **options):
    return encode(
        PsfQuality(**identity(exposure, **options).fields(), outcome="succeeded", provenance=PROVENANCE)
    )


def catalog_data(exposure, rows):
    flux = np.random.default_rng(exposure).normal(size=rows)
    flux[::7] = np.nan
    return {"id": np.arange(rows), "flux": flux, "bad": np.isnan(flux)}


def catalog(exposure, rows=2000, **options):
    return encode_catalog(
        COLUMNS,
        catalog_data(exposure, rows),
        identity=identity(exposure, **options),
        provenance=PROVENANCE,
        max_chunk_bytes=12_000,
    )


@contextlib.asynccontextmanager
async def sender(bootstrap, topics, **options):
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **options)
    await producer.start()

    async def send(*messages, partition=0):
        for message in messages:
            await producer.send_and_wait(
                topics.name_of(message.topic_type),
                message.value,
                message.key,
                partition=partition,
                headers=message.headers,
            )

    try:
        yield producer, send
    finally:
        await producer.stop()


async def take(subscription, count, timeout=20.0):
    """The next records, leaving the subscription open."""
    found = []
    async with asyncio.timeout(timeout):
        async for record in subscription:
            found.append(record)
            if len(found) == count:
                break
    return found


async def nothing_more(subscription, seconds=1.5):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await anext(aiter(subscription))


def open_at(bootstrap, topics, products="quality", **options):
    return streamchar.subscribe(bootstrap, products=products, topics=topics, from_beginning=True, **options)


async def test_quality_records_come_typed_and_once(bootstrap, topics):
    async with sender(bootstrap, topics) as (_, send):
        await send(quality(1), quality(2), quality(1), quality(2), quality(3))
    async with open_at(bootstrap, topics) as subscription:
        records = await take(subscription, 3)
        assert all(isinstance(record, PsfQuality) for record in records)
        assert [record.exposure for record in records] == [1, 2, 3]


async def test_statuses(bootstrap, topics):
    examples = make_examples()["exposure-status"].values()
    async with sender(bootstrap, topics) as (_, send):
        await send(*map(encode, examples))
    async with open_at(bootstrap, topics, "status") as subscription:
        records = await take(subscription, 2)
    assert {record.outcome for record in records} == {"failed", "degraded"}
    assert all(isinstance(record, ExposureStatus) for record in records)


async def test_whole_catalogues_from_interleaved_chunks(bootstrap, topics):
    first, second = catalog(1), catalog(2)
    assert len(first) > 3
    async with sender(bootstrap, topics) as (_, send):
        for ours, theirs in zip(first, second, strict=True):
            await send(ours, theirs)
            await send(ours)
        await send(*catalog(3, rows=0), partition=1)
    async with open_at(bootstrap, topics, "catalog") as subscription:
        records = await take(subscription, 3)
    by_exposure = {record.manifest.exposure: record for record in records}
    assert set(by_exposure) == {1, 2, 3}
    for exposure, rows in ((1, 2000), (2, 2000), (3, 0)):
        table = by_exposure[exposure].to_qtable()
        for name, values in catalog_data(exposure, rows).items():
            np.testing.assert_array_equal(np.asarray(getattr(table[name], "value", table[name])), values)
    assert str(table["flux"].unit) == "adu"


async def test_several_products_in_one_subscription(bootstrap, topics):
    async with sender(bootstrap, topics) as (_, send):
        await send(quality(1), *catalog(1))
    async with open_at(bootstrap, topics, ("quality", "catalog")) as subscription:
        assert {type(record) for record in await take(subscription, 2)} == {PsfQuality, Catalog}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"instrument": "OtherCam"}, [4]),
        ({"band": "g"}, [3]),
        ({"band": ["g", "z"]}, [3]),
        ({"detector": 1}, [2]),
        ({"detector": (0, 1), "instrument": ["DemoCam"]}, [1, 2, 3]),
    ],
)
async def test_filters(bootstrap, topics, options, expected):
    async with sender(bootstrap, topics) as (_, send):
        await send(
            quality(1), quality(2, detector=1), quality(3, band="g"), quality(4, instrument="OtherCam")
        )
        for product in (
            catalog(1),
            catalog(2, detector=1),
            catalog(3, band="g"),
            catalog(4, instrument="OtherCam"),
        ):
            await send(*product)
    for products in ("quality", "catalog"):
        async with open_at(bootstrap, topics, products, **options) as subscription:
            records = await take(subscription, len(expected))
            await nothing_more(subscription, 0.6)
        assert [getattr(record, "manifest", record).exposure for record in records] == expected


async def test_aborted_transactions_are_not_seen(bootstrap, topics):
    async with sender(bootstrap, topics, transactional_id=f"t-{uuid.uuid4().hex}") as (producer, send):
        await producer.begin_transaction()
        await send(quality(1), *catalog(1))
        await producer.abort_transaction()
        async with producer.transaction():
            await send(quality(2), *catalog(2))
    async with open_at(bootstrap, topics, ("quality", "catalog")) as subscription:
        records = await take(subscription, 2)
        await nothing_more(subscription)
    assert {getattr(record, "manifest", record).exposure for record in records} == {2}


async def test_a_group_goes_on_where_it_left_off(bootstrap, topics):
    group = f"group-{uuid.uuid4().hex}"
    async with sender(bootstrap, topics) as (_, send):
        await send(*(quality(number) for number in range(1, 6)))
        async with open_at(bootstrap, topics, group=group) as subscription:
            assert [record.exposure for record in await take(subscription, 3)] == [1, 2, 3]
        # The third was given out, but the next one was not asked for: it may not have been dealt with.
        async with open_at(bootstrap, topics, group=group) as subscription:
            assert [record.exposure for record in await take(subscription, 3)] == [3, 4, 5]
            await nothing_more(subscription)


async def test_a_catalogue_that_straddles_a_restart_is_not_lost(bootstrap, topics):
    group = f"group-{uuid.uuid4().hex}"
    straddling, whole = catalog(1), catalog(2)
    async with sender(bootstrap, topics) as (_, send):
        await send(straddling[0], straddling[1], *whole)
        async with open_at(bootstrap, topics, "catalog", group=group, commit_interval=0.0) as subscription:
            (record,) = await take(subscription, 1)
            assert record.manifest.exposure == 2
            await nothing_more(subscription, 1.0)
        await send(*straddling[2:])
        async with open_at(bootstrap, topics, "catalog", group=group) as subscription:
            # What was complete behind the oldest incomplete one comes again: its memory died with the process.
            records = await take(subscription, 2)
        assert [record.manifest.exposure for record in records] == [2, 1]


async def test_a_group_shares_the_partitions(bootstrap, topics):
    group = f"group-{uuid.uuid4().hex}"
    fast = {"consumer_options": {"session_timeout_ms": 6000, "heartbeat_interval_ms": 200}}
    async with (
        sender(bootstrap, topics) as (_, send),
        open_at(bootstrap, topics, group=group, **fast) as left,
        open_at(bootstrap, topics, group=group, **fast) as right,
    ):
        found = set()

        async def drain(subscription):
            async for record in subscription:
                found.add(record.exposure)

        tasks = [asyncio.create_task(drain(subscription)) for subscription in (left, right)]
        for number in range(30):
            await send(quality(number), partition=number % 2)
            await asyncio.sleep(0.1)
        async with asyncio.timeout(20):
            while found < set(range(30)):
                await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # A rebalance may give a record to both, never to neither.
    assert found == set(range(30))


async def test_problems_are_told(bootstrap, topics):
    messages = catalog(1)
    async with sender(bootstrap, topics) as (producer, send):
        await producer.send_and_wait(topics.psf_quality, b"garbage", partition=0)
        await producer.send_and_wait(topics.psf_quality, None, b"tombstone", partition=0)
        await send(*messages[:-1], *catalog(2), quality(3))
    problems = []
    options = {"incomplete_after": 0.5, "on_problem": problems.append}
    async with open_at(bootstrap, topics, ("quality", "catalog"), **options) as subscription:
        assert len(await take(subscription, 2)) == 2
        await nothing_more(subscription)
    assert sorted(type(problem).__name__ for problem in problems) == [
        "IncompleteCatalogError",
        "MalformedMessageError",
        "MalformedMessageError",
    ]
    assert any(
        isinstance(problem, IncompleteCatalogError) and "DemoCam/1/0" in str(problem) for problem in problems
    )
    assert any(isinstance(problem, MalformedMessageError) for problem in problems)


async def test_problems_are_warnings_by_default(bootstrap, topics):
    async with sender(bootstrap, topics) as (producer, send):
        await producer.send_and_wait(topics.psf_quality, b"garbage", partition=0)
        await send(quality(1))
    async with open_at(bootstrap, topics) as subscription:
        with pytest.warns(SubscriptionWarning, match="malformed"):
            assert len(await take(subscription, 1)) == 1


async def test_the_plain_iterator(bootstrap, topics):
    async with sender(bootstrap, topics) as (_, send):
        await send(quality(1), quality(2), *catalog(1))

    def read(products, count):
        found = []
        for record in open_at(bootstrap, topics, products).stream():
            found.append(record)
            if len(found) == count:
                break
        return found

    async with asyncio.timeout(20):
        qualities = await asyncio.to_thread(read, "quality", 2)
        (received,) = await asyncio.to_thread(read, "catalog", 1)
    assert [record.exposure for record in qualities] == [1, 2]
    assert len(received) == 2000


async def test_new_records_arrive_soon(bootstrap, topics):
    async with (
        sender(bootstrap, topics) as (_, send),
        open_at(bootstrap, topics, group=f"g-{uuid.uuid4().hex}") as subscription,
    ):
        await send(quality(1))
        await take(subscription, 1)
        start = asyncio.get_running_loop().time()
        await send(quality(2))
        await take(subscription, 1)
        assert asyncio.get_running_loop().time() - start < 1.0


def test_unknown_products_are_refused():
    with pytest.raises(ValueError, match="picture"):
        Subscription("localhost:9092", products=("picture",))
    with pytest.raises(ValueError, match="nothing"):
        Subscription("localhost:9092", products=())


def test_importing_streamchar_does_not_import_kafka():
    import subprocess
    import sys

    code = "import sys, streamchar, streamchar.messages; print([m for m in ('aiokafka', 'astropy', 'scipy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


@pytest.fixture(autouse=True)
def strict_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


async def test_a_broker_that_dies_and_comes_back(tmp_path):
    with BrokerProcess(tmp_path / "data") as broker:
        names = TopicNames()
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(names.psf_quality, 1, 1)])
        await admin.close()
        async with open_at(broker.bootstrap, names, group="group") as subscription:
            async with sender(broker.bootstrap, names) as (_, send):
                await send(quality(1))
            assert [record.exposure for record in await take(subscription, 1)] == [1]
            await asyncio.to_thread(broker.restart)
            async with sender(broker.bootstrap, names) as (_, send):
                await send(quality(1), quality(2))
            assert [record.exposure for record in await take(subscription, 1, 60)] == [2]
