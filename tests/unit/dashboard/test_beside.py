"""The page beside a service is started again whatever ended it."""

from __future__ import annotations

import asyncio
import contextlib
import errno

import pytest

from streamchar.dashboard import beside


async def test_a_page_that_could_not_be_started_is_started_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    third, starts = asyncio.Event(), []

    async def run(command: object) -> int:
        starts.append(command)
        if len(starts) == 1:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        if len(starts) == 3:
            third.set()
            await asyncio.sleep(3600)
        return 3

    async def nowhere() -> str:
        return ""

    monkeypatch.setattr(beside, "_run", run)
    keeping = asyncio.ensure_future(beside.keep_page([], nowhere, pause=0.01))
    async with asyncio.timeout(10):
        await third.wait()
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    assert "Resource temporarily unavailable" in caplog.text
    assert "exit code 3" in caplog.text
