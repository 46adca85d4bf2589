"""Real messages, mutated: only message errors come out, and memory stays bounded.

``STREAMCHAR_FUZZ_MESSAGES`` sets how many are tried (4,000 unless told) and ``STREAMCHAR_FUZZ_SEED`` the seed; the
promise is 100,000, which take some minutes::

    STREAMCHAR_FUZZ_MESSAGES=100000 .venv/bin/python -m pytest tests/unit/messages/test_fuzz.py -s --timeout 3600
"""

from __future__ import annotations

import copy
import json
import os
import random
import resource
from pathlib import Path

import msgpack
import numpy as np
import pytest

from streamchar.messages import MessageError, PsfModel, decode, decode_exposure_ready
from streamchar.messages.assembly import CatalogAssembler, PsfAssembler
from streamchar.messages.codec import pack
from streamchar.messages.examples import make_examples
from streamchar.messages.psf_conversion import PublishedPsf
from streamchar.messages.source_catalog import CatalogChunk

COUNT = int(os.environ.get("STREAMCHAR_FUZZ_MESSAGES", "4000"))
SEED = int(os.environ.get("STREAMCHAR_FUZZ_SEED", "20260131"))
MEMORY_LIMIT = 300 * 2**20

MESSAGES = [message for group in make_examples().values() for message in group.values()]
PACKED = [pack(message) for message in MESSAGES]
AS_JSON = [json.dumps(message.model_dump(mode="json", exclude_none=True)).encode() for message in MESSAGES]
JSON_HEADERS = [("content-type", b"application/json")]

EXTREMES = [
    None, True, -1, 0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, -(2**63), 1e308, -1e308, 5e-324, float("nan"), float("inf"),
    "", "x" * 5000, "\x00", "\ud83d\ude00", "sha256:", "2026-01-31", "9999-12-31T23:59:59-23:59", b"", b"\x00" * 4096,
    b"\x28\xb5\x2f\xfd" + b"\xff" * 20, [], [[]], {}, [0] * 5000, {"a": {}}, [2**62, 2**62], [1, -1], [[1]] * 100,
]  # fmt: skip
TOKENS = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01",
          b"\xdc\x0f\xff", b"\x91" * 600, b"\xc1", b"\xc0", b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"]  # fmt: skip


def mutate_bytes(value, generator):
    """Flip, cut, repeat, insert or splice bytes."""
    data = bytearray(value)
    for _ in range(generator.choice((1, 1, 1, 2, 5, 20))):
        at = generator.randrange(len(data) + 1)
        length = generator.choice((1, 2, 4, 16, 100))
        kind = generator.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << generator.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = generator.choice((0, 1, 0x7F, 0x80, 0xC1, 0xFF))
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length] * generator.choice((1, 3))
        elif kind == 4:
            data[at : at + generator.choice((0, 1, 5))] = generator.choice(TOKENS)
        else:
            other = generator.choice(PACKED)
            start = generator.randrange(len(other))
            data[at : at + length] = other[start : start + length]
        if not data:
            break
    return bytes(data)


def places(plain, found=None):
    """Every container and key of a decoded message."""
    found = [] if found is None else found
    items = plain.items() if isinstance(plain, dict) else enumerate(plain)
    for key, value in items:
        found.append((plain, key))
        if isinstance(value, dict | list):
            places(value, found)
    return found


def mutate_structure(value, generator):
    """Replace, remove, swap or add fields, and pack again."""
    plain = msgpack.unpackb(value)
    for _ in range(generator.choice((1, 1, 2, 4))):
        known = places(plain)
        container, key = generator.choice(known)
        other, other_key = generator.choice(known)
        kind = generator.randrange(5)
        if kind == 0:
            container[key] = copy.deepcopy(generator.choice(EXTREMES))
        elif kind == 1:
            del container[key]
        elif kind == 2 and isinstance(container[key], bytes) and container[key]:
            container[key] = mutate_bytes(container[key], generator)
        elif kind == 3 and isinstance(container[key], int):
            container[key] += generator.choice((-1, 1, 2**20))
        else:
            container[key] = json.loads(json.dumps(other[other_key], default=lambda _: "bytes"))
        if not plain:
            break
    try:
        return msgpack.packb(plain)
    except (ValueError, OverflowError):
        return value


def use(value, headers):
    """Decode a message and everything in it, as a service or a subscriber would."""
    message = decode(value, headers)
    if isinstance(message, CatalogChunk):
        message.arrays()
    elif isinstance(message, PsfModel):
        psf = PublishedPsf.from_parts([message])
        with np.errstate(all="ignore"):
            psf.kernel_images(5.0, 1e9)
    pack(message)


class Record:
    topic, partition, headers = "catalogs", 0, ()

    def __init__(self, offset, value):
        self.offset, self.value = offset, value


@pytest.fixture
def bounded_memory():
    """Refuse more address space than the promise, so that a defect fails here instead of taking the machine down."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2 * MEMORY_LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_mutated_messages_give_message_errors_only(bounded_memory):
    generator = random.Random(SEED)
    assemblers = [CatalogAssembler(max_pending_bytes=10**6), PsfAssembler(max_pending_bytes=10**6)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = longest = 0
    for number in range(COUNT):
        index = generator.randrange(len(PACKED))
        kind, headers = generator.randrange(3), []
        if kind == 0:
            value = mutate_bytes(PACKED[index], generator)
        elif kind == 1:
            value = mutate_structure(PACKED[index], generator)
        else:
            value, headers = mutate_bytes(AS_JSON[index], generator), JSON_HEADERS
        for read in (use, decode_exposure_ready):
            try:
                read(value, headers)
            except MessageError as error:
                refused += 1
                longest = max(longest, len(str(error)))
        for assembler in assemblers:
            assembler.feed(Record(number, value), 0.0)
            if number % 1000 == 999:
                assembler.expire(1e9)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(
        f"\n{COUNT} mutated messages (seed {SEED}): {refused} of {2 * COUNT} readings refused, grown by {grown / 2**20:.0f} MiB"
    )
    assert refused > COUNT
    assert longest < 2000
    assert grown < MEMORY_LIMIT
