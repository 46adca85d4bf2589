"""Jobs without pixels for the tests of the stream: they obey a little JSON in the event."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from streamchar.image.errors import FileMissingError
from streamchar.stream.job import Assignment, Job, JobResult, Message, MetricDelta

DIGEST = "sha256:" + "0" * 64


def read(settings: Mapping[str, Any], assignment: Assignment) -> tuple[dict[str, Any], dict[str, Any]]:
    """The event and what it orders; the attempt is noted in ``settings["journal"]``."""
    announced = json.loads(assignment.value)
    order = json.loads(announced["uri"].removeprefix("stub:")) if "uri" in announced else announced
    if journal := settings.get("characterize", settings).get("journal"):
        note = {
            "pid": os.getpid(),
            "time": time.time(),
            "attempt": assignment.attempt,
            "exposure": announced.get("exposure"),
            **order,
        }
        with Path(journal).open("a") as file:
            file.write(json.dumps(note) + "\n")
    return announced, order


def scripted(settings: Mapping[str, Any]) -> Job:
    """Build a job that does what the event says under "do"; notes each attempt in ``settings["journal"]``."""

    def run(assignment: Assignment) -> JobResult:
        announced, order = read(settings, assignment)
        time.sleep(order.get("sleep", 0))
        act(order, assignment)
        value = bytes(order.get("size", 10))
        key = f"StubCam/{announced.get('exposure', 0)}/0".encode()
        return JobResult(
            messages=(
                Message("psf-quality", key, b"quality"),
                *(Message("source-catalog", key, value) for _ in range(order.get("chunks", 1))),
            ),
            timings=(("total", 0.4, 0.5),),
            metrics=(MetricDelta("streamchar_sources_total", 2.0),),
            summary={"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]},
        )

    return run


def cataloguing(settings: Mapping[str, Any]) -> Job:
    """Build a job like :func:`scripted` that publishes a real quality record and a real catalogue of several chunks."""
    import numpy as np

    from streamchar.messages import ProductIdentity, Provenance, PsfQuality, encode, encode_catalog

    class Column(NamedTuple):
        name: str
        dtype: str
        unit: str = ""
        doc: str = "a column"

    columns = [
        Column("id", "<i8"),
        Column("x", "<f8", "pixel"),
        Column("flux", "<f8", "adu"),
        Column("bad", "?"),
    ]
    provenance = Provenance(software_version="stub")

    def run(assignment: Assignment) -> JobResult:
        announced, order = read(settings, assignment)
        time.sleep(order.get("sleep", 0))
        act(order, assignment)
        exposure, rows = announced["exposure"], order.get("rows", 300)
        identity = ProductIdentity(
            announced["event_id"], announced["instrument"], exposure, announced["detector"], DIGEST
        )
        dice = np.random.default_rng(exposure)
        data = {
            "id": np.arange(rows),
            "x": dice.random(rows),
            "flux": dice.random(rows),
            "bad": dice.random(rows) > 0.5,
        }
        limit = min(settings["max_value_bytes"], order.get("chunk_bytes", 4000))
        chunks = encode_catalog(
            columns, data, identity=identity, provenance=provenance, max_chunk_bytes=limit
        )
        quality = encode(PsfQuality(**identity.fields(), outcome="succeeded", provenance=provenance))
        return JobResult(
            messages=tuple(
                Message(message.topic_type, message.key, message.value, tuple(message.headers))
                for message in (quality, *chunks)
            )
        )

    return run


def act(order: Mapping[str, Any], assignment: Assignment) -> None:
    """Misbehave as ordered."""
    if (
        assignment.attempt >= order.get("well_from", 1 << 30)
        or Path(order.get("unless", "/nowhere")).exists()
    ):
        return
    match order.get("do"):
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "loop":
            while True:
                pass
        case "hog":
            hoard = []
            while True:
                hoard.append(bytearray(16 << 20))
        case "raise":
            raise RuntimeError("this went wrong")
        case "missing":
            raise FileMissingError(uri="file:///nowhere.fits")
        case "exit":
            sys.exit(7)
        case "nonsense":
            os.write(int(sys.argv[1]), b"this is no frame, whatever it may be")
            time.sleep(10)


def broken(settings: Mapping[str, Any]) -> Job:
    """A factory that refuses its settings."""
    raise ValueError(f"no job can be made of {dict(settings)}")


def dies_at_start(settings: Mapping[str, Any]) -> Job:
    """A factory that takes the process down."""
    os._exit(5)
