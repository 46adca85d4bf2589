"""What all messages have in common: strict typed fields with units, identity, version and identifier.

Modules with many fields do without ``from __future__ import annotations``: Pydantic would compile the text of every
annotation again, which takes a fiftieth of a worker's start.
"""

import base64
import binascii
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self, TypeGuard, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo

from streamchar.errors import StreamcharError
from streamchar.frozen import frozen
from streamchar.messages.identifiers import event_key, product_id

SCHEMA_VERSION = "1.1"
"""Version of the contract written by this software: major.minor."""

SUPPORTED_MAJOR = 1
"""Major version of the contract read by this software, whatever its minor."""

T = TypeVar("T")
MAX_INTEGER = 2**63 - 1


def unit(name: str, **constraints: Any) -> FieldInfo:
    """Declare the unit of a numerical field in FITS notation, ``"1"`` when it has none."""
    info: FieldInfo = Field(json_schema_extra={"unit": name}, **constraints)
    return info


def known(value: float | None) -> float | None:
    """Return a number, or ``None`` when it is not finite: in scalar fields absent means unknown.

    >>> known(float("nan")) is None
    True
    """
    return None if value is None or not math.isfinite(value) else float(value)


def _parse_time(value: object) -> object:
    if isinstance(value, str):
        # Unlike datetime, ISO 8601 has no upper bound on what a caller may write.
        value = datetime.fromisoformat(value[:40])
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("the time needs an offset from UTC, for example 2026-01-31T02:03:04Z")
        try:
            return value.astimezone(UTC)
        except OverflowError as error:
            raise ValueError("the time is out of range") from error
    raise ValueError("a time is text in ISO 8601 notation, for example 2026-01-31T02:03:04Z")


def format_time(value: datetime) -> str:
    """Write a time as ISO 8601 in UTC with microseconds."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0") + "Z"


def _parse_bytes(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("bytes in JSON are base64 text") from error


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


Time = Annotated[
    datetime,
    BeforeValidator(_parse_time),
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A moment in UTC; ISO 8601 text on the wire."""

