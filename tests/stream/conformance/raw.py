"""A client that sends single requests of the protocol and returns the answers unread, to see error codes as they are."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streamchar.broker.apis import ApiKey, RequestHeader
from streamchar.broker.codec import Reader, Writer, decode, encode
from streamchar.broker.messages_admin import InitProducerIdRequest, InitProducerIdResponse
from streamchar.broker.messages_data import (
    FetchedPartition,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ProducedPartition,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    ProduceTopic,
)

T = TypeVar("T")

NOT_LEADER = 6
"""A cluster answers so for a moment after a topic was created."""


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._correlation_id = 0

    async def send(self, key: int, version: int, request: object) -> None:
        body = Writer()
        self._correlation_id += 1
        encode(RequestHeader(key, version, self._correlation_id, "raw"), 1, body)
        encode(request, version, body)
        data = b"".join(bytes(part) for part in body.finish())
        self.writer.write(struct.pack(">i", len(data)) + data)
        await self.writer.drain()

    async def receive(self, version: int, kind: type[T]) -> T:
        (size,) = struct.unpack(">i", await self.reader.readexactly(4))
        data = Reader(await self.reader.readexactly(size))
        assert data.unpack(struct.Struct(">i")) == self._correlation_id
        answer = decode(kind, version, data)
        assert data.remaining == 0, f"{data.remaining} bytes after {answer}"
        return answer

    async def ask(self, key: int, version: int, request: object, kind: type[T]) -> T:
        await self.send(key, version, request)
        return await asyncio.wait_for(self.receive(version, kind), 30)

    # the requests that many tests need

    async def produce(
        self,
        topic: str,
        records: bytes | None,
        acks: int = -1,
        transactional_id: str | None = None,
        index: int = 0,
    ) -> ProducedPartition:
        request = ProduceRequest(
            transactional_id, acks, 5000, [ProduceTopic(topic, [ProducePartition(index, records)])]
        )
        deadline = time.monotonic() + 10
        while True:
            answer = await self.ask(ApiKey.PRODUCE, 7, request, ProduceResponse)
            result = answer.topics[0].partitions[0]
            if result.error_code != NOT_LEADER or time.monotonic() > deadline:
                return result
            await asyncio.sleep(0.02)

    async def fetch(
        self,
        topic: str,
        offset: int,
        index: int = 0,
        *,
        max_wait_ms: int = 0,
        min_bytes: int = 1,
        max_bytes: int = 1 << 20,
        committed: bool = False,
    ) -> FetchedPartition:
        request = FetchRequest(
            replica_id=-1,
            max_wait_ms=max_wait_ms,
            min_bytes=min_bytes,
            max_bytes=50 << 20,
            isolation_level=int(committed),
            session_id=0,
            session_epoch=-1,
            topics=[FetchTopic(topic, [FetchPartition(index, -1, offset, -1, max_bytes)])],
            forgotten_topics=[],
            rack_id="",
        )
        deadline = time.monotonic() + 10
        while True:
            answer = await self.ask(ApiKey.FETCH, 11, request, FetchResponse)
            assert answer.error_code == 0
            result = answer.topics[0].partitions[0]
            if result.error_code != NOT_LEADER or time.monotonic() > deadline:
                return result
            await asyncio.sleep(0.02)

    async def init(self, transactional_id: str | None, timeout_ms: int = 30_000) -> InitProducerIdResponse:
        """Ask for a producer id, again while the previous transaction is still being ended."""
        deadline = time.monotonic() + 15
        while True:
            request = InitProducerIdRequest(transactional_id, timeout_ms)
            answer = await self.ask(ApiKey.INIT_PRODUCER_ID, 0, request, InitProducerIdResponse)
            if answer.error_code not in (14, 15, 51) or time.monotonic() > deadline:
                return answer
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def raw_client(bootstrap: str) -> AsyncIterator[RawClient]:
    host, _, port = bootstrap.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 22)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def batch(
    values: Iterable[bytes] = (b"x",),
    *,
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    transactional: bool = False,
    timestamp: int | None = None,
) -> bytes:
    """Build one record batch."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=transactional,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        batch_size=1 << 24,
    )
    now = int(time.time() * 1000) if timestamp is None else timestamp
    for offset, value in enumerate(values):
        builder.append(offset, now, None, value, [])
    return bytes(builder.build())
