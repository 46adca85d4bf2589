"""The worker process: reads assignments from one socket, runs the job, writes results back. Run by the pool.

A worker is a fresh interpreter (``python -m streamchar.stream.worker``), not a fork: it inherits no locks, no
event loop and no open files. It ends when its socket closes, when its parent dies, or when it is killed.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import resource
import signal
import socket
import sys
import traceback
from pathlib import Path

from streamchar.errors import StreamcharError, Value
from streamchar.stream import framing
from streamchar.stream.errors import JobImportError
from streamchar.stream.heap import Leftovers, leave, made_to_stay, prepare_heap
from streamchar.stream.job import (
    Category,
    Job,
    JobFailure,
    failure_frame,
    parse_assignment,
    result_frame,
)

MAX_ASSIGNMENT_BYTES = 16 << 20
_MAX_TRACEBACK = 4000
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Serve one coordinator until it hangs up; returns the exit status."""
    descriptor, parent = int(arguments[0]), int(arguments[1])
    die_with_parent(parent)
    # The coordinator decides when a worker ends: a terminal's Ctrl-C and a supervisor's SIGTERM to the whole
    # group must not cut off an exposure that is being drained.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.enable()
    offer_to_oom_killer()
    prepare_heap()
    with socket.socket(fileno=descriptor) as connection:
        first = framing.receive(connection, MAX_ASSIGNMENT_BYTES)
        if first is None:
            return 0
        try:
            with made_to_stay():
                job = load_job(first.header["job"], first.header["settings"])
        except StreamcharError as error:
            framing.send(connection, framing.encode(failure_frame(describe(error))))
            return 1
        limit_memory(first.header["memory_limit"])
        os.nice(first.header["niceness"])
        framing.send(connection, framing.encode(framing.Frame({"kind": "ready", "pid": os.getpid()})))
        with Leftovers() as leftovers:
            return serve(connection, job, leftovers)


def serve(connection: socket.socket, job: Job, leftovers: Leftovers) -> int:
    """Run assignments until the coordinator hangs up, or memory ran out once."""
    while True:
        frame = framing.receive(connection, MAX_ASSIGNMENT_BYTES)
        if frame is None:
            return 0
        try:
            answer = framing.encode(result_frame(job(parse_assignment(frame))))
        except MemoryError as error:
            # Frees what the exposure has filled: the answer needs memory too.
            traceback.clear_frames(error.__traceback__)
            framing.send(connection, framing.encode(failure_frame(describe(error))))
            return 1  # what is left of the heap is fragmented: start afresh
        except Exception as error:  # noqa: BLE001 - the boundary: whatever an event raises is reported, not fatal
            answer = framing.encode(failure_frame(describe(error)))
        framing.send(connection, answer)
        leftovers.collect()


def load_job(path: str, settings: dict[str, object]) -> Job:
    """Import ``module:function`` and let the function build the job from its settings.

    Raises
    ------
    JobImportError
        Says what is wrong with the path, the module or the settings.
    """
    module_name, _, name = path.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name)
        job: Job = factory(settings)
    except StreamcharError as error:
        raise JobImportError(job=path, detail=str(error)) from error
    except Exception as error:
        raise JobImportError(job=path, detail=f"{type(error).__name__}: {error}") from error
    return job


def describe(error: BaseException) -> JobFailure:
    """Turn an exception into plain data: category, code, sentence, values and a bounded traceback."""
    lines = "".join(traceback.format_exception(error))
    text = lines if len(lines) <= _MAX_TRACEBACK else "...\n" + lines[-_MAX_TRACEBACK:]
    values: dict[str, Value] = {}
    category: Category = "permanent"
    if isinstance(error, StreamcharError):
        code, sentence, values = error.code, str(error), dict(error.values)
        if error.retryable:
            category = "retryable"
    elif isinstance(error, MemoryError):
        category, code, sentence = (
            "lost",
            "worker_out_of_memory",
            "the exposure needs more memory than allowed",
        )
    elif isinstance(error, OSError):
        category, code, sentence = "retryable", "operating_system", f"{type(error).__name__}: {error}"
    else:
        code, sentence = "unexpected_error", f"{type(error).__name__}: {error}"
    return JobFailure(category, code, sentence[:1000], values, text)


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the coordinator dies, and leave at once when it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(limit: int) -> None:
    """Limit the private writable memory of this process to ``limit`` bytes and write no core files.

    RLIMIT_DATA is chosen over RLIMIT_AS because it counts what the exposure can dirty (heap and anonymous
    mappings) and not the address space of mapped libraries and files, which varies between machines; and over
    watching the resident size because a limit cannot be overrun between two looks: the allocation fails, which
    Python reports as MemoryError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def offer_to_oom_killer() -> None:
    """Make the kernel choose a worker, not the coordinator, when the machine runs out of memory."""
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("500")


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