Data = Annotated[
    bytes,
    BeforeValidator(_parse_bytes),
    PlainSerializer(lambda data: base64.b64encode(data).decode(), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
"""Raw bytes: a msgpack bin, or base64 text in JSON."""

MAX_ELEMENTS = 4096
"""Longest list or map within a message; a product has no more chunks than its manifest can list."""

Listed = Annotated[tuple[T, ...], Field(strict=False, max_length=MAX_ELEMENTS)]
"""A list on the wire, a tuple in memory."""

Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Uri = Annotated[str, Field(min_length=1, max_length=2048)]
Instrument = Annotated[str, Field(pattern=r"^[^/\x00-\x1f\x7f]{1,64}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Band = Annotated[Name | None, BeforeValidator(_none_if_empty)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Integer = Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Value = Text | Integer | float | bool

Tense = Literal["current", "test", "replay"]
"""Whether a message is about the sky as it is now, a test, or a repetition of the past."""

Outcome = Literal["succeeded", "degraded", "failed", "expired"]
"""What became of an event."""


class Part(BaseModel):
    """A frozen group of fields. Unknown fields are ignored on input, so that a newer minor version can be read.

    Types are strict: text is not taken for a number nor a number for text. NaN and infinities are refused;
    a number that is not known is absent.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        # A worker does not need the messages that the coordinator writes.
        defer_build=True,
    )


class Reason(Part):
    """Why an outcome is not plain success: a stable code and the values that explain it."""

    code: Name
    """Machine-readable code, for example ``too_few_psf_stars``."""

    values: Annotated[dict[Name, Value], unit("1", max_length=64)] = Field(default_factory=dict)
    """Values that explain it, in the unit their name or the code's documentation says."""

    message: Text | None = None
    """One sentence for people."""

    @classmethod
    def from_error(cls, error: StreamcharError) -> Self:
        """Describe an expected failure; values that are not known or not finite are left out."""
        values = {name[:256]: _plain(value) for name, value in error.values.items() if _is_known(value)}
        return cls(code=error.code, values=values, message=_plain(str(error)))


def _is_known(value: object) -> TypeGuard[Value]:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) <= MAX_INTEGER
    return value is not None


def _plain(value: T) -> T | str:
    """Shorten text, and replace what is not Unicode: file names need not be."""
    return value[:4096].encode("utf-8", "replace").decode() if isinstance(value, str) else value


class StageTiming(Part):
    """How long one stage took."""

    stage: Name
    """Name of the stage, for example ``characterize.repair``."""

    cpu: Annotated[float, unit("s", ge=0)]
    """Processor time of the worker."""

    wall: Annotated[float, unit("s", ge=0)]
    """Elapsed time."""


class Provenance(Part):
    """What made a product. Names no machine: the same input gives the same provenance anywhere."""

    software: Name = "streamchar"
    """Name of the software."""

    software_version: Name
    """Version of the software."""

    preset: Name | None = None
    """Name of the configuration preset, when the configuration is one unchanged."""


@frozen
class ProductIdentity:
    """What all products of one event share.

    Attributes
    ----------
    event_id
        Identifier of the exposure-ready event.
    instrument, exposure, detector
        Whose exposure it is.
    config_digest
        ``"sha256:"`` and the digest of the configuration in force.
    band
        Filter band, or ``None``.
    tense
        ``"current"``, ``"test"`` or ``"replay"``.
    """

    event_id: str
    instrument: str
    exposure: int
    detector: int
    config_digest: str
    band: str | None = None
    tense: Tense = "current"

    def fields(self) -> dict[str, Any]:
        """Return the fields by name, as the product messages take them."""
        return {name: getattr(self, name) for name in self.__match_args__}


class Message(Part):
    """A message of the published contract."""

    topic_type: ClassVar[str]

    message_type: Name
    """Which message this is; also in the header ``ce_type``."""

    schema_version: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}\.[0-9]{1,4}$")] = SCHEMA_VERSION
    """Version of the schema the message was written with, major.minor."""

    @property
    def identifier(self) -> str:
        """Identifier of the message, the header ``ce_id``."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """Key of the Kafka record."""
        raise NotImplementedError


class ProductMessage(Message):
    """A message about one exposure of one detector, published by streamchar.

    ``message_id`` follows from the other fields and is filled in when it is not given.
    """

    message_id: Name = ""
    """Identifier: a UUID (version 5) of instrument, exposure, detector, message type, configuration digest and,
    where there are several, the chunk number. A redelivery has the same one. Also in the header ``ce_id``."""

    event_id: Name
    """Identifier of the exposure-ready event this answers."""

    instrument: Instrument
    """Name of the camera."""

    exposure: Annotated[Count, unit("1")]
    """Exposure (visit) number."""

    detector: Annotated[Count, unit("1")]
    """Detector number within the camera."""

    band: Band = None
    """Filter band; absent when unknown."""

    tense: Tense = "current"
    """Whether this is about the sky as it is now, a test, or a replay."""

    config_digest: Digest
    """SHA-256 of the configuration in force."""

    @model_validator(mode="after")
    def _fill_identifier(self) -> Self:
        if not self.message_id:
            identifier = product_id(
                self.key, self.message_type, self.config_digest, *self._identifying_parts()
            )
            object.__setattr__(self, "message_id", identifier)
        return self

    def _identifying_parts(self) -> tuple[int | str, ...]:
        return ()

    @property
    def identifier(self) -> str:
        """Identifier of the message, the header ``ce_id``."""
        return self.message_id

    @property
    def key(self) -> str:
        """Key of the Kafka record, ``instrument/exposure/detector``."""
        return event_key(self.instrument, self.exposure, self.detector)


def finite_values(values: Mapping[str, float | int | None]) -> dict[str, float | int]:
    """Keep what is known: drop ``None`` and numbers that are not finite."""
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
