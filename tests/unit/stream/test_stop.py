"""A service that is told to stop while it is still starting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psutil
import pytest

import streamchar.stream.service as module
from streamchar.stream.service import Service
from streamchar.stream.settings import load_settings

NOWHERE = ("kafka.bootstrap=127.0.0.1:1", "http.port=0", "kafka.start_timeout=60", "workers.count=2")


async def stopped(service: Service, when: Callable[[], bool]) -> None:
    running = asyncio.ensure_future(service.run())
    async with asyncio.timeout(20):
        while not when():
            await asyncio.sleep(0.01)
        service.request_stop()
        await running


async def test_it_does_not_wait_for_brokers_that_are_away() -> None:
    service = Service(load_settings(None, NOWHERE, {}))
    await stopped(service, lambda: service.health.port > 0)


async def test_it_does_not_wait_for_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_topics(_: object) -> list[str]:
        return []

    async def any_size(_: object) -> int:
        return 1_000_000

    monkeypatch.setattr(module, "ensure_topics", no_topics)
    monkeypatch.setattr(module, "message_limit", any_size)
    before = set(psutil.Process().children())
    service = Service(load_settings(None, NOWHERE, {}))
    await stopped(service, lambda: bool(set(psutil.Process().children()) - before))
    assert set(psutil.Process().children()) == before


async def test_what_went_wrong_at_the_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: object) -> list[str]:
        raise LookupError("no topics")

    monkeypatch.setattr(module, "ensure_topics", fail)
    with pytest.raises(LookupError, match="no topics"):
        await Service(load_settings(None, NOWHERE, {})).run()
