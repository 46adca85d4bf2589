"""What goes into another library's table or a file comes back: values, types, units, meanings, metadata."""

from __future__ import annotations

import builtins
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.table import QTable, Table

from streamchar.characterize.catalog import Column, flag
from streamchar.errors import MissingPackageError
from streamchar.tables import DescribedTable, UnknownFormatError, UnrepresentableError

KINDS = ["|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8"]
METADATA = {
    "instrument": "Demo Cäm",
    "exposure": 2026013100042,
    "exposure_time": 1e-05,
    "config_digest": "sha256:" + "ab" * 32,
    "RADII": (3.0, 4.5),
    "NAXIS": 7,
    "an odd = name of more than sixty characters, which some formats may not like": "two\nlines",
}
COLUMNS = (
    *(Column(kind[1:], kind, "count" if kind[1] == "f" else "", f"values of {kind}") for kind in KINDS),
    flag("bad", "the flux could not be measured"),
    Column("moments", "<f8", "pixel^2", "xx, yy and xy"),
    Column("night", "<U10", "", "text"),
    Column("stamp", "<f4", "adu", "an image of each source"),
)


def extremes(kind):
    if kind[1] == "f":
        return np.array([np.nan, np.inf, -0.0, np.finfo(kind).tiny, np.pi], kind)
    limits = np.iinfo(kind)
    return np.array([limits.min, limits.max, 0, 1, 2], kind)


def make(rows=5):
    random = np.random.default_rng(5)
    data = {column.name: extremes(column.dtype)[:rows] for column in COLUMNS[: len(KINDS)]}
    data["bad"] = np.array([True, False, False, True, True])[:rows]
    data["night"] = np.array(["2026-01-30", "q", "w", "x", "y"])[:rows].astype("<U10")
    data["moments"] = random.normal(size=(rows, 3))
    data["stamp"] = random.normal(size=(rows, 2, 4)).astype("<f4")
    return DescribedTable(COLUMNS, data, METADATA, {"slot": "base"})


def plain(column):
    """Bits of a column, whatever holds it."""
    if isinstance(column, np.ma.MaskedArray) or hasattr(column, "unmasked"):
        column = column.unmasked if hasattr(column, "unmasked") else column.data
    return np.asarray(getattr(column, "value", column))


def assert_same(values, expected):
    values = np.asarray(values)
    assert values.dtype.newbyteorder("=") == expected.dtype
    assert values.astype(expected.dtype).tobytes() == expected.tobytes()


@pytest.mark.parametrize("rows", [5, 1, 0])
def test_astropy(rows):
    table = make(rows)
    made = table.to_qtable()
    assert isinstance(made, QTable)
    assert made.meta == METADATA
    for column, values in table.described():
        assert_same(plain(made[column.name]), values)
        assert made[column.name].shape == values.shape
        assert made[column.name].info.description == column.doc
    assert str(made["f8"].unit) == "ct"
    assert str(made["moments"].unit) == "pix2"


@pytest.mark.parametrize("rows", [5, 1, 0])
def test_pandas(rows):
    table = make(rows)
    frame = table.to_pandas()
    assert len(frame) == rows
    for name in [kind[1:] for kind in KINDS] + ["bad"]:
        assert_same(frame[name].to_numpy(), table.data[name])
    for number in range(3):
        assert_same(frame[f"moments_{number}"].to_numpy(), table.data["moments"][:, number].copy())
    assert_same(frame["stamp_7"].to_numpy(), table.data["stamp"][:, 1, 3].copy())
    assert frame.attrs["units"]["moments"] == "pixel^2"
    assert frame.attrs["descriptions"]["bad"] == "the flux could not be measured"
    assert frame.attrs["metadata"] == METADATA


@pytest.mark.parametrize("rows", [5, 1, 0])
def test_parquet_by_arrow(tmp_path, rows):
    table = make(rows)
    read = pq.read_table(table.write(tmp_path / "table.parquet"))
    assert read.column_names == [column.name for column in COLUMNS]
    for column, values in table.described():
        field, found = read.schema.field(column.name), read[column.name].combine_chunks()
        assert field.metadata.get(b"unit", b"").decode() == column.unit
        assert field.metadata[b"description"].decode() == column.doc
        assert found.null_count == 0
        if values.ndim > 1:
            assert json.loads(field.metadata[b"shape"]) == list(values.shape[1:])
            found = found.flatten()
        found = found.to_numpy(zero_copy_only=False)
        assert_same(
            found.astype(values.dtype) if column.name == "night" else found.reshape(values.shape), values
        )
    assert_described(read)


def assert_described(read):
    about = json.loads(read.schema.metadata[b"streamchar"])
    assert about == {"metadata": {**METADATA, "RADII": [3.0, 4.5]}, "aliases": {"slot": "base"}}


