"""Keeps the live page beside a service, in a process of its own: decoding a night must not delay the service's loop."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
STOP_SECONDS = 5.0


async def keep_page(
    arguments: Sequence[str], metrics: Callable[[], Awaitable[str]], pause: float = FIRST_PAUSE
) -> None:
    """Run ``streamchar dashboard`` until cancelled; start it again, later each time, when it ends.

    The process ends when its standard input is closed, and so also when this process is killed.

    Parameters
    ----------
    arguments
        Its command line: the settings of the service.
    metrics
        Waits for the address of the service's metrics and returns it; empty when there are none.
    pause
        Seconds before the first new start.
    """
    address = await metrics()
    command = [sys.executable, "-m", "streamchar.cli", "dashboard", "--with-parent", *arguments]
    if address:
        command += ["--metrics", address]
    while True:
        began = asyncio.get_running_loop().time()
        try:
            end = f"exit code {await _run(command)}"
        except OSError as error:
            end = str(error)  # no process to be had at the moment
        if asyncio.get_running_loop().time() - began > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        log.warning("the live page ended (%s); started again in %.0f s", end, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


async def _run(command: Sequence[str]) -> int:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the service, which takes its time to drain
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            log.info("%s", line.decode(errors="replace").strip())
        return await process.wait()
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
