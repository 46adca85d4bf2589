"""Catalogues are put together whatever the order, the repeats and the losses; nothing is dropped in silence."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.characterize.catalog import Column
from streamchar.messages import (
    CatalogChunk,
    CatalogManifest,
    IncompleteCatalogError,
    MalformedMessageError,
    MessageError,
    MessageTooLargeError,
    ProductIdentity,
    Provenance,
    PsfModel,
    encode_catalog,
    encode_psf_model,
)
from streamchar.messages.assembly import CatalogAssembler, Memory, PsfAssembler
from streamchar.messages.catalog import Catalog
from streamchar.messages.catalog_chunks import combined_digest, digest_of
from streamchar.messages.codec import pack
from streamchar.messages.columns import FlagBlock, pack_array
from streamchar.messages.errors import IncompletePsfError
from streamchar.messages.examples import make_examples
from streamchar.messages.source_catalog import CatalogColumn, ChunkDescription

PART = ("catalogs", 0)


def parts(exposure=1, rows=1200, seed=0, outcome=None, **identity):
    """Chunks and manifest of a catalogue that takes several chunks."""
    noise = np.random.default_rng(seed).random(rows)
    who = ProductIdentity(
        **{
            "event_id": f"event {exposure}",
            "instrument": "DemoCam",
            "exposure": exposure,
            "detector": 0,
            "config_digest": "sha256:" + "ab" * 32,
            **identity,
        }
    )
    columns = [Column("id", "<i8", "", ""), Column("noise", "<f8", "", "")]
    data = {"id": np.arange(rows), "noise": noise}
    return encode_catalog(
        columns,
        data,
        identity=who,
        provenance=Provenance(software_version="1"),
        outcome=outcome,
        max_chunk_bytes=8000,
    )


class Feed:
    """Feeds encoded messages as records of one partition with growing offsets."""

    def __init__(self, assembler, partition=0):
        self.assembler = assembler
        self.partition = partition
        self.offsets = itertools.count()
        self.now = 0.0

    def __call__(self, *messages):
        found = []
        for message in messages:
            value = message if isinstance(message, bytes) else message.value
            record = SimpleNamespace(
                topic="catalogs", partition=self.partition, offset=next(self.offsets), value=value, headers=()
            )
            found += self.assembler.feed(record, self.now)
        return found


@pytest.fixture
def assembler():
    return CatalogAssembler(timeout=60)


@pytest.fixture
def feed(assembler):
    return Feed(assembler)


def test_a_catalogue_is_complete_with_its_last_part(assembler, feed):
    messages = parts()
    assert len(messages) > 3
    assert feed(*messages[:-1]) == []
    assert assembler.pending_bytes > 0
    (catalog,) = feed(messages[-1])
    assert isinstance(catalog, Catalog)
    np.testing.assert_array_equal(catalog["id"], np.arange(1200))
    assert assembler.pending_bytes == 0
    assert assembler.oldest_needed_offset(PART) is None


@given(st.permutations(range(len(parts()))), st.lists(st.integers(0, len(parts()) - 1), max_size=6))
@settings(max_examples=50)
def test_any_order_and_any_repeats_give_it_once(order, repeats):
    messages = parts()
    feed = Feed(CatalogAssembler())
    found = feed(*(messages[n] for n in [*order[:3], *repeats, *order[3:], *repeats]))
    assert [type(item) for item in found] == [Catalog]


@given(st.lists(st.integers(0, 2), min_size=3, max_size=60))
@settings(max_examples=50)
def test_interleaved_catalogues(turns):
    queues = [parts(exposure, seed=exposure) for exposure in range(3)]
    expected = [len(queue) for queue in queues]
    assembler = CatalogAssembler()
    feed, found, taken = Feed(assembler), [], [0, 0, 0]
    first = {}
    for offset, turn in enumerate([*turns, *(n for n in range(3) for _ in range(expected[n]))]):
        if taken[turn] == expected[turn]:
            feed(b"")
            continue
        first.setdefault(turn, offset)
        found += feed(queues[turn][taken[turn]])
        taken[turn] += 1
        pending = [first[n] for n in first if taken[n] < expected[n]]
        assert assembler.oldest_needed_offset(PART) == min(pending, default=None)
    assert sorted(catalog.manifest.exposure for catalog in found) == [0, 1, 2]


def test_a_redelivery_made_of_other_bytes(feed):
    first, second = parts(seed=1), parts(seed=2)
    (catalog,) = feed(*first[:2], *second)
    np.testing.assert_array_equal(catalog["noise"], np.random.default_rng(2).random(1200))


def test_another_configuration_is_another_catalogue(feed):
    assert len(feed(*parts(), *parts(config_digest="sha256:" + "cd" * 32))) == 2


def test_partitions_are_kept_apart(assembler):
    left, right = Feed(assembler, 0), Feed(assembler, 1)
    left(*parts(1)[:2])
    right(b"", *parts(2)[:2])
    assert assembler.oldest_needed_offset(("catalogs", 0)) == 0
    assert assembler.oldest_needed_offset(("catalogs", 1)) == 1
    assembler.drop(("catalogs", 0))
    assert assembler.oldest_needed_offset(("catalogs", 0)) is None
    assert assembler.oldest_needed_offset(("catalogs", 1)) == 1


def test_an_incomplete_catalogue_is_reported_after_a_while(assembler, feed):
    messages = parts()
    feed(messages[0], *messages[2:])
    assert assembler.expire(59.0) == []
    (problem,) = assembler.expire(60.0)
    assert isinstance(problem, IncompleteCatalogError)
    assert "DemoCam/1/0" in str(problem)
    assert "missing chunks: 1" in str(problem)
    assert assembler.pending_bytes == 0
    assert assembler.expire(1000.0) == []


def test_it_is_delivered_when_it_comes_again_whole(assembler, feed):
    feed(*parts()[:2])
    assembler.expire(60.0)
    assert [type(item) for item in feed(*parts())] == [Catalog]


def test_a_new_part_gives_more_time(assembler, feed):
    messages = parts()
    feed(messages[0])
    feed.now = 50.0
    feed(messages[1])
    assert assembler.expire(100.0) == []


def test_memory_is_bounded():
    assembler = CatalogAssembler(max_pending_bytes=50_000)
    feed, problems = Feed(assembler), []
    for exposure in range(40):
        feed.now += 1
        problems += feed(*parts(exposure)[:2])
        assert assembler.pending_bytes <= 50_000
    assert "DemoCam/0/0" in str(problems[0])
    assert "too much is pending" in str(problems[0])
    assert len(problems) > 30


def test_repeats_are_recognised_within_a_bounded_memory():
    memory = Memory(3)
    for number in range(5):
        memory.add(number)
    assert [number in memory for number in range(5)] == [False, False, True, True, True]


def test_a_catalogue_whose_manifest_says_that_it_is_not_wanted_is_forgotten():
    def wanted(message):
        return getattr(message, "outcome", "succeeded") == "succeeded"

    assembler = CatalogAssembler(wanted=wanted, timeout=1.0)
    feed = Feed(assembler)
    assert list(feed(*parts(1, outcome="degraded"))) == []
    assert assembler.pending_bytes == 0
    assert assembler.expire(1e9) == []
    assert assembler.oldest_needed_offset(PART) is None
    (catalog,) = feed(*parts(2, outcome="succeeded"))
    assert catalog.metadata["outcome"] == "succeeded"


def psf_parts(exposure=1, version="1", count=6):
    psf = np.random.default_rng(exposure).normal(size=(count, 21, 21))
    model = PsfModel(
        **ProductIdentity(f"event {exposure}", "DemoCam", exposure, 0, "sha256:" + "ab" * 32).fields(),
        kind="psfex",
        width=11,
        height=11,
        sampling=0.5,
        resampling="lanczos4",
        x_powers=(0, 1, 2, 0, 1, 0),
        y_powers=(0, 0, 0, 1, 1, 2),
        provenance=Provenance(software_version=version),
    )
    return encode_psf_model(model, {"basis": psf}, max_chunk_bytes=24_000)


@given(st.permutations(range(6)), st.integers(0, 5))
@settings(max_examples=20)
def test_psf_models_come_whole_and_once(order, repeated):
    first, second = psf_parts(1), psf_parts(2)
    assert len(first) == len(second) == 3
    records = [*first, *second]
    feed = Feed(PsfAssembler())
    found = feed(*(records[number] for number in order), records[repeated], *first)
    assert sorted(psf.key for psf in found) == ["DemoCam/1/0", "DemoCam/2/0"]
    assert all(psf.kernel_images(3.0, 4.0).shape == (1, 11, 11) for psf in found)
    assert feed.assembler.pending_bytes == 0


def test_an_incomplete_psf_model_is_reported():
    assembler = PsfAssembler(timeout=5.0)
    assert list(Feed(assembler)(*psf_parts()[:-1])) == []
    (problem,) = assembler.expire(100.0)
    assert isinstance(problem, IncompletePsfError)
    assert "missing parts: 2" in str(problem)
    assert assembler.pending_bytes == 0


def test_parts_made_by_different_software_are_not_mixed():
    old, new = psf_parts(version="1"), psf_parts(version="2")
    (psf,) = Feed(PsfAssembler())(*old[:2], *new)
    assert psf.model.provenance.software_version == "2"


def test_what_is_not_a_psf_model_is_reported():
    (problem,) = Feed(PsfAssembler())(*parts(1)[:1])
    assert "psf-model in this topic" in str(problem)


def test_unwanted_catalogues_are_not_kept():
    assembler = CatalogAssembler(wanted=lambda message: message.exposure == 2)
    (catalog,) = Feed(assembler)(*parts(1), *parts(2))
    assert catalog.manifest.exposure == 2
    assert assembler.pending_bytes == 0


def test_what_is_not_a_catalogue_is_reported(feed):
    found = feed(b"garbage", pack(make_examples()["psf-quality"]["full"]))
    assert all(isinstance(item, MessageError) for item in found)
    assert len(found) == 2


def test_a_changed_byte_is_noticed(assembler, feed):
    messages = parts()
    plain = msgpack.unpackb(messages[0].value)
    data = bytearray(plain["columns"][1]["data"])
    data[0] ^= 1
    plain["columns"][1]["data"] = bytes(data)
    assert feed(msgpack.packb(plain), *messages[1:]) == []
    (problem,) = assembler.expire(60.0)
    assert "missing chunks: 0" in str(problem)


def test_a_manifest_that_contradicts_itself(feed):
    messages = parts()
    plain = msgpack.unpackb(messages[-1].value)
    plain["digest"] = "sha256:" + "00" * 32
    (problem,) = feed(*messages[:-1], msgpack.packb(plain))
    assert isinstance(problem, IncompleteCatalogError)


@pytest.mark.parametrize("dtype", ["<f1", "<f2", "|O", ">f8", "<U8", "float64", "", "|f8"])
def test_a_manifest_with_a_type_no_column_can_have(feed, dtype):
    messages = parts()
    plain = msgpack.unpackb(messages[-1].value)
    plain["columns"][1]["dtype"] = dtype
    (problem,) = feed(*messages[:-1], msgpack.packb(plain))
    assert isinstance(problem, MalformedMessageError)


def test_a_catalogue_is_bounded_as_a_whole(feed):
    """Forty chunks of 60 MB of zeros, each a few kilobytes on the wire."""
    rows, count = 2_000_000, 40
    who = ProductIdentity("event", "DemoCam", 1, 0, "sha256:" + "ab" * 32)
    blocks = tuple(pack_array(f"column {number}", np.zeros(rows)) for number in range(4))
    chunks = [
        CatalogChunk(
            **who.fields(), chunk=number, chunks=count, first_row=rows * number, rows=rows, columns=blocks,
            flags=FlagBlock(names=(), rows=rows, data=b""),
        )
        for number in range(count)
    ]  # fmt: skip
    values = [pack(chunk) for chunk in chunks]
    digests = [digest_of(value) for value in values]
    manifest = CatalogManifest(
        **who.fields(),
        rows=rows * count,
        chunks=tuple(
            ChunkDescription(
                chunk=n, first_row=rows * n, rows=rows, size_bytes=len(values[n]), digest=digests[n]
            )
            for n in range(count)
        ),
        columns=tuple(CatalogColumn(name=block.name, dtype="<f8") for block in blocks),
        digest=combined_digest(digests),
        provenance=Provenance(software_version="1"),
    )
    (problem,) = feed(*values, pack(manifest))
    assert isinstance(problem, MessageTooLargeError)


@pytest.mark.parametrize("change", [{"name": "other"}, {"dtype": "<f4"}, {"dtype": "?"}])
def test_a_manifest_that_contradicts_its_chunks(feed, change):
    messages = parts()
    plain = msgpack.unpackb(messages[-1].value)
    plain["columns"][1] |= change
    (problem,) = feed(*messages[:-1], msgpack.packb(plain))
    assert isinstance(problem, IncompleteCatalogError)
