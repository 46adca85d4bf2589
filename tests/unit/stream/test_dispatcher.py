"""The dispatcher without broker and without workers: credits, fairness, rebalances, retries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from streamchar.messages import ExposureStatus, TopicNames, decode
from streamchar.monitor.metrics import Metrics
from streamchar.stream.dispatcher import Dispatcher
from streamchar.stream.errors import PartitionLostError, PublishError, PublishTimeoutError
from streamchar.stream.events import Correspondent, Event
from streamchar.stream.job import Assignment, JobFailure, JobResult, Message
from streamchar.stream.ledger import Commit, OffsetLedger
from streamchar.stream.outbox import Record
from streamchar.stream.pool import Ticket
from streamchar.stream.settings import load_settings

NAMES = TopicNames()
A, B = TopicPartition(NAMES.exposure_ready, 0), TopicPartition(NAMES.exposure_ready, 1)
RESULT = JobResult(messages=(Message("psf-quality", b"k", b"quality"),))


class FakePool:
    """Takes assignments; the test decides how they end."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []
        self.cancelled: list[Ticket] = []

    def submit(self, assignment: Assignment, *, first: bool = False) -> Ticket:
        ticket = Ticket(assignment)
        self.tickets.append(ticket)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        self.cancelled.append(ticket)
        ticket.outcome.cancel()

    def take(self) -> Ticket:
        return self.tickets.pop(0)


class MemoryOutbox:
    """Keeps what is published; can be held back, and fail."""

    def __init__(self) -> None:
        self.errors: list[PublishError] = []
        self.records: list[Record] = []
        self.commits: dict[TopicPartition, Commit] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def open(self, partition: TopicPartition) -> None: ...

    async def publish(self, partition: TopicPartition, records: Sequence[Record], commit: Commit) -> None:
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.records += records
        self.commits[partition] = commit

    async def close(self, partition: TopicPartition) -> None: ...

    async def stop(self) -> None: ...

    def statuses(self) -> list[ExposureStatus]:
        found = [decode(bytes(r.value), r.headers) for r in self.records if r.topic == NAMES.exposure_status]
        return [status for status in found if isinstance(status, ExposureStatus)]


class Bench:
    """A dispatcher with everything around it faked."""

    def __init__(self, *overrides: str) -> None:
        self.pool, self.outbox, self.errors = FakePool(), MemoryOutbox(), []
        self.metrics = Metrics()
        self.dispatcher = Dispatcher(
            load_settings(None, ["workers.count=1", "retry.backoff=0.01", *overrides], {}),
            self.pool,  # type: ignore[arg-type]
            self.outbox,
            Correspondent(NAMES, "night"),
            self.metrics,
            self.errors.append,
        )

    def assign(self, *partitions: TopicPartition) -> None:
        for partition in partitions:
            commit = self.outbox.commits.get(partition, Commit(0, ""))
            self.dispatcher.assign(partition, OffsetLedger.restore(commit.offset, commit.metadata))
        self.dispatcher.forget_lost()

    async def finish(self, ticket: Ticket, outcome: JobResult | JobFailure = RESULT) -> None:
        ticket._resolve(outcome)
        await settle()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.dispatcher.revoke(list(bench.dispatcher.lanes))
    assert bench.errors == []


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def record(partition: TopicPartition, offset: int, value: bytes | None = None, **headers: bytes) -> Any:
    event = {
        "event_id": f"{partition.partition}-{offset}",
        "instrument": "Cam",
        "exposure": offset,
        "detector": partition.partition,
        "uri": "x",
        "created_at": datetime.now(UTC).isoformat(),
    }
    value = json.dumps(event).encode() if value is None else value
    told = (
        ("content-type", b"application/json"),
        *((name.replace("_", "-"), v) for name, v in headers.items()),
    )
    return ConsumerRecord(
        partition.topic, partition.partition, offset, 0, 0, b"k", value, None, 1, len(value), told
    )


def names(tickets: list[Ticket]) -> list[str]:
    return [json.loads(ticket.assignment.value)["event_id"] for ticket in tickets]


