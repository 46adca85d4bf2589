"""What a catalogue costs to encode and decode in our messages and in other formats. Run as a module."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import msgpack
import numpy as np

from streamchar import __version__
from streamchar.characterize.catalog import SourceCatalog
from streamchar.messages import Encoded, ProductIdentity, Provenance, encode_catalog
from streamchar.messages.assembly import CatalogAssembler
from streamchar.messages.catalog import Catalog
from tests.benchmarks.loop import announcement, make_job
from tests.benchmarks.processes import answer

REPEATS = 5
IDENTITY = ProductIdentity("bench", "SIMCAM", 1, 0, "sha256:" + "0" * 64)

Table = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Received:
    """A record as a consumer hands it over."""

    value: bytes
    headers: list[tuple[str, bytes]]
    offset: int
    topic: str = "source-catalog"
    partition: int = 0


def measured_catalogue(path: str) -> SourceCatalog:
    """Measure every source above 5 sigma of a file."""
    job = make_job(Path(path), {"detection": {"include_threshold_multiplier": 1}})
    job(announcement(Path(path)))
    assert job.catalog is not None
    return job.catalog


def compare(path: str) -> dict[str, Any]:
    """Return milliseconds of CPU to encode and to decode, and bytes, by format; and the catalogue's size."""
    catalog = measured_catalogue(path)
    table = {column.name: catalog[column.name] for column in catalog.schema}
    formats: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], int]]] = {
        "our messages": (lambda: encode_ours(catalog, table), decode_ours, size_of_messages),
        "FITS table": (lambda: encode_fits(table), decode_fits, len),
        "Avro container": (lambda: encode_avro(table), decode_avro, len),
        "msgpack, a map per row": (lambda: encode_maps(table), decode_maps, len),
        "msgpack, a list per row": (lambda: encode_lists(table), decode_lists, len),
    }
    found = {}
    for name, (encode, decode, size) in formats.items():
        encoding, encoded = best_time(encode)
        decoding, _ = best_time(lambda encoded=encoded, decode=decode: decode(encoded))  # type: ignore[misc]
        found[name] = {"encode_ms": 1e3 * encoding, "decode_ms": 1e3 * decoding, "bytes": size(encoded)}
    return {"rows": len(catalog), "columns": len(table), "formats": found}


def best_time(function: Callable[[], Any]) -> tuple[float, Any]:
    """Least CPU seconds of a few calls, and what the last returned."""
    seconds = []
    result = None
    for _ in range(REPEATS):
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def encode_ours(catalog: SourceCatalog, table: Table) -> list[Encoded]:
    """Encode chunks and their manifest, compressed, with digests, units and flag names."""
    provenance = Provenance(software_version=__version__)
    return encode_catalog(catalog.schema.columns, table, identity=IDENTITY, provenance=provenance)


def decode_ours(messages: list[Encoded]) -> dict[str, np.ndarray]:
    """Check, assemble and copy out every column, as a subscriber does."""
    assembler = CatalogAssembler()
    for offset, message in enumerate(messages):
        for found in assembler.feed(Received(message.value, message.headers, offset), 0.0):
            assert isinstance(found, Catalog), found
            return {name: np.asarray(found[name]) for name in found.columns}
    raise AssertionError("the catalogue stayed incomplete")


def size_of_messages(messages: list[Encoded]) -> int:
    """Bytes of all values."""
    return sum(len(message.value) for message in messages)


def encode_fits(table: Table) -> bytes:
    """Encode a binary table."""
    from astropy.io import fits

    rows = np.empty(len(next(iter(table.values()))), [(name, values.dtype) for name, values in table.items()])
    for name, values in table.items():
        rows[name] = values
    target = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(rows)]).writeto(target)
    return target.getvalue()


def decode_fits(data: bytes) -> dict[str, np.ndarray]:
    """Copy out every column."""
    from astropy.io import fits

    with fits.open(io.BytesIO(data)) as hdus:
        return {name: np.array(hdus[1].data[name]) for name in hdus[1].columns.names}


def rows_of(table: Table) -> list[tuple[Any, ...]]:
    """Plain values row by row."""
    return list(zip(*(values.tolist() for values in table.values()), strict=True))


def encode_maps(table: Table) -> bytes:
    """Encode rows with their column names."""
    packed: bytes = msgpack.packb([dict(zip(table, row, strict=True)) for row in rows_of(table)])
    return packed


def decode_maps(data: bytes) -> dict[str, np.ndarray]:
    """Turn rows into columns."""
    rows = msgpack.unpackb(data)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def encode_lists(table: Table) -> bytes:
    """Encode the names once, then rows."""
    packed: bytes = msgpack.packb([list(table), rows_of(table)])
    return packed


def decode_lists(data: bytes) -> dict[str, np.ndarray]:
    """Turn rows into columns."""
    names, rows = msgpack.unpackb(data)
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def encode_avro(table: Table) -> bytes:
    """Encode an object container."""
    kinds = {"b": "boolean", "i": "long", "f": "double"}
    fields = [{"name": name, "type": kinds[values.dtype.kind]} for name, values in table.items()]
    schema = fastavro.parse_schema({"type": "record", "name": "Source", "fields": fields})
    target = io.BytesIO()
    fastavro.writer(target, schema, [dict(zip(table, row, strict=True)) for row in rows_of(table)])
    return target.getvalue()


def decode_avro(data: bytes) -> dict[str, np.ndarray]:
    """Turn rows into columns."""
    rows = list(fastavro.reader(io.BytesIO(data)))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


if __name__ == "__main__":
    answer(compare(**json.loads(sys.argv[1])))
