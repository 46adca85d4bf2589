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
from typing import Any

from streamchar.stream.errors import FileMissingError
from streamchar.stream.job import Assignment, Job, JobResult, Message, MetricDelta


def scripted(settings: Mapping[str, Any]) -> Job:
    """Build a job that does what the event says under "do"; notes each attempt in ``settings["journal"]``."""

    def run(assignment: Assignment) -> JobResult:
        announced = json.loads(assignment.value)
        order = json.loads(announced["uri"].removeprefix("stub:")) if "uri" in announced else announced
        if journal := settings.get("characterize", settings).get("journal"):
            with Path(journal).open("a") as file:
                file.write(
                    json.dumps(
                        {
                            "pid": os.getpid(),
                            "time": time.time(),
                            "attempt": assignment.attempt,
                            "exposure": announced.get("exposure"),
                            **order,
                        }
                    )
                    + "\n"
                )
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


def act(order: Mapping[str, Any], assignment: Assignment) -> None:
    """Misbehave as ordered."""
    if assignment.attempt >= order.get("well_from", 1 << 30):
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
