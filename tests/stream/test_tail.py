"""`streamchar tail` on a real broker: rows for people, JSON for programs, and a clean end whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from typer.testing import CliRunner

from streamchar.cli import build
from streamchar.client import TopicsMissingError, UnreachableError
from streamchar.messages import TopicNames, encode
from streamchar.messages.examples import make_examples
from tests.stream.brokers import BrokerProcess
from tests.stream.published import catalog, psf, quality, sender

TOPICS = TopicNames("tail")


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory):
    """A broker with 30 exposures, every tenth degraded."""
    with BrokerProcess(tmp_path_factory.mktemp("tail") / "data") as broker:
        asyncio.run(fill(broker.bootstrap))
        yield broker.bootstrap


async def fill(bootstrap):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 3, 1) for name in TOPICS.all()])
    await admin.close()
    async with sender(bootstrap, TOPICS, transactional_id="tail") as (producer, send):
        for exposure in range(1, 31):
            choice = {"outcome": "succeeded" if exposure % 10 else "degraded", "band": "gr"[exposure % 2]}
            async with producer.transaction():
                for message in (
                    quality(exposure, **choice),
                    *catalog(exposure, 50 * exposure, **choice),
                    *psf(exposure, **choice),
                ):
                    await send(message, partition=exposure % 3)
    async with sender(bootstrap, TOPICS) as (_, send):
        await send(*map(encode, make_examples()["exposure-status"].values()))


def start(bootstrap, *options, **pipes):
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "streamchar.cli",
            "tail",
            *options,
            "--bootstrap",
            bootstrap,
            "--prefix",
            "tail",
        ],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes},
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )


def tail(bootstrap, *options):
    """Run it in this process, which is much faster."""
    arguments = ["tail", *options, "--bootstrap", bootstrap]
    if "--prefix" not in options:
        arguments += ["--prefix", "tail"]
    result = CliRunner().invoke(build(arguments), arguments, env={"COLUMNS": "80"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0
    return result.stdout


def lines(bootstrap, *options):
    return [json.loads(line) for line in tail(bootstrap, *options, "--json").splitlines()]


def test_the_last_as_json_lines(bootstrap):
    assert [item["exposure"] for item in lines(bootstrap, "quality")] == list(range(21, 31))
    found = lines(bootstrap, "catalog", "--last", "2")
    assert [(item["exposure"], item["rows"], item["outcome"]) for item in found] == [
        (29, 1450, "succeeded"),
        (30, 1500, "degraded"),
    ]
    assert found[0]["columns"][1] == {"name": "flux", "dtype": "<f8", "unit": "adu", "doc": "flux"}


def test_values_on_request(bootstrap):
    (found,) = lines(bootstrap, "catalog", "--last", "1", "--data", "--outcome", "succeeded", "--band", "g")
    assert found["exposure"] == 28
    assert found["data"]["id"] == list(range(1400))
    assert found["data"]["flux"][0] is None
    assert found["data"]["bad"][:2] == [True, False]


def test_more_than_there_is_and_filters(bootstrap):
    assert len(lines(bootstrap, "quality", "--last", "500")) == 30
    degraded = lines(bootstrap, "psf", "-n", "50", "--outcome", "degraded")
    assert [item["exposure"] for item in degraded] == [10, 20, 30]
    assert "arrays" not in degraded[0]
    assert lines(bootstrap, "quality", "--instrument", "Other") == []


def test_rows_are_whole_on_a_narrow_terminal(bootstrap):
    rows = tail(bootstrap, "catalog", "-n", "3").splitlines()
    assert rows[0].split()[:4] == ["instrument", "exposure", "det", "band"]
    assert len(rows) == 4
    assert rows[-1].split()[:5] == ["DemoCam", "30", "0", "g", "degraded"]
    assert "1,500" in rows[-1]
    assert "\x1b" not in "".join(rows)
    statuses = tail(bootstrap, "status").splitlines()
    assert "malformed_message" in statuses[1]
    assert statuses[1].split()[2] == "failed"


async def test_following_until_interrupted(bootstrap):
    process = start(bootstrap, "quality", "-n", "1", "--follow", "--json")
    assert json.loads(await asyncio.to_thread(process.stdout.readline))["exposure"] == 30
    async with sender(bootstrap, TOPICS) as (_, send):
        await send(quality(31, instrument="LateCam"))
    assert json.loads(await asyncio.to_thread(process.stdout.readline))["exposure"] == 31
    process.send_signal(signal.SIGINT)
    output, errors = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, output, errors) == (0, "", "")


def test_a_reader_that_leaves_ends_it(bootstrap):
    """Nothing more comes, so that only looking at the pipe tells."""
    process = start(bootstrap, "psf", "-n", "5", "--follow")
    assert "DemoCam" in process.stdout.readline() + process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_reader_that_never_was(bootstrap):
    reading, writing = os.pipe()
    os.close(reading)
    process = start(bootstrap, "catalog", "-n", "30", stdout=writing)
    os.close(writing)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_what_is_wrong_is_told(bootstrap):
    with pytest.raises(TopicsMissingError, match=r"other\.psf-quality\.v1.*--prefix"):
        tail(bootstrap, "quality", "--prefix", "other")
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
        tail("127.0.0.1:1", "quality")
