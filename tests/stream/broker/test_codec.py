"""The wire codec: round trips of every message, and nothing but MalformedRequestError for garbage."""

from __future__ import annotations

import pytest
from aiokafka.protocol import (
    admin,
    commit,
    coordination,
    fetch,
    group,
    metadata,
    offset,
    produce,
    transaction,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.broker.apis import Api, ApiKey, supported_apis
from streamchar.broker.codec import Reader, Writer, decode, encode
from streamchar.broker.errors import MalformedRequestError

APIS = sorted(supported_apis(1 << 20).values(), key=lambda api: api.key)


def _encoded(message: object, version: int) -> bytes:
    writer = Writer()
    encode(message, version, writer)
    return b"".join(bytes(part) for part in writer.finish())


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.key.name)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_garbage_is_malformed_or_means_something(api: Api, data: bytes) -> None:
    try:
        message = decode(api.request, api.max_version, Reader(data))
    except MalformedRequestError:
        return
    assert data.startswith(_encoded(message, api.max_version))


def test_the_client_library_reads_and_writes_the_same_layouts() -> None:
    modules = (produce, fetch, offset, metadata, commit, coordination, group, admin, transaction)
    theirs = {
        (kind.API_KEY, kind.API_VERSION): kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and hasattr(kind, "RESPONSE_TYPE") and hasattr(kind, "API_VERSION")
    }
    compared = 0
    for api in APIS:
        kind = theirs[api.key, api.max_version]
        sample = kind(*[_sample(field) for field in kind.SCHEMA.fields]).encode()
        message = decode(api.request, api.max_version, Reader(sample))
        assert _encoded(message, api.max_version) == sample, api.key.name
        compared += 1
    assert compared == len(ApiKey) == 24


def _sample(field: object) -> object:
    """Make up a value for a field of the client library's schema."""
    name = field.__name__ if isinstance(field, type) else type(field).__name__
    if name == "Array":
        return [_sample(field.array_of), _sample(field.array_of)]  # type: ignore[attr-defined]
    if name == "Schema":
        return tuple(_sample(inner) for inner in field.fields)  # type: ignore[attr-defined]
    return {"String": "text", "Bytes": b"bytes", "Boolean": True}.get(name, 7)
