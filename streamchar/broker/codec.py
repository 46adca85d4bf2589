"""Kafka's wire encoding, derived from typed dataclasses.

Why a codec of our own: aiokafka's ``aiokafka.protocol`` is private and moves between minor versions, copies every byte
string, and trusts the lengths it reads. This one decodes byte strings as views, never believes a length beyond the
bytes that are there, and lets the type checker see every request and response.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import types
from collections.abc import Callable, Hashable
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from streamchar.broker.errors import MalformedRequestError

MAX_ARRAY_LENGTH = 100_000
"""More elements in one array is never an honest request to a single small broker."""


@dataclasses.dataclass(frozen=True)
class _Width:
    format: str


Int8 = Annotated[int, _Width(">b")]
Int16 = Annotated[int, _Width(">h")]
Int32 = Annotated[int, _Width(">i")]
Int64 = Annotated[int, _Width(">q")]

Buffer = bytes | bytearray | memoryview


@dataclasses.dataclass(frozen=True, slots=True)
class FileSlice:
    """A range of an open file that is sent without ever being whole in memory. The sender closes ``descriptor``."""

    descriptor: int
    position: int
    length: int

    def __len__(self) -> int:
        return self.length


Part = Buffer | FileSlice
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Since:
    """Marks a field that exists from a version on; older versions leave it at its default."""

    version: int


class Reader:
    """A cursor over received bytes that never reads past their end."""

    __slots__ = ("position", "view")

    def __init__(self, data: Buffer) -> None:
        self.view = memoryview(data)
        self.position = 0

    @property
    def remaining(self) -> int:
        """Bytes that were not read yet."""
        return len(self.view) - self.position

    def take(self, length: int) -> memoryview:
        """Return the next ``length`` bytes as a view."""
        if length < 0 or length > self.remaining:
            raise MalformedRequestError(detail=f"{length} bytes wanted, {self.remaining} left")
        start = self.position
        self.position = start + length
        return self.view[start : self.position]

    def unpack(self, layout: struct.Struct) -> int:
        """Read one fixed-size integer."""
        value: int = layout.unpack(self.take(layout.size))[0]
        return value


class Writer:
    """Collects a response as a list of parts; file ranges stay on disk until they are sent."""

    __slots__ = ("buffer", "length", "parts")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.buffer = bytearray()
        self.length = 0

    def write(self, data: Buffer) -> None:
        """Append bytes."""
        self.buffer += data
        self.length += len(data)

    def attach(self, part: Part) -> None:
        """Append a part by reference."""
        if self.buffer:
            self.parts.append(self.buffer)
            self.buffer = bytearray()
        self.parts.append(part)
        self.length += len(part)

    def finish(self) -> list[Part]:
        """Return all parts in order."""
        if self.buffer:
            self.parts.append(self.buffer)
            self.buffer = bytearray()
        return self.parts


Decode = Callable[[Reader], Any]
Encode = Callable[[Writer, Any], None]

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")


def decode(kind: type[T], version: int, reader: Reader) -> T:
    """Read one message of a dataclass type in the layout of ``version``."""
    read, _ = _codec(cast(Hashable, kind), version)
    message: T = read(reader)
    return message


def encode(message: object, version: int, writer: Writer) -> None:
    """Write one message in the layout of ``version``."""
    _, write = _codec(cast(Hashable, type(message)), version)
    write(writer, message)


@functools.lru_cache(maxsize=512)
def _codec(hint: Hashable, version: int) -> tuple[Decode, Encode]:
    """Build decoder and encoder of a type hint once; hints are the whole schema."""
    width = next((item for item in getattr(hint, "__metadata__", ()) if isinstance(item, _Width)), None)
    if width is not None:
        return _integer(width)
    plain, nullable = _split_optional(get_args(hint)[0] if get_origin(hint) is Annotated else hint)
    if get_origin(plain) is list:
        return _array(_codec(get_args(plain)[0], version), nullable)
    if plain is str:
        return _string(nullable)
    if plain is bool:
        return _boolean()
    if plain in (Buffer, Part):
        return _bytes(nullable)
    return _structure(plain, version)


def _split_optional(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) not in (Union, types.UnionType) or type(None) not in get_args(hint):
        return hint, False
    rest = tuple(item for item in get_args(hint) if item is not type(None))
    return Union[rest], True  # noqa: UP007 - the members are only known at run time


def _integer(width: _Width) -> tuple[Decode, Encode]:
    layout = struct.Struct(width.format)

    def write(writer: Writer, value: int) -> None:
        writer.write(layout.pack(value))

    return lambda reader: reader.unpack(layout), write


def _boolean() -> tuple[Decode, Encode]:
    return lambda reader: reader.take(1)[0] != 0, lambda writer, value: writer.write(
        b"\1" if value else b"\0"
    )


def _string(nullable: bool) -> tuple[Decode, Encode]:
    def read(reader: Reader) -> str | None:
        length = reader.unpack(_INT16)
        if length < 0:
            if nullable and length == -1:
                return None
            raise MalformedRequestError(detail=f"string of length {length}")
        try:
            return str(reader.take(length), "utf-8")
        except UnicodeDecodeError as error:
            raise MalformedRequestError(detail="a string is not UTF-8") from error

    def write(writer: Writer, value: str | None) -> None:
        data = b"" if value is None else value.encode()
        writer.write(_INT16.pack(-1 if value is None else len(data)))
        writer.write(data)

    return read, write


def _bytes(nullable: bool) -> tuple[Decode, Encode]:
    def read(reader: Reader) -> memoryview | None:
        length = reader.unpack(_INT32)
        if length == -1 and nullable:
            return None
        return reader.take(length)

    def write(writer: Writer, value: Part | None) -> None:
        writer.write(_INT32.pack(-1 if value is None else len(value)))
        if value is not None:
            writer.attach(value)

    return read, write


def _array(element: tuple[Decode, Encode], nullable: bool) -> tuple[Decode, Encode]:
    read_one, write_one = element

    def read(reader: Reader) -> list[Any] | None:
        length = reader.unpack(_INT32)
        if length == -1 and nullable:
            return None
        if not 0 <= length <= min(reader.remaining, MAX_ARRAY_LENGTH):
            raise MalformedRequestError(detail=f"array of {length} elements in {reader.remaining} bytes")
        return [read_one(reader) for _ in range(length)]

    def write(writer: Writer, values: list[Any] | None) -> None:
        writer.write(_INT32.pack(-1 if values is None else len(values)))
        for value in values or ():
            write_one(writer, value)

    return read, write


def _exists(hint: Any, version: int) -> bool:
    return all(
        mark.version <= version for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Since)
    )


def _structure(kind: Any, version: int) -> tuple[Decode, Encode]:
    hints = get_type_hints(kind, include_extras=True)
    fields = [
        (field.name, *_codec(hints[field.name], version))
        for field in dataclasses.fields(kind)
        if _exists(hints[field.name], version)
    ]

    def read(reader: Reader) -> Any:
        return kind(**{name: read_field(reader) for name, read_field, _ in fields})

    def write(writer: Writer, value: Any) -> None:
        for name, _, write_field in fields:
            write_field(writer, getattr(value, name))

    return read, write
