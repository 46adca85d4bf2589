"""The live page in a real browser, through a night on a real broker: what an operator sees, and what never happens."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import AIOKafkaProducer
from playwright.async_api import expect

from streamchar.dashboard import subscriber
from streamchar.dashboard.page import LivePage
from streamchar.messages import ExposureStatus, PsfQuality, Reason, TopicNames, encode
from streamchar.monitor.page_settings import DashboardSettings
from streamchar.stream.settings import KafkaSettings
from tests.dashboard_night import SimulatedNight
from tests.stream.brokers import BrokerProcess
from tests.ui.observed import PHONE

SECONDS = 60_000
expect.set_options(timeout=SECONDS)


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with BrokerProcess(tmp_path_factory.mktemp("dashboard") / "broker") as process:
        yield process


@asynccontextmanager
async def live_page(broker, prefix, port=0, **settings):
    """A live page of the topics with a prefix, served in this process."""
    page = LivePage(
        DashboardSettings(port=port, **settings),
        KafkaSettings(bootstrap=broker.bootstrap),
        TopicNames(prefix),
    )
    ready = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(page.run(ready.set_result))
    await asyncio.wait([ready, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    try:
        yield page
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def publisher(broker, prefix):
    """Publishes messages as the service and the camera do, and waits until the broker has them."""
    topics = TopicNames(prefix)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:

        async def publish(*messages):
            sent = []
            for message in messages:
                encoded = encode(message)
                topic = topics.name_of(encoded.topic_type)
                sent.append(
                    await producer.send(topic, encoded.value, key=encoded.key, headers=encoded.headers)
                )
            await asyncio.gather(*sent)

        yield publish


def night(**changes):
    begin = datetime.now(UTC) - timedelta(seconds=200)
    return SimulatedNight(**{"begin": begin, "cadence": 10.0, "delay": 2.0, "exposure_time": 5.0, **changes})


def failed(message, code, text):
    """The status of a message's exposure, had it failed."""
    return message.model_copy(
        update={"outcome": "failed", "reasons": (Reason(code=code, message=text),), "products": ()}
    )


async def number_of(page, selector, name):
    return int(await page.locator(f"{selector} svg").get_attribute(f"data-{name}") or 0)


