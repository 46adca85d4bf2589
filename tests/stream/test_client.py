"""The subscriber on a real broker: typed, whole, once, and where it left off."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
import warnings
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from astropy.table import QTable

import streamchar
from streamchar.characterize.catalog import Column, flag
from streamchar.characterize.psf.pixel_basis import PixelBasisPsf
from streamchar.characterize.psf.polynomial import PositionPolynomial, SpatialBasis
from streamchar.client import (
    AddressError,
    Subscription,
    SubscriptionWarning,
    TopicsMissingError,
    UnreachableError,
)
from streamchar.dashboard.follow import follow
from streamchar.messages import (
    ExposureStatus,
    IncompleteCatalogError,
    MalformedMessageError,
    ProductIdentity,
    Provenance,
    PsfModel,
    PsfQuality,
    TopicNames,
    encode,
    encode_catalog,
    encode_psf_model,
)
from streamchar.messages.catalog import Catalog
from streamchar.messages.examples import make_examples
from streamchar.messages.psf_conversion import describe_psf
from tests.stream.brokers import SHORTEST_SESSION, BrokerProcess
from tests.stream.conformance.raw import raw_client
from tests.stream.services import EXTERNAL, batch_with_header

PROVENANCE = Provenance(software_version="1")
COLUMNS = [Column("id", "<i8", "", "identifier"), Column("flux", "<f8", "adu", "flux"), flag("bad", "flag")]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory):
    if EXTERNAL:
        yield EXTERNAL
        return
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


def quality(exposure, outcome="succeeded", **options):
    return encode(
        PsfQuality(**identity(exposure, **options).fields(), outcome=outcome, provenance=PROVENANCE)
    )


def psf_of(exposure):
    """A model that takes several messages."""
    random = np.random.default_rng(exposure)
    polynomial = PositionPolynomial(2, 100.5, 200.25, 1000.0, 900.0)
    components = random.normal(size=(6, 31, 31))
    spatial = SpatialBasis(polynomial, random.normal(size=(6, 6)))
    return PixelBasisPsf(components, spatial, 0.5, 15, (float(exposure), 2.0))


def psf(exposure, outcome="succeeded", **options):
    fields, arrays = describe_psf(psf_of(exposure))
    who = identity(exposure, **options).fields()
    model = PsfModel(**who, **fields, outcome=outcome, provenance=PROVENANCE)
    return encode_psf_model(model, arrays, max_chunk_bytes=30_000)


def catalog_data(exposure, rows):
    flux = np.random.default_rng(exposure).normal(size=rows)
    flux[::7] = np.nan
    return {"id": np.arange(rows), "flux": flux, "bad": np.isnan(flux)}


def catalog(exposure, rows=2000, outcome="succeeded", **options):
    return encode_catalog(
        COLUMNS,
        catalog_data(exposure, rows),
        identity=identity(exposure, **options),
        provenance=PROVENANCE,
        metadata={"NOISE_SEED_MULTIPLIER": 1, "RADII": [3.0, 4.5]},
        outcome=outcome,
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


async def test_tables(bootstrap, topics):
    async with sender(bootstrap, topics) as (_, send):
        await send(*catalog(1))
    async with open_at(bootstrap, topics, "table") as subscription:
        (table,) = await take(subscription, 1)
    assert isinstance(table, QTable)
    for name, values in catalog_data(1, 2000).items():
        assert np.asarray(getattr(table[name], "value", table[name])).tobytes() == values.tobytes()
    assert table["flux"].unit == "adu"
    assert table["bad"].dtype == bool
    assert table.meta["NOISE_SEED_MULTIPLIER"] == 1
    assert table.meta["RADII"] == (3.0, 4.5)
    assert table.meta["outcome"] == "succeeded"


async def test_psf_models_can_be_evaluated_and_are_the_same_bit_by_bit(bootstrap, topics):
    assert len(psf(1)) > 1
    async with sender(bootstrap, topics) as (_, send):
        for ours, theirs in zip(psf(1), psf(2), strict=True):
            await send(ours, theirs, ours)
    async with open_at(bootstrap, topics, "psf") as subscription:
        records = await take(subscription, 2)
        await nothing_more(subscription, 0.5)
    assert [record.key for record in records] == ["DemoCam/1/0", "DemoCam/2/0"]
    for record, exposure in zip(records, (1, 2), strict=True):
        ours, theirs = (
            model.kernel_images([3.0, 900.0], [4.0, 50.5]) for model in (record, psf_of(exposure))
        )
        assert ours.tobytes() == theirs.tobytes()


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
        ({"detector": (0, 1), "instrument": ["DemoCam"]}, [1, 2, 3, 5]),
        ({"outcome": "degraded"}, [5]),
        ({"outcome": ["succeeded", "failed"], "detector": 0}, [1, 3, 4]),
    ],
)
async def test_filters(bootstrap, topics, options, expected):
    async with sender(bootstrap, topics) as (_, send):
        for exposure, choice in enumerate(
            ({}, {"detector": 1}, {"band": "g"}, {"instrument": "OtherCam"}, {"outcome": "degraded"}), start=1
        ):
            await send(quality(exposure, **choice), *catalog(exposure, **choice), *psf(exposure, **choice))
    for products in ("quality", "catalog", "psf"):
        problems = []
        subscription = open_at(
            bootstrap, topics, products, stop_at_end=True, on_problem=problems.append, **options
        )
        found = [record async for record in subscription]
        messages = [getattr(record, "manifest", getattr(record, "model", record)) for record in found]
        assert [message.exposure for message in messages] == expected
        assert problems == []


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
    fast = {
        "consumer_options": {"session_timeout_ms": 1000 * int(SHORTEST_SESSION), "heartbeat_interval_ms": 200}
    }
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


async def test_a_plain_loop(bootstrap, topics):
    async with sender(bootstrap, topics) as (_, send):
        await send(quality(1), quality(2))

    def read():
        return [record.exposure for record in open_at(bootstrap, topics, stop_at_end=True)]

    assert await asyncio.to_thread(read) == [1, 2]
    assert not any(thread.name == "streamchar-subscribe" for thread in threading.enumerate())


def test_interrupting_a_plain_loop_is_one_traceback(bootstrap, topics, tmp_path):
    program = (
        "import sys, streamchar\nfrom streamchar.messages import TopicNames\n"
        f"names = TopicNames({topics.prefix!r})\nsubscription = streamchar.subscribe({bootstrap!r}, topics=names)\n"
        "print('begun', flush=True)\nfor quality in subscription: pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert errors.strip().endswith("KeyboardInterrupt")


async def test_a_header_name_that_is_no_text_stops_nobody(bootstrap, topics):
    async with sender(bootstrap, topics) as (_, send):
        await send(quality(1))
        odd = quality(2)
        async with raw_client(bootstrap.split(",")[0]) as client:
            batch = batch_with_header(odd.value, b"caf\xe9", odd.headers)
            answer = await client.produce(topics.psf_quality, batch, index=0)
        assert answer.error_code == 0
        await send(quality(3))
        await send(quality(4), partition=1)
    async with open_at(bootstrap, topics) as alone:
        assert {record.exposure for record in await take(alone, 4)} == {1, 2, 3, 4}
        await nothing_more(alone)
    async with open_at(bootstrap, topics, group="g") as member:
        assert {record.exposure for record in await take(member, 4)} == {1, 2, 3, 4}
        await nothing_more(member)
    async with open_at(bootstrap, topics, group="g") as member:
        await nothing_more(member)
    followed = set()
    async with asyncio.timeout(20), contextlib.aclosing(follow(bootstrap, topics)) as watched:
        async for message in watched:
            followed |= set() if message is None else {message.exposure}
            if followed == {1, 2, 3, 4}:
                return


async def test_from_near_the_end(bootstrap, topics):
    async with sender(bootstrap, topics) as (_, send):
        await send(*(quality(number) for number in range(1, 21)))
    for back, whole in ((3, False), (20, True), (500, True)):
        subscription = streamchar.subscribe(bootstrap, topics=topics, from_end=back, stop_at_end=True)
        found = [record.exposure async for record in subscription]
        assert found == list(range(max(1, 21 - back), 21))
        assert subscription.reads_all is whole


async def test_topics_that_do_not_exist_yet_are_waited_for_and_read_from_their_beginning(
    bootstrap, monkeypatch
):
    monkeypatch.setattr("streamchar.client.subscription.WAIT_FOR_TOPICS", 0.1)
    names = TopicNames(f"later-{uuid.uuid4().hex[:8]}")
    with pytest.raises(TopicsMissingError, match=rf"{bootstrap}.*{names.psf_quality}"):
        await anext(aiter(streamchar.subscribe(bootstrap, topics=names, stop_at_end=True)))
    async with streamchar.subscribe(bootstrap, topics=names) as subscription:
        with pytest.warns(SubscriptionWarning, match=rf"waiting for the topics {names.psf_quality}"):
            waiting = await begin(subscription)
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(names.psf_quality, 1, 1)])
        await admin.close()
        async with sender(bootstrap, names) as (_, send):
            await send(quality(1))
        assert [record.exposure for record in await waiting] == [1]


async def begin(subscription):
    """Ask for a record without waiting for it."""
    waiting = asyncio.create_task(take(subscription, 1, 60))
    await asyncio.sleep(0.5)
    return waiting


async def test_added_partitions_are_read_and_known_ones_go_on(bootstrap, topics, monkeypatch):
    monkeypatch.setattr("streamchar.client.subscription.LOOK_FOR_PARTITIONS", 0.2)
    async with sender(bootstrap, topics) as (_, send):
        await send(quality(1), quality(2))
    async with open_at(bootstrap, topics, remembered=1) as subscription:
        assert [record.exposure for record in await take(subscription, 2)] == [1, 2]
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_partitions({topics.psf_quality: NewPartitions(3)})
        await admin.close()
        async with sender(bootstrap, topics) as (_, send):
            await send(quality(3), partition=2)
            await send(quality(4))
        assert {record.exposure for record in await take(subscription, 2)} == {3, 4}
        await nothing_more(subscription, 0.5)


@pytest.mark.parametrize("address", ["", "kafka://host:9092", "host:port", "host:0", ":9092", "host:9092,"])
def test_what_is_no_address_is_told(address):
    with pytest.raises(AddressError, match="localhost:9092"):
        streamchar.subscribe(address)


async def test_a_broker_that_is_not_there_is_named_with_what_to_do():
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1.*is it running.*streamchar broker"):
        await anext(aiter(streamchar.subscribe("127.0.0.1:1")))
    with pytest.raises(UnreachableError):
        next(iter(streamchar.subscribe("127.0.0.1:1", group="any")))


def test_types_are_known_to_mypy(tmp_path):
    products = {
        "quality": "PsfQuality",
        "catalog": "Catalog",
        "psf": "PublishedPsf",
        "status": "ExposureStatus",
    }
    lines = ["from streamchar import subscribe"]
    for product in products:
        lines += [f"for {product} in subscribe('a:1', products='{product}'):", f"    reveal_type({product})"]
    lines += ["subscribe('a:1', products='picture')", "subscribe('a:1', colour='red')"]
    lines += ["for default in subscribe():", "    reveal_type(default.seeing)"]
    program = tmp_path / "program.py"
    program.write_text("\n".join(lines) + "\n")
    root = Path(streamchar.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), str(program)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    revealed = re.findall(r'Revealed type is "([^"]+)"', run.stdout)
    assert [name.rpartition(".")[2] for name in revealed[:4]] == list(products.values()), run.stdout
    assert "float" in revealed[4]
    wrong = {int(number) for number in re.findall(r"program\.py:(\d+): error", run.stdout)}
    assert wrong == {10, 11}, run.stdout


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
    with pytest.raises(ValueError, match="two forms"):
        Subscription("localhost:9092", products=("catalog", "table"))
    with pytest.raises(ValueError, match="nothing"):
        Subscription("localhost:9092", products=())


def test_importing_streamchar_does_not_import_kafka():
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


async def told(caught, words):
    """Wait for a warning."""
    async with asyncio.timeout(60):
        while not any(words in str(warning.message) for warning in caught):
            await asyncio.sleep(0.05)


async def test_a_broker_that_dies_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("streamchar.client.subscription.LOOK_FOR_PARTITIONS", 0.3)
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
            waiting = await begin(subscription)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", SubscriptionWarning)
                await asyncio.to_thread(broker.kill)
                await told(caught, "no Kafka broker answers at")
                await asyncio.to_thread(broker.start)
                await told(caught, "is back")
                async with sender(broker.bootstrap, names) as (_, send):
                    await send(quality(1), quality(2))
                assert [record.exposure for record in await waiting] == [2]


async def test_following_creates_no_topics_but_waits_for_them(bootstrap, monkeypatch):
    """A client that subscribes to a topic creates it, with the broker's partitions and retention instead of ours."""
    monkeypatch.setattr("streamchar.dashboard.follow.WAIT_FOR_TOPICS", 0.1)
    names = TopicNames(f"followed-{uuid.uuid4().hex[:8]}")
    wanted = [names.exposure_ready, names.psf_quality, names.exposure_status]
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    async with asyncio.timeout(30), contextlib.aclosing(follow(bootstrap, names)) as watched:
        for _ in range(3):
            assert await anext(watched) is None
        assert not set(wanted) & set(await admin.list_topics())
        await admin.create_topics([NewTopic(name, 1, 1) for name in wanted])
        async with sender(bootstrap, names) as (_, send):
            await send(quality(1))
        while (message := await anext(watched)) is None:
            pass
        assert message.exposure == 1
    await admin.close()


async def test_leaving_does_not_wait_for_a_broker_that_is_gone(tmp_path, monkeypatch):
    """What was delivered and not committed yet comes again next time."""
    monkeypatch.setattr("streamchar.client.subscription.LAST_COMMIT", 0.5)
    names = TopicNames()
    with BrokerProcess(tmp_path / "broker") as broker:
        async with sender(broker.bootstrap, names) as (_, send):
            await send(quality(1))
        subscription = streamchar.subscribe(
            broker.bootstrap, topics=names, group="g", from_beginning=True, commit_interval=600.0
        )
        assert (await anext(aiter(subscription))).exposure == 1
        waiting = asyncio.ensure_future(anext(aiter(subscription)))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(broker.stop, signal.SIGKILL)
        waiting.cancel()
        with pytest.warns(SubscriptionWarning, match="the position was not kept"):
            await asyncio.wait([waiting], timeout=30)
        assert waiting.cancelled()
