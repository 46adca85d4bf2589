"""Missing detectors are told, and those announced in partitions that the topic got meanwhile are not missing."""

from __future__ import annotations

import asyncio
import re

from aiokafka.admin import NewPartitions

from streamchar.monitor.metrics import Metrics
from streamchar.stream.topics import ensure_topics
from streamchar.stream.visit_watcher import VisitWatcher
from tests.stream.conformance.clients import admin
from tests.stream.services import Night, on_one_broker, stub_event


@on_one_broker
async def test_detectors_announced_in_new_partitions_are_not_missing(night: Night) -> None:
    settings = night.settings("visits.detectors={StubCam = 2}", "visits.after=3")
    await ensure_topics(settings)
    metrics = Metrics()
    watcher = VisitWatcher(settings, metrics)

    async def reported(count: int) -> int:
        async with asyncio.timeout(40):
            while True:
                shown = metrics.exposition("")[0].decode()
                found = re.search(r"^streamchar_incomplete_visits_total\{.*\} (.*)$", shown, re.MULTILINE)
                if found is not None and float(found[1]) >= count:
                    return int(float(found[1]))
                await asyncio.sleep(0.05)

    watcher.regulate(wanted=True)
    try:
        await night.announce([stub_event(1)], partition=0)
        assert await reported(1) == 1
        async with admin(night.bootstrap) as client:
            await client.create_partitions({night.topics.exposure_ready: NewPartitions(3)})
        await night.announce([stub_event(2, detector=1)], partition=2)
        await night.announce([stub_event(2), stub_event(3)], partition=0)
        await asyncio.sleep(0.2)
        await night.announce([stub_event(4)], partition=0)
        assert await reported(3) == 3  # visits 1, 3 and 4, and not 2, which began before them
    finally:
        await watcher.stop()
