"""Faults at random on a running night: workers, services, brokers and the group itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.stream.brokers import SHORTEST_SESSION
from tests.stream.services import JSON_HEADERS, Night, ServiceProcess, stub_event

DEADLINE = 2.0
SETTINGS = (
    "workers.job=stub_jobs:cataloguing",
    f"workers.deadline={DEADLINE}",
    f"workers.memory_limit={512 << 20}",
    "workers.spares=1",
    "retry.lost_attempts=4",
    "retry.in_process=1",
    "kafka.rebalance_timeout=10",
    "kafka.request_timeout=5",
    "breaker.consecutive=1000",
    "breaker.ratio=1.0",
    "http.enabled=false",
)

POISON = ("segfault", "loop", "hog", "missing", "schema")


@dataclass(frozen=True)
class Plan:
    """How much goes wrong.

    Attributes
    ----------
    events
        Least number of events; they come as long as something goes wrong.
    worker_kills, service_kills, freezes, broker_strikes, joins
        How often.
    poison
        Fraction of the events that cannot be processed.
    """

    events: int = 200
    worker_kills: int = 50
    service_kills: int = 10
    freezes: int = 5
    broker_strikes: int = 5
    joins: int = 10
    poison: float = 0.05


Strike = Callable[[int], Awaitable[None]]


@dataclass
class Storm:
    """A night under fire.

    Attributes
    ----------
    night
        Where.
    folder
        For logs.
    plan
        What goes wrong.
    mode
        Of delivery.
    seed
        Of everything random.
    strike_broker
        Kills or freezes a broker, brings it back and returns when all is in sync.
    done
        What has gone wrong so far.
    """

    night: Night
    folder: Path
    plan: Plan
    mode: str
    seed: int
    strike_broker: Strike
    done: Counter[str] = field(default_factory=Counter)
    announced: Counter[str] = field(default_factory=Counter)
    _services: list[ServiceProcess] = field(default_factory=list)
    _slot: dict[int, ServiceProcess] = field(default_factory=dict)
    _raging: int = 0
    _number: int = 0

    async def rage(self) -> float:
        """Let everything happen, wait until every event has its status, and return the seconds it took."""
        began = time.monotonic()
        dice = random.Random(self.seed)
        guards = [asyncio.ensure_future(self._guard(slot)) for slot in range(2)]
        try:
            await asyncio.gather(*(self._up(slot) for slot in range(2)))
            monkeys = [
                self._workers(random.Random(dice.random())),
                self._slots(random.Random(dice.random())),
                self._brokers(random.Random(dice.random())),
                self._visitors(random.Random(dice.random())),
            ]
            self._raging = len(monkeys)
            async with asyncio.TaskGroup() as group:
                for monkey in monkeys:
                    group.create_task(self._until_done(monkey))
                group.create_task(self._announce(random.Random(dice.random())))
            await self.night.wait_for_sources(self._number, 300)
        finally:
            for guard in guards:
                guard.cancel()
            await asyncio.wait(guards)
            for service in self._services:
                with contextlib.suppress(ProcessLookupError):
                    service.send(signal.SIGCONT)
                await service.kill()
        return time.monotonic() - began

    async def _until_done(self, monkey: Awaitable[None]) -> None:
        try:
            await monkey
        finally:
            self._raging -= 1

    # Services --------------------------------------------------------------------------------------------

    def _service(self, name: str, *overrides: str) -> ServiceProcess:
        log = self.folder / f"{name}.log"
        service = ServiceProcess(self.night, log, *SETTINGS, f"delivery.mode={self.mode}", *overrides)
        self._services.append(service)
        return service

    async def _guard(self, slot: int) -> None:
        """Do what a supervisor does: start a service again whenever it ends."""
        number = 0
        while True:
            service = self._service(f"service-{slot}-{number}", f"kafka.instance_id=slot-{slot}")
            await service.start()
            self._slot[slot] = service
            code = await service.wait(3600)
            self.done[f"ended with {code}"] += 1
            number += 1

    async def _up(self, slot: int) -> ServiceProcess:
        """Return the running service of a slot once its workers are ready."""
        while True:
            service = self._slot.get(slot)
            if service is not None and service.is_running and service.is_ready:
                return service
            await asyncio.sleep(0.1)

    # What happens ----------------------------------------------------------------------------------------

    async def _workers(self, dice: random.Random) -> None:
        """Kill workers that are at work, with SIGKILL."""
        while self.done["worker kills"] < self.plan.worker_kills:
            await asyncio.sleep(dice.uniform(0.2, 1.2))
            workers = list(self._find_workers())
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(dice.choice(workers), signal.SIGKILL)
                    self.done["worker kills"] += 1

    def _find_workers(self) -> Iterator[int]:
        for service in self._services:
            with contextlib.suppress(psutil.Error):
                if service.is_running:
                    yield from (child.pid for child in psutil.Process(service.pid).children())

    async def _slots(self, dice: random.Random) -> None:
        """Kill services, and freeze them for longer than their session."""
        faults = ["kill"] * self.plan.service_kills + ["freeze"] * self.plan.freezes
        dice.shuffle(faults)
        for fault in faults:
            await asyncio.sleep(dice.uniform(0.3, 2.0))
            service = await self._up(dice.randrange(2))
            if fault == "kill":
                service.send(signal.SIGKILL)
                self.done["service kills"] += 1
            else:
                service.send(signal.SIGSTOP)
                await asyncio.sleep(SHORTEST_SESSION + dice.uniform(1.0, 2.5))
                service.send(signal.SIGCONT)
                self.done["freezes"] += 1

    async def _brokers(self, dice: random.Random) -> None:
        """Kill or freeze brokers and bring them back."""
        for _ in range(self.plan.broker_strikes):
            await asyncio.sleep(dice.uniform(0.5, 4.0))
            await self.strike_broker(dice.randrange(1 << 16))
            self.done["broker strikes"] += 1

    async def _visitors(self, dice: random.Random) -> None:
        """Let a third service join and leave, in good order."""
        for number in range(self.plan.joins):
            await asyncio.sleep(dice.uniform(0.2, 1.5))
            service = self._service(f"visitor-{number}", "workers.count=1", "workers.spares=0")
            await service.start()
            await asyncio.sleep(dice.uniform(2.0, 4.0))
            await service.stop()
            self.done["joins and leaves"] += 1

    # Events ----------------------------------------------------------------------------------------------

    async def _announce(self, dice: random.Random) -> None:
        """Announce events as long as something goes wrong, and at least as many as planned."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.night.bootstrap, enable_idempotence=True, retry_backoff_ms=100
        )
        async with producer:
            while self._raging or self._number < self.plan.events:
                value = self._event(dice)
                while True:
                    try:
                        await producer.send_and_wait(
                            self.night.topics.exposure_ready,
                            value,
                            key=b"k",
                            partition=self._number % 2,
                            headers=JSON_HEADERS,
                        )
                    except KafkaError:
                        await asyncio.sleep(0.2)
                    else:
                        break
                self._number += 1
                await asyncio.sleep(dice.uniform(0.05, 0.5) if self._raging else 0.02)

    def _event(self, dice: random.Random) -> bytes:
        number = self._number
        # Each poison at least once, whatever the dice say.
        kind = POISON[number // 8 % len(POISON)] if number < 40 and number % 8 == 3 else ""
        if number >= 40 and dice.random() < self.plan.poison:
            kind = dice.choice(POISON)
        self.announced[kind or "good"] += 1
        if kind == "schema":
            return json.dumps({"event_id": f"bad-{number}", "exposure": "no number"}).encode()
        order = {"do": kind} if kind else {}
        return stub_event(number, sleep=round(dice.uniform(0.05, 0.4), 3), **order)
