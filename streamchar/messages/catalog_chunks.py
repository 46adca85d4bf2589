"""A source catalogue to messages: rows split so that no message exceeds the limit, then the manifest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamchar.messages.base import Outcome, ProductIdentity, Provenance, Value
from streamchar.messages.codec import Encoded, encode, make_packer
from streamchar.messages.columns import make_compressor, pack_flags, plain_array
from streamchar.messages.errors import MessageTooLargeError
from streamchar.messages.source_catalog import (
    CatalogChunk,
    CatalogManifest,
    ChunkDescription,
)
from streamchar.tables import ColumnDescription

MAX_CHUNK_BYTES = 900_000
"""Largest value of a chunk's record, in bytes: room for headers below the broker's default limit."""

EXPECTED_GAIN = 1.5
"""How many more rows than fit uncompressed are tried first: typical catalogues shrink to two thirds or less."""

FIXED_BYTES = 2048
COLUMN_BYTES = 96
FLAG_BYTES = 8


def encode_catalog(
    columns: Sequence[ColumnDescription],
    data: Mapping[str, NDArray[Any]],
    *,
    identity: ProductIdentity,
    provenance: Provenance,
    aliases: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    exposure_time: float | None = None,
    mid_time: float | None = None,
    outcome: Outcome | None = None,
    max_chunk_bytes: int = MAX_CHUNK_BYTES,
    time: datetime | None = None,
    source: str = "streamchar",
    traceparent: bytes | None = None,
) -> list[Encoded]:
    """Encode a catalogue as chunks followed by their manifest.

    The chunks' values depend on the catalogue, its identity and ``max_chunk_bytes`` alone, so that a redelivery
    gives the same bytes. NaN, infinities and signed zeros in columns are kept bit by bit.

    Parameters
    ----------
    columns
        Descriptions in catalogue order.
    data
        The columns by name, all of the same length; flags are boolean.
    identity, provenance
        Whose sources these are and what measured them.
    aliases, metadata, exposure_time, mid_time, outcome
        Go into the manifest. Metadata are plain values or lists of numbers; those that are not known are left out.
    max_chunk_bytes
        Largest value of a chunk's record, in bytes. Kept whatever the values.
    time, source, traceparent
        Headers, see :func:`streamchar.messages.codec.encode`.

    Returns
    -------
    list of Encoded
        The chunks in row order, then the manifest. An empty catalogue is a manifest alone.

    Raises
    ------
    KeyError
        A described column is missing.
    ValueError
        The columns differ in length, or a column's values are not of the described type.
    MessageTooLargeError
        A single row does not fit into a chunk.
    """
    time = time or datetime.now(UTC)
    arrays = {column.name: _checked(column, data[column.name]) for column in columns}
    rows = _common_length(arrays)
    safe = _rows_per_chunk(columns, arrays, max_chunk_bytes)
    packer = make_packer(max_chunk_bytes)
    send = partial(encode, time=time, source=source, traceparent=traceparent, packer=packer)
    for limit in (int(safe * EXPECTED_GAIN), safe):
        parts = _chunks(columns, arrays, identity, rows, limit)
        messages = [send(chunk, replacing=plain) for chunk, plain in parts]
        if all(len(message.value) <= max_chunk_bytes for message in messages):
            break
    descriptions = _describe(rows, messages)
    # Checked together with the manifest: one by one they take twice as long.
    meanings: Any = [
        {"name": column.name, "dtype": column.dtype, "unit": column.unit, "doc": column.doc}
        for column in columns
    ]
    manifest = CatalogManifest(
        **identity.fields(),
        rows=rows,
        chunks=descriptions,
        columns=meanings,
        digest=combined_digest(description.digest for description in descriptions),
        aliases=dict(aliases or {}),
        metadata=_metadata(metadata or {}),
        exposure_time=exposure_time,
        mid_time=mid_time,
        outcome=outcome,
        provenance=provenance,
    )
    return [*messages, send(manifest)]


def digest_of(value: bytes) -> str:
    """Return ``"sha256:"`` and the hexadecimal digest of ``value``."""
    return f"sha256:{hashlib.sha256(value).hexdigest()}"


def combined_digest(digests: Iterable[str]) -> str:
    """Return the digest over the digests of the chunks, each as 32 raw bytes."""
    return digest_of(b"".join(bytes.fromhex(digest.removeprefix("sha256:")) for digest in digests))


def _bounds(rows: int, count: int) -> list[tuple[int, int]]:
    """Divide rows into ``count`` runs of nearly equal length."""
    return [(rows * number // count, rows * (number + 1) // count) for number in range(count)]


def _chunks(
    columns: Sequence[ColumnDescription],
    arrays: Mapping[str, NDArray[Any]],
    identity: ProductIdentity,
    rows: int,
    limit: int,
) -> Iterator[tuple[CatalogChunk, dict[str, Any]]]:
    """Make as few chunks of at most ``limit`` rows as possible: each without its columns, and these as plain values."""
    count = -(-rows // limit)
    compressor = make_compressor()
    for number, (first, last) in enumerate(_bounds(rows, count)):
        flags = {column.name: arrays[column.name][first:last] for column in columns if column.dtype == "?"}
        blocks = [
            plain_array(column.name, arrays[column.name][first:last], column.unit, compressor=compressor)
            for column in columns
            if column.dtype != "?"
        ]
        chunk = CatalogChunk(
            **identity.fields(),
            chunk=number,
            chunks=count,
            first_row=first,
            rows=last - first,
            columns=(),
            flags=pack_flags({}, last - first, compressor),
        )
        packed = pack_flags(flags, last - first, compressor).model_dump()
        yield chunk, {"columns": blocks, "flags": packed}


def _describe(rows: int, messages: Sequence[Encoded]) -> tuple[ChunkDescription, ...]:
    return tuple(
        ChunkDescription(
            chunk=number,
            first_row=first,
            rows=last - first,
            size_bytes=len(message.value),
            digest=digest_of(message.value),
        )
        for number, (message, (first, last)) in enumerate(
            zip(messages, _bounds(rows, len(messages)), strict=True)
        )
    )


def _checked(column: ColumnDescription, values: NDArray[Any]) -> NDArray[Any]:
    declared = np.dtype(column.dtype)
    if values.dtype != declared and values.dtype != declared.newbyteorder():
        raise ValueError(f"column {column.name} holds {values.dtype}, described as {column.dtype}")
    if values.ndim == 0 or (column.dtype == "?" and values.ndim != 1):
        raise ValueError(f"column {column.name} of shape {values.shape} has no rows")
    return values


def _common_length(arrays: Mapping[str, NDArray[Any]]) -> int:
    lengths = {len(values) for values in arrays.values()}
    if len(lengths) > 1:
        raise ValueError(f"the columns differ in length: {sorted(lengths)}")
    return lengths.pop() if lengths else 0


def _rows_per_chunk(
    columns: Sequence[ColumnDescription], arrays: Mapping[str, NDArray[Any]], limit: int
) -> int:
    """Return how many rows fit even when nothing can be compressed."""
    numbers = [arrays[column.name] for column in columns if column.dtype != "?"]
    flags = len(columns) - len(numbers)
    names = len("".join([column.name + column.unit for column in columns]).encode())
    fixed = FIXED_BYTES + names + COLUMN_BYTES * len(numbers) + FLAG_BYTES * flags
    row = flags / 8 + sum([values.itemsize * math.prod(values.shape[1:]) for values in numbers])
    rows = int((limit - fixed) // max(row, 1 / 8))
    if rows < 1:
        raise MessageTooLargeError(what="one row of the catalogue", size=int(fixed + row), limit=limit)
    return rows


def _metadata(values: Mapping[str, Any]) -> dict[str, Value | tuple[float, ...]]:
    """Keep what is known, as plain values: NumPy's numbers too, and lists of numbers."""
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in values.items()}
    return {
        name: value if isinstance(value, str | int | float | bool) else tuple(float(item) for item in value)
        for name, value in plain.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
