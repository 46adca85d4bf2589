"""The page's server: who may ask, what is sent with every answer, events and their resumption, links and thumbnails."""

import asyncio
import json
import re
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import pytest

from streamchar.dashboard.errors import PageListenError
from streamchar.dashboard.feed import Feed
from streamchar.dashboard.server import HEADERS, PageServer, load_assets, may_ask
from streamchar.dashboard.services import ENDS, GAUGES, INFO, read_metrics
from streamchar.dashboard.subscriber import Contact
from streamchar.dashboard.visits import Visits
from streamchar.messages import ExposureStatus, ProductDescription
from streamchar.monitor.metrics import DEFINITIONS, Metrics
from streamchar.monitor.page_settings import CameraLayout, DashboardSettings
from tests.dashboard_night import SimulatedNight

BEGIN = datetime(2026, 1, 2, 23, 0, tzinfo=UTC)
NIGHT = SimulatedNight(begin=BEGIN, rows=2, columns=2, failures=0.2)
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


class Page:
    """A page served without brokers."""

    def __init__(self, **settings):
        self.settings = DashboardSettings(port=0, **settings)
        self.visits = Visits()
        self.contact = Contact(True, 1.0)
        self.feed = Feed(self.visits, lambda: self.contact, list, self.settings.cameras)
        self.server = PageServer(self.settings, self.visits, self.feed)

    def add(self, visit, night=NIGHT):
        for message in night.messages(visit):
            self.visits.add(message, BEGIN.timestamp())
        self.feed.mark()

    async def json(self, path, status=200):
        async with self.session.get(path) as response:
            assert response.status == status
            return await response.json() if status == 200 else None


@asynccontextmanager
async def served(**settings):
    page = Page(**settings)
    page.feed.refresh()
    await page.server.start()
    running = asyncio.ensure_future(page.feed.run())
    async with aiohttp.ClientSession(page.server.address) as session:
        page.session = session
        try:
            yield page
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await page.server.stop()


async def next_event(response, *, beats=False):
    """Read one server-sent event: name, identifier, data."""
    async with asyncio.timeout(30):
        while True:
            lines = {}
            while line := (await response.content.readline()).decode().strip():
                name, _, value = line.partition(": ")
                lines[name] = value
            if "event" in lines and (beats or lines["event"] != "beat"):
                return lines["event"], lines.get("id"), json.loads(lines["data"])


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8751", True),
        ("[::1]:8751", True),
        ("192.168.3.4", True),
        ("localhost:1", True),
        ("LOCALHOST.", True),
        ("page.observatory.example", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example:127.0.0.1", False),
        ("[::1]evil.example", False),
        ("", False),
    ],
)
def test_only_addresses_and_known_names_may_ask(host, allowed):
    assert may_ask(host, {"localhost", "page.observatory.example"}) is allowed


async def test_every_answer_is_protected_and_nothing_can_be_changed():
    async with served() as page:
        for path, status in (("/", 200), ("/assets/main.js", 200), ("/api/night", 200), ("/nowhere", 404)):
            async with page.session.get(path) as response:
                assert response.status == status
                assert {name: response.headers[name] for name in HEADERS} == dict(HEADERS)
                assert "Access-Control-Allow-Origin" not in response.headers
        async with page.session.get("/api/events") as response:
            assert {name: response.headers[name] for name in HEADERS} == dict(HEADERS)
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            async with page.session.request(method, "/api/night") as response:
                assert response.status == 405
        for path in ("/", "/api/night", "/api/events", "/assets/main.js"):
            async with page.session.get(path, headers={"Host": "evil.example"}) as response:
                assert response.status == 421
                assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../server.py",
        "/assets/..%2fserver.py",
        "/assets/index.html",
        "/api/visits/TESTCAM/99",
        "/api/visits/TESTCAM/-1",
        "/api/visits/TESTCAM/" + "9" * 30,
        "/api/visits/TESTCAM/1e3",
        "/api/visits/TESTCAM/%D9%A3",
        "/api/thumbnails/TESTCAM/0/0",
    ],
)
async def test_what_does_not_exist_is_not_found(path):
    async with served() as page:
        page.add(0)
        await page.json(path, status=404)