async def too_wide(page):
    """What makes the page wider than the window."""
    return await page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
        .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll'))
        .map((e) => `${e.tagName}.${e.className} ${e.textContent.slice(0, 40)}`)"""
    )


async def test_a_night_from_the_first_announcement(page, observed, broker):
    dome = night()
    async with live_page(broker, "first") as live, publisher(broker, "first") as publish:
        await page.goto(live.server.address)
        await expect(page.locator("#tile-seeing .sub")).to_have_text("Waiting for the first exposure")
        await expect(page.locator("#failures-empty")).to_have_text("None this night.")
        await expect(page.locator("#rows-empty")).to_contain_text("Waiting for the first announced exposure")

        # Announced detectors wait in the focal plane; then they fill it.
        announcements, rest = dome.messages(0)[:9], dome.messages(0)[9:]
        await publish(*announcements)
        await expect(page.locator("#map .waiting")).to_have_count(9)
        assert await number_of(page, "#chart-seeing", "points") == 0
        await publish(*rest)
        await expect(page.locator("#map svg")).to_have_attribute("data-measured", "9")
        await expect(page.locator("#map .waiting")).to_have_count(0)
        await expect(page.locator("#link")).to_have_attribute("data-state", "live")

        # The curves move with every exposure, and the figures are those of the latest.
        for visit in range(1, 4):
            await publish(*dome.messages(visit))
            for chart in ("#chart-seeing", "#chart-ellipticity", "#chart-latency"):
                await expect(page.locator(f"{chart} svg")).to_have_attribute("data-points", str(visit + 1))
        seeing = sorted(m.seeing for m in dome.messages(3) if isinstance(m, PsfQuality))[4]
        await expect(page.locator("#tile-seeing b")).to_have_text(f"{seeing:.2f}")
        await expect(page.locator("#shown")).to_contain_text("TESTCAM 3 · g")
        await expect(page.locator("#tile-latency .sub")).to_contain_text("from shutter close")
        await expect(page.locator("#tile-exposures .sub")).to_contain_text("36 of 36 detector images done")
        await expect(page.locator("#lights")).to_contain_text("TESTCAM g")

        # A failed exposure appears with its reason, in the list, in the map and in the counts.
        *others, status = [
            message
            for message in dome.messages(4)
            if message.detector != 5 or not isinstance(message, PsfQuality | ExposureStatus)
        ] + [m for m in dome.messages(4) if m.detector == 5 and isinstance(m, ExposureStatus)]
        await publish(*others, failed(status, "invalid_exposure", "no pixel of the image is finite"))
        failure = page.locator("#failures li")
        await expect(failure).to_have_count(1)
        await expect(failure).to_contain_text("invalid_exposure")
        await expect(failure).to_contain_text("no pixel of the image is finite")
        await expect(page.locator("#map .bad")).to_have_count(1)
        await expect(page.locator("#reasons")).to_contain_text("invalid_exposure")
        await failure.locator("button").click()
        await expect(page.locator("#detector h3")).to_contain_text("Detector 5")
        await expect(page.locator("#detector")).to_contain_text("no pixel of the image is finite")
        assert await page.locator("a[href^=file], a[href^=javascript]").count() == 0

        # A late subscriber is told the same night.
        other = await page.context.new_page()
        observed.watch(other)
        await other.goto(live.server.address)
        await expect(other.locator("#chart-seeing svg")).to_have_attribute("data-points", "5")
        await expect(other.locator("#failures li")).to_have_count(1)
    assert observed.problems == []


async def test_the_keyboard_reaches_everything(page, observed, broker):
    dome = night(instrument="KEYCAM")
    report = "https://archive.example/{instrument}/{exposure}/{detector}.html"
    async with live_page(broker, "keys", report=report) as live, publisher(broker, "keys") as publish:
        await publish(*[message for visit in range(3) for message in dome.messages(visit)])
        await page.goto(live.server.address)
        shown, detector = page.locator("#shown"), page.locator("#detector")
        await expect(shown).to_contain_text("KEYCAM 2")
        await page.keyboard.press("ArrowLeft")
        await expect(shown).to_contain_text("KEYCAM 1")
        await expect(page.locator("#latest")).to_have_attribute("aria-pressed", "false")
        await expect(page.locator("tr.more li")).to_have_count(9)
        await expect(page.locator("tr.more a").first).to_have_attribute(
            "href", "https://archive.example/KEYCAM/1/0.html"
        )
        await page.keyboard.press("l")
        await expect(shown).to_contain_text("KEYCAM 2")
        await page.keyboard.press("c")
        await expect(page.locator("#color-grade")).to_have_attribute("aria-pressed", "true")
        await page.keyboard.press("t")
        await expect(page.locator("html")).to_have_attribute("data-theme", "light")
        await page.keyboard.press("?")
        await expect(page.locator("#help")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("#help")).to_be_hidden()

        # Tab visits every control, visibly, and the arrows walk over the detectors.
        await page.evaluate("document.activeElement.blur()")
        visited = []
        for _ in range(60):
            await page.keyboard.press("Tab")
            visited.append(
                await page.evaluate(
                    """() => { const e = document.activeElement, s = getComputedStyle(e);
                    return [e.id || e.closest('[id]')?.id || '', s.outlineStyle, parseFloat(s.outlineWidth)]; }"""
                )
            )
            if visited[-1][0] == "map":
                break
        names = [name for name, *_ in visited]
        for control in ("theme", "help-button", "color-fwhm", "color-grade", "previous", "latest", "map"):
            assert control in names
        assert all(style != "none" and width >= 2 for _, style, width in visited)
        await page.keyboard.press("ArrowRight")
        await expect(detector.locator("h3")).to_contain_text("Detector 0")
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("ArrowUp")
        await expect(detector.locator("h3")).to_contain_text("Detector 4")
        await expect(page.locator("#map .chosen")).to_have_count(1)
        await page.keyboard.press("Escape")
        await expect(page.locator("#map .chosen")).to_have_count(0)
    assert observed.problems == []


async def test_messages_are_text_and_nothing_else(page, observed, broker):
    """Whoever can announce an exposure can choose names: they must not become markup, scripts, links or layout."""
    evil = "<img src=x onerror=alert(1)>"
    dome = night(instrument=evil, bands=('"><script>alert(2)</script>',), rows=2, columns=2)
    long = night(instrument="W" * 64, bands=("b" * 200,), rows=1, columns=1, on_sky=False)
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await page.set_viewport_size(PHONE)
    async with live_page(broker, "evil") as live, publisher(broker, "evil") as publish:
        *rest, status = dome.messages(0)
        status = failed(status, "<b>bold</b>" + "x" * 200, "javascript:alert(3) <script>alert(4)</script>")
        await publish(*rest, status, *[m for visit in range(3) for m in long.messages(visit)])
        await page.goto(live.server.address)
        await expect(page.locator("#instruments button")).to_have_count(2)
        await page.locator("#instruments button", has_text="<img").click()
        await expect(page.locator("#shown")).to_contain_text("<img src=x")
        await expect(page.locator("#failures")).to_contain_text("<script>alert(4)</script>")
        await page.locator("#failures button").first.click()
        await expect(page.locator("#detector")).to_contain_text("<script>alert(4)</script>")
        assert await page.locator("main img, main script, main b b, a[href^=javascript]").count() == 0
        await page.locator("#instruments button", has_text="WWW").click()
        await expect(page.locator("#shown")).to_contain_text("WWW")
        assert await too_wide(page) == []
    assert dialogs == []
    assert observed.problems == []


async def test_a_focal_plane_of_189_detectors(page, observed, broker):
    dome = night(instrument="LARGE", rows=15, columns=15, corner=3, grid=False, failures=0.02)
    async with live_page(broker, "large") as live, publisher(broker, "large") as publish:
        await publish(*[message for visit in range(4) for message in dome.messages(visit)])
        await page.goto(live.server.address)
        await expect(page.locator("#map svg")).to_have_attribute("data-detectors", "189")
        await expect(page.locator("#chart-seeing svg")).to_have_attribute("data-points", "4")
        bad = sum(status.outcome == "failed" for _, _, status in dome.visit(3))
        await expect(page.locator("#map .bad")).to_have_count(bad)
        # What is drawn stays small enough to be drawn at every update.
        assert await page.evaluate("document.querySelectorAll('*').length") < 4000
        await page.set_viewport_size(PHONE)
        await expect(page.locator("#map svg")).to_be_visible()
        assert await too_wide(page) == []
        await page.keyboard.press("s")
        await expect(page.locator("#scale button")).to_have_text("scale: exposure")
    assert observed.problems == []


async def test_it_outlives_its_server_and_the_broker(page, observed, tmp_path, monkeypatch):
    monkeypatch.setattr(subscriber, "CONTACT_SECONDS", 0.5)
    dome = night()
    with BrokerProcess(tmp_path / "broker") as broker:
        async with publisher(broker, "lost") as publish:
            await publish(*dome.messages(0))
        async with live_page(broker, "lost") as live:
            port = live.server.port
            await page.goto(live.server.address)
            points = page.locator("#chart-seeing svg")
            await expect(points).to_have_attribute("data-points", "1")

            broker.kill()
            await expect(page.locator("#banners .kafka")).to_contain_text("No connection to Kafka")
            broker.start()
            async with publisher(broker, "lost") as publish:
                await publish(*dome.messages(1))
            await expect(points).to_have_attribute("data-points", "2")
            await expect(page.locator("#banners .kafka")).to_have_count(0)
            assert observed.problems == []

        await expect(page.locator("#banners .link")).to_contain_text("No connection to the server")
        await expect(page.locator("#banners .link")).to_contain_text(re.compile(r"since \d\d:\d\d:\d\d UTC"))
        await expect(points).to_have_attribute("data-points", "2")
        async with publisher(broker, "lost") as publish:
            await publish(*dome.messages(2))
        async with live_page(broker, "lost", port=port):
            await expect(points).to_have_attribute("data-points", "3")
            await expect(page.locator("#banners .link")).to_have_count(0)
            await expect(page.locator("#link")).to_have_attribute("data-state", "live")
    refused = [text for text in observed.console_errors if "ERR_" not in text]
    assert refused == []
    assert observed.external_requests == []