async def test_credits_bound_what_runs_and_lanes_take_turns(bench: Bench) -> None:
    bench.assign(A, B)
    bench.dispatcher.receive(A, [record(A, n) for n in range(10)])
    bench.dispatcher.receive(B, [record(B, n) for n in range(10)])
    assert bench.dispatcher.credits == 0
    assert names(bench.pool.tickets) == ["0-0", "0-1", "0-2"]
    for _ in range(4):
        await bench.finish(bench.pool.take())
    lanes = [name[0] for name in names(bench.pool.tickets)]
    assert lanes in (["0", "1", "0"], ["1", "0", "1"])


async def test_unpublished_bytes_stop_the_intake_and_their_publication_resumes_it() -> None:
    bench = Bench("limits.bytes_in_flight=1000")
    bench.assign(A)
    bench.outbox.gate.clear()
    bench.dispatcher.receive(A, [record(A, n) for n in range(10)])
    big = JobResult(messages=(Message("psf-quality", b"k", bytes(2000)),))
    for _ in range(3):
        await bench.finish(bench.pool.take(), big)
    assert bench.pool.tickets == []
    assert bench.dispatcher.credits == 0
    bench.outbox.gate.set()
    await settle()
    assert len(bench.pool.tickets) == 3
    assert bench.dispatcher.result_bytes == 0


async def test_work_that_outlives_a_rebalance_is_kept_and_published_once(bench: Bench) -> None:
    bench.assign(A, B)
    records = [record(A, n) for n in range(3)]
    bench.dispatcher.receive(A, records)
    running = list(bench.pool.tickets)
    await bench.dispatcher.revoke([A, B])
    await bench.finish(running[1])  # ends while nobody owns the partition
    bench.assign(A)
    bench.dispatcher.receive(A, records)
    await settle()
    assert bench.pool.cancelled == []
    assert bench.pool.tickets == running  # nothing was started again
    await bench.finish(running[0])
    await bench.finish(running[2])
    assert sorted(status.exposure or 0 for status in bench.outbox.statuses()) == [0, 1, 2]
    assert bench.outbox.commits[A] == Commit(3, "")


async def test_kept_work_does_not_hold_the_credits_it_needs_to_be_read_again() -> None:
    """All credits are held by work of a partition that comes back with other events before it."""
    bench = Bench("limits.events_in_flight=2")
    bench.assign(A, B)
    kept = [record(B, n) for n in range(2)]
    bench.dispatcher.receive(B, kept)
    await bench.dispatcher.revoke([A, B])
    bench.assign(A, B)
    bench.dispatcher.receive(A, [record(A, n) for n in range(2)])
    assert len(bench.pool.tickets) == 4
    bench.dispatcher.receive(B, kept)
    for ticket in list(bench.pool.tickets):
        await bench.finish(ticket)
    assert len(bench.outbox.statuses()) == 4


async def test_results_survive_a_broken_publication_and_wait_for_the_partition(bench: Bench) -> None:
    broken = PublishTimeoutError(partition="ready[0]", seconds=1)
    bench.outbox.errors.append(broken)
    records = [record(A, n) for n in range(5)]
    bench.assign(A)
    bench.dispatcher.receive(A, records)
    running = bench.pool.take()
    await bench.finish(bench.pool.take())
    assert bench.errors == [broken]
    assert not bench.dispatcher.is_whole
    bench.errors.clear()
    await bench.finish(running)  # meanwhile another one is finished
    assert len(bench.pool.tickets) == 1, "a broken lane starts nothing"
    await bench.dispatcher.revoke([A])
    bench.assign(A)
    assert bench.dispatcher.is_whole
    bench.dispatcher.receive(A, records)
    await settle()
    assert [status.exposure for status in bench.outbox.statuses()] == [0, 1]
    assert names(bench.pool.tickets) == ["0-2", "0-3", "0-4"]


async def test_results_published_without_their_commit_are_published_again_when_the_partition_comes_back(
    bench: Bench,
) -> None:
    bench.outbox.errors.append(PartitionLostError(partition="ready[0]", detail="rebalanced"))
    records = [record(A, 0)]
    bench.assign(A)
    bench.dispatcher.receive(A, records)
    await bench.finish(bench.pool.take())
    await bench.dispatcher.revoke([A])
    bench.assign(A)
    bench.dispatcher.receive(A, records)
    await settle()
    assert [status.exposure for status in bench.outbox.statuses()] == [0]
    assert bench.dispatcher.in_flight == 0


