"""A whole catalogue as a subscriber gets it: arrays, units, metadata, and the way to an astropy table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamchar.messages.columns import ColumnBlock, check_total, make_decompressor
from streamchar.messages.errors import IncompleteCatalogError
from streamchar.messages.source_catalog import CatalogChunk, CatalogColumn, CatalogManifest
from streamchar.tables import DescribedTable, FileFormat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa
    from astropy.io.fits import HDUList
    from astropy.io.votable.tree import VOTableFile
    from astropy.table import QTable
    from zstandard import ZstdDecompressor


MAX_CATALOG_BYTES = 1024**3
"""Largest catalogue that is put together, in bytes once decoded."""


class Catalog:
    """Sources of one exposure of one detector, column by column.

    Columns are found by their name or an alias (``slot_PsfFlux_instFlux``). Arrays are read-only.

    Attributes
    ----------
    manifest
        The message that closed the catalogue: identity, columns, digests, provenance.
    """

    def __init__(self, manifest: CatalogManifest, data: Mapping[str, NDArray[Any]]) -> None:
        self.manifest = manifest
        self._data = MappingProxyType(dict(data))

    @classmethod
    def from_chunks(cls, manifest: CatalogManifest, chunks: Sequence[CatalogChunk]) -> Catalog:
        """Put the chunks together in the manifest's order. Their digests must have been checked.

        Raises
        ------
        IncompleteCatalogError
            Chunks and manifest contradict each other.
        MalformedMessageError
            Compressed bytes are damaged.
        MessageTooLargeError
            The columns together declare more than ``MAX_CATALOG_BYTES``.
        """
        found = [(chunk.chunk, chunk.first_row, chunk.rows) for chunk in chunks]
        if found != [(chunk.chunk, chunk.first_row, chunk.rows) for chunk in manifest.chunks]:
            raise IncompleteCatalogError(key=manifest.key, detail="the chunks are not those of the manifest")
        check_total([block for chunk in chunks for block in chunk.blocks], MAX_CATALOG_BYTES)
        blocks = [{block.name: block for block in chunk.columns} for chunk in chunks]
        flags = [chunk.flags.values() for chunk in chunks]
        decompressor = make_decompressor()
        data: dict[str, NDArray[Any]] = {}
        for column in manifest.columns:
            if column.dtype == "?":
                values = _join_flags(manifest, column.name, flags)
            else:
                values = _join_numbers(manifest, column, blocks, decompressor)
            values.flags.writeable = False
            data[column.name] = values
        return cls(manifest, data)

    @property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Arrays by column name, in order."""
        return self._data

    @property
    def descriptions(self) -> tuple[CatalogColumn, ...]:
        """Name, type, unit and meaning of each column, in order."""
        return self.manifest.columns

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known about the catalogue as a whole: identity, time, configuration, and the task's values."""
        manifest = self.manifest
        identity = {
            name: getattr(manifest, name)
            for name in (
                "instrument",
                "exposure",
                "detector",
                "band",
                "exposure_time",
                "mid_time",
                "event_id",
                "outcome",
                "tense",
                "config_digest",
            )
        }
        software = f"{manifest.provenance.software} {manifest.provenance.software_version}"
        known = {name: value for name, value in identity.items() if value is not None}
        return {**known, "software": software, **manifest.metadata}

    @property
    def key(self) -> str:
        """Whose sources these are, ``instrument/exposure/detector``."""
        return self.manifest.key

    def __len__(self) -> int:
        return self.manifest.rows

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __getitem__(self, name: str) -> NDArray[Any]:
        found = self._find(name)
        if found is None:
            raise KeyError(f"no column '{name}' in the catalogue of {self.key}")
        return found

    def _find(self, name: str) -> NDArray[Any] | None:
        if name in self._data:
            return self._data[name]
        for alias, prefix in sorted(self.manifest.aliases.items(), key=lambda item: -len(item[0])):
            if name == alias or name.startswith(alias + "_"):
                found = self._data.get(prefix + name[len(alias) :])
                if found is not None:
                    return found
        return None

    def __repr__(self) -> str:
        return f"Catalog({self.key}: {len(self)} sources x {len(self._data)} columns)"

    @property
    def table(self) -> DescribedTable:
        """Columns, descriptions, metadata and aliases, ready to be converted or written."""
        return DescribedTable(self.descriptions, self._data, self.metadata, self.manifest.aliases)

    def to_qtable(self) -> QTable:
        """Return an astropy ``QTable``: quantities with units, descriptions, metadata.

        Types are kept: integers with a unit stay integers. A unit that astropy does not know is kept as text on a
        plain column.
        """
        return self.table.to_qtable()

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas ``DataFrame``, see :meth:`streamchar.tables.DescribedTable.to_pandas`."""
        return self.table.to_pandas()

    def to_arrow(self) -> pa.Table:
        """Return a pyarrow ``Table``, see :meth:`streamchar.tables.DescribedTable.to_arrow`."""
        return self.table.to_arrow()

    def to_fits(self) -> HDUList:
        """Return a FITS binary table, see :meth:`streamchar.tables.DescribedTable.to_fits`."""
        return self.table.to_fits()

    def to_votable(self) -> VOTableFile:
        """Return a VOTable, see :meth:`streamchar.tables.DescribedTable.to_votable`."""
        return self.table.to_votable()

    def write(self, path: str | Path, file_format: FileFormat | None = None) -> Path:
        """Write ``.parquet``, ``.fits``, ``.vot`` or ``.ecsv``, whole or not at all.

        See :meth:`streamchar.tables.DescribedTable.write`.
        """
        return self.table.write(path, file_format)


def _join_flags(
    manifest: CatalogManifest, name: str, parts: Sequence[Mapping[str, NDArray[np.bool_]]]
) -> NDArray[np.bool_]:
    pieces = [part[name] for part in parts if name in part]
    if len(pieces) != len(parts):
        raise IncompleteCatalogError(key=manifest.key, detail=f"flag {name} is missing from a chunk")
    return np.concatenate(pieces) if pieces else np.empty(0, np.bool_)


def _join_numbers(
    manifest: CatalogManifest,
    column: CatalogColumn,
    parts: Sequence[Mapping[str, ColumnBlock]],
    decompressor: ZstdDecompressor,
) -> NDArray[Any]:
    pieces = [part[column.name] for part in parts if column.name in part]
    if len(pieces) != len(parts) or any(piece.dtype != column.dtype for piece in pieces):
        raise IncompleteCatalogError(
            key=manifest.key, detail=f"column {column.name} is missing or not of type {column.dtype}"
        )
    shapes = {piece.shape[1:] for piece in pieces} or {()}
    if len(shapes) > 1:
        raise IncompleteCatalogError(key=manifest.key, detail=f"column {column.name} changes its shape")
    joined = np.empty((manifest.rows, *shapes.pop()), column.dtype)
    for piece, chunk in zip(pieces, manifest.chunks, strict=True):
        piece.read_into(joined[chunk.first_row : chunk.first_row + chunk.rows], decompressor)
    return joined
