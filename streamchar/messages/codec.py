"""Messages to bytes and headers, and back: msgpack or JSON in, msgpack out, everything checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeVar

import msgpack
from pydantic import ValidationError

from streamchar.frozen import frozen
from streamchar.messages.base import MAX_ELEMENTS, SUPPORTED_MAJOR, Message, format_time
from streamchar.messages.errors import MalformedMessageError, MessageTooLargeError, UnsupportedSchemaError
from streamchar.messages.exposure_ready import ExposureReady
from streamchar.messages.exposure_status import ExposureStatus
from streamchar.messages.psf_model import PsfModel
from streamchar.messages.psf_quality import PsfQuality
from streamchar.messages.source_catalog import CatalogChunk, CatalogManifest

M = TypeVar("M", bound=Message)
Headers = Sequence[tuple[str, bytes]]

MSGPACK = "application/msgpack"
JSON = "application/json"

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest message that is decoded at all."""

MAX_EVENT_BYTES = 64 * 1024
"""Largest exposure-ready event that is decoded."""

MAX_CONTAINERS = 20_000
"""Most lists and maps within a message."""

MAX_DEPTH = 16
"""Deepest nesting of lists and maps."""

MESSAGE_TYPES: Mapping[str, type[Message]] = MappingProxyType(
    {
        "exposure-ready": ExposureReady,
        "psf-quality": PsfQuality,
        "catalog-chunk": CatalogChunk,
        "catalog-manifest": CatalogManifest,
        "psf-model": PsfModel,
        "exposure-status": ExposureStatus,
    }
)
"""The messages of the contract by the name in their ``message_type``."""


_MAX_TRACEPARENT = 512
"""Bytes; the standard's has 55. Whoever announces an exposure writes it, and it goes out with every product."""

_TEXT = frozenset({str})
_CONTAINERS = frozenset({dict, list})


@frozen
class Encoded:
    """A message ready to be sent.

    Attributes
    ----------
    topic_type
        Which topic it goes to, see :meth:`streamchar.messages.topics.TopicNames.name_of`.
    key
        Key of the record, ``instrument/exposure/detector``.
    value
        The message in msgpack.
    headers
        CloudEvents attributes and our own, see ``schemas/README.md``.
    """

    topic_type: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def encode(
    message: Message,
    *,
    time: datetime | None = None,
    source: str = "streamchar",
    traceparent: bytes | None = None,
    key: bytes | None = None,
    packer: msgpack.Packer | None = None,
    replacing: Mapping[str, Any] | None = None,
) -> Encoded:
    """Turn a message into what is sent.

    Parameters
    ----------
    message
        Any message of the contract.
    time
        The header ``ce_time``; now when omitted.
    source
        The header ``ce_source``: who sends it, for example the name of the consumer group.
    traceparent
        The W3C trace context of the event, passed on unchanged, but not when it is far longer than any.
    key
        Key of the record instead of the message's own: a status about an unreadable event keeps the event's.
    packer
        One of :func:`make_packer` to be used again for several large messages.
    replacing
        Plain values of fields in place of the message's own: large ones, made without models.
    """
    return Encoded(
        topic_type=message.topic_type,
        key=message.key.encode() if key is None else key,
        value=pack(message, packer, replacing),
        headers=make_headers(message, time or datetime.now(UTC), source, traceparent),
    )


def make_packer(size: int = 4096) -> msgpack.Packer:
    """Return a packer with room for messages of ``size`` bytes. Not to be shared between threads."""
    return msgpack.Packer(use_bin_type=True, buf_size=size)


def pack(
    message: Message, packer: msgpack.Packer | None = None, replacing: Mapping[str, Any] | None = None
) -> bytes:
    """Return the message in msgpack; fields that are not known are left out. Equal messages give equal bytes."""
    plain = message.model_dump(exclude_none=True)
    plain.update(replacing or {})
    packed: bytes = (packer or make_packer()).pack(plain)
    return packed


def make_headers(
    message: Message, time: datetime, source: str = "streamchar", traceparent: bytes | None = None
) -> list[tuple[str, bytes]]:
    """Return the record's headers: CloudEvents 1.0, Kafka binary mode, and ``sc-tense``."""
    major = message.schema_version.partition(".")[0]
    headers = {
        "ce_specversion": "1.0",
        "ce_id": message.identifier,
        "ce_type": f"org.streamchar.{message.message_type}.v{major}",
        "ce_source": source,
        "ce_time": format_time(time),
        "ce_dataschema": f"schemas/{message.message_type}/v{message.schema_version}.json",
        "content-type": MSGPACK,
        "sc-tense": getattr(message, "tense", "current"),
    }
    encoded = [(name, value.encode()) for name, value in headers.items()]
    if traceparent and len(traceparent) <= _MAX_TRACEPARENT:
        encoded.append(("traceparent", traceparent))
    return encoded