def test_parquet_without_lists_is_small_and_still_described(tmp_path):
    table = make()
    columns = [column for column in COLUMNS if table.data[column.name].ndim == 1]
    flat = DescribedTable(columns, table.data, table.metadata, table.aliases)
    path = flat.write(tmp_path / "flat.parquet")
    assert_described(pq.read_table(path))
    read = QTable.read(path)
    assert_read_by_astropy(read, flat)
    assert [read[column.name].info.description for column in columns] == [column.doc for column in columns]
    assert path.stat().st_size < table.write(tmp_path / "lists.parquet").stat().st_size / 2


def test_parquet_is_the_same_for_the_same_table():
    assert make().to_parquet() == make().to_parquet()


def assert_read_by_astropy(read, table, *, flat_stamps=False):
    for column, values in table.described():
        found = read[column.name]
        if column.unit:
            assert found.unit == table.to_qtable()[column.name].unit
        expected = values.reshape(len(values), -1) if column.name == "stamp" and flat_stamps else values
        found = plain(found).astype(str) if expected.dtype.kind == "U" else plain(found)
        np.testing.assert_array_equal(found, expected)
        assert {found.dtype.kind, expected.dtype.kind} in ({"i", "u"}, {expected.dtype.kind})
    assert read["bad"].dtype == bool


def test_parquet_by_astropy(tmp_path):
    table = make()
    read = QTable.read(table.write(tmp_path / "table.parquet"))
    assert_read_by_astropy(read, table, flat_stamps=True)
    assert read["f8"].info.description == "values of <f8"
    assert read.meta == {**METADATA, "RADII": [3.0, 4.5]}


def test_fits(tmp_path):
    table = make()
    path = table.write(tmp_path / "table.fits")
    assert_read_by_astropy(QTable.read(path), table)
    header = fits.getheader(path, 1)
    assert header["TCOMM11"] == "the flux could not be measured"
    assert header["TUNIT12"] == "pixel^2"
    assert header["ALIAS1"] == "slot=base"
    assert header["CONFIG_DIGEST"] == METADATA["config_digest"]
    assert header["NAXIS"] == 2
    assert header["META NAXIS"] == 7
    with fits.open(path) as file:
        file.verify("exception")
        np.testing.assert_array_equal(file[1].data["f8"], table.data["f8"])


def test_votable(tmp_path):
    table = make()
    table.data["u8"][1] = 7
    path = table.write(tmp_path / "table.vot")
    parsed = votable.parse(path, verify="exception").get_first_table()
    assert_read_by_astropy(QTable(parsed.to_table()), table, flat_stamps=True)
    fields = {field.name: field for field in parsed.fields}
    assert fields["bad"].description == "the flux could not be measured"
    assert fields["bad"].datatype in ("bit", "boolean")
    assert {info.name: info.value for info in parsed.infos}["exposure"] == "2026013100042"


def test_votable_has_no_unsigned_numbers_of_eight_bytes():
    with pytest.raises(UnrepresentableError, match="u8"):
        make().to_votable()


def test_ecsv(tmp_path):
    table = make()
    read = QTable.read(table.write(tmp_path / "table.ecsv"))
    assert_read_by_astropy(read, table)
    assert read.meta["RADII"] == METADATA["RADII"]


def test_a_unit_nobody_knows_is_kept():
    table = DescribedTable((Column("a", "<f8", "furlong", "length"),), {"a": np.ones(2)})
    assert str(table.to_qtable()["a"].unit) == "furlong"
    assert table.to_fits()[1].header["TUNIT1"] == "furlong"
    assert "furlong" in table.to_votable().get_first_table().fields[0].description
    assert table.to_arrow().schema.field("a").metadata[b"unit"] == b"furlong"


def test_no_columns_at_all(tmp_path):
    table = DescribedTable((), {})
    assert len(table.to_qtable()) == len(table.to_pandas()) == table.to_arrow().num_rows == 0
    for suffix in ("parquet", "fits", "vot"):
        assert table.write(tmp_path / f"empty.{suffix}").stat().st_size > 0


def test_a_file_replaces_another_whole_or_not_at_all(tmp_path):
    path = tmp_path / "table.parquet"
    path.write_text("before")
    broken = DescribedTable(COLUMNS[:1], {"u1": np.zeros(2, complex)})
    with pytest.raises(pa.ArrowNotImplementedError):
        broken.write(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    make().write(path)
    assert Table.read(path).colnames[0] == "u1"


def test_an_unknown_kind_of_file():
    with pytest.raises(UnknownFormatError, match=r"table\.txt.*\.parquet"):
        make().write("table.txt")
    assert make().to_bytes("fits")[:6] == b"SIMPLE"
    assert fits.open(io.BytesIO(make().to_bytes("fits")))[1].header["NAXIS2"] == 5


@pytest.mark.parametrize(
    ("package", "convert"), [("pyarrow", "to_arrow"), ("pandas", "to_pandas"), ("pyarrow", "to_parquet")]
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package, convert):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=rf"{package}.*pip install 'streamchar\[parquet\]'"):
        getattr(make(), convert)()
