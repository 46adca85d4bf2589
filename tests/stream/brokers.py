"""A broker process for tests: on a free loopback port, with its own data, to be killed and restarted at will."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

import psutil


class Broker(ABC):
    """A broker in a process of its own, whatever its kind.

    Parameters
    ----------
    data_dir
        Its data; kept between restarts. Its log is beside it.

    Examples
    --------
    >>> with BrokerProcess(tmp_path) as broker:
    ...     connect(broker.bootstrap)
    ...     broker.kill()      # kill -9
    ...     broker.start()     # same port, same data
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port = 0
        self.log_path = data_dir.with_name(data_dir.name + ".log")
        self._process: subprocess.Popen[str] | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def process(self) -> psutil.Process:
        """The process, for memory and CPU figures."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the broker has logged."""
        return self.log_path.read_text(errors="replace")

    @abstractmethod
    def start(self, timeout: float = 30.0) -> Self:
        """Start it and return when clients can connect."""

    def send(self, number: signal.Signals) -> None:
        """Send a signal, for example SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 10.0) -> int | None:
        """Send a signal, wait for the end, and return the exit code."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def kill(self) -> None:
        """Kill it with SIGKILL: nothing can be written any more."""
        self.stop(signal.SIGKILL)

    def restart(self) -> Self:
        """Kill it and start it again on the same port with the same data."""
        self.kill()
        return self.start()

    def _fail(self, what: str) -> RuntimeError:
        """Kill it and return an error that ends with what it has logged."""
        self.kill()
        return RuntimeError(f"the broker did not start: {what}\n{self.log[-2000:]}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


SHORTEST_SESSION = 6.0 if os.environ.get("STREAMCHAR_TEST_BOOTSTRAP") else 3.0
"""Seconds: the least that brokers allow by default, and ours; tests wait for sessions to expire."""

QUICK = (f"group_min_session_timeout_ms={1000 * SHORTEST_SESSION:.0f}",)
"""Settings of every embedded broker."""


class BrokerProcess(Broker):
    """An embedded broker.

    Parameters
    ----------
    data_dir
        Its data; kept between restarts.
    settings
        Further settings as ``name=value``.
    """

    def __init__(self, data_dir: Path, settings: Sequence[str] = ()) -> None:
        super().__init__(data_dir)
        self._settings = list(settings)

    def start(self, timeout: float = 30.0) -> Self:
        """Start it and return when clients can connect."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "streamchar.broker",
            "--port",
            str(self.port),
            "--data-dir",
            str(self.data_dir),
        ]
        for setting in (*QUICK, *self._settings):
            command += ["--set", setting]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True, env=os.environ
            )
        assert self._process.stdout is not None
        line = _read_line(self._process.stdout, timeout)
        if not line.startswith("listening on "):
            raise self._fail(repr(line))
        self.port = int(line.rpartition(":")[2])
        return self


def _read_line(stream: IO[str], timeout: float) -> str:
    lines: list[str] = []

    def read() -> None:
        with contextlib.suppress(ValueError):
            lines.append(stream.readline())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout)
    return lines[0] if lines else ""