def test_the_page_needs_nothing_from_elsewhere_and_reads_no_text_as_markup():
    assets, index = load_assets()
    html = index.body.decode()
    assert set(re.findall(r"/assets/([\w.]+)", html)) <= set(assets)
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", html)
    for name, asset in {**assets, "index.html": index}.items():
        text = asset.body.decode()
        for address in re.findall(r"(?:https?:)?//[\w-]+\.[\w./-]+", text):
            assert address == "http://www.w3.org/2000/svg", (name, address)
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
        ), name
        assert not re.search(r"@import|url\(", text), name
    for name in re.findall(r'from "\./([\w.]+)"', "".join(a.body.decode() for a in assets.values())):
        assert name in assets


async def test_an_unchanged_file_is_not_sent_again():
    async with served() as page:
        async with page.session.get("/assets/dashboard.css") as response:
            tag = response.headers["ETag"]
        async with page.session.get("/assets/dashboard.css", headers={"If-None-Match": tag}) as response:
            assert response.status == 304


async def test_events_tell_everything_first_and_then_what_has_changed():
    async with served() as page:
        page.add(0)
        async with page.session.get("/api/events") as response:
            name, _, data = await next_event(response)
            while len(data["visits"]) < 1:
                name, _, data = await next_event(response)
            assert data["totals"]["frames"] in {0, 4}
            page.add(1)
            name, _, data = await next_event(response)
            assert name == "update"
            assert [row[1] for row in data["visits"]] == [1]
            assert data["totals"]["frames"] == 8
            assert "planes" not in data  # the same as before
            page.contact = Contact(False, 2.0, "no answer")
            page.feed.mark()
            _, _, data = await next_event(response)
            assert data["kafka"]["connected"] is False
            assert data["visits"] == []


async def test_a_page_that_was_away_is_told_only_what_it_missed():
    async with served() as page:
        for visit in range(3):
            page.add(visit)
        async with page.session.get("/api/events") as response:
            name, last, data = await next_event(response)
        assert name == "night"
        assert len(data["visits"]) == 3
        page.add(3)
        for resumed in (
            {"headers": {"Last-Event-ID": last}},
            {"params": {"last": last}},
        ):
            async with page.session.get("/api/events", **resumed) as response:
                name, _, data = await next_event(response)
                assert name == "update"
                assert [row[1] for row in data["visits"]] == [3]
        for stranger in ("0123abcd-5", "nonsense", f"{page.feed.boot}-99999", f"{page.feed.boot}-{'9' * 40}"):
            async with page.session.get("/api/events", headers={"Last-Event-ID": stranger}) as response:
                name, _, data = await next_event(response)
                assert name == "night"
                assert len(data["visits"]) == 4


async def test_silence_is_broken_by_beats(monkeypatch):
    monkeypatch.setattr("streamchar.dashboard.feed.BEAT_SECONDS", 0.1)
    async with served() as page, page.session.get("/api/events") as response:
        await next_event(response)
        name, _, data = await next_event(response, beats=True)
        assert name == "beat"
        assert data["now"] > 1e9


async def test_pages_are_limited_and_leave():
    async with served(max_pages=1) as page:
        async with page.session.get("/api/events") as response:
            await next_event(response)
            async with page.session.get("/api/events") as second:
                assert second.status == 503
        async with asyncio.timeout(30):
            while page.feed.pages:
                page.feed.mark()
                await asyncio.sleep(0.05)


async def test_a_visit_tells_all_about_its_detectors():
    async with served(
        report="https://archive.example/{instrument}/{exposure}/{detector}?id={event_id}"
    ) as page:
        night = SimulatedNight(instrument='<b>"x"', begin=BEGIN, rows=2, columns=2)
        page.add(5, night)
        page.feed.refresh()
        data = await page.json("/api/visits/%3Cb%3E%22x%22/5")
        assert [frame["detector"] for frame in data["frames"]] == [0, 1, 2, 3]
        frame = data["frames"][1]
        assert frame["report"] == "https://archive.example/%3Cb%3E%22x%22/5/1?id=%3Cb%3E%22x%22-5-1"
        assert len(frame["grid"]) == 25
        assert set(data["detectors"]) == {"0", "1", "2", "3"}


