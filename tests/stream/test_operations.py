"""What an operator has at hand: dead letters, lag, topics and the verification, on a broker with stub workers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import msgpack
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from typer.testing import CliRunner, Result

from streamchar.cli import build
from streamchar.stream.service import Service
from streamchar.stream.topics import ensure_topics
from streamchar.stream.verify import verify
from tests.stream.conformance.clients import admin
from tests.stream.services import Night, outcomes, running, stub_event

CATALOGUING = "workers.job=stub_jobs:cataloguing"


async def command(night: Night, *words: str) -> Result:
    """Run a command of the command line about this night."""
    options = [option for text in night.overrides for option in ("-c", text)]
    arguments = [*words, *options]
    return await asyncio.to_thread(
        CliRunner().invoke, build(arguments), arguments, env={"COLUMNS": "200"}, catch_exceptions=False
    )


def encoded(night: Night) -> bytes:
    """The name of the input topic as a status has it."""
    packed: bytes = msgpack.packb(night.topics.exposure_ready)
    return packed


async def test_topics_are_created_and_checked(night: Night) -> None:
    missing = await command(night, "topics", "check")
    assert missing.exit_code == 1
    assert night.topics.dlq in missing.output
    created = await command(night, "topics", "create")
    assert created.exit_code == 0
    assert f"created {night.topics.exposure_ready}" in created.output
    assert (await command(night, "topics", "create")).output == "all topics exist\n"
    assert (await command(night, "topics", "check")).output == "all topics are as recommended\n"
    other = Night(night.bootstrap, f"{night.prefix}-bad")
    async with admin(night.bootstrap) as client:
        strange = {"cleanup.policy": "compact", "retention.ms": "1000", "max.message.bytes": "5000"}
        await client.create_topics([NewTopic(other.topics.dlq, 1, 1, topic_configs=strange)])
    await ensure_topics(other.settings())
    checked = await command(other, "topics", "check", "--json")
    assert checked.exit_code == 1
    found = {item["option"]: item["harmful"] for item in json.loads(checked.output)}
    assert found == {"cleanup.policy": True, "retention.ms": False, "max.message.bytes": False}


async def test_dead_letters_are_listed_shown_and_replayed_once(night: Night, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    await ensure_topics(night.settings())
    events = [stub_event(n, do="raise", unless=str(mended), age=100 * n) for n in range(3)]
    await night.announce([*events, stub_event(3), b"nonsense"], partition=1)
    settings = night.settings(CATALOGUING, "limits.expire_after=150")
    async with running(Service(settings)):
        await night.wait_for_statuses(5)
    assert (await command(night, "verify")).exit_code == 0

    listed = json.loads((await command(night, "dlq", "list", "--json")).output)
    assert {(letter["exposure"], letter["headers"]["sc-error-code"]) for letter in listed} == {
        (0, "unexpected_error"),
        (1, "unexpected_error"),
        (None, "malformed_message"),
    }  # the third event had expired
    only = json.loads((await command(night, "dlq", "list", "--json", "--exposure", "1")).output)
    assert len(only) == 1
    shown = await command(night, "dlq", "show", only[0]["letter"])
    assert "RuntimeError: this went wrong" in shown.output
    assert '"exposure": 1' in shown.output
    assert (await command(night, "dlq", "show", "7/7")).exit_code == 1
    assert (await command(night, "dlq", "replay")).exit_code == 2
    tried = await command(night, "dlq", "replay", "--reason", "unexpected_error", "--dry-run")
    assert "2 would be announced again" in tried.output

    mended.touch()
    await asyncio.sleep(0.1)
    done = await command(night, "dlq", "replay", "--reason", "unexpected_error")
    assert "2 announced again" in done.output
    assert (
        "0 announced again" in (await command(night, "dlq", "replay", "--reason", "unexpected_error")).output
    )
    original, replayed = [r for r in await night.read(night.topics.exposure_ready) if r.value == events[1]]
    assert original.partition == replayed.partition
    assert replayed.key == original.key
    assert [header for header in replayed.headers if not header[0].startswith("sc-")] == list(
        original.headers
    )
    assert dict(replayed.headers)["sc-replay-round"] == b"1"

    settings = night.settings(CATALOGUING, "limits.expire_after=60")
    async with running(Service(settings)):
        statuses = await night.wait_for_statuses(7)
    assert outcomes(statuses) == {"failed": 3, "expired": 1, "succeeded": 3}
    assert {status.attempts for status in statuses if status.outcome == "succeeded"} == {1}
    report = await verify(night.settings())
    assert report.is_well, report.findings
    assert report.announced == 7


async def test_lag_counts_what_was_finished_out_of_order(night: Night) -> None:
    await ensure_topics(night.settings())
    await night.announce([stub_event(0, sleep=3), *(stub_event(n) for n in range(1, 10))], partition=0)
    before = json.loads((await command(night, "lag", "--json")).output)
    assert sum(partition["lag"] for partition in before) == 10
    assert {partition["committed"] for partition in before} == {None}
    async with running(Service(night.settings("lifecycle.drain=0"))):
        await night.wait_for_statuses(9)
        assert (await verify(night.settings())).pending == 1
    after = json.loads((await command(night, "lag", "--json")).output)
    busy = next(p for p in after if p["topic"] == night.topics.exposure_ready and p["partition"] == 0)
    assert (busy["committed"], busy["finished_above"], busy["lag"]) == (0, 9, 1)
    assert "finished above" in (await command(night, "lag")).output


async def test_verification_finds_what_is_wrong(night: Night) -> None:
    await ensure_topics(night.settings())
    orders = [{}, {}, {}, {"do": "raise"}, {}, {}]
    await night.announce((stub_event(n, **order) for n, order in enumerate(orders)), partition=0)
    async with running(Service(night.settings(CATALOGUING, "workers.count=1"))):
        await night.wait_for_statuses(6)
    told: list[tuple[int, int]] = []
    report = await verify(night.settings(), progress=lambda *numbers: told.append(numbers))
    assert report.is_well, report.findings
    assert report.outcomes == {"succeeded": 5, "failed": 1}
    ends = [done for done, wanted in told if done == wanted]
    assert ends[0] == 6  # the input topics
    assert ends[-1] >= sum(report.messages.values()) - 6  # the others, with the marks of transactions
    assert all(0 <= done <= wanted for done, wanted in told)
    printed = json.loads((await command(night, "verify", "--json")).output)
    assert printed == json.loads(json.dumps(dataclasses.asdict(report)))
    assert printed["outcomes"] == {"succeeded": 5, "failed": 1}

    # The same night once more, copied into other topics, with something wrong.
    bad = Night(night.bootstrap, f"{night.prefix}-bad")
    await ensure_topics(bad.settings())
    copies = [
        (target, record)
        for source, target in zip(night.topics.all(), bad.topics.all(), strict=True)
        for record in await night.read(source)
    ]
    times = {
        (0, "exposure-status"): 0,
        (1, "exposure-status"): 2,
        (2, "catalog-manifest"): 0,
        (4, "psf-quality"): 2,
        (5, "catalog-chunk"): 0,
    }
    async with AIOKafkaProducer(bootstrap_servers=night.bootstrap) as producer:
        for target, record in copies:
            kind = dict(record.headers).get("ce_type", b"").decode().rpartition(".v")[0].rpartition(".")[2]
            exposure = int(record.key.split(b"/")[1]) if b"/" in record.key else -1
            count = 0 if target == bad.topics.dlq else times.get((exposure, kind), 1)
            value = record.value.replace(encoded(night), encoded(bad))
            for _ in range(count):
                await producer.send_and_wait(
                    target, value, key=record.key, headers=list(record.headers), partition=record.partition
                )
        # A service that believes to have finished everything.
        consumer = AIOKafkaConsumer(bootstrap_servers=night.bootstrap, group_id=bad.prefix)
        first = TopicPartition(bad.topics.exposure_ready, 0)
        consumer.assign([first])
        async with consumer:
            await consumer.commit({first: 6})
    report = await verify(bad.settings())
    kinds = sorted((finding.kind, finding.event) for finding in report.findings)
    assert kinds == [
        ("duplicated", "event-1"),
        ("duplicated", "event-4"),
        ("incomplete", "event-2"),
        ("incomplete", "event-2"),
        ("incomplete", "event-5"),
        ("incomplete", "event-5"),
        ("lost", "event-0"),
        ("lost", "event-3"),
        ("unexpected", "event-0"),
    ], report.findings
    assert (await command(bad, "verify")).exit_code == 1
    tolerant = await verify(bad.settings("delivery.mode=at_least_once"))
    assert tolerant.count("duplicated") == 0
    assert tolerant.repeats == 2
