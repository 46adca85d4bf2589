"""Everything at once, at random: nothing is lost, nothing comes twice, nothing is incomplete."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamchar.client import Product, ProductName, Subscription, subscribe
from streamchar.messages import MessageError, PsfQuality
from streamchar.messages.catalog import Catalog
from streamchar.stream.topics import ensure_topics
from streamchar.stream.verify import Report, summarize, verify
from tests.chaos.conftest import Arena
from tests.chaos.monkeys import Plan, Storm
from tests.stream.services import Night

SHORT = Plan(events=60, worker_kills=8, service_kills=2, freezes=1, broker_kills=1, joins=1)
MODES = ["exactly_once", "at_least_once"]


async def rage(arena: Arena, folder: Path, plan: Plan, mode: str, seed: int) -> tuple[Storm, Report]:
    """Run a storm, print its table and return what the verification says."""
    night = arena.night
    await ensure_topics(night.settings(f"topics.replication={arena.replication}"))
    storm = Storm(night, folder, plan, mode, seed, arena.strike)
    seconds = await storm.rage()
    report = await verify(night.settings(f"delivery.mode={mode}"))
    print(f"\n{mode} on {arena.kind}, seed {seed}, {seconds:.0f} s")
    for name, value in (*storm.done.items(), *sorted(storm.announced.items()), *summarize(report)):
        print(f"  {name:<40}{value:>8}")
    for finding in report.findings[:20]:
        print(f"  {finding.kind}: {finding.event}: {finding.detail}")
    return storm, report


async def check(storm: Storm, report: Report, night: Night) -> None:
    """Compare the report with what was announced."""
    good = storm.announced["good"]
    assert report.is_well, report.findings
    assert report.pending == 0
    assert report.announced == storm.announced.total()
    assert report.outcomes == {"succeeded": good, "failed": report.announced - good}
    await check_subscriber(night, report)


async def check_subscriber(night: Night, report: Report) -> None:
    """Whatever the delivery, a subscriber gets everything once and whole."""
    problems: list[MessageError] = []
    products: tuple[ProductName, ...] = ("status", "quality", "catalog")
    subscription = subscribe(
        night.bootstrap,
        products=products,
        from_beginning=True,
        topics=night.topics,
        on_problem=problems.append,
    )
    good = report.outcomes["succeeded"]
    got: Counter[str] = Counter()
    seen: Counter[tuple[str, str]] = Counter()
    async with contextlib.aclosing(everything(subscription, report.announced + 2 * good)) as records:
        async for record in records:
            kind = type(record).__name__
            got[kind] += 1
            seen[kind, identity_of(record)] += 1
    assert not problems
    assert got == {"ExposureStatus": report.announced, "PsfQuality": good, "Catalog": good}
    assert set(seen.values()) == {1}


def identity_of(product: Product) -> str:
    """What makes a delivered product one of its kind: the event, or the position of an unreadable one."""
    if isinstance(product, Catalog):
        return product.manifest.event_id
    return product.event_id if isinstance(product, PsfQuality) else str(product.source)


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
