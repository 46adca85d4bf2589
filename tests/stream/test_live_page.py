"""The live page beside a running service, and what it reads from topics that others write to as well."""

import asyncio
import re
import signal
import time

import aiohttp
import psutil
import pytest

from streamchar.dashboard.subscriber import Subscriber
from streamchar.dashboard.visits import Visits
from streamchar.messages import TopicNames
from tests.stream.brokers import BrokerProcess
from tests.stream.services import Night, ServiceProcess, stub_event


async def wait_for(probe, seconds=60):
    """Wait until the probe returns something, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := await probe():
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def broker(tmp_path):
    with BrokerProcess(tmp_path / "broker") as process:
        yield process


async def address_of_page(service, after=None):
    """Where the service's page is, after it had been at another address."""
    found = re.findall(r"live page on ([^\s\"]+)", service.log_path.read_text())
    return found[-1] if found and found[-1] != after else None


async def night_of(session, address):
    async with session.get(f"{address}api/night") as response:
        assert response.status == 200
        return await response.json()


def pages_of(service):
    return [child for child in psutil.Process(service.pid).children() if "dashboard" in child.cmdline()]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_the_service_keeps_a_page_that_ends_with_it(broker, tmp_path, end):
    night = Night(broker.bootstrap)
    service = ServiceProcess(
        night, tmp_path / "service.log", "dashboard.enabled=true", "dashboard.port=0", "workers.count=2"
    )
    await service.start()
    try:
        address = await wait_for(lambda: address_of_page(service))
        if end == signal.SIGKILL:  # a page that is killed comes back
            (page,) = pages_of(service)
            page.kill()
            address = await wait_for(lambda: address_of_page(service, after=address))
        await service.ready(60)
        await night.announce([stub_event(number) for number in range(3)])
        async with aiohttp.ClientSession() as session:

            async def finished():
                data = await night_of(session, address)
                known = data["services"] and data["services"][0]["figures"].get("ready") == 2
                return data if known and data["totals"]["succeeded"] == 3 else None

            data = await wait_for(finished)
        assert data["kafka"]["connected"]
        assert sorted(row[data["columns"].index("exposure")] for row in data["visits"]) == [0, 1, 2]
        (page,) = pages_of(service)
        service.send(end)
        assert await service.wait(60) == (0 if end == signal.SIGTERM else -signal.SIGKILL)
        psutil.wait_procs([page], timeout=30)
        assert not page.is_running() or page.status() == psutil.STATUS_ZOMBIE
    finally:
        await service.kill()


async def test_it_reads_the_night_so_far_past_records_that_cannot_be_read(broker):
    topics = TopicNames("page")
    visits = Visits()
    subscriber = Subscriber(
        Night(broker.bootstrap).settings().kafka, topics, visits, span=3600.0, changed=lambda: None
    )
    running = asyncio.ensure_future(subscriber.run())

    async def missing():
        return len(subscriber.contact.missing) == 3

    async def seen(frames):
        return visits.frame_count == frames and not subscriber.contact.behind

    try:
        await wait_for(missing)  # the topics are not there yet, and are not made by looking for them
        night = Night(broker.bootstrap, "page")
        await night.announce([b"neither JSON", *[stub_event(number) for number in range(3)]], 0)
        await wait_for(lambda: seen(3))
        assert subscriber.contact.unreadable == 1
        # A header of bytes that are no text, as any producer may send, stops the client's polls.
        await night.announce_with_header(stub_event(3), b"\xff\xfe")
        await night.announce([stub_event(4)], 0)
        await wait_for(lambda: seen(5))
        assert subscriber.contact.connected
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
