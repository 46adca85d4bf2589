"""`streamchar archive`, killed at any moment: every catalogue is there, once and whole.

``STREAMCHAR_ARCHIVE_KILLS`` sets how often it is killed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter

import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamchar.archive import INCOMING
from streamchar.messages import TopicNames
from tests.stream.published import catalog, catalog_data

EXPOSURES = 40
ROWS = 1200
KILLS = int(os.environ.get("STREAMCHAR_ARCHIVE_KILLS", "2"))


async def publish(bootstrap, topics, exposures, *, transactional_id):
    """Each catalogue in a transaction; every fifth is delivered again, every seventh first in one that is aborted."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=transactional_id)
    await producer.start()
    try:
        for exposure in exposures:
            times = ["abort"] * (exposure % 7 == 0) + ["commit"] * (1 + (exposure % 5 == 0))
            for end in times:
                await producer.begin_transaction()
                for message in catalog(exposure, ROWS):
                    await producer.send(
                        topics.source_catalog,
                        message.value,
                        message.key,
                        partition=exposure % 3,
                        headers=message.headers,
                    )
                await (producer.commit_transaction() if end == "commit" else producer.abort_transaction())
    finally:
        await producer.stop()


@pytest.fixture
async def topics(broker):
    names = TopicNames(f"archive-{uuid.uuid4().hex[:8]}")
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(names.source_catalog, 3, 1)])
    await admin.close()
    return names


def start(bootstrap, prefix, folder, *options):
    command = [sys.executable, "-m", "streamchar.cli", "archive", "-o", str(folder), "--bootstrap", bootstrap]
    return subprocess.Popen(
        [*command, "--prefix", prefix, "--group", prefix, "-c", "kafka.instance_id=archive-1", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def files(folder):
    return [path for path in folder.rglob("*.parquet") if path.is_file()]


def wait_for_files(folder, count, seconds=60):
    deadline = time.monotonic() + seconds
    while len(files(folder)) < count:
        assert time.monotonic() < deadline, f"{len(files(folder))} of {count} files"
        time.sleep(0.002)


async def test_killed_at_any_moment_nothing_is_missing_and_nothing_is_there_twice(broker, topics, tmp_path):
    dice, bootstrap, folder = random.Random(20260131), broker.bootstrap, tmp_path / "catalogues"
    await publish(bootstrap, topics, range(EXPOSURES), transactional_id=f"{topics.prefix}-1")
    for number in range(KILLS):
        archive = start(bootstrap, topics.prefix, folder, "-c", "kafka.session_timeout=10")
        before = len(files(folder))
        target = min(before + dice.randrange(1, max(2, 2 * EXPOSURES // KILLS)), EXPOSURES)
        wait_for_files(folder, target)
        time.sleep(dice.uniform(0, 0.05))
        archive.send_signal(signal.SIGKILL)
        output, _ = archive.communicate(timeout=30)
        assert archive.returncode == -signal.SIGKILL, output
        for path in files(folder):
            assert pq.read_metadata(path).num_rows == ROWS
        if number == KILLS // 2:
            await publish(
                bootstrap, topics, range(EXPOSURES, EXPOSURES + 10), transactional_id=f"{topics.prefix}-2"
            )

    archive = start(bootstrap, topics.prefix, folder, "--once")
    output, _ = archive.communicate(timeout=120)
    assert archive.returncode == 0, output
    found = files(folder)
    per_exposure = Counter(pq.read_table(path, columns=["exposure"])["exposure"][0].as_py() for path in found)
    assert per_exposure == Counter(range(EXPOSURES + 10))
    assert sum(pq.read_metadata(path).num_rows for path in found) == ROWS * (EXPOSURES + 10)
    assert list((folder / INCOMING).iterdir()) == []
    for path in dice.sample(found, 5):
        table = pq.read_table(path, partitioning=None)
        sent = catalog_data(table["exposure"][0].as_py(), ROWS)
        assert table["flux"].to_numpy().tobytes() == sent["flux"].tobytes()


def test_a_place_that_cannot_be_used_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    archive = start("127.0.0.1:1", "archive", tmp_path / "file")
    output, _ = archive.communicate(timeout=60)
    assert archive.returncode == 2
    assert "cannot be written" in output
    assert "Traceback" not in output
