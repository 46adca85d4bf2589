"""Everything at once, at random: nothing is lost, nothing comes twice, nothing is incomplete."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamchar.client import Product, Subscription, subscribe
from streamchar.messages import MessageError
from streamchar.stream.topics import ensure_topics
from streamchar.stream.verify import Report, summarize, verify
from tests.chaos.audience import PRODUCTS, Audience, identity_of
from tests.chaos.conftest import Arena
from tests.chaos.monkeys import Plan, Storm
from tests.stream.services import Night

SHORT = Plan(events=60, worker_kills=8, service_kills=2, freezes=1, broker_strikes=1, joins=1)
MODES = ["exactly_once", "at_least_once"]


async def rage(arena: Arena, folder: Path, plan: Plan, mode: str, seed: int) -> tuple[Storm, Report]:
    """Run a storm, print its table and return what the verification says."""
    night = arena.night
    await ensure_topics(night.settings(f"topics.replication={arena.replication}"))
    storm = Storm(night, folder, plan, mode, seed, arena.strike)
    audience = Audience(night, seed)
    async with audience.listening():
        seconds = await storm.rage()
        late = await audience.wait_for(expected(storm), 60)
    report = await verify(night.settings(f"delivery.mode={mode}"))
    print(f"\n{mode} on {arena.kind}, seed {seed}, {seconds:.0f} s")
    for name, value in (*storm.done.items(), *sorted(storm.announced.items()), *summarize(report)):
        print(f"  {name:<40}{value:>8}")
    print(f"  a group of subscribers had everything {late:.1f} s later")
    for finding in report.findings[:20]:
        print(f"  {finding.kind}: {finding.event}: {finding.detail}")
    return storm, report


def expected(storm: Storm) -> Counter[str]:
    """How many of each kind subscribers get."""
    good = storm.announced["good"]
    return Counter({"ExposureStatus": storm.announced.total(), "PsfQuality": good, "Catalog": good})


async def check(storm: Storm, report: Report, night: Night) -> None:
    """Compare the report with what was announced."""
    good = storm.announced["good"]
    assert report.is_well, report.findings
    assert report.pending == 0
    assert report.announced == storm.announced.total()
    assert report.outcomes == {"succeeded": good, "failed": report.announced - good}
    await check_subscriber(night, expected(storm))


async def check_subscriber(night: Night, wanted: Counter[str]) -> None:
    """Whatever the delivery, a subscriber gets everything once and whole."""
    problems: list[MessageError] = []
    subscription = subscribe(
        night.bootstrap,
        products=PRODUCTS,
        from_beginning=True,
        topics=night.topics,
        on_problem=problems.append,
    )
    got: Counter[str] = Counter()
    seen: Counter[tuple[str, str]] = Counter()
    async with contextlib.aclosing(everything(subscription, wanted.total())) as records:
        async for record in records:
            kind = type(record).__name__
            got[kind] += 1
            seen[kind, identity_of(record)] += 1
    assert not problems
    assert got == wanted
    assert set(seen.values()) == {1}


async def everything(subscription: Subscription[Product], count: int) -> AsyncIterator[Product]:
    """Deliver so many records, and what else comes within a second."""
    iterator = aiter(subscription)
    try:
        for _ in range(count):
            async with asyncio.timeout(20):
                record = await anext(iterator)
            yield record
    finally:
        await subscription.aclose()


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", MODES)
async def test_storm(arena: Arena, tmp_path: Path, seed: int, mode: str) -> None:
    storm, report = await rage(arena, tmp_path, Plan(), mode, seed)
    assert report.announced >= 200
    await check(storm, report, arena.night)


async def test_short_storm(embedded: Arena, tmp_path: Path, seed: int) -> None:
    storm, report = await rage(embedded, tmp_path, SHORT, "exactly_once", seed)
    await check(storm, report, embedded.night)
