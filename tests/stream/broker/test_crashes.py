"""Kill -9 between any two writes: a transaction is everywhere or nowhere, and what was answered stays answered."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from streamchar.broker import BrokerSettings, EmbeddedBroker
from streamchar.broker.apis import ApiKey
from streamchar.broker.batches import parse_header
from streamchar.broker.journal import Journal
from streamchar.broker.log import PartitionLog
from streamchar.broker.messages_admin import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    CreateTopicsRequest,
    EndTxnRequest,
    NewTopic,
    TopicErrorsResponse,
    TxnOffsetCommitRequest,
)
from streamchar.broker.messages_groups import (
    ErrorResponse,
    OffsetCommitPartition,
    OffsetCommitTopic,
    OffsetFetchRequest,
    OffsetFetchResponse,
    PartitionResultsResponse,
    TopicPartitions,
)
from tests.stream.conformance.raw import RawClient, batch, raw_client

TOPIC, GROUP, NAME = "products", "service", "service-input-0"


class Photographer:
    """Copies the data directory before and after every write, as a crash there would leave it."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.pictures: list[Path] = []
        for kind in (Journal, PartitionLog):
            monkeypatch.setattr(kind, "append", self._wrapped(kind.append))

    def _wrapped(self, append: Callable[..., Any]) -> Callable[..., Any]:
        def photographed(*arguments: Any) -> Any:
            self.take()
            result = append(*arguments)
            self.take()
            return result

        return photographed

    def take(self) -> None:
        picture = self.directory.with_name(f"crash-{len(self.pictures)}")
        shutil.copytree(self.directory, picture)
        self.pictures.append(picture)


async def _create(client: RawClient) -> None:
    request = CreateTopicsRequest([NewTopic(TOPIC, 2, 1, [], [])], 1000, False)
    answer = await client.ask(ApiKey.CREATE_TOPICS, 3, request, TopicErrorsResponse)
    assert answer.topics[0].error_code == 0


async def _transaction(client: RawClient, pid: int, epoch: int, number: int, commit: bool) -> None:
    partitions = AddPartitionsToTxnRequest(NAME, pid, epoch, [TopicPartitions(TOPIC, [0, 1])])
    await client.ask(ApiKey.ADD_PARTITIONS_TO_TXN, 0, partitions, PartitionResultsResponse)
    for index in (0, 1):
        records = batch([b"%d" % number], producer_id=pid, epoch=epoch, sequence=number, transactional=True)
        answer = await client.produce(TOPIC, records, transactional_id=NAME, index=index)
        assert answer.error_code == 0
    group = AddOffsetsToTxnRequest(NAME, pid, epoch, GROUP)
    assert (await client.ask(ApiKey.ADD_OFFSETS_TO_TXN, 0, group, ErrorResponse)).error_code == 0
    topics = [OffsetCommitTopic(TOPIC, [OffsetCommitPartition(0, number + 1, f"after {number}")])]
    offsets = TxnOffsetCommitRequest(NAME, GROUP, pid, epoch, topics)
    await client.ask(ApiKey.TXN_OFFSET_COMMIT, 0, offsets, PartitionResultsResponse)
    end = EndTxnRequest(NAME, pid, epoch, commit)
    assert (await client.ask(ApiKey.END_TXN, 0, end, ErrorResponse)).error_code == 0


async def _visible(client: RawClient, index: int) -> list[int]:
    """Return what a read_committed reader sees of one partition, as transaction numbers."""
    fetched = await client.fetch(TOPIC, 0, index, committed=True)
    aborted = {(a.producer_id, a.first_offset) for a in fetched.aborted_transactions or ()}
    data, position, numbers, skipping = bytes(fetched.records or b""), 0, [], False
    while position < len(data):
        header = parse_header(data, position)
        skipping = not header.control and (skipping or (header.producer_id, header.base_offset) in aborted)
        if not header.control and not skipping:
            numbers.append(header.base_sequence)
        position += header.size
    return numbers


async def _offset(client: RawClient) -> int:
    request = OffsetFetchRequest(GROUP, [TopicPartitions(TOPIC, [0])])
    answer = await client.ask(ApiKey.OFFSET_FETCH, 3, request, OffsetFetchResponse)
    return answer.topics[0].partitions[0].offset


async def _running(directory: Path) -> AsyncIterator[RawClient]:
    settings = BrokerSettings(data_dir=directory, port=0, group_min_session_timeout_ms=100)
    async with EmbeddedBroker(settings) as broker, raw_client(broker.bootstrap) as client:
        yield client


@pytest.mark.parametrize("outcomes", [(True,), (False,), (True, False, True)])
async def test_crash_between_any_two_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcomes: tuple[bool, ...]
) -> None:
    directory = tmp_path / "data"
    answered: list[tuple[int, list[int]]] = []
    async for client in _running(directory):
        await _create(client)
        with monkeypatch.context() as patch:
            camera = Photographer(directory, patch)
            owner = await client.init(NAME)
            for number, commit in enumerate(outcomes):
                await _transaction(client, owner.producer_id, owner.producer_epoch, number, commit)
                camera.take()
                finished = [n for n, good in enumerate(outcomes[: number + 1]) if good]
                answered.append((len(camera.pictures), finished))
    assert len(camera.pictures) > 20 * len(outcomes)
    for taken, picture in enumerate(camera.pictures, start=1):
        promised = [numbers for when, numbers in answered if when <= taken][-1:] or [[]]
        async for client in _running(picture):
            first, second = await _visible(client, 0), await _visible(client, 1)
            assert first == second, f"torn after write {taken}"
            assert first[: len(promised[0])] == promised[0], f"lost after write {taken}"
            assert await _offset(client) == (first[-1] + 1 if first else -1)
            successor = await client.init(NAME)
            assert successor.error_code == 0
            # the successor continues as if nothing had happened
            records = AddPartitionsToTxnRequest(
                NAME, successor.producer_id, successor.producer_epoch, [TopicPartitions(TOPIC, [0])]
            )
            await client.ask(ApiKey.ADD_PARTITIONS_TO_TXN, 0, records, PartitionResultsResponse)
            data = batch(
                [b"x"],
                producer_id=successor.producer_id,
                epoch=successor.producer_epoch,
                sequence=0,
                transactional=True,
            )
            assert (await client.produce(TOPIC, data, transactional_id=NAME)).error_code == 0
            end = EndTxnRequest(NAME, successor.producer_id, successor.producer_epoch, True)
            assert (await client.ask(ApiKey.END_TXN, 0, end, ErrorResponse)).error_code == 0
            assert await _visible(client, 0) == [*first, 0], f"after write {taken}"
        shutil.rmtree(picture)


async def test_journal_is_rewritten_and_says_the_same(tmp_path: Path) -> None:
    settings = BrokerSettings(data_dir=tmp_path / "data", port=0, journal_max_bytes=4096)
    async with EmbeddedBroker(settings) as broker, raw_client(broker.bootstrap) as client:
        await _create(client)
        owner = await client.init(NAME)
        for number in range(40):
            await _transaction(client, owner.producer_id, owner.producer_epoch, number, number % 2 == 0)
        grown = (tmp_path / "data" / "journal").stat().st_size
        await broker.maintain()
        assert (tmp_path / "data" / "journal").stat().st_size < grown / 4
    async for client in _running(tmp_path / "data"):
        assert await _visible(client, 0) == list(range(0, 40, 2))
        assert await _offset(client) == 39
        assert (await client.init(NAME)).producer_epoch == owner.producer_epoch + 1
