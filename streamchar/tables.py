"""Columns with units and meanings as other libraries' tables and as files: astropy, pandas, Arrow; Parquet, FITS and more."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from streamchar.errors import MissingPackageError, StreamcharError
from streamchar.image.fits import replacing

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from astropy.io.fits import HDUList, Header
    from astropy.io.votable.tree import VOTableFile
    from astropy.table import QTable

FileFormat = Literal["parquet", "fits", "votable", "ecsv"]
"""The kinds of files a table can be written to."""

SUFFIXES: Mapping[str, FileFormat] = {
    ".parquet": "parquet",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".ecsv": "ecsv",
}
"""Which kind of file a name means."""

_FITS_FORMATS: Mapping[str, tuple[str, int | None]] = {
    "|u1": ("B", None),
    "|i1": ("I", None),
    "<i2": ("I", None),
    "<u2": ("I", 2**15),
    "<i4": ("J", None),
    "<u4": ("J", 2**31),
    "<i8": ("K", None),
    "<u8": ("K", 2**63),
    "<f4": ("E", None),
    "<f8": ("D", None),
}
"""FITS letter and zero point by type: unsigned integers are kept by a shift (FITS standard 4.0, section 7.3)."""

_PLAIN_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_LONGEST_KEYWORD = 48

_VOTABLE_TYPES: Mapping[str, str] = {"|i1": "<i2", "<u2": "<i4", "<u4": "<i8", "<u8": "<i8"}
"""Types that VOTable lacks, and the next larger one."""


class UnknownFormatError(StreamcharError):
    """A file name does not say what kind of table it is to be."""

    code = "unknown_format"
    template = "{path}: the kind of table is not known; known are {known}"


class UnrepresentableError(StreamcharError):
    """A column holds values that a format has no type for."""

    code = "unrepresentable"
    template = "column {column}: values of type {dtype} cannot be kept in {format}"


class ColumnDescription(Protocol):
    """What is needed to know of a column; :class:`streamchar.characterize.catalog.Column` is one."""

    @property
    def name(self) -> str:
        """Name of the column."""
        ...

    @property
    def dtype(self) -> str:
        """Type in NumPy notation, ``?`` for a flag, ``<U8`` for text of at most eight characters."""
        ...

    @property
    def unit(self) -> str:
        """Unit in FITS notation, empty when the column has none."""
        ...

    @property
    def doc(self) -> str:
        """Meaning in one sentence."""
        ...


@dataclass(frozen=True)
class DescribedTable:
    """Columns of one length, their descriptions, and what is known about the whole.

    Conversions keep every value: types, NaN, signed zeros, flags as booleans. Units, meanings and metadata go along
    wherever the format has a place for them.

    Attributes
    ----------
    columns
        Descriptions, in order.
    data
        Arrays (n, ...) by column name. A column may have further axes.
    metadata
        Plain values, or lists of numbers, by name.
    aliases
        Other names of columns: a prefix that stands for another prefix.

    Examples
    --------
    >>> import numpy as np
    >>> from streamchar.characterize.catalog import Column
    >>> flux = Column("flux", "<f8", "count", "PSF flux")
    >>> table = DescribedTable((flux,), {"flux": np.array([1.5, np.nan])}, {"instrument": "DemoCam"})
    >>> table.to_qtable()["flux"]
    <Quantity [1.5, nan] ct>
    """

    columns: Sequence[ColumnDescription]
    data: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.data.values()))) if self.data else 0

    def described(self) -> Iterator[tuple[ColumnDescription, NDArray[Any]]]:
        """Yield each column's description and values, in order."""
        for column in self.columns:
            yield column, self.data[column.name]

    def to_qtable(self) -> QTable:
        """Return an astropy ``QTable``: quantities with units, descriptions, metadata.

        Types are kept: integers with a unit stay integers. A unit that astropy does not know is kept as text on a
        plain column.
        """
        from astropy.table import Column, QTable
        from astropy.units import Quantity, Unit, UnrecognizedUnit

        made: dict[str, Any] = {}
        for column, values in self.described():
            unit = Unit(column.unit, format="fits", parse_strict="silent") if column.unit else None
            if unit is None or isinstance(unit, UnrecognizedUnit):
                made[column.name] = Column(values, unit=unit)
            else:
                made[column.name] = Quantity(values, unit, dtype=values.dtype)
            made[column.name].info.description = column.doc or None
        return QTable(made, meta=dict(self.metadata))

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas ``DataFrame``; units, descriptions and metadata are in its ``attrs``.

        A column with further axes becomes one column for each element: ``shape_0``, ``shape_1``, ...

        Raises
        ------
        MissingPackageError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingPackageError(what="a DataFrame", package="pandas", extra="parquet") from error
        made: dict[str, NDArray[Any]] = {}
        for column, values in self.described():
            if values.ndim == 1:
                made[column.name] = values
                continue
            flat = values.reshape(len(values), math.prod(values.shape[1:]))
            made.update({f"{column.name}_{number}": flat[:, number] for number in range(flat.shape[1])})
        frame = pd.DataFrame(made)
        frame.attrs.update(
            metadata=dict(self.metadata),
            units={column.name: column.unit for column in self.columns if column.unit},
            descriptions={column.name: column.doc for column in self.columns if column.doc},
        )
        return frame

    def to_arrow(self) -> pa.Table:
        """Return a pyarrow ``Table``, without copying numbers.

        Fields carry ``unit`` and ``description``; the schema carries ``streamchar``, the metadata and aliases as
        JSON, and what astropy needs to read it back as a ``QTable``. A column with further axes becomes one of flat
        lists of fixed size, ``shape`` in its metadata. NaN stays NaN and is not null.

        Raises
        ------
        MissingPackageError
            pyarrow is not installed.
        """
        pa = import_pyarrow()
        fields, arrays = [], []
        for column, values in self.described():
            array = pa.array(np.ascontiguousarray(values).reshape(-1))
            about = {"unit": column.unit} if column.unit else {}
            about["description"] = column.doc
            if values.ndim > 1:
                array = pa.FixedSizeListArray.from_arrays(array, math.prod(values.shape[1:]))
                about["shape"] = json.dumps(values.shape[1:])
            fields.append(pa.field(column.name, array.type, nullable=False, metadata=about))
            arrays.append(array)
        about = {
            "streamchar": json.dumps({"metadata": dict(self.metadata), "aliases": dict(self.aliases)}),
            "table_meta_yaml": self._astropy_header(),
        }
        about |= {
            f"table::len::{column.name}": str(np.dtype(column.dtype).itemsize // 4)
            for column in self.columns
            if "U" in column.dtype
        }
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=about))

    def _astropy_header(self) -> str:
        """Describe the columns the way astropy writes them into Parquet files. JSON is YAML, and fast to write."""
        import yaml

        datatype = [
            {
                "name": column.name,
                **({"unit": column.unit} if column.unit else {}),
                "datatype": "string" if "U" in column.dtype else np.dtype(column.dtype).name,
                **({"description": column.doc} if column.doc else {}),
            }
            for column in self.columns
        ]
        metadata = {name: _plain(value) for name, value in self.metadata.items()}
        text = yaml.safe_dump(metadata, default_flow_style=True, sort_keys=False, width=1 << 20)
        return f"{{datatype: {json.dumps(datatype)}, meta: {text.strip()}}}"

    def to_parquet(self) -> bytes:
        """Return the table as a Parquet file, compressed with zstd; the same table gives the same bytes.

        Read it with ``pandas.read_parquet``, ``pyarrow.parquet.read_table``, DuckDB, or with units by
        ``astropy.table.QTable.read(path, format="parquet")``.

        Raises
        ------
        MissingPackageError
            pyarrow is not installed.
        """
        return parquet_bytes(self.to_arrow())

    def to_fits(self) -> HDUList:
        """Return a FITS binary table: units in ``TUNITn``, meanings in ``TCOMMn``, aliases in ``ALIASn``.

        Metadata go into the header of the table under their own names; lists are written as text. What is not ASCII
        in text becomes question marks: FITS has no other characters.
        """
        from astropy.io import fits

        made = []
        for column, values in self.described():
            letter, zero = _fits_format(column.dtype)
            shape = values.shape[1:]
            made.append(
                fits.Column(
                    column.name,
                    f"{math.prod(shape)}{letter}" if shape else letter,
                    unit=column.unit or None,
                    bzero=zero,
                    dim=f"({','.join(str(length) for length in reversed(shape))})"
                    if len(shape) > 1
                    else None,
                    array=np.char.encode(values, "ascii", "replace") if values.dtype.kind == "U" else values,
                )
            )
        hdu = fits.BinTableHDU.from_columns(made, name="SOURCES")
        for number, column in enumerate(self.columns, start=1):
            hdu.header[f"TCOMM{number}"] = column.doc
        for number, (alias, target) in enumerate(sorted(self.aliases.items()), start=1):
            hdu.header[f"ALIAS{number}"] = f"{alias}={target}"
        for name, value in self.metadata.items():
            _add_card(hdu.header, name, value)
        return fits.HDUList([fits.PrimaryHDU(), hdu])

    def to_votable(self) -> VOTableFile:
        """Return a VOTable: units and descriptions of its fields, metadata as ``INFO`` elements.

        Integers of types it lacks become the next larger ones, and columns of more than one further axis flat lists.

        Raises
        ------
        UnrepresentableError
            Unsigned integers of eight bytes that exceed the largest signed one.
        """
        from astropy.io.votable import from_table
        from astropy.io.votable.tree import Info
        from astropy.table import Table
        from astropy.units import Unit, UnrecognizedUnit

        table = Table(meta={})
        for column, values in self.described():
            kind = _VOTABLE_TYPES.get(values.dtype.str)
            if kind is not None and values.size and values.max() > np.iinfo(kind).max:
                raise UnrepresentableError(column=column.name, dtype=column.dtype, format="a VOTable")
            plain = values if kind is None else values.astype(kind)
            table[column.name] = plain.reshape(len(values), -1) if values.ndim > 2 else plain
            table[column.name].description = column.doc or None
            unit = Unit(column.unit, format="fits", parse_strict="silent") if column.unit else None
            if isinstance(unit, UnrecognizedUnit):
                # The format allows no others.
                table[column.name].description = f"{column.doc} [{column.unit}]"
            else:
                table[column.name].unit = unit
        file = from_table(table)
        infos = file.resources[0].tables[0].infos
        for name, value in self.metadata.items():
            identifier = "meta_" + re.sub(r"[^A-Za-z0-9_]", "_", name)
            infos.append(Info(ID=identifier, name=name, value=_as_text(value)))
        return file

    def write(self, path: str | Path, file_format: FileFormat | None = None) -> Path:
        """Write a file; it appears whole or not at all, and replaces one of the same name.

        Parameters
        ----------
        path
            In an existing directory.
        file_format
            ``"parquet"``, ``"fits"``, ``"votable"`` or ``"ecsv"``; the name's suffix tells it otherwise.

        Raises
        ------
        UnknownFormatError
            The suffix is not known.
        MissingPackageError
            Parquet without pyarrow.
        UnrepresentableError
            See :meth:`to_votable`.
        """
        path = Path(path)
        chosen = file_format or SUFFIXES.get(path.suffix.lower())
        if chosen is None:
            raise UnknownFormatError(path=str(path), known=", ".join(SUFFIXES))
        content = self.to_bytes(chosen)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        return path

    def to_bytes(self, file_format: FileFormat) -> bytes:
        """Return the content of a file, see :meth:`write`."""
        if file_format == "parquet":
            return self.to_parquet()
        buffer = io.BytesIO()
        if file_format == "fits":
            self.to_fits().writeto(buffer)
        elif file_format == "votable":
            self.to_votable().to_xml(buffer, tabledata_format="binary2")
        else:
            text = io.StringIO()
            self.to_qtable().write(text, format="ascii.ecsv")
            buffer.write(text.getvalue().encode())
        return buffer.getvalue()


