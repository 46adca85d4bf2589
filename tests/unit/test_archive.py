"""A catalogue is one file, whole, under a name that follows from what it is; nothing is left of files that were not."""

from __future__ import annotations

import fcntl
import os

import boto3
import fsspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.table import QTable
from moto.server import ThreadedMotoServer

from streamchar.archive import INCOMING, Archive, StoreError, file_name, night_of, open_store, to_parquet
from streamchar.characterize.catalog import Column, flag
from streamchar.messages import ProductIdentity, Provenance, decode, encode_catalog
from streamchar.messages.catalog import Catalog

COLUMNS = [
    Column("id", "<i8", "", "identifier"),
    Column("flux", "<f8", "count", "flux"),
    flag("bad", "no good"),
]


def catalog(exposure=7, rows=5, instrument="DemoCam", mid_time=61071.1348, band="r", digest="ab", seed=0):
    flux = np.random.default_rng(seed).normal(size=rows)
    flux[:1] = np.nan
    messages = encode_catalog(
        COLUMNS,
        {"id": np.arange(rows), "flux": flux, "bad": np.isnan(flux)},
        identity=ProductIdentity(f"event {seed}", instrument, exposure, 3, "sha256:" + digest * 32, band),
        provenance=Provenance(software_version="1"),
        metadata={"RADII": [3.0, 4.5]},
        mid_time=mid_time,
    )
    *chunks, manifest = (decode(message.value) for message in messages)
    return Catalog.from_chunks(manifest, chunks)


@pytest.mark.parametrize(
    ("mid_time", "night"),
    [
        (61071.1348, "2026-01-30"),
        (61071.4999, "2026-01-30"),
        (61071.5001, "2026-01-31"),
        (None, "unknown"),
        (1e300, "unknown"),
    ],
)
def test_a_night_has_the_date_at_which_it_began(mid_time, night):
    assert night_of(mid_time) == night


def test_names_follow_from_what_a_catalogue_is():
    name = file_name(catalog())
    assert name.startswith("night=2026-01-30/instrument=DemoCam/7-003-")
    assert name == file_name(catalog(seed=1))
    others = [catalog(exposure=8), catalog(instrument="Other"), catalog(digest="cd")]
    assert len({name, *map(file_name, others)}) == 4


def test_strange_names_of_instruments_stay_one_folder():
    assert "/instrument=a%3Db%25 %C3%A4..%5C/" in file_name(catalog(instrument="a=b% ä..\\"))


def test_the_file_holds_the_catalogue_bit_by_bit_with_its_identity(tmp_path):
    sent = catalog()
    archive = Archive(open_store(str(tmp_path)))
    path = tmp_path / archive.add(sent)
    read = pq.read_table(path, partitioning=None)
    assert read.column_names == ["exposure", "detector", "band", "id", "flux", "bad"]
    assert read["flux"].to_numpy().tobytes() == sent["flux"].tobytes()
    assert set(read["exposure"].to_pylist()) == {7}
    assert set(read["detector"].to_pylist()) == {3}
    assert set(read["band"].to_pylist()) == {"r"}
    table = QTable.read(path)
    assert str(table["flux"].unit) == "ct"
    assert table["bad"].info.description == "no good"
    assert table.meta["RADII"] == [3.0, 4.5]
    assert (archive.catalogs, archive.sources, archive.size) == (1, 5, path.stat().st_size)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pandas")
def test_the_archive_is_read_as_one_table(tmp_path):
    archive = Archive(open_store(f"file://{tmp_path}"))
    for exposure, rows in ((1, 3), (2, 0), (3, 4)):
        archive.add(catalog(exposure, rows, mid_time=61071.0 + exposure))
    archive.add(catalog(4, 2, instrument="Other", mid_time=None, band=None))
    frame = pd.read_parquet(tmp_path)
    assert len(frame) == 9
    counted = frame.groupby(["instrument", "exposure"], observed=True).size()
    assert counted.to_dict() == {("DemoCam", 1): 3, ("DemoCam", 3): 4, ("Other", 4): 2}
    assert set(frame["night"]) == {"2026-01-31", "2026-02-02", "unknown"}


def test_the_same_catalogue_again_replaces_itself(tmp_path):
    archive = Archive(open_store(str(tmp_path)))
    path = tmp_path / archive.add(catalog())
    before = path.read_bytes()
    archive.add(catalog())
    assert path.read_bytes() == before == to_parquet(catalog())
    archive.add(catalog(rows=9, seed=4))
    assert [pq.read_metadata(found).num_rows for found in tmp_path.rglob("*.parquet")] == [9]
    assert list((tmp_path / INCOMING).iterdir()) == []


def test_leftovers_are_removed_but_not_what_is_being_written(tmp_path):
    incoming = tmp_path / INCOMING
    incoming.mkdir()
    (incoming / "dead.part").write_bytes(b"half")
    with (incoming / "alive.part").open("xb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        open_store(str(tmp_path))
        assert [path.name for path in incoming.iterdir()] == ["alive.part"]


def test_a_write_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
    store = open_store(str(tmp_path))
    store.put("night=x/a.parquet", b"old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="No space left"):
        store.put("night=x/a.parquet", b"new")
    assert (tmp_path / "night=x" / "a.parquet").read_bytes() == b"old"
    assert list((tmp_path / INCOMING).iterdir()) == []


def test_places_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        open_store(str(tmp_path / "file"))
    with pytest.raises(StoreError, match="nowhere"):
        open_store("nowhere://bucket/x")


@pytest.mark.filterwarnings("ignore")
def test_an_object_store(monkeypatch):
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="catalogues")
        archive = Archive(open_store("s3://catalogues/night"))
        name = archive.add(catalog())
        archive.add(catalog())
        found = client.list_objects_v2(Bucket="catalogues")["Contents"]
        assert [item["Key"] for item in found] == [f"night/{name}"]
        assert client.get_object(Bucket="catalogues", Key=f"night/{name}")["Body"].read() == to_parquet(
            catalog()
        )
        with pytest.raises(StoreError, match="missing"):
            open_store("s3://missing-bucket/x").put("a", b"1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        with pytest.raises(StoreError, match="credentials"):
            open_store("s3://catalogues/x").put("a", b"1")
    finally:
        server.stop()