async def test_a_publication_in_doubt_that_turns_out_committed_is_counted_and_not_repeated(
    bench: Bench,
) -> None:
    bench.outbox.errors.append(PublishTimeoutError(partition="ready[0]", seconds=1))
    bench.assign(A)
    bench.dispatcher.receive(A, [record(A, 0)])
    await bench.finish(bench.pool.take())
    bench.errors.clear()
    await bench.dispatcher.revoke([A])
    bench.outbox.commits[A] = Commit(1, "")  # what the broker made of the transaction
    bench.assign(A)
    bench.dispatcher.receive(A, [record(A, 0)])
    await settle()
    assert bench.outbox.statuses() == []
    assert bench.dispatcher.published_events == 1
    assert bench.dispatcher.in_flight == bench.dispatcher.result_bytes == 0


@pytest.mark.parametrize("opens", ["at once", "during the next"])
async def test_giving_up_that_is_cancelled_leaves_no_event_without_an_owner(bench: Bench, opens: str) -> None:
    """A publication may last longer than a rejoin, which is then begun again."""
    records = [record(A, n) for n in range(3)]
    bench.assign(A)
    bench.dispatcher.receive(A, records)
    bench.outbox.gate.clear()
    await bench.finish(bench.pool.take())  # is being published
    await bench.finish(bench.pool.take())  # waits for that
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await bench.dispatcher.revoke([A])
    again = asyncio.ensure_future(bench.dispatcher.revoke([]))
    if opens == "during the next":
        await settle()
        assert not again.done(), "the partition must not come back while its last publication runs"
    bench.outbox.gate.set()
    await again
    bench.assign(A)
    bench.dispatcher.receive(A, records)
    await bench.finish(bench.pool.take())
    assert [status.exposure for status in bench.outbox.statuses()] == [0, 1, 2]
    assert bench.outbox.commits[A].offset == 3
    assert bench.dispatcher.in_flight == bench.dispatcher.result_bytes == 0


async def test_work_of_a_lost_partition_is_given_up_and_never_published(bench: Bench) -> None:
    bench.assign(A)
    bench.dispatcher.receive(A, [record(A, 0)])
    ticket = bench.pool.take()
    await bench.dispatcher.revoke([A])
    bench.assign(B)
    assert bench.pool.cancelled == [ticket]
    await settle()
    assert bench.outbox.records == []
    assert bench.dispatcher.in_flight == 0


async def test_another_record_at_the_same_offset_is_another_event(bench: Bench) -> None:
    """A topic deleted and created anew between two assignments."""
    bench.assign(A)
    bench.dispatcher.receive(A, [record(A, 0)])
    first = bench.pool.take()
    await bench.dispatcher.revoke([A])
    bench.assign(A)
    bench.dispatcher.receive(
        A, [record(A, 0, json.dumps({**json.loads(record(A, 0).value), "event_id": "new"}).encode())]
    )
    assert bench.pool.cancelled == [first]
    assert names(bench.pool.tickets) == ["new"]


async def test_many_delayed_events_neither_recurse_nor_block(bench: Bench) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat().encode()
    bench.assign(A, B)
    bench.dispatcher.receive(A, [record(A, n, sc_retry_not_before=later) for n in range(600)])
    bench.dispatcher.receive(B, [record(B, 0)])
    for _ in range(60):
        await settle()
    assert bench.dispatcher.delayed == 500  # limits.delayed_events
    assert bench.dispatcher.working == 0 or names(bench.pool.tickets) == ["1-0"]
    bench.dispatcher.drain()
    assert bench.dispatcher.delayed == 0


async def test_a_flood_of_garbage_ends_as_dead_letters_without_holding_the_loop(bench: Bench) -> None:
    bench.assign(A)
    bench.dispatcher.receive(A, [record(A, n, b"garbage") for n in range(200)])
    assert bench.dispatcher.backlog >= 180
    for _ in range(40):
        await settle()
    assert len(bench.outbox.statuses()) >= 15
    assert len({status.event_id for status in bench.outbox.statuses()}) == len(bench.outbox.statuses())


