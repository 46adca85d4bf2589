"""Hostile input: whatever arrives, the embedded broker neither stops nor swells; unknown requests are refused clearly."""

from __future__ import annotations

import asyncio
import random
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamchar.broker.apis import ApiKey, supported_apis
from streamchar.broker.errors import ErrorCode
from streamchar.broker.messages_admin import ApiVersionsResponse
from streamchar.broker.messages_groups import EmptyRequest
from tests.stream.brokers import BrokerProcess
from tests.stream.conformance.clients import make_topic
from tests.stream.conformance.raw import batch, raw_client


async def _speak(bootstrap: str, data: bytes, timeout: float = 1.0) -> bytes:
    """Send bytes, hang up, and return what came back until the broker closed the connection."""
    async with raw_client(bootstrap) as client:
        client.writer.write(data)
        client.writer.write_eof()
        try:
            return await asyncio.wait_for(client.reader.read(1 << 20), timeout)
        except ConnectionError:
            return b""


def _frame(body: bytes, claimed: int | None = None) -> bytes:
    return struct.pack(">i", len(body) if claimed is None else claimed) + body


def _header(key: int, version: int, client: bytes = b"hostile") -> bytes:
    return struct.pack(">hhih", key, version, 7, len(client)) + client


async def _alive(broker: BrokerProcess) -> None:
    topic = await make_topic(broker.bootstrap)
    async with raw_client(broker.bootstrap) as client:
        assert (await client.produce(topic, batch())).error_code == 0
    assert broker.running


async def test_newer_api_versions_request_is_answered_with_what_is_spoken(embedded: BrokerProcess) -> None:
    async with raw_client(embedded.bootstrap) as client:
        await client.send(ApiKey.API_VERSIONS, 4, EmptyRequest())
        answer = await client.receive(0, ApiVersionsResponse)
        assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
        spoken = {item.api_key: (item.min_version, item.max_version) for item in answer.api_versions}
        apis = supported_apis(1 << 20).values()
        assert spoken == {api.key: (api.min_version, api.max_version) for api in apis}
        retried = await client.ask(ApiKey.API_VERSIONS, 0, EmptyRequest(), ApiVersionsResponse)
        assert retried.error_code == ErrorCode.NONE


@pytest.mark.parametrize(("key", "version"), [(ApiKey.PRODUCE, 3), (ApiKey.FETCH, 17), (68, 0), (-1, 0)])
async def test_unsupported_request_closes_the_connection_with_one_line(
    embedded: BrokerProcess, key: int, version: int
) -> None:
    name = f"client-{key}-{version}".encode()
    assert await _speak(embedded.bootstrap, _frame(_header(key, version, name) + b"\0" * 20)) == b""
    await asyncio.sleep(0.05)
    lines = [line for line in embedded.log.splitlines() if name.decode() in line]
    assert len(lines) == 1
    assert f"version {version}" in lines[0]
    await _alive(embedded)


async def test_claimed_lengths_are_not_believed(embedded: BrokerProcess) -> None:
    before = embedded.process.memory_info().rss
    huge = 0x7FFFFFFF
    frames = [
        _frame(b"", huge),
        _frame(b"", -1),
        _frame(b"", 3),
        _frame(_header(ApiKey.FETCH, 11), 50 << 20),
        _frame(_header(ApiKey.PRODUCE, 7), 99 << 20),
        _frame(_header(ApiKey.METADATA, 5) + struct.pack(">i", huge)),
        _frame(_header(ApiKey.METADATA, 5) + struct.pack(">ih", 1, 0x7FFF)),
        _frame(_header(ApiKey.PRODUCE, 7) + struct.pack(">hhii", -1, 1, 1, huge)),
        _frame(
            _header(ApiKey.PRODUCE, 7)
            + struct.pack(">hhiih1sii", -1, 1, 1, 1, 1, b"t", 1, 0)
            + b"\x7f\xff\xff\xff"
        ),
        _frame(_header(ApiKey.JOIN_GROUP, 5) + b"\xff" * 60),
        _frame(struct.pack(">hhih", ApiKey.METADATA, 5, 1, 0x7FFF)),
    ]
    for _ in range(5):
        await asyncio.gather(*(_speak(embedded.bootstrap, frame) for frame in frames))
    await _alive(embedded)
    assert embedded.process.memory_info().rss - before < 20 << 20


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_requests_do_no_harm(embedded: BrokerProcess, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(api.key for api in supported_apis(1 << 20).values())))
    version = data.draw(
        st.integers(0, 11) if data.draw(st.booleans()) else st.just(supported_apis(1)[key].max_version)
    )
    body = _header(key, version) + data.draw(st.binary(max_size=200))
    asyncio.run(_speak(embedded.bootstrap, _frame(body), 5))
    assert embedded.running


async def test_random_bytes_do_no_harm(embedded: BrokerProcess) -> None:
    generator = random.Random(7)
    before = embedded.process.memory_info().rss
    noise = [generator.randbytes(generator.randint(1, 4000)) for _ in range(200)]
    for start in range(0, len(noise), 20):
        await asyncio.gather(*(_speak(embedded.bootstrap, data) for data in noise[start : start + 20]))
    assert "Traceback" not in embedded.log
    await _alive(embedded)
    assert embedded.process.memory_info().rss - before < 20 << 20


async def test_connections_are_bounded_and_slow_ones_dropped(embedded: BrokerProcess, tmp_path: Path) -> None:
    limits = ["max_connections=5", "request_receive_ms=300"]
    with BrokerProcess(tmp_path / "data", limits) as broker:
        host, port = "127.0.0.1", broker.port
        crowd = [await asyncio.open_connection(host, port) for _ in range(5)]
        await asyncio.sleep(0.1)
        reader, late = await asyncio.open_connection(host, port)
        assert await asyncio.wait_for(reader.read(1), 5) == b""
        crowd[0][1].write(_frame(_header(ApiKey.METADATA, 5), 100))
        assert await asyncio.wait_for(crowd[0][0].read(1), 5) == b""
        for writer in (late, *(writer for _, writer in crowd)):
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.1)
        await _alive(broker)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["host=0.0.0.0"], "would offer an unprotected broker to the network"),
        (["host=0.0.0.0", "allow_remote=true"], "say how clients reach this machine"),
        (["advertised_host=a:9092,b:9092"], "must name exactly one node"),
        (["no_such_setting=1"], "is not a setting"),
    ],
)
async def test_unsafe_settings_are_refused(
    embedded: BrokerProcess, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    broker = BrokerProcess(tmp_path / "data", arguments)
    with pytest.raises(RuntimeError, match=reason):
        await asyncio.to_thread(broker.start)
