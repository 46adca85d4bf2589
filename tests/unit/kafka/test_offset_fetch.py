"""Requests for committed offsets: the bytes of version 7 by the protocol's rules, and how long an answer is waited for."""

import asyncio
import io

import pytest
from aiokafka.errors import IncompatibleBrokerVersion, UnknownMemberIdError
from aiokafka.protocol.commit import OffsetFetchRequest_v1, OffsetFetchRequest_v3

from streamchar.kafka import committed
from streamchar.kafka.offset_fetch import UNSTABLE, OffsetFetch, OffsetFetchRequestV7, OffsetFetchResponseV7


def test_version_7_follows_the_protocol():
    """Lengths are varints and one more than they are; null is zero; every structure ends with its number of tags."""
    some = OffsetFetch("g", {"t": [5]}, stable=True).build(OffsetFetchRequestV7)
    assert (
        some.encode() == b"\x02g" + b"\x02" + b"\x02t" + b"\x02\x00\x00\x00\x05" + b"\x00" + b"\x01" + b"\x00"
    )
    everything = OffsetFetch("g", None, stable=False).build(OffsetFetchRequestV7)
    assert everything.encode() == b"\x02g" + b"\x00" + b"\x00" + b"\x00"
    offset = b"\x00\x00\x00\x05" + b"\x00" * 7 + b"\x07" + b"\xff" * 4 + b"\x03ab" + b"\x00\x58" + b"\x00"
    answer = b"\x00\x00\x00\x00" + b"\x02" + b"\x02t" + b"\x02" + offset + b"\x00" + b"\x00\x10" + b"\x00"
    told = OffsetFetchResponseV7.decode(io.BytesIO(answer)).to_object()
    assert told["error_code"] == 16
    (partition,) = told["topics"][0]["partitions"]
    assert (partition["partition"], partition["offset"], partition["metadata"]) == (5, 7, "ab")
    assert partition["error_code"] == UNSTABLE


def test_the_newest_version_that_both_sides_speak_is_taken():
    request = OffsetFetch("g", {"t": [5]}, stable=True)
    assert isinstance(request.prepare({9: (1, 10)}), OffsetFetchRequestV7)
    assert request.prepare({9: (3, 3)}) == OffsetFetchRequest_v3("g", [("t", [5])])
    assert isinstance(request.prepare({9: (0, 1)}), OffsetFetchRequest_v1)
    with pytest.raises(IncompatibleBrokerVersion, match=r"0\.10\.2"):
        OffsetFetch("g", None, stable=True).prepare({9: (0, 1)})


class Client:
    """A client that is always connected."""

    def __init__(self, **options):
        pass

    async def bootstrap(self):
        pass

    async def close(self):
        pass


@pytest.fixture
def at_once(monkeypatch):
    """Ask nobody, and without pauses."""
    monkeypatch.setattr(committed, "AIOKafkaClient", Client)
    monkeypatch.setattr(committed, "_PAUSE_SECONDS", 0.0)


@pytest.mark.usefixtures("at_once")
async def test_a_transaction_that_hangs_holds_nothing_up_for_long(monkeypatch):
    asked = []

    async def ask(client, group, member, request):
        asked.append(request.stable)
        if request.stable:
            raise committed._UnstableError("t[5]")
        return {}

    monkeypatch.setattr(committed, "_ask", ask)
    assert await committed.committed_offsets(dict, "g") == {}
    assert asked == [True] * committed._REFUSALS + [False]


@pytest.mark.usefixtures("at_once")
async def test_a_member_that_is_none_any_more_is_told_after_a_hanging_transaction_too(monkeypatch):
    asked = []

    async def ask(client, group, member, request):
        asked.append(request.stable)
        if request.stable:
            raise committed._UnstableError("t[5]")
        raise UnknownMemberIdError("g")

    monkeypatch.setattr(committed, "_ask", ask)
    async with asyncio.timeout(5):
        with pytest.raises(UnknownMemberIdError):
            await committed.committed_offsets(dict, "g", member=committed.Member(1, "m"))
    assert asked == [True] * committed._REFUSALS + [False]
