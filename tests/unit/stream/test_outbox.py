"""What each error of the client means for a publication, and what a lane makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    ProducerFenced,
    RecordListTooLargeError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

import streamchar.stream.outbox as module
from streamchar.stream.errors import (
    FencedError,
    MessageTooLargeError,
    PartitionLostError,
    PublishAbortedError,
    PublishAuthorizationError,
    PublishError,
    PublishTimeoutError,
)
from streamchar.stream.lane import Completion, Lane
from streamchar.stream.ledger import Commit, OffsetLedger
from streamchar.stream.outbox import AcknowledgedOutbox, Outbox, Record, TransactionalOutbox
from streamchar.stream.settings import DeliverySettings, KafkaSettings

PARTITION = TopicPartition("ready", 0)
RECORDS = (Record("out", b"k", b"v"), Record("out", b"k", b"w"))
KAFKA = KafkaSettings(group="night")


class FakeProducer:
    """Notes calls; fails where it is told to."""

    def __init__(self, **failures: BaseException) -> None:
        self.failures = failures
        self.calls: list[Any] = []

    async def _do(self, name: str, *what: Any) -> None:
        self.calls.append((name, *what))
        if name in self.failures:
            raise self.failures[name]

    async def begin_transaction(self) -> None:
        await self._do("begin")

    async def send(self, topic: str, value: bytes, *, key: bytes, headers: list[Any]) -> asyncio.Future[None]:
        await self._do("send", value)
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if "acknowledge" in self.failures:
            acknowledged.set_exception(self.failures["acknowledge"])
        elif "hang" not in self.failures:
            acknowledged.set_result(None)
        return acknowledged

    async def send_offsets_to_transaction(self, offsets: Any, group: str) -> None:
        await self._do("offsets", offsets[PARTITION].offset, offsets[PARTITION].metadata, group)

    async def commit_transaction(self) -> None:
        await self._do("commit")

    async def abort_transaction(self) -> None:
        await self._do("abort")


def outbox_with(producer: FakeProducer) -> TransactionalOutbox:
    outbox = TransactionalOutbox(KAFKA, DeliverySettings(publish_timeout=0.2))
    outbox._producers[PARTITION] = producer  # type: ignore[assignment]
    return outbox


async def test_everything_is_acknowledged_before_the_commit() -> None:
    producer = FakeProducer()
    await outbox_with(producer).publish(PARTITION, RECORDS, Commit(7, "done"))
    assert producer.calls == [
        ("begin",),
        ("send", b"v"),
        ("send", b"w"),
        ("offsets", 7, "done", "night"),
        ("commit",),
    ]


@pytest.mark.parametrize(
    ("where", "error", "meaning", "aborts"),
    [
        ("send", MessageSizeTooLargeError(), MessageTooLargeError, True),
        ("acknowledge", RecordListTooLargeError(), MessageTooLargeError, True),
        ("acknowledge", NotLeaderForPartitionError(), PublishAbortedError, True),
        ("offsets", RequestTimedOutError(), PublishAbortedError, True),
        ("acknowledge", ProducerFenced(), FencedError, False),
        ("commit", ProducerFenced(), FencedError, False),
        ("begin", ProducerFenced(), FencedError, False),
        ("offsets", GroupAuthorizationFailedError(), PublishAuthorizationError, False),
        ("acknowledge", TopicAuthorizationFailedError(), PublishAuthorizationError, False),
        ("begin", TransactionalIdAuthorizationFailed(), PublishAuthorizationError, False),
        ("commit", KafkaError("Unexpected error during batch delivery"), PublishError, False),
        ("begin", AssertionError("Invalid state transition"), PublishError, False),
        ("hang", KafkaError(), PublishTimeoutError, False),
    ],
)
async def test_errors_of_a_transaction(
    where: str, error: BaseException, meaning: type[PublishError], aborts: bool
) -> None:
    producer = FakeProducer(**{where: error})
    with pytest.raises(PublishError) as caught:
        await outbox_with(producer).publish(PARTITION, RECORDS, Commit(7, ""))
    assert type(caught.value) is meaning
    assert "ready[0]" in str(caught.value)
    assert (("abort",) in producer.calls) == aborts
    assert ("commit",) not in producer.calls or where == "commit"


async def test_an_abort_that_fails_ends_the_service() -> None:
    producer = FakeProducer(send=MessageSizeTooLargeError(), abort=ProducerFenced())
    with pytest.raises(FencedError):
        await outbox_with(producer).publish(PARTITION, RECORDS, Commit(7, ""))


async def test_at_least_once_commits_after_the_acknowledgements_and_repeats_only_the_commit() -> None:
    producer = FakeProducer()
    answers: list[BaseException | None] = [RequestTimedOutError(), None]

    async def commit(offsets: Any) -> None:
        producer.calls.append(("commit", offsets[PARTITION].offset))
        if (error := answers.pop(0)) is not None:
            raise error

    outbox = AcknowledgedOutbox(KAFKA, DeliverySettings(publish_timeout=2), commit)
    outbox._producer = producer  # type: ignore[assignment]
    await outbox.publish(PARTITION, RECORDS, Commit(7, ""))
    assert producer.calls == [("send", b"v"), ("send", b"w"), ("commit", 7), ("commit", 7)]
    answers.append(CommitFailedError())
    with pytest.raises(PartitionLostError):
        await outbox.publish(PARTITION, RECORDS, Commit(8, ""))


class StubbornProducer(FakeProducer):
    """Cannot stop before its brokers are back."""

    def __init__(self) -> None:
        super().__init__()
        self.back = asyncio.Event()
        self.closed = asyncio.Event()
        self.client = self

    async def stop(self) -> None:
        await self.back.wait()
        raise ProducerFenced

    async def close(self) -> None:
        self.closed.set()


async def test_nobody_waits_for_a_producer_that_cannot_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.01)
    producer, another = StubbornProducer(), StubbornProducer()
    outbox = outbox_with(producer)
    await outbox.close(PARTITION)
    assert not producer.closed.is_set()
    producer.back.set()
    await asyncio.wait_for(producer.closed.wait(), 5)
    outbox._producers[PARTITION] = another  # type: ignore[assignment]
    await outbox.stop()
    assert another.closed.is_set()


async def test_the_producer_of_all_partitions_goes_with_the_last_of_them() -> None:
    async def commit(offsets: Any) -> None: ...

    producer, other = StubbornProducer(), TopicPartition("ready", 1)
    producer.back.set()
    outbox = AcknowledgedOutbox(KAFKA, DeliverySettings(), commit)
    outbox._producer = producer  # type: ignore[assignment]
    await outbox.open(PARTITION)
    await outbox.open(other)
    await outbox.close(PARTITION)
    assert not producer.closed.is_set()
    await outbox.close(other)
    assert producer.closed.is_set()
    with pytest.raises(PublishError, match="closed"):
        await outbox.publish(PARTITION, RECORDS, Commit(7, ""))


class ScriptedOutbox:
    """Answers each publication as the script says."""

    def __init__(self, *script: PublishError | None) -> None:
        self.script = list(script)
        self.published: list[tuple[list[bytes], Commit]] = []

    async def open(self, partition: TopicPartition) -> None: ...

    async def publish(self, partition: TopicPartition, records: Sequence[Record], commit: Commit) -> None:
        await asyncio.sleep(0)
        error = self.script.pop(0) if self.script else None
        if error is not None:
            raise error
        self.published.append(([bytes(record.value) for record in records], commit))

    async def close(self, partition: TopicPartition) -> None: ...

    async def stop(self) -> None: ...


class Owner:
    def __init__(self) -> None:
        self.done: list[int] = []
        self.errors: list[PublishError] = []

    def published(self, lane: Lane, completions: Sequence[Completion], seconds: float) -> None:
        self.done += [completion.offset for completion in completions]

    def replace_oversized(self, completion: Completion) -> Completion:
        return Completion(completion.offset, (Record("dlq", b"k", b"letter"),), completion.owner)

    def broke(self, lane: Lane, error: PublishError) -> None:
        assert lane.closed
        self.errors.append(error)


def make_lane(outbox: Outbox, owner: Owner, count: int = 5, **delivery: Any) -> Lane:
    ledger = OffsetLedger(0)
    lane = Lane(PARTITION, ledger, outbox, owner, DeliverySettings(**delivery), lambda: 0.0)
    for offset in range(count):
        ledger.take(offset)
    return lane


def completion(offset: int, size: int = 1) -> Completion:
    return Completion(offset, (Record("out", b"k", b"%d" % offset * size),))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_what_finishes_together_is_published_together_within_the_limits() -> None:
    outbox, owner = ScriptedOutbox(), Owner()
    lane = make_lane(outbox, owner, batch_events=3)
    for offset in (4, 1, 0, 2, 3):
        lane.add(completion(offset))
    await settle()
    assert [(values, commit.offset) for values, commit in outbox.published] == [
        ([b"4", b"1", b"0"], 2),
        ([b"2", b"3"], 5),
    ]
    assert owner.done == [4, 1, 0, 2, 3]
    assert await lane.close() == []


async def test_an_oversized_message_costs_only_its_own_event() -> None:
    too_large = MessageTooLargeError(partition="ready[0]", size=9, detail="")
    outbox, owner = ScriptedOutbox(too_large, None, too_large), Owner()
    lane = make_lane(outbox, owner)
    lane.add(completion(0))
    lane.add(completion(1))
    await settle()
    assert [values for values, _ in outbox.published] == [[b"0"], [b"letter"]]
    assert owner.done == [0, 1]
    await lane.close()


async def test_an_aborted_transaction_is_repeated_then_given_up() -> None:
    aborted = PublishAbortedError(partition="ready[0]", detail="")
    outbox, owner = ScriptedOutbox(aborted), Owner()
    lane = make_lane(outbox, owner)
    lane.add(completion(0))
    await asyncio.sleep(0.3)
    assert owner.done == [0]
    outbox.script = [aborted] * 2
    lane._delivery = DeliverySettings(attempts=1)
    lane.add(completion(1))
    await settle()
    assert owner.errors == [aborted]
    assert [kept.offset for kept in await lane.close()] == [1]


async def test_a_closed_lane_hands_back_what_is_not_published() -> None:
    outbox, owner = ScriptedOutbox(), Owner()
    lane = make_lane(outbox, owner, batch_events=1)
    lane.add(completion(0))
    lane.add(completion(1))
    await asyncio.sleep(0)
    left = await lane.close()
    assert owner.done + [kept.offset for kept in left] == [0, 1]
    assert lane.ledger.base == len(owner.done)


async def test_results_of_a_lost_partition_are_kept_until_it_is_known_who_has_it() -> None:
    outbox, owner = ScriptedOutbox(PartitionLostError(partition="ready[0]", detail="")), Owner()
    lane = make_lane(outbox, owner)
    lane.add(completion(0))
    lane.add(completion(1))
    await settle()
    assert owner.errors == []
    assert lane.closed
    assert [kept.offset for kept in await lane.close()] == [0, 1]


async def test_a_defect_in_the_publication_is_reported() -> None:
    outbox, owner = ScriptedOutbox(), Owner()
    lane = make_lane(outbox, owner)
    lane.add(completion(99))  # never taken
    await settle()
    assert len(owner.errors) == 1
    assert "KeyError" in str(owner.errors[0])