def _fits_format(dtype: str) -> tuple[str, int | None]:
    if dtype == "?":
        return "L", None
    kind = np.dtype(dtype)
    return (f"{kind.itemsize // 4}A", None) if kind.kind == "U" else _FITS_FORMATS[kind.str]


def parquet_bytes(table: pa.Table) -> bytes:
    """Write an Arrow table as Parquet: floating columns split into byte streams, all compressed with zstd.

    Units and descriptions are in the file's metadata, ``table_meta_yaml``. Arrow's own schema repeats them for each
    field and is three times as large as a small catalogue: it is kept only for columns that are lists.
    """
    pa = import_pyarrow()
    kinds = {field.name: field.type for field in table.schema}
    has_lists = any(pa.types.is_fixed_size_list(kind) for kind in kinds.values())
    sink = pa.BufferOutputStream()
    with pa.parquet.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        use_dictionary=[name for name, kind in kinds.items() if pa.types.is_string(kind)],
        column_encoding={
            name: "BYTE_STREAM_SPLIT" for name, kind in kinds.items() if pa.types.is_floating(kind)
        },
        store_schema=has_lists,
    ) as writer:
        writer.write_table(table)
        if not has_lists:
            writer.add_key_value_metadata(table.schema.metadata or {})
    return bytes(sink.getvalue())


def import_pyarrow() -> Any:
    """Return the module pyarrow, its Parquet part loaded.

    Raises
    ------
    MissingPackageError
        It is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError(what="Arrow and Parquet", package="pyarrow", extra="parquet") from error
    return pa


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(_plain(value))


def _add_card(header: Header, name: str, value: Any) -> None:
    """Keep one value in a FITS header; what a card cannot hold is written as ASCII text."""
    plain = _plain(value)
    if not isinstance(plain, str | int | float) or (isinstance(plain, float) and not math.isfinite(plain)):
        plain = _as_text(plain)
    if isinstance(plain, str):
        plain = re.sub(r"[^ -~]", " ", plain.encode("ascii", "backslashreplace").decode())
    keyword = re.sub(r"[^ -<>-~]", "_", name)[:_LONGEST_KEYWORD].upper()
    if keyword in header:
        keyword = f"META {keyword}"
    header[keyword if _PLAIN_KEYWORD.fullmatch(keyword) else f"HIERARCH {keyword}"] = plain
