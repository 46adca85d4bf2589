"""A source catalogue to messages: rows split so that no message exceeds the limit, then the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamchar.messages.base import ProductIdentity, Provenance, Value
from streamchar.messages.codec import Encoded, encode
from streamchar.messages.columns import pack_array, pack_flags
from streamchar.messages.errors import MessageTooLargeError
from streamchar.messages.source_catalog import (
    CatalogChunk,
    CatalogColumn,
    CatalogManifest,
    ChunkDescription,
)

MAX_CHUNK_BYTES = 900_000
"""Largest value of a chunk's record, in bytes: room for headers below the broker's default limit."""

FIXED_BYTES = 2048
COLUMN_BYTES = 96
FLAG_BYTES = 8


class ColumnDescription(Protocol):
    """What is needed to know of a column; :class:`streamchar.characterize.catalog.Column` is one."""

    @property
    def name(self) -> str:
        """Name of the column."""
        ...

    @property
    def dtype(self) -> str:
        """Type in NumPy notation, ``?`` for a flag."""
        ...

    @property
    def unit(self) -> str:
        """Unit in FITS notation, empty when the column has none."""
        ...

    @property
    def doc(self) -> str:
        """Meaning in one sentence."""
        ...


def encode_catalog(
    columns: Sequence[ColumnDescription],
    data: Mapping[str, NDArray[Any]],
    *,
    identity: ProductIdentity,
    provenance: Provenance,
    aliases: Mapping[str, str] | None = None,
    metadata: Mapping[str, Value | Sequence[float]] | None = None,
    exposure_time: float | None = None,
    mid_time: float | None = None,
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
    aliases, metadata, exposure_time, mid_time
        Go into the manifest.
    max_chunk_bytes
        Largest value of a chunk's record, in bytes. Kept whatever the values: rows are counted uncompressed.
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
    step = _rows_per_chunk(columns, arrays, max_chunk_bytes)
    starts = range(0, rows, step)
    encoded, descriptions = [], []
    for number, first in enumerate(starts):
        part = {name: values[first : first + step] for name, values in arrays.items()}
        count = min(step, rows - first)
        chunk = _make_chunk(columns, part, identity, (number, len(starts), first, count))
        message = encode(chunk, time=time, source=source, traceparent=traceparent)
        encoded.append(message)
        descriptions.append(
            ChunkDescription(
                chunk=number,
                first_row=first,
                rows=count,
                size_bytes=len(message.value),
                digest=digest_of(message.value),
            )
        )
    manifest = CatalogManifest(
        **identity.fields(),
        rows=rows,
        chunks=tuple(descriptions),
        columns=tuple(
            CatalogColumn(name=column.name, dtype=column.dtype, unit=column.unit, doc=column.doc)
            for column in columns
        ),
        digest=combined_digest(description.digest for description in descriptions),
        aliases=dict(aliases or {}),
        metadata={name: _plain(value) for name, value in (metadata or {}).items()},
        exposure_time=exposure_time,
        mid_time=mid_time,
        provenance=provenance,
    )
    encoded.append(encode(manifest, time=time, source=source, traceparent=traceparent))
    return encoded


def digest_of(value: bytes) -> str:
    """Return ``"sha256:"`` and the hexadecimal digest of ``value``."""
    return f"sha256:{hashlib.sha256(value).hexdigest()}"


def combined_digest(digests: Iterable[str]) -> str:
    """Return the digest over the digests of the chunks, each as 32 raw bytes."""
    return digest_of(b"".join(bytes.fromhex(digest.removeprefix("sha256:")) for digest in digests))


def _make_chunk(
    columns: Sequence[ColumnDescription],
    part: Mapping[str, NDArray[Any]],
    identity: ProductIdentity,
    place: tuple[int, int, int, int],
) -> CatalogChunk:
    number, chunks, first, count = place
    flags = {column.name: part[column.name] for column in columns if column.dtype == "?"}
    blocks = tuple(
        pack_array(column.name, part[column.name], column.unit) for column in columns if column.dtype != "?"
    )
    return CatalogChunk(
        **identity.fields(),
        chunk=number,
        chunks=chunks,
        first_row=first,
        rows=count,
        columns=blocks,
        flags=pack_flags(flags, count),
    )


def _checked(column: ColumnDescription, values: NDArray[Any]) -> NDArray[Any]:
    declared = np.dtype(column.dtype)
    if values.dtype.newbyteorder("=") != declared.newbyteorder("="):
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
    flags = sum(column.dtype == "?" for column in columns)
    names = sum(len(column.name.encode()) + len(column.unit.encode()) for column in columns)
    fixed = FIXED_BYTES + names + COLUMN_BYTES * (len(columns) - flags) + FLAG_BYTES * flags
    row = flags / 8 + sum(
        values.dtype.itemsize * int(np.prod(values.shape[1:]))
        for values in arrays.values()
        if values.dtype != bool
    )
    rows = int((limit - fixed) // max(row, 1 / 8))
    if rows < 1:
        raise MessageTooLargeError(what="one row of the catalogue", size=int(fixed + row), limit=limit)
    return rows


def _plain(value: Value | Sequence[float]) -> Value | tuple[float, ...]:
    if isinstance(value, str | int | float | bool):
        return value
    return tuple(float(item) for item in value)
