"""One worker process seen from the coordinator: start, frames in and out, exit and its classification.

Everything happens on the coordinator's event loop without threads: the socket and the process descriptor
(``pidfd_open``) are watched by the loop, writes never block.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from streamchar.frozen import frozen
from streamchar.stream import framing
from streamchar.stream.errors import WorkerStartError
from streamchar.stream.framing import Buffer, Frame, FrameError, FrameReader

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}
"""Environment of a worker: parallelism is by worker process, never by threads below one; and there is no search through all
installed packages for plugins of Pydantic, which takes a twentieth of a start."""

_SOCKET_BUFFER = 4 << 20


@frozen
class WorkerExit:
    """How a worker process ended.

    Attributes
    ----------
    code
        Exit status, None when a signal ended it.
    signal
        Number of the signal that ended it, or None.
    peak_bytes
        Largest resident size it had.
    detail
        Why the coordinator ended it, empty when it ended by itself.
    """

    code: int | None
    signal: int | None
    peak_bytes: int
    detail: str = ""

    def describe(self) -> str:
        """Return a sentence part such as "killed by SIGSEGV" or "exited with status 3"."""
        if self.signal is None:
            return f"exited with status {self.code}"
        return f"killed by {signal_name(self.signal)}"


def signal_name(number: int) -> str:
    """Return a name such as "SIGSEGV", or "signal 40": of the real-time signals only the first and the last have one."""
    return next((each.name for each in signal.Signals if each == number), f"signal {number}")


class WorkerGoneError(Exception):
    """The worker process is gone; internal to the pool.

    Attributes
    ----------
    exit
        How it ended.
    """

    def __init__(self, exit_: WorkerExit) -> None:
        super().__init__(exit_.describe())
        self.exit = exit_


class WorkerProcess:
    """A running worker.

    Parameters
    ----------
    reply_limit
        Largest frame accepted from it, in bytes.
    environment
        Variables added to the coordinator's environment.

    Attributes
    ----------
    pid
        Its process id.
    exit
        How it ended; None while it runs.
    on_exit
        Called on the loop when the process has ended.

    Raises
    ------
    WorkerStartError
        The system has no process or no file descriptor left for it.
    """

    def __init__(self, reply_limit: int, environment: Mapping[str, str] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(reply_limit)
        self._frames: deque[Frame] = deque()
        self._unsent: deque[memoryview] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._detail = ""
        self.on_exit: Callable[[], None] | None = None
        self.exit: WorkerExit | None = None
        self._socket, self._process, self._pidfd = _start(environment or {})
        self.pid = self._process.pid
        self._reading = True
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._loop.add_reader(self._pidfd, self._ended)

    def send(self, frame: Frame) -> None:
        """Queue a frame; it is written as the worker reads."""
        if self.exit is not None:
            return
        idle = not self._unsent
        self._unsent.extend(memoryview(piece).cast("B") for piece in framing.encode(frame) if _size(piece))
        if idle:
            self._writable()

    async def receive(self) -> Frame:
        """Wait for the next frame.

        Raises
        ------
        WorkerGoneError
            The process ended, or was killed because it sent something that is no frame.
        """
        while not self._frames:
            if self.exit is not None:
                raise WorkerGoneError(self.exit)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._frames.popleft()

    def kill(self, detail: str = "") -> None:
        """End the process with SIGKILL; ``detail`` goes into its :class:`WorkerExit`."""
        if self.exit is None:
            self._detail = self._detail or detail
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def stop(self, grace: float) -> WorkerExit:
        """Hang up and wait until the process has ended; kill it after ``grace`` seconds, or when cancelled."""
        self._stop_watching_socket()
        self._socket.close()
        cancelled: asyncio.CancelledError | None = None
        killer = self._loop.call_later(grace, self.kill)
        while self.exit is None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError as error:
                # Never leave without having reaped the process; SIGKILL makes that immediate.
                cancelled = error
                self.kill()
        self._waiter = None
        killer.cancel()
        if cancelled is not None:
            raise cancelled
        return self.exit

    def _readable(self) -> None:
        try:
            alive = self._reader.read(self._socket)
        except BlockingIOError:
            return
        except ConnectionError:
            alive = False
        except FrameError as error:
            self.kill(str(error))
            alive = False
        self._frames.extend(self._reader.frames)
        self._reader.frames.clear()
        if not alive:
            # The descriptor of the process tells about its end; a closed socket would wake the loop for ever.
            self._stop_watching_socket()
        if self._frames:
            self._wake()

    def _writable(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent[0])
                rest = self._unsent.popleft()[sent:]
                if rest:
                    self._unsent.appendleft(rest)
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._writable)
            return
        except ConnectionError:
            self._unsent.clear()
        self._loop.remove_writer(self._socket.fileno())

    def _ended(self) -> None:
        while self._reading:
            self._drain_once()
        _, status, usage = os.wait4(self.pid, 0)
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code
        self.exit = WorkerExit(
            code if code >= 0 else None, -code if code < 0 else None, _peak_bytes(usage), self._detail
        )
        if self._socket.fileno() >= 0:
            self._stop_watching_socket()
            self._socket.close()
        self._wake()
        if self.on_exit is not None:
            self.on_exit()

    def _drain_once(self) -> None:
        """Read what the worker wrote before it ended."""
        try:
            if not self._reader.read(self._socket):
                self._stop_watching_socket()
        except (OSError, FrameError):
            self._stop_watching_socket()
        self._frames.extend(self._reader.frames)
        self._reader.frames.clear()

    def _stop_watching_socket(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _start(environment: Mapping[str, str]) -> tuple[socket.socket, subprocess.Popen[bytes], int]:
    """Start a worker; return our end of its socket, the process, and its descriptor."""
    with contextlib.ExitStack() as undo:
        try:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                for end in (ours, theirs):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
                process = _launch(theirs.fileno(), environment)
            undo.callback(process.wait)
            undo.callback(process.kill)
            descriptor = os.pidfd_open(process.pid)
        except OSError as error:
            raise WorkerStartError(detail=f"{error.strerror} ({sys.executable})") from error
        undo.pop_all()
    ours.setblocking(False)
    return ours, process, descriptor


def _launch(descriptor: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "streamchar.stream.worker", str(descriptor), str(os.getpid())]
    return subprocess.Popen(  # noqa: S603 - our own module, no input in the command
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else None,
        pass_fds=[descriptor],
        # Its own group: a Ctrl-C in the terminal reaches the coordinator alone, which drains.
        process_group=0,
        env={**os.environ, **WORKER_ENVIRONMENT, **environment},
    )


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _size(piece: Buffer) -> int:
    return memoryview(piece).nbytes


def _peak_bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * 1024
