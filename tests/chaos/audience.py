"""Subscribers that share a group while everything goes wrong: they come and go, and together miss nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator

import streamchar
from streamchar.client import Product, ProductName, SubscriptionWarning, UnreachableError
from streamchar.kafka.committed import committed_offsets
from streamchar.messages import PsfQuality
from streamchar.messages.catalog import Catalog
from streamchar.stream.settings import milliseconds
from tests.stream.brokers import SHORTEST_SESSION
from tests.stream.services import Night

PRODUCTS: tuple[ProductName, ...] = ("status", "quality", "catalog")
_GROUP = "audience"
_MEMBERS = 2
_PARTITIONS = 2


def identity_of(product: Product) -> str:
    """What makes a delivered product one of its kind: the event, or the position of an unreadable one."""
    if isinstance(product, Catalog):
        return product.manifest.event_id
    return product.event_id if isinstance(product, PsfQuality) else str(product.source)


class Audience:
    """Members of one group, each of which leaves after some seconds and comes back.

    Parameters
    ----------
    night
        What they listen to, from its end on.
    seed
        Of how long they stay.
    """

    def __init__(self, night: Night, seed: int) -> None:
        self._night = night
        self._seed = seed
        self._got: set[tuple[str, str]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Let them listen for as long as the block lasts; before it begins the group has its positions."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SubscriptionWarning)
            await self._take_seats()
            members = [asyncio.ensure_future(self._come_and_go(number)) for number in range(_MEMBERS)]
            try:
                yield
            finally:
                for member in members:
                    member.cancel()
                ends = await asyncio.gather(*members, return_exceptions=True)
        problems = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
        assert not problems, problems

    async def wait_for(self, wanted: Counter[str], seconds: float) -> float:
        """Wait until so many different products of each kind have come to any of them; return how long it took."""
        began = time.monotonic()
        while self.counts != wanted:
            if time.monotonic() - began > seconds:
                raise AssertionError(f"the group got {dict(self.counts)} of {dict(wanted)}")
            await asyncio.sleep(0.2)
        return time.monotonic() - began

    @property
    def counts(self) -> Counter[str]:
        """Number of different products of each kind."""
        return Counter(kind for kind, _ in self._got)

    async def _take_seats(self) -> None:
        """Come until the group has a position in every partition: from then on it misses nothing."""
        connection = {"bootstrap_servers": self._night.bootstrap}
        while len(await committed_offsets(lambda: connection, _GROUP)) < _PARTITIONS * len(PRODUCTS):
            await self._attend(1.5)

    async def _come_and_go(self, number: int) -> None:
        dice = random.Random(f"{self._seed}/{number}")
        while True:
            await self._attend(dice.uniform(2.0, 8.0))
            await asyncio.sleep(dice.uniform(0.1, 1.0))

    async def _attend(self, seconds: float) -> None:
        subscription = streamchar.subscribe(
            self._night.bootstrap,
            products=PRODUCTS,
            group=_GROUP,
            topics=self._night.topics,
            consumer_options={
                "heartbeat_interval_ms": 300,
                "session_timeout_ms": milliseconds(SHORTEST_SESSION),
            },
        )
        async with subscription:
            with contextlib.suppress(TimeoutError, UnreachableError):
                async with asyncio.timeout(seconds):
                    async for product in subscription:
                        self._got.add((type(product).__name__, identity_of(product)))
