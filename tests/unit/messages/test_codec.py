"""Messages survive the wire; what is not a message gives a typed error within bounded memory."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from datetime import UTC, datetime

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.messages import (
    SCHEMA_VERSION,
    ExposureReady,
    ExposureStatus,
    MalformedMessageError,
    MessageError,
    MessageTooLargeError,
    PsfModel,
    PsfQuality,
    UnsupportedSchemaError,
    decode,
    decode_exposure_ready,
    encode,
)
from streamchar.messages.codec import MAX_MESSAGE_BYTES, MESSAGE_TYPES, pack
from streamchar.messages.columns import pack_array
from streamchar.messages.examples import make_examples
from tests.unit.messages.strategies import messages

EXAMPLES = [message for group in make_examples().values() for message in group.values()]
EVENT = make_examples()["exposure-ready"]["full"]
CHUNK = make_examples()["catalog-chunk"]["full"]
AS_JSON = [("content-type", b"application/json; charset=utf-8")]
MOMENT = datetime(2026, 1, 31, 1, 2, 3, 4, UTC)


@given(messages(PsfQuality))
def test_quality_round_trip(message):
    assert decode(encode(message).value) == message


@given(messages(ExposureReady))
def test_event_round_trip(message):
    encoded = encode(message)
    assert decode_exposure_ready(encoded.value, encoded.headers) == message
    as_json = json.dumps(message.model_dump(mode="json", exclude_none=True)).encode()
    assert decode_exposure_ready(as_json, AS_JSON) == message


@given(messages(ExposureStatus))
def test_status_round_trip(message):
    assert decode(encode(message).value) == message


@given(
    messages(
        PsfModel, chunk=st.just(0), x_powers=st.just((0,)), y_powers=st.just((0,)), first_rows=st.just(())
    )
)
def test_psf_model_round_trip(message):
    decoded = decode(encode(message).value)
    assert decoded == message
    for ours, theirs in zip(decoded.arrays, message.arrays, strict=True):
        assert ours.values().tobytes() == theirs.values().tobytes()


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.message_type)
def test_equal_messages_give_equal_bytes(message):
    assert pack(decode(pack(message))) == pack(message)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.message_type)
def test_json_is_read_as_well(message):
    text = json.dumps(message.model_dump(mode="json", exclude_none=True)).encode()
    assert decode(text, AS_JSON) == message


def test_nothing_unknown_is_on_the_wire():
    plain = msgpack.unpackb(pack(make_examples()["psf-quality"]["minimal"]))
    assert "psf_fwhm" not in plain
    assert None not in plain.values()


def test_headers_follow_cloudevents():
    headers = dict(encode(EVENT, time=MOMENT, source="group", traceparent=b"00-ab-cd-01").headers)
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": EVENT.event_id.encode(),
        "ce_type": b"org.streamchar.exposure-ready.v1",
        "ce_source": b"group",
        "ce_time": b"2026-01-31T01:02:03.000004Z",
        "ce_dataschema": f"schemas/exposure-ready/v{SCHEMA_VERSION}.json".encode(),
        "content-type": b"application/msgpack",
        "sc-tense": b"test",
        "traceparent": b"00-ab-cd-01",
    }


@pytest.mark.parametrize("size", [0, 513, 1_000_000])
def test_a_trace_context_of_no_trace_goes_no_further(size):
    assert "traceparent" not in dict(encode(EVENT, traceparent=b"0" * size).headers)


def test_identifier_and_version_are_in_the_payload_too():
    for message in EXAMPLES:
        encoded = encode(message)
        plain = msgpack.unpackb(encoded.value)
        assert dict(encoded.headers)["ce_id"].decode() in (plain.get("message_id"), plain["event_id"])
        assert plain["schema_version"] == SCHEMA_VERSION
        assert encoded.key == message.key.encode()


def test_a_status_may_keep_the_key_of_its_event():
    assert encode(make_examples()["exposure-status"]["minimal"], key=b"as it was").key == b"as it was"


def test_the_type_may_come_from_the_header_alone():
    plain = msgpack.unpackb(pack(EVENT))
    del plain["message_type"]
    headers = [("ce_type", b"org.streamchar.exposure-ready.v1")]
    assert decode(msgpack.packb(plain), headers) == EVENT
    assert decode_exposure_ready(msgpack.packb(plain)) == EVENT


def test_another_major_version_is_not_supported():
    plain = {**msgpack.unpackb(pack(EVENT)), "schema_version": "2.0"}
    with pytest.raises(UnsupportedSchemaError) as caught:
        decode(msgpack.packb(plain))
    assert caught.value.values == {"message_type": "exposure-ready", "schema_version": "2.0", "known": "1.x"}


def test_another_type_is_not_supported():
    with pytest.raises(UnsupportedSchemaError):
        decode(msgpack.packb({"message_type": "weather", "schema_version": "1.0"}))


def test_an_event_of_another_type_is_malformed():
    with pytest.raises(MalformedMessageError):
        decode_exposure_ready(pack(CHUNK))


def test_the_error_names_the_field():
    plain = {**msgpack.unpackb(pack(EVENT)), "exposure_time": "long"}
    with pytest.raises(MalformedMessageError, match="exposure_time") as caught:
        decode(msgpack.packb(plain))
    assert caught.value.code == "malformed_message"
    assert caught.value.values["message_type"] == "exposure-ready"


def nested(depth):
    plain = msgpack.unpackb(pack(EVENT))
    value = []
    for _ in range(depth):
        value = [value]
    return msgpack.packb({**plain, "extra": value})


BAD = {
    "empty": b"",
    "text": b"hello",
    "number": b"\x01",
    "list": msgpack.packb([1, 2]),
    "invalid utf-8": b"\x81\xa1\xff\x01",
    "integer key": msgpack.packb({1: 2}),
    "bytes key": msgpack.packb({b"message_type": "exposure-ready"}),
    "extension": b"\x81\xa1a\xd4\x01a",
    "empty extension": b"\x81\xa1a\xc7\x00\x01",
    "timestamp extension": b"\x81\xa1a\xd6\xff\x00\x00\x00\x01",
    "reserved byte": b"\xc1",
    "trailing bytes": pack(EVENT) + b"\x00",
    "truncated": pack(CHUNK)[:-7],
    "huge list": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "huge map": b"\xdf\xff\xff\xff\xff",
    "huge bin": b"\x81\xa1a\xc6\xff\xff\xff\xff",
    "huge string": b"\xdb\xff\xff\xff\xff",
    "deep": nested(20),
    "very deep": b"\x91" * 100_000,
    "lists that claim to be long": b"\xdd\x00\x00\x0f\xff" * 5000,
    "many lists": b"\xdc\x0f\xff" + (b"\xdc\x0f\xff" + b"\x90" * 0xFFF) * 0xFFF,
    "no type": msgpack.packb({"a": 1}),
    "type is a number": msgpack.packb({"message_type": 1}),
    "version is a number": msgpack.packb({"message_type": "psf-quality", "schema_version": 1}),
}


@pytest.mark.parametrize("value", [value for value in BAD.values() if len(value) <= MAX_MESSAGE_BYTES])
def test_what_is_not_a_message_is_malformed(value):
    with pytest.raises(MessageError):
        decode(value)


@pytest.mark.parametrize("name", list(BAD))
def test_refusing_costs_little_memory(name):
    tracemalloc.start()
    try:
        with pytest.raises(MessageError):
            decode(BAD[name])
        assert tracemalloc.get_traced_memory()[1] < 48 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"nan",
        b'{"a": NaN}',
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"a":' * 5_000,
        b"1" * 5_000,
        b'"\\ud800"',
    ],
)
def test_bad_json_is_malformed(text):
    with pytest.raises(MalformedMessageError):
        decode_exposure_ready(text, AS_JSON)


def test_lone_surrogates_are_malformed():
    text = json.dumps({**EVENT.model_dump(mode="json", exclude_none=True), "uri": "\ud800"}).encode()
    with pytest.raises(MalformedMessageError):
        decode_exposure_ready(text, AS_JSON)


def test_unknown_content_type_is_malformed():
    with pytest.raises(MalformedMessageError, match="avro"):
        decode(pack(EVENT), [("Content-Type", b"application/avro")])


def test_a_message_above_the_limit_is_not_looked_at():
    with pytest.raises(MessageTooLargeError) as caught:
        decode(bytes(MAX_MESSAGE_BYTES + 1))
    assert caught.value.values["limit"] == MAX_MESSAGE_BYTES
    with pytest.raises(MessageTooLargeError):
        decode_exposure_ready(bytes(70_000))


def chunk_with(**block):
    plain = msgpack.unpackb(pack(CHUNK))
    plain["columns"][0] |= block
    return msgpack.packb(plain)


def frame(size, claimed=None):
    """A zstd frame of zeros that may lie about its size."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3)
    data = bytearray(zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(size)))
    if claimed is not None:
        assert data[4] >> 6 == 2  # four bytes of content size follow
        at = 5 if data[4] & 0x20 else 6
        data[at : at + 4] = claimed.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    "block",
    [
        {"shape": [40, 2**40]},
        {"shape": [2**62, 2**62]},
        {"shape": [40, 10**7]},
        {"shape": [40, 0, 2**62]},
        {"shape": []},
        {"shape": [-1]},
        {"shape": [40.0]},
        {"shape": [41]},
        {"dtype": "|O"},
        {"dtype": "<U4"},
        {"dtype": ">f8"},
        {"dtype": "float64"},
        {"dtype": [["a", "<f8"]]},
        {"encoding": "pickle"},
        {"encoding": "raw"},
        {"data": b"short"},
        {"data": "text"},
        {"high": frame(2**20)},
        {"high": frame(2**20, claimed=80)},
        {"name": ""},
    ],
)
def test_a_column_that_contradicts_itself_is_refused(block):
    tracemalloc.start()
    try:
        with pytest.raises(MessageError):
            decode(chunk_with(**block)).arrays()
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_a_zip_bomb_is_refused_by_its_declared_size():
    huge = frame(60 * 2**20)
    plain = msgpack.unpackb(pack(CHUNK))
    rows = 8 * 2**20
    block = {
        "name": "bomb",
        "dtype": "<f8",
        "shape": [rows],
        "encoding": "planes",
        "data": huge,
        "high": huge,
    }
    plain |= {"rows": rows, "columns": [block] * 3, "flags": {"names": [], "rows": rows, "data": b""}}
    with pytest.raises(MessageError):
        decode(msgpack.packb(plain))


def test_flags_are_bounded_as_decoded():
    rows, names = 2**20, [f"flag {number}" for number in range(100)]
    data = zstandard.ZstdCompressor().compress(bytes(rows // 8 * len(names)))
    plain = msgpack.unpackb(pack(CHUNK))
    plain |= {"rows": rows, "columns": [], "flags": {"names": names, "rows": rows, "data": data}}
    with pytest.raises(MessageTooLargeError):
        decode(msgpack.packb(plain))


def test_columns_are_bounded_together():
    rows = 2**20
    plain = msgpack.unpackb(pack(CHUNK))
    block = pack_array("a", np.zeros(rows))
    columns = [{**block.model_dump(), "name": f"column {number}"} for number in range(9)]
    plain |= {"rows": rows, "columns": columns, "flags": {"names": [], "rows": rows, "data": b""}}
    with pytest.raises(MessageTooLargeError):
        decode(msgpack.packb(plain))


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_give_a_message_or_a_message_error(value):
    for headers in ([], AS_JSON):
        with contextlib.suppress(MessageError):
            decode(value, headers)


def test_every_message_type_is_known_by_its_name():
    assert all(model.model_fields["message_type"].default == name for name, model in MESSAGE_TYPES.items())
