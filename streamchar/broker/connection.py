"""One client connection: frames in, answers out, and nothing a client sends may harm the broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct

from streamchar.broker.apis import Api, ApiKey, RequestHeader
from streamchar.broker.codec import FileSlice, Part, Reader, Writer, decode, encode
from streamchar.broker.config import BrokerSettings
from streamchar.broker.dispatch import Caller, Dispatcher
from streamchar.broker.errors import (
    BrokerError,
    ErrorCode,
    FrameTooLargeError,
    MalformedRequestError,
    UnsupportedRequestError,
)

_logger = logging.getLogger(__name__)

READ_BUFFER = 1 << 20
_SEND_CHUNK = 256 << 10
_SMALL_FRAME = 64 << 10
_LINGER = 1.0
_PREFIX = struct.Struct(">ihh")
_ANSWER = struct.Struct(">ii")
_SMALLEST = 10  # api key, version, correlation id, client id length


class ByteBudget:
    """Limits the bytes of large requests that are in memory at the same time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._freed = asyncio.Condition()

    async def acquire(self, size: int) -> None:
        """Wait until ``size`` bytes fit; a request larger than the limit waits to be alone."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._used == 0 or self._used + size <= self._limit)
            self._used += size

    async def release(self, size: int) -> None:
        """Give bytes back."""
        async with self._freed:
            self._used -= size
            self._freed.notify_all()


class Connection:
    """Serves one client until it leaves or misbehaves."""

    def __init__(
        self,
        settings: BrokerSettings,
        dispatcher: Dispatcher,
        budget: ByteBudget,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._idle = settings.connection_idle_ms / 1000
        self._receive = settings.request_receive_ms / 1000
        self._dispatcher = dispatcher
        self._budget = budget
        self._reader = reader
        self._writer = writer
        peer = writer.get_extra_info("peername")
        self._host = f"/{peer[0]}" if peer else ""
        self._peer = f"{peer[0]}:{peer[1]}" if peer else "unknown"

    async def run(self) -> None:
        """Serve requests one after the other, as the protocol demands."""
        try:
            while await self._serve_one():
                pass
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            _logger.debug("%s is gone", self._peer)
        except BrokerError as error:
            _logger.warning("closing the connection of %s: %s", self._peer, error)
        except Exception:
            _logger.exception("closing the connection of %s after an unexpected error", self._peer)
        await self._close()

    async def _close(self) -> None:
        """Let the last answers reach the client, but do not wait for one that reads nothing."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER):
                await self._writer.wait_closed()

    async def _serve_one(self) -> bool:
        async with asyncio.timeout(self._idle):
            prefix = await self._reader.readexactly(_PREFIX.size)
        size, key, version = _PREFIX.unpack(prefix)
        api = self._dispatcher.apis.get(key)
        limit = api.max_bytes if api else _SMALL_FRAME
        if size < _SMALLEST:
            raise MalformedRequestError(detail=f"a frame of {size} bytes")
        if size > limit:
            name = api.key.name if api else f"API {key}"
            raise FrameTooLargeError(size=size, limit=limit, api=name)
        if size <= _SMALL_FRAME:
            return await self._receive_and_answer(prefix, size, api, version)
        await self._budget.acquire(size)
        try:
            return await self._receive_and_answer(prefix, size, api, version)
        finally:
            await self._budget.release(size)

    async def _receive_and_answer(self, prefix: bytes, size: int, api: Api | None, version: int) -> bool:
        async with asyncio.timeout(self._receive):
            rest = await self._reader.readexactly(size - 4)
        cursor = Reader(rest)
        correlation_id = cursor.unpack(struct.Struct(">i"))
        header = RequestHeader(_PREFIX.unpack(prefix)[1], version, correlation_id, _client_id(cursor))
        if api is None or not api.speaks(version):
            return await self._refuse(header, api)
        request = decode(api.request, version, cursor)
        response = await self._dispatcher.serve(request, Caller(header, self._host))
        if response is not None:
            await self._answer(correlation_id, response, version)
        return True

    async def _refuse(self, header: RequestHeader, api: Api | None) -> bool:
        if api is not None and api.key is ApiKey.API_VERSIONS:
            # newer clients retry with a version they find in the answer
            answer = self._dispatcher.api_versions(ErrorCode.UNSUPPORTED_VERSION)
            await self._answer(header.correlation_id, answer, 0)
            return True
        raise UnsupportedRequestError(
            api=api.key.name if api else header.api_key,
            version=header.api_version,
            client=header.client_id,
            supported=f"versions {api.min_version} to {api.max_version}" if api else "unknown API",
        )

    async def _answer(self, correlation_id: int, response: object, version: int) -> None:
        body = Writer()
        encode(response, version, body)
        parts = body.finish()
        try:
            self._writer.write(_ANSWER.pack(body.length + 4, correlation_id))
            for part in parts:
                await self._send(part)
        finally:
            for part in parts:
                if isinstance(part, FileSlice):
                    os.close(part.descriptor)

    async def _send(self, part: Part) -> None:
        if not isinstance(part, FileSlice):
            self._writer.write(part)
            await self._drain()
            return
        position, end = part.position, part.position + part.length
        while position < end:
            chunk = os.pread(part.descriptor, min(_SEND_CHUNK, end - position), position)
            if not chunk:
                raise ConnectionAbortedError("a log file ended early")
            self._writer.write(chunk)
            position += len(chunk)
            await self._drain()

    async def _drain(self) -> None:
        async with asyncio.timeout(self._idle):
            await self._writer.drain()


def _client_id(cursor: Reader) -> str | None:
    length = cursor.unpack(struct.Struct(">h"))
    return None if length < 0 else str(cursor.take(length), "utf-8", "replace")
