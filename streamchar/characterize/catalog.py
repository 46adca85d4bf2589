"""The source catalogue: columns known by name, dtype, unit and meaning before any pixel is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamchar.frozen import frozen

if TYPE_CHECKING:
    from astropy.table import QTable

    from streamchar.characterize.footprints import Footprints


@frozen
class Column:
    """One column of the catalogue.

    Attributes
    ----------
    name
        The reference's own column name.
    dtype
        NumPy dtype string: ``"<i8"``, ``"<i4"``, ``"<f8"``, ``"<f4"`` or ``"?"`` for a flag.
    unit
        FITS notation, empty when the column has none.
    doc
        What it means, in one sentence without the final stop.
    """

    name: str
    dtype: str
    unit: str
    doc: str

    @property
    def is_flag(self) -> bool:
        """Whether the column is a flag."""
        return self.dtype == "?"

    @property
    def initial(self) -> float | int | bool:
        """Value before measurement: NaN, 0 or false."""
        return float("nan") if "f" in self.dtype else 0 if "i" in self.dtype else False


def flag(name: str, doc: str) -> Column:
    """Describe a flag column."""
    return Column(name, "?", "", doc)


@frozen
class Schema:
    """Ordered columns and the aliases (slots) that point at them.

    An alias is a prefix: with ``{"slot_Centroid": "base_SdssCentroid"}`` the name ``slot_Centroid_x`` means
    ``base_SdssCentroid_x``.
    """

    columns: tuple[Column, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    _resolved: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _by_type: dict[str, list[Column]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"columns declared twice: {sorted(repeated)}")
        for column in self.columns:
            self._by_type.setdefault(column.dtype, []).append(column)

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __contains__(self, name: str) -> bool:
        resolved = self.resolve(name)
        return any(column.name == resolved for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        resolved = self.resolve(name)
        for column in self.columns:
            if column.name == resolved:
                return column
        raise KeyError(f"no column '{name}' in the catalogue")

    def resolve(self, name: str) -> str:
        """Follow the longest alias that is a prefix of ``name``, repeatedly."""
        found = self._resolved.get(name)
        if found is None:
            found = self._resolved[name] = self._follow(name)
        return found

    def _follow(self, name: str) -> str:
        for _ in range(len(self.aliases) + 1):
            matches = [alias for alias in self.aliases if name == alias or name.startswith(alias + "_")]
            if not matches:
                break
            alias = max(matches, key=len)
            name = self.aliases[alias] + name[len(alias) :]
        return name

    def extended(self, columns: Iterable[Column], aliases: Mapping[str, str] | None = None) -> Schema:
        """Return a schema with further columns and aliases."""
        return Schema((*self.columns, *columns), {**self.aliases, **(aliases or {})})

    def blocks(self, length: int) -> list[NDArray[Any]]:
        """Columns of ``length`` values as before measurement: for each type an array whose rows are its columns."""
        return [
            np.full((len(columns), length), columns[0].initial, dtype)
            for dtype, columns in self._by_type.items()
        ]

    def rows_of(self, blocks: Iterable[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the rows of such arrays, or of parts of them, by column name."""
        return {
            column.name: row
            for columns, block in zip(self._by_type.values(), blocks, strict=True)
            for column, row in zip(columns, block, strict=True)
        }


class SourceCatalog:
    """Sources of one exposure, column by column.

    Parameters
    ----------
    schema
        The columns; each starts with NaN, 0 or false.
    length
        Number of sources.
    footprints
        The pixels and peaks of each source, in catalogue order.
    """

    def __init__(self, schema: Schema, length: int, footprints: Footprints | None = None) -> None:
        self._fill(schema, schema.blocks(length), length, footprints, {})

    def _fill(
        self,
        schema: Schema,
        blocks: list[NDArray[Any]],
        length: int,
        footprints: Footprints | None,
        metadata: dict[str, Any],
    ) -> SourceCatalog:
        self.schema = schema
        self.footprints = footprints
        self.metadata = metadata
        self._length = length
        # Columns of a type stand together: few arrays are made and taken from, not as many as there are columns.
        self._blocks = blocks
        self._data = schema.rows_of(blocks)
        return self

    def __len__(self) -> int:
        return self._length

    def __contains__(self, name: str) -> bool:
        return self.schema.resolve(name) in self._data

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The column's own array (not a copy): writing into it changes the catalogue."""
        column = self._data.get(name)
        if column is not None:
            return column
        try:
            return self._data[self.schema.resolve(name)]
        except KeyError:
            raise KeyError(f"no column '{name}' in the catalogue") from None

    def __setitem__(self, name: str, values: Any) -> None:
        self[name][...] = values

    def part(self, first: int, end: int) -> SourceCatalog:
        """Sources ``first`` to ``end - 1`` with their footprints; their columns are views: writing changes this catalogue."""
        if end - first == len(self):
            return self
        footprints = None if self.footprints is None else self.footprints.part(first, end)
        blocks = [block[:, first:end] for block in self._blocks]
        return self._like(blocks, end - first, footprints, self.metadata)

    def take(self, chosen: NDArray[np.bool_]) -> SourceCatalog:
        """Return a catalogue of its own with the sources where ``chosen``, bool (n), in order."""
        footprints = None if self.footprints is None else self.footprints.take(chosen)
        places = np.flatnonzero(chosen)
        blocks = [block.take(places, axis=1) for block in self._blocks]
        return self._like(blocks, len(places), footprints, dict(self.metadata))

    def put(self, chosen: NDArray[np.bool_], taken: SourceCatalog) -> None:
        """Write the columns of a catalogue that :meth:`take` gave back into the rows it came from."""
        for block, values in zip(self._blocks, taken._blocks, strict=True):
            block[:, chosen] = values

    def _like(
        self,
        blocks: list[NDArray[Any]],
        length: int,
        footprints: Footprints | None,
        metadata: dict[str, Any],
    ) -> SourceCatalog:
        return object.__new__(SourceCatalog)._fill(self.schema, blocks, length, footprints, metadata)

    def __repr__(self) -> str:
        return f"SourceCatalog({self._length} sources x {len(self._data)} columns)"

    @property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Arrays by column name, in schema order."""
        return {column.name: self._data[column.name] for column in self.schema}

    def to_table(self) -> QTable:
        """Return an astropy ``QTable`` with units and descriptions."""
        from astropy.table import Column as TableColumn
        from astropy.table import QTable

        table = QTable(meta=dict(self.metadata))
        for column in self.schema:
            values = TableColumn(self._data[column.name], description=column.doc, unit=column.unit or None)
            table[column.name] = values
        return table
