"""Worker processes of ``streamchar run``: each takes one exposure at a time, and one that dies takes one with it."""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import NoReturn

from streamchar.cli.run_inputs import Input
from streamchar.cli.run_work import Attempt, Desk, Plan, failed
from streamchar.errors import StreamcharError
from streamchar.stream.heap import Leftovers, made_to_stay, prepare_heap

_STOP_SECONDS = 5.0


class WorkerLostError(StreamcharError):
    """A worker process ended while it was at work on an exposure."""

    code = "worker_lost"
    template = "{source}: the worker process {end}"


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    input: Input | None = None
    started: float = 0.0


def characterize_all(plan: Plan, inputs: Sequence[Input], processes: int) -> Generator[Attempt]:
    """Characterize exposures in worker processes, and yield what became of each as soon as it is known.

    A worker that crashes, or is killed, fails the exposure it was at work on; another takes its place. Close the
    generator to stop: exposures at work are given up, and no file is left half written.

    Parameters
    ----------
    plan
        What is done with every exposure.
    inputs
        Exposures, started in this order.
    processes
        Workers at most, positive.
    """
    waiting, workers = deque(inputs), list[_Worker]()
    try:
        while waiting or workers:
            while waiting and len(workers) < processes:
                workers.append(_start(plan))
                _hand_over(workers[-1], waiting.popleft())
            ready = connection.wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in ready]:
                attempt = _receive(worker)
                if attempt is None or not waiting:
                    workers.remove(worker)
                    _stop(worker)
                else:
                    _hand_over(worker, waiting.popleft())
                yield attempt if attempt is not None else _lost(worker, plan)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            _stop(worker)


def _start(plan: Plan) -> _Worker:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, plan), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _hand_over(worker: _Worker, chosen: Input) -> None:
    worker.input, worker.started = chosen, time.perf_counter()
    # A worker that died meanwhile is noticed at its next answer.
    with suppress(BrokenPipeError, ConnectionResetError):
        worker.connection.send(chosen)


def _receive(worker: _Worker) -> Attempt | None:
    """Return the answer of a worker, or ``None`` when it died."""
    try:
        attempt = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        return None
    assert isinstance(attempt, Attempt)
    return attempt


def _lost(worker: _Worker, plan: Plan) -> Attempt:
    assert worker.input is not None
    code = worker.process.exitcode
    if code is not None and code < 0:
        from streamchar.stream.process import signal_name  # which the workers need not import

        end = f"was killed by {signal_name(-code)}"
        if -code == signal.SIGKILL:
            end += " (out of memory?)"
    else:
        end = f"ended with status {code}"
    error = WorkerLostError(source=worker.input.source, end=end)
    return failed(worker.input, error, plan.outputs, time.perf_counter() - worker.started)


def _stop(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.join(_STOP_SECONDS)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _serve(pipe: Connection, plan: Plan) -> None:
    """Answer inputs with attempts until the other end hangs up. Runs in the worker process."""
    # Ctrl-C reaches every process of the terminal; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    prepare_heap()
    with made_to_stay():
        desk = Desk(plan)
    with Leftovers() as leftovers:
        while True:
            try:
                chosen = pipe.recv()
                pipe.send(desk.attempt(chosen))
            except (EOFError, ConnectionError):
                return
            leftovers.collect()


def _leave(number: int, _frame: object) -> NoReturn:
    # As an exception, so that temporary files are removed.
    sys.exit(128 + number)