def decode(value: bytes, headers: Iterable[tuple[str, bytes]] = ()) -> Message:
    """Read any message of the contract.

    Parameters
    ----------
    value
        The record's value: msgpack, or JSON when the header ``content-type`` says so.
    headers
        The record's headers; may be empty, since the payload repeats what is needed.

    Raises
    ------
    MalformedMessageError, UnsupportedSchemaError, MessageTooLargeError
        It is not a message of the contract, is of another major version, or exceeds a limit.
    """
    by_name = _by_name(headers)
    payload = _unpack(value, by_name.get("content-type", b""), MAX_MESSAGE_BYTES)
    name = payload.get("message_type", _type_of_header(by_name.get("ce_type", b"")))
    if not isinstance(name, str) or not name:
        raise MalformedMessageError(message_type="unknown", detail="message_type is missing")
    model = MESSAGE_TYPES.get(name)
    if model is None:
        raise UnsupportedSchemaError(
            message_type=name[:64],
            schema_version=str(payload.get("schema_version", "unknown"))[:16],
            known=", ".join(MESSAGE_TYPES),
        )
    return validate(model, payload)


def decode_exposure_ready(value: bytes, headers: Iterable[tuple[str, bytes]] = ()) -> ExposureReady:
    """Read an exposure-ready event; ``message_type`` and ``schema_version`` may be left out.

    Raises
    ------
    MalformedMessageError, UnsupportedSchemaError, MessageTooLargeError
        See :func:`decode`.
    """
    payload = _unpack(value, _by_name(headers).get("content-type", b""), MAX_EVENT_BYTES)
    return validate(ExposureReady, payload)


def validate(model: type[M], payload: Mapping[str, Any]) -> M:
    """Check a decoded map against a message's fields.

    Raises
    ------
    MalformedMessageError, UnsupportedSchemaError, MessageTooLargeError
        See :func:`decode`.
    """
    name = str(model.model_fields["message_type"].default)
    version = payload.get("schema_version", f"{SUPPORTED_MAJOR}.0")
    major = version.partition(".")[0] if isinstance(version, str) else ""
    if not major.isdecimal():
        raise MalformedMessageError(message_type=name, detail="schema_version is not major.minor")
    if major != str(SUPPORTED_MAJOR):
        raise UnsupportedSchemaError(
            message_type=name, schema_version=version[:16], known=f"{SUPPORTED_MAJOR}.x"
        )
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part)[:64] for part in problem["loc"])
        raise MalformedMessageError(message_type=name, detail=f"{place}: {problem['msg']}"[:512]) from error


def _by_name(headers: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    return {name.lower(): value for name, value in headers if value is not None}


def _type_of_header(ce_type: bytes) -> str:
    text = ce_type.decode("utf-8", "replace")
    name, _, _ = text.removeprefix("org.streamchar.").rpartition(".v")
    return name


def _unpack(value: bytes, content_type: bytes, limit: int) -> dict[str, Any]:
    """Bytes to a map of plain values, within the limits."""
    if len(value) > limit:
        raise MessageTooLargeError(what="message", size=len(value), limit=limit)
    media = content_type.decode("latin-1").partition(";")[0].strip().lower()
    try:
        if media == JSON or media.endswith("+json"):
            payload = _read_json(value)
        elif media in ("", MSGPACK, "application/x-msgpack", "application/vnd.msgpack"):
            payload = _read_msgpack(value)
        else:
            raise MalformedMessageError(
                message_type="unknown", detail=f"content type {media[:64]!r} is not known"
            )
        _check_structure(payload)
    except (ValueError, RecursionError) as error:
        detail = f"{type(error).__name__}: {error}"[:256]
        raise MalformedMessageError(message_type="unknown", detail=detail) from error
    if not isinstance(payload, dict):
        raise MalformedMessageError(message_type="unknown", detail="the payload is not a map")
    return payload


class _Containers:
    """Counts lists and maps while they are built, so that a flood of empty ones ends early."""

    def __init__(self) -> None:
        self.count = 0

    def see(self, container: Any) -> Any:
        self.count += 1
        if self.count > MAX_CONTAINERS:
            raise ValueError(f"more than {MAX_CONTAINERS} lists and maps")
        return container


def _refuse_extension(code: int, _data: bytes) -> None:
    raise ValueError(f"extension type {code} is not allowed")


def _read_msgpack(value: bytes) -> Any:
    containers = _Containers()
    return msgpack.unpackb(
        value,
        raw=False,
        strict_map_key=True,
        object_hook=containers.see,
        list_hook=containers.see,
        ext_hook=_refuse_extension,
        max_ext_len=0,
        max_array_len=MAX_ELEMENTS,
        max_map_len=MAX_ELEMENTS,
        max_str_len=MAX_MESSAGE_BYTES,
        max_bin_len=MAX_MESSAGE_BYTES,
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number: leave unknown fields out")


def _read_json(value: bytes) -> Any:
    return json.loads(value.decode("utf-8"), parse_constant=_refuse_constant, object_hook=_Containers().see)


def _check_structure(payload: Any) -> None:
    """Refuse deep nesting, long lists and keys that are not text."""
    level = [payload]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if len(item) > MAX_ELEMENTS or not _TEXT.issuperset(map(type, item)):
                    raise ValueError("a map is too long or has keys that are not text")
                below += [value for value in item.values() if type(value) in _CONTAINERS]
            elif isinstance(item, list):
                if len(item) > MAX_ELEMENTS:
                    raise ValueError(f"a list has {len(item)} elements, more than {MAX_ELEMENTS}")
                below += [value for value in item if type(value) in _CONTAINERS]
        if not below:
            return
        level = below
    raise ValueError(f"lists and maps are nested more than {MAX_DEPTH} deep")
