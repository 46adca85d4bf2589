"""A process of its own that draws and writes exposures, so that the rhythm of a night is never disturbed by drawing.

Plans go in and results come out as lines of JSON; run as a module it is that process.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from pydantic import TypeAdapter

from streamchar.errors import StreamcharError
from streamchar.telescope.errors import DrawingError, MissingSimulatorError, RendererLostError
from streamchar.telescope.night import PlannedExposure
from streamchar.telescope.store import StoredExposure, store

SINGLE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Linear algebra must not take the cores of the service."""

NICENESS = 5
"""How far the drawing steps back behind the service on the same machine."""

STOP_SECONDS = 5.0
"""Time the process has to end by itself."""

_PLAN = TypeAdapter(PlannedExposure)


class Renderer:
    """The drawing process. An asynchronous context manager.

    The process ends when its input closes, so it outlives its parent in no circumstances.

    Parameters
    ----------
    directory
        Where to write; must exist.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        if importlib.util.find_spec("galsim") is None:
            raise MissingSimulatorError
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            str(self._directory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **SINGLE_THREAD},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._started()
        assert process.stdin is not None
        process.stdin.close()
        if kind is not None and process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def render(self, plan: PlannedExposure) -> StoredExposure:
        """Draw and write one exposure; one at a time.

        Raises
        ------
        DrawingError
            When it could not be drawn or written.
        RendererLostError
            When the process ended.
        """
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(_PLAN.dump_json(plan) + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
        except (BrokenPipeError, ConnectionResetError):
            line = b""
        if not line:
            raise RendererLostError(exit_code=await process.wait())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DrawingError(file=plan.file_name, detail=answer["error"])
        return StoredExposure(plan, self._directory / plan.file_name, **answer)

    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("a Renderer is used inside 'async with'")
        return self._process


def _draw_line(line: str, directory: Path) -> dict[str, Any]:
    plan = _PLAN.validate_json(line)
    try:
        stored = store(plan, directory)
    except (StreamcharError, OSError) as error:
        return {"error": str(error)}
    return {name: getattr(stored, name) for name in ("checksum", "size", "fwhm", "cpu")}


def _leave(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


def main() -> None:
    """Draw what is asked for on standard input until it closes."""
    # Ctrl-C goes to the whole terminal group; the parent decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An exception instead of sudden death, so that temporary files are removed.
    signal.signal(signal.SIGTERM, _leave)
    os.nice(NICENESS)
    directory = Path(sys.argv[1])
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_draw_line(line, directory)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