async def test_without_a_report_address_there_is_no_link():
    async with served() as page:
        page.add(0)
        data = await page.json("/api/visits/TESTCAM/0")
        assert {frame["report"] for frame in data["frames"]} == {None}
        assert {frame["thumbnail"] for frame in data["frames"]} == {False}


async def test_thumbnails_come_only_from_the_folders_that_are_allowed(tmp_path):
    inside, outside = tmp_path / "night", tmp_path / "private"
    inside.mkdir()
    outside.mkdir()
    (inside / "0.png").write_bytes(PNG)
    (inside / "2.html").write_bytes(b"<script>alert(1)</script>")
    (outside / "1.png").write_bytes(PNG)
    (inside / "3.png").symlink_to(outside / "1.png")
    uris = [inside / "0.png", outside / "1.png", inside / "2.html", inside / "3.png"]
    async with served(roots=(inside,)) as page:
        for message in SimulatedNight(begin=BEGIN, rows=2, columns=2).messages(0):
            if isinstance(message, ExposureStatus):
                product = ProductDescription(product="thumbnail", uri=uris[message.detector].as_uri())
                message = message.model_copy(update={"products": (product,)})
            page.visits.add(message)
        for detector, status in enumerate((200, 404, 404, 404)):
            async with page.session.get(f"/api/thumbnails/TESTCAM/0/{detector}") as response:
                assert response.status == status
                if status == 200:
                    assert response.headers["Content-Type"] == "image/png"
                    assert await response.read() == PNG


async def test_a_focal_plane_from_the_settings_wins_over_the_sky():
    camera = CameraLayout(rows=1, columns=4)
    async with served(cameras={"TESTCAM": camera}) as page:
        page.add(0)
        page.add(0, SimulatedNight(instrument="NOSKY", begin=BEGIN, rows=2, columns=2, on_sky=False))
        page.add(0, SimulatedNight(instrument="SKY", begin=BEGIN, rows=2, columns=2))
        page.feed.refresh()
        planes = (await page.json("/api/night"))["planes"]
        assert {name: plane["layout"] for name, plane in planes.items()} == {
            "TESTCAM": "settings",
            "NOSKY": "grid",
            "SKY": "sky",
        }
        assert planes["TESTCAM"]["detectors"]["3"][1] == 0
        # Turned and mirrored on the sky, upright in the focal plane.
        assert planes["SKY"]["detectors"]["1"][0] == pytest.approx(511, abs=3)
        assert planes["SKY"]["detectors"]["1"][1] == pytest.approx(0, abs=3)


async def test_the_endpoints_document_themselves():
    async with served() as page:
        endpoints = (await page.json("/api"))["endpoints"]
        for path in endpoints:
            if "{" not in path and path != "/api/events":
                async with page.session.get(path) as response:
                    assert response.status == 200


async def test_a_taken_port_is_named():
    async with served() as page:
        other = Page()
        other.server.port = page.server.port
        with pytest.raises(PageListenError, match=str(page.server.port)):
            await other.server.start()


async def test_a_host_that_is_not_known_is_no_unknown_error(monkeypatch):
    async def refuse(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    page = Page()
    monkeypatch.setattr("aiohttp.web.TCPSite.start", refuse)
    with pytest.raises(PageListenError, match="Name or service not known"):
        await page.server.start()


def test_metrics_of_a_service_are_read():
    metrics = Metrics()
    metrics.change("streamchar_workers_ready", 4)
    metrics.change("streamchar_workers_busy", 3)
    metrics.change("streamchar_worker_ends_total", 2, {"cause": "timeout"})
    metrics.change("streamchar_worker_ends_total", 1, {"cause": "crash"})
    for partition in range(3):
        labels = {"topic": "t", "partition": str(partition)}
        metrics.change("streamchar_consumer_lag", 5, labels)
    info = {"version": "1.2", "python": "3", "config_digest": "d"}
    metrics.change("streamchar_build_info", 1, info)
    state = read_metrics("http://x", metrics.text().decode())
    assert state.figures["ready"] == 4
    assert state.figures["busy"] == 3
    assert state.figures["lag"] == 15
    assert state.ends == {"timeout": 2, "crash": 1}
    assert state.version == "1.2"
    assert {*GAUGES, ENDS, INFO} <= {definition.name for definition in DEFINITIONS}
    with pytest.raises(ValueError):
        read_metrics("http://x", "<html>not metrics</html> {")
