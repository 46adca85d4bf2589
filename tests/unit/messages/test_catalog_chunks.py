"""A catalogue comes back as it was, in chunks that fit."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.characterize.catalog import Column, Schema, SourceCatalog, flag
from streamchar.messages import (
    CatalogManifest,
    MessageTooLargeError,
    ProductIdentity,
    Provenance,
    decode,
    encode_catalog,
)
from streamchar.messages.assembly import CatalogAssembler
from streamchar.messages.catalog import Catalog
from tests.unit.messages.strategies import DTYPES, arrays

IDENTITY = ProductIdentity("event", "DemoCam", 42, 3, "sha256:" + "ab" * 32, band="r")
PROVENANCE = Provenance(software_version="1")
names = st.text(min_size=1, max_size=10)


def send(columns, data, **options):
    return encode_catalog(columns, data, identity=IDENTITY, provenance=PROVENANCE, **options)


def receive(messages):
    assembler = CatalogAssembler()
    found = []
    for offset, message in enumerate(messages):
        record = SimpleNamespace(
            topic="t", partition=0, offset=offset, value=message.value, headers=message.headers
        )
        found += assembler.feed(record, 0.0)
    (catalog,) = found
    assert isinstance(catalog, Catalog)
    return catalog


@st.composite
def catalogs(draw):
    rows = draw(st.integers(0, 60))
    found = draw(st.lists(names, unique=True, max_size=6))
    columns, data = [], {}
    for name in found:
        dtype = draw(st.sampled_from([*DTYPES, "?"]))
        columns.append(
            Column(
                name, dtype, "" if dtype == "?" else draw(st.sampled_from(["", "pixel", "adu"])), draw(names)
            )
        )
        if dtype == "?":
            data[name] = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), bool)
        else:
            data[name] = draw(arrays(dtype, (rows,)))
    return columns, data


@given(catalogs(), st.integers(4000, 8000))
@settings(max_examples=60)
def test_round_trip(catalog, limit):
    columns, data = catalog
    messages = send(columns, data, max_chunk_bytes=limit)
    assert all(len(message.value) <= limit for message in messages[:-1])
    received = receive(messages)
    assert list(received.columns) == list(data)
    for column in columns:
        assert received[column.name].dtype == np.dtype(column.dtype)
        assert received[column.name].tobytes() == data[column.name].tobytes()
    assert [(d.name, d.dtype, d.unit, d.doc) for d in received.descriptions] == [
        (c.name, c.dtype, c.unit, c.doc) for c in columns
    ]


def test_chunks_hold_all_rows_in_order():
    data = {"id": np.arange(5000), "noise": np.random.default_rng(1).random(5000)}
    messages = send(
        [Column("id", "<i8", "", ""), Column("noise", "<f8", "", "")], data, max_chunk_bytes=20_000
    )
    chunks = [decode(message.value) for message in messages]
    manifest = chunks.pop()
    assert isinstance(manifest, CatalogManifest)
    assert len(chunks) > 2
    assert sum(chunk.rows for chunk in chunks) == manifest.rows == 5000
    assert len({chunk.message_id for chunk in chunks}) == len(chunks)
    assert {message.key for message in messages} == {b"DemoCam/42/3"}
    np.testing.assert_array_equal(np.concatenate([chunk.arrays()["id"] for chunk in chunks]), data["id"])


def test_incompressible_values_stay_below_the_limit():
    random = np.random.default_rng(2)
    data = {f"column {n}": random.integers(0, 2**64, 20_000, np.uint64) for n in range(10)}
    messages = send([Column(name, "<u8", "", "") for name in data], data)
    assert max(len(message.value) for message in messages) <= 900_000
    assert len(receive(messages)) == 20_000


def test_the_same_catalogue_gives_the_same_bytes():
    data = {"a": np.arange(100.0)}
    first, second = (send([Column("a", "<f8", "", "")], data) for _ in range(2))
    assert [message.value for message in first] == [message.value for message in second]


def test_an_empty_catalogue_is_a_manifest():
    (message,) = send(
        [Column("a", "<f4", "adu", ""), flag("b", "")], {"a": np.empty(0, "f4"), "b": np.empty(0, bool)}
    )
    received = receive([message])
    assert len(received) == 0
    assert received["a"].dtype == np.float32


def test_columns_of_arrays():
    data = {"stamp": np.random.default_rng(3).random((7, 5, 5))}
    np.testing.assert_array_equal(
        receive(send([Column("stamp", "<f8", "", "")], data))["stamp"], data["stamp"]
    )


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"a": np.zeros(3)}, KeyError),
        ({"a": np.zeros(3), "b": np.zeros(3)}, ValueError),
        ({"a": np.zeros(3), "b": np.zeros(4, bool)}, ValueError),
        ({"a": np.zeros(3, "f4"), "b": np.zeros(3, bool)}, ValueError),
        ({"a": np.array(1.0), "b": np.zeros(3, bool)}, ValueError),
    ],
)
def test_data_that_does_not_fit_the_description(data, error):
    with pytest.raises(error):
        send([Column("a", "<f8", "", ""), flag("b", "")], data)


def test_a_row_that_does_not_fit():
    with pytest.raises(MessageTooLargeError):
        send([Column("a", "<f8", "", "")], {"a": np.zeros((2, 1000))}, max_chunk_bytes=8000)


def test_to_qtable():
    schema = Schema(
        (
            Column("id", "<i8", "", "unique identifier"),
            Column("base_PsfFlux_instFlux", "<f8", "count", "flux"),
            Column("base_PsfFlux_area", "<f4", "pixel", "area"),
            Column("base_PsfFlux_npixels", "<i4", "pixel", "pixels"),
            Column("strange", "<f8", "furlong", "a unit nobody knows"),
            flag("base_PsfFlux_flag", "failed"),
        ),
        {"slot_PsfFlux": "base_PsfFlux"},
    )
    sources = SourceCatalog(schema, 4)
    sources["id"] = [1, 2, 3, 4]
    sources["base_PsfFlux_instFlux"] = [1.5, np.nan, np.inf, -0.0]
    sources["base_PsfFlux_flag"] = [False, True, False, False]
    messages = send(
        schema.columns,
        sources.columns,
        aliases=schema.aliases,
        metadata={"NOISE_SEED_MULTIPLIER": 1, "RADII": [3.0, 4.5]},
        mid_time=61071.5,
    )
    received = receive(messages)
    np.testing.assert_array_equal(received["slot_PsfFlux_instFlux"], sources["base_PsfFlux_instFlux"])
    assert "slot_PsfFlux_flag" in received
    assert "slot_PsfFlux_other" not in received
    table = received.to_qtable()
    assert table.colnames == [column.name for column in schema]
    for column in schema:
        values = getattr(table[column.name], "value", table[column.name])
        assert np.asarray(values).dtype == np.dtype(column.dtype)
        np.testing.assert_array_equal(np.asarray(values), sources[column.name])
        assert str(table[column.name].unit or "") == {"count": "ct", "pixel": "pix"}.get(
            column.unit, column.unit
        )
        assert table[column.name].info.description == column.doc
    assert table.meta["instrument"] == "DemoCam"
    assert table.meta["band"] == "r"
    assert table.meta["RADII"] == (3.0, 4.5)


def full_catalogue(rows=10_000):
    """All columns of the default configuration with the spread and noise of a real field.

    Only what the task itself never fills is NaN: celestial coordinates, and the stamp maximum of non-candidates.
    """
    random = np.random.default_rng(7)
    flux = 10 ** random.uniform(2.5, 5.5, rows)
    columns, data = [], {}

    def add(name, dtype, values, unit=""):
        columns.append(Column(name, dtype, unit, "what the column means, in a sentence of ordinary length"))
        data[name] = np.asarray(values).astype(dtype)

    def add_flags(prefix, *suffixes):
        for suffix in suffixes:
            add(f"{prefix}_flag{suffix}", "?", random.random(rows) < 0.02)

    def add_flux(name, radius):
        add(
            f"{name}_instFlux",
            "<f8",
            flux * (1 - np.exp(-(radius**2) / 8)) + random.normal(0, 20 * radius, rows),
            "count",
        )
        add(
            f"{name}_instFluxErr",
            "<f8",
            np.sqrt(flux + (20 * radius) ** 2 + random.normal(0, 50, rows)),
            "count",
        )

    add("id", "<i8", (123_456 << 32) + np.arange(rows))
    for name in ("coord_ra", "coord_dec"):
        add(name, "<f8", np.full(rows, np.nan), "rad")
    add("parent", "<i8", np.zeros(rows))
    for name in ("calib_psf_candidate", "calib_psf_used", "calib_psf_reserved"):
        add(name, "?", random.random(rows) < 0.02)
    for axis in "xy":
        add(f"base_SdssCentroid_{axis}", "<f8", random.uniform(0, 4096, rows), "pixel")
        add(f"base_SdssCentroid_{axis}Err", "<f4", random.uniform(0.5, 0.6, rows) * flux**-0.5, "pixel")
    centroid = (
        "",
        "_edge",
        "_noSecondDerivative",
        "_almostNoSecondDerivative",
        "_notAtMaximum",
        "_near_edge",
        "_resetToPeak",
        "_badError",
    )
    add_flags("base_SdssCentroid", *centroid)
    shape = "ext_shapeHSM_HsmSourceMoments"
    add_flags(
        shape,
        "",
        "_no_pixels",
        "_not_contained",
        "_parent_source",
        "_galsim",
        "_invalid_param",
        "_edge",
        "_no_psf",
    )
    for axis in ("x", "y", "xx", "yy", "xy"):
        add(
            f"{shape}_{axis}",
            "<f8",
            random.uniform(0, 4096, rows) if len(axis) == 1 else random.normal(4, 0.3, rows),
            "pixel",
        )
    for label in ("3_0", "4_5", "6_0", "9_0", "12_0", "17_0", "25_0", "35_0", "50_0", "70_0"):
        aperture = f"base_CircularApertureFlux_{label}"
        add_flux(aperture, float(label.replace("_", ".")))
        truncated = ("_sincCoeffsTruncated",) if float(label.replace("_", ".")) < 10 else ()
        add_flags(aperture, "", "_apertureTruncated", *truncated)
    add_flux("base_CompensatedTophatFlux_12", 12)
    add("base_CompensatedTophatFlux_12_mask_bits", "<i4", 1 << random.integers(0, 9, rows))
    add_flags("base_CompensatedTophatFlux_12", "", "_bounds")
    for name in ("base_GaussianFlux", "base_PsfFlux"):
        add_flux(name, 5)
        add_flags(name, "", "_noGoodPixels", "_edge", "_apCorr")
        add(f"{name}_apCorr", "<f8", random.normal(1.02, 0.004, rows))
        add(f"{name}_apCorrErr", "<f8", random.normal(0.002, 0.0001, rows))
    planes = ("edge", "nodata", "interpolated", "saturated", "cr", "bad", "suspect")
    add_flags(
        "base_PixelFlags",
        "",
        "_offimage",
        *(f"_{plane}{place}" for plane in planes for place in ("", "Center", "CenterAll")),
    )
    add("base_PsfFlux_area", "<f4", random.normal(50, 0.1, rows), "pixel")
    add("base_PsfFlux_chi2", "<f4", random.chisquare(1600, rows))
    add("base_PsfFlux_npixels", "<i4", np.full(rows, 1681), "pixel")
    add_flags("base_InvalidPsf", "")
    add_flux("base_NormalizedCompensatedTophatFlux", 12)
    add_flags("base_NormalizedCompensatedTophatFlux", "")
    for name in (
        "base_CircularApertureFlux_12_0",
        "base_CompensatedTophatFlux_12",
        "slot_CalibFlux",
        "base_GaussianFlux",
        "base_PsfFlux",
    ):
        add(f"apcorr_{name}_used", "?", random.random(rows) < 0.02)
    add("base_ClassificationExtendedness_value", "<f8", random.random(rows) > 0.5)
    add_flags("base_ClassificationExtendedness", "")
    add("base_FootprintArea_value", "<i4", random.integers(20, 2000, rows), "pixel")
    for name in ("coord_raErr", "coord_decErr", "coord_ra_dec_Cov"):
        add(name, "<f4", np.full(rows, np.nan))
    add("psf_max_value", "<f4", np.where(random.random(rows) < 0.02, flux, np.nan))
    return columns, data


def fits_file(data):
    from astropy.table import Table

    buffer = io.BytesIO()
    Table(dict(data)).write(buffer, format="fits")
    return buffer.getvalue()


def read_fits(file):
    from astropy.table import Table

    return Table.read(io.BytesIO(file), format="fits")


def test_a_full_catalogue_is_at_most_six_tenths_of_its_fits_table():
    columns, data = full_catalogue()
    messages = send(columns, data)
    assert max(len(message.value) for message in messages) <= 900_000
    assert sum(len(message.value) for message in messages) <= 0.6 * len(fits_file(data))
    received = receive(messages)
    assert all(received[name].tobytes() == values.tobytes() for name, values in data.items())


def cpu_seconds(action):
    start = time.process_time()
    made = action()
    return time.process_time() - start, made


@pytest.mark.bench
def test_cost_of_a_full_catalogue():
    """In turns with a FITS table, since a loaded machine makes everything dearer: 10 ms are so much where nothing else runs."""
    columns, data = full_catalogue()
    costs = []
    for _ in range(20):
        encode, messages = cpu_seconds(lambda: send(columns, data))
        decode, _ = cpu_seconds(lambda messages=messages: receive(messages))
        write, file = cpu_seconds(lambda: fits_file(data))
        read, _ = cpu_seconds(lambda file=file: read_fits(file))
        costs.append((encode, decode, write, read))
    encode, decode, write, read = 1e3 * np.min(costs, axis=0)
    size = sum(len(message.value) for message in messages)
    print(
        f"\n{len(columns)} columns x 10,000 rows, least CPU ms: encode {encode:.1f}, decode, verify and join {decode:.1f}; "
        f"write FITS {write:.1f}, read FITS {read:.1f}; {size:,} bytes, {size / len(file):.3f} of FITS"
    )
    assert encode <= write / 8
    assert decode <= read / 5
