"""The subscriber on a real broker: every product typed, whole and once, in whichever way it is read."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable

import streamchar
from streamchar.client import (
    Subscription,
)
from streamchar.messages import (
    ExposureStatus,
    PsfQuality,
    encode,
)
from streamchar.messages.catalog import Catalog
from streamchar.messages.examples import make_examples
from tests.stream.published import (
    catalog,
    catalog_data,
    nothing_more,
    open_at,
    psf,
    psf_of,
    quality,
    sender,
    take,
)

pytestmark = pytest.mark.usefixtures("strict_warnings")


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
