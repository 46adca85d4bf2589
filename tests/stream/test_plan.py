"""The planner's simulation against a real service at a scaled-down load."""

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from streamchar.messages import decode
from streamchar.planning import SURVEYS, Fleet, ServiceProfile, simulate_night
from streamchar.stream.service import Service
from tests.stream.services import Night, on_one_broker, running, stub_event

WORKERS, DETECTORS, BURSTS, WARMING = 4, 54, 4, 12
SCALE = 0.2 / ServiceProfile().seconds(SURVEYS["rubin"].megapixels)
"""An exposure takes 0.2 s; everything else of Rubin's night is as much shorter, and 4 workers have their share of it."""


@on_one_broker
async def test_latencies_of_a_scaled_down_night_are_those_simulated(night: Night) -> None:
    survey = replace(
        SURVEYS["rubin"],
        detectors=DETECTORS,
        cadence=SCALE * SURVEYS["rubin"].cadence,
        announce_delay=0.0,
        announce_spread=0.0,
    )
    profile = replace(ServiceProfile(), fixed=0.2, per_megapixel=0.0)
    random = np.random.default_rng(4)
    sleeps = profile.draw(1.0, DETECTORS * BURSTS, random)
    announced: dict[int, float] = {}
    service = Service(night.settings(f"workers.count={WORKERS}"))
    async with running(service):
        # The night begins with all workers started.
        await night.announce(stub_event(10_000 + n, sleep=0.5) for n in range(WARMING))
        await night.wait_for_statuses(WARMING, 60)
        for burst in range(BURSTS):
            began = time.time()
            numbers = range(burst * DETECTORS, (burst + 1) * DETECTORS)
            announced.update(dict.fromkeys(numbers, began))
            await night.announce(stub_event(n, sleep=float(sleeps[n])) for n in numbers)
            await asyncio.sleep(max(0.0, began + survey.cadence - time.time()))
        await night.wait_for_statuses(WARMING + DETECTORS * BURSTS, 60)
    published = {
        decode(record.value, record.headers).exposure: record.timestamp / 1000
        for record in await night.read(night.topics.exposure_status)
    }
    measured = np.array([published[n] - announced[n] for n in announced])
    simulated = [
        simulate_night(survey, Fleet(1, WORKERS, 2), profile, exposures=BURSTS, seed=seed)
        for seed in range(40)
    ]
    for percentile in (50, 95, 99):
        expected = np.median([np.percentile(latencies, percentile) for latencies in simulated])
        found = np.percentile(measured, percentile)
        print(f"p{percentile}: measured {found:.3f} s, simulated {expected:.3f} s")
        assert found == pytest.approx(expected, rel=0.2)