async def test_while_draining_nothing_new_begins_and_failures_are_left_to_the_next_owner(
    bench: Bench,
) -> None:
    bench.assign(A)
    bench.dispatcher.receive(A, [record(A, n) for n in range(5)])
    bench.dispatcher.drain()
    lost = JobFailure("lost", "worker_killed", "the worker was killed")
    await bench.finish(bench.pool.take(), lost)
    await bench.finish(bench.pool.take())
    await bench.finish(bench.pool.take())
    assert bench.pool.tickets == []
    assert bench.dispatcher.in_flight == 0
    assert sorted(status.exposure or 0 for status in bench.outbox.statuses()) == [1, 2]
    assert bench.outbox.commits[A].offset == 0


ORIGIN = {"sc_origin_time": b"2026-01-01T00:00:00Z", "sc_origin_topic": b"ready"}


@pytest.mark.parametrize(
    "headers",
    [
        {**ORIGIN, "sc_origin_offset": b"9" * 40},
        {**ORIGIN, "sc_origin_partition": b"9" * 40},
        {**ORIGIN, "sc_origin_topic": b""},
        {**ORIGIN, "sc_origin_topic": b"x" * 5000},
        {**ORIGIN, "sc_origin_time": b"0001-01-01T00:00:00+23:59"},
        {"sc_retry_attempts": b"9" * 40, "sc_retry_lost_workers": b"9" * 40, "sc_retry_round": b"-1"},
        {"sc_replay_time": b"9999-12-31T23:59:59-23:59", "sc_replay_round": b"9" * 40},
    ],
)
@pytest.mark.parametrize("value", [None, b"garbage"])
async def test_headers_that_look_like_ours_cannot_break_anything(
    bench: Bench, headers: dict[str, bytes], value: bytes | None
) -> None:
    bench.assign(A)
    bench.dispatcher.receive(A, [record(A, 0, value, **headers)])
    for ticket in bench.pool.tickets:
        ticket._resolve(RESULT)
    await settle()
    assert [status.outcome for status in bench.outbox.statuses()] == ["failed" if value else "succeeded"]


async def test_an_event_is_not_delayed_for_longer_than_the_service_itself_would() -> None:
    """The clock of the service that asked for the delay was ahead of ours, or somebody else wrote the header."""
    bench = Bench("retry.delay_max=0.05")
    bench.assign(A)
    bench.dispatcher.receive(A, [record(A, 0, sc_retry_not_before=b"2999-01-01T00:00:00Z")])
    assert bench.pool.tickets == []
    async with asyncio.timeout(10):
        while not bench.pool.tickets:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "large", [{"key": b"k" * 20_000}, {"headers": (("x", b"y" * 20_000),)}, {"value": b"z" * 8_900}]
)
@pytest.mark.parametrize("code", ["event_too_large", "malformed"])
def test_a_dead_letter_is_never_larger_than_what_can_be_published(large: dict[str, Any], code: str) -> None:
    limit = 9_000
    found = Correspondent(NAMES, "night", letter_limit=limit)
    read = record(A, 0, large.get("value", b"garbage"))
    told = (*read.headers, *large.get("headers", ()))
    event = Event.read(replace(read, key=large.get("key", b"k"), headers=told), datetime.now(UTC))
    failure = JobFailure("permanent", code, "x" * 5000, traceback="y" * 9000)
    for one in found.dead(event, failure, datetime.now(UTC)):
        headers = sum(len(name) + len(value) for name, value in one.headers)
        assert len(one.key or b"") + len(one.value) + headers <= limit


async def test_a_trace_context_of_any_size_does_not_keep_a_status_from_being_published(bench: Bench) -> None:
    bench.assign(A)
    bench.dispatcher.receive(A, [record(A, 0, b"garbage", traceparent=b"0" * 10_000)])
    await settle()
    (status,) = (each for each in bench.outbox.records if each.topic == NAMES.exposure_status)
    assert "traceparent" not in dict(status.headers)
