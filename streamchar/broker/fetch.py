"""Fetch and ListOffsets: finding records, waiting for them, and sending them straight from the files."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from streamchar.broker.codec import FileSlice, Part
from streamchar.broker.config import BrokerSettings
from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.broker.log import Extent
from streamchar.broker.messages_data import (
    AbortedTransaction,
    FetchedPartition,
    FetchedTopic,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    ListedPartition,
    ListedTopic,
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
)
from streamchar.broker.topics import Partition, Topics

READ_COMMITTED = 1
LATEST, EARLIEST = -1, -2

_READ_AT_ONCE = 128 << 10


@dataclass(slots=True)
class _Share:
    """What one partition contributes to an answer."""

    index: int
    offset: int
    partition: Partition | None = None
    extent: Extent | None = None
    error: ErrorCode = ErrorCode.NONE


@dataclass(slots=True)
class _Plan:
    """What an answer would contain now."""

    topics: list[tuple[str, list[_Share]]]
    length: int
    refused: bool

    def partitions(self) -> list[Partition]:
        """Return the partitions that could still get more."""
        return [
            share.partition for _, shares in self.topics for share in shares if share.partition is not None
        ]


class RecordReader:
    """Answers Fetch and ListOffsets requests."""

    def __init__(self, settings: BrokerSettings, topics: Topics) -> None:
        self._fetch_max_bytes = settings.fetch_max_bytes
        self._topics = topics

    # Fetch

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        """Answer when enough bytes are there, something is wrong, or the wait is over."""
        if request.session_id != 0 and request.session_epoch > 0:
            return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        plan = self._plan(request)
        if self._must_wait(request, plan):
            plan = await self._wait(request, plan)
        return FetchResponse(topics=[self._materialize(request, *topic) for topic in plan.topics])

    def _must_wait(self, request: FetchRequest, plan: _Plan) -> bool:
        return (
            bool(plan.topics)
            and not plan.refused
            and plan.length < request.min_bytes
            and request.max_wait_ms > 0
        )

    async def _wait(self, request: FetchRequest, plan: _Plan) -> _Plan:
        changed = asyncio.Event()
        partitions = plan.partitions()
        for partition in partitions:
            partition.waiters.add(changed)
        try:
            async with asyncio.timeout(request.max_wait_ms / 1000):
                while self._must_wait(request, plan):
                    await changed.wait()
                    changed.clear()
                    plan = self._plan(request)
        except TimeoutError:
            plan = self._plan(request)
        finally:
            for partition in partitions:
                partition.waiters.discard(changed)
        return plan

    def _plan(self, request: FetchRequest) -> _Plan:
        plan = _Plan([], 0, False)
        room = min(request.max_bytes, self._fetch_max_bytes)
        for topic in request.topics:
            shares = []
            for wanted in topic.partitions:
                share = self._plan_partition(
                    request, topic.name, wanted, room - plan.length, plan.length == 0
                )
                plan.length += share.extent.length if share.extent else 0
                plan.refused = plan.refused or share.error is not ErrorCode.NONE
                shares.append(share)
            plan.topics.append((topic.name, shares))
        return plan

    def _plan_partition(
        self, request: FetchRequest, topic: str, wanted: FetchPartition, room: int, first: bool
    ) -> _Share:
        share = _Share(wanted.index, wanted.fetch_offset)
        try:
            partition = self._topics.require(topic, wanted.index)
            if wanted.current_leader_epoch > 0:
                raise RefusedError(ErrorCode.UNKNOWN_LEADER_EPOCH, str(wanted.current_leader_epoch))
            log = partition.log
            if not log.start_offset <= wanted.fetch_offset <= log.end_offset:
                raise RefusedError(ErrorCode.OFFSET_OUT_OF_RANGE, str(wanted.fetch_offset))
        except RefusedError as refusal:
            share.error = refusal.error
            return share
        share.partition = partition
        end = log.last_stable_offset if request.isolation_level == READ_COMMITTED else log.end_offset
        if room > 0 or first:
            share.extent = log.plan_read(wanted.fetch_offset, min(wanted.max_bytes, room), end, first)
        return share

    def _materialize(self, request: FetchRequest, topic: str, shares: list[_Share]) -> FetchedTopic:
        return FetchedTopic(topic, [self._materialize_partition(request, share) for share in shares])

    def _materialize_partition(self, request: FetchRequest, share: _Share) -> FetchedPartition:
        if share.partition is None:
            return FetchedPartition(share.index, share.error)
        log, extent = share.partition.log, share.extent
        aborted = None
        if request.isolation_level == READ_COMMITTED:
            found = log.aborted_between(share.offset, extent.end_offset) if extent else []
            aborted = [AbortedTransaction(item.producer_id, item.first_offset) for item in found]
        return FetchedPartition(
            index=share.index,
            error_code=ErrorCode.NONE,
            high_watermark=log.end_offset,
            last_stable_offset=log.last_stable_offset,
            log_start_offset=log.start_offset,
            aborted_transactions=aborted,
            records=_records(extent) if extent else b"",
        )

    # ListOffsets

    def list_offsets(self, request: ListOffsetsRequest) -> ListOffsetsResponse:
        """Answer ListOffsets."""
        topics = [
            ListedTopic(topic.name, [self._list(request, topic.name, wanted) for wanted in topic.partitions])
            for topic in request.topics
        ]
        return ListOffsetsResponse(0, topics)

    def _list(self, request: ListOffsetsRequest, topic: str, wanted: ListOffsetsPartition) -> ListedPartition:
        partition = self._topics.partition(topic, wanted.index)
        if partition is None:
            return ListedPartition(wanted.index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        log = partition.log
        end = log.last_stable_offset if request.isolation_level == READ_COMMITTED else log.end_offset
        if wanted.timestamp == LATEST:
            return ListedPartition(wanted.index, ErrorCode.NONE, -1, end)
        if wanted.timestamp == EARLIEST:
            return ListedPartition(wanted.index, ErrorCode.NONE, -1, log.start_offset)
        if wanted.timestamp < 0:
            return ListedPartition(wanted.index, ErrorCode.UNSUPPORTED_VERSION)
        found = log.offset_for_timestamp(wanted.timestamp, end)
        timestamp, offset = found or (-1, -1)
        return ListedPartition(wanted.index, ErrorCode.NONE, timestamp, offset)


def _records(extent: Extent) -> Part:
    if extent.length <= _READ_AT_ONCE:
        return extent.segment.read(extent.position, extent.length)
    return FileSlice(extent.segment.open_for_reading(), extent.position, extent.length)
