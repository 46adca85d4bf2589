"""The plan of a night and its run: reproducible, on time, whole files only, no process left."""

import asyncio
import hashlib
import json
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from streamchar.broker.config import BrokerSettings
from streamchar.broker.server import EmbeddedBroker
from streamchar.cli import build
from streamchar.image import Exposure, UnreadableExposureError
from streamchar.messages.codec import decode_exposure_ready
from streamchar.telescope import NightConfig, Telescope, read_truth, truth_path
from streamchar.telescope.announce import JsonLinesAnnouncer, KafkaAnnouncer
from streamchar.telescope.errors import AnnouncementError, DrawingError, RendererLostError
from streamchar.telescope.operate import run_night
from streamchar.telescope.renderer import Renderer
from streamchar.telescope.store import store

SMALL = (
    "scene.camera.height=96", "scene.camera.width=96", "scene.camera.columns=1", "scene.truth_grid=2",
    "scene.stars.density=10", "scene.galaxies.density=5",
)  # fmt: skip


def night(*overrides: str) -> NightConfig:
    return NightConfig().with_overrides(*SMALL, "cadence=0", "exposures=3", *overrides)


class Collector:
    def __init__(self) -> None:
        self.events = []

    async def announce(self, event) -> None:
        self.events.append(event)


def test_a_plan_is_reproducible() -> None:
    config = NightConfig(fault_rate=0.3)
    first, again = (list(Telescope(config).night()) for _ in range(2))
    other = list(Telescope(config.with_overrides("seed=2")).night())
    assert first == again
    assert first != other
    assert len(first) == 80
    assert len({plan.file_name for plan in first}) == 80
    assert sum(bool(plan.fault) for plan in first) == pytest.approx(24, abs=12)


def test_conditions_drift_as_configured() -> None:
    config = NightConfig(exposures=4000, exposures_per_band=10**6, interval=600.0)
    conditions = list(
        Telescope(config.with_overrides("conditions.guiding_event_probability=0.1")).conditions()
    )
    zenith = np.array([each.seeing / each.airmass**0.6 for each in conditions]) / (622 / 500) ** -0.2
    assert np.log(zenith).mean() == pytest.approx(np.log(0.7), abs=0.03)
    assert np.log(zenith).std() == pytest.approx(0.18, rel=0.1)
    log = np.log(zenith / 0.7)
    assert np.corrcoef(log[1:], log[:-1])[0, 1] == pytest.approx(np.exp(-1 / 3), abs=0.05)
    events = np.mean([each.guiding_rms > 0.1 for each in conditions])
    assert events == pytest.approx(0.1, abs=0.02)
    defocus = np.array([each.defocus for each in conditions])
    assert np.abs(defocus).max() < 0.25 + 0.1
    assert sum(each.refocused for each in conditions) > 3
    assert all(each.extinction >= 0 for each in conditions)


def test_a_fixed_scene_does_not_drift() -> None:
    plans = list(Telescope(night("vary=false", "bands=['i']")).night())
    assert len({plan.scene.psf.seeing for plan in plans}) == 1
    assert {plan.scene.band for plan in plans} == {"r"}
    images = [plan.simulate().exposure.image for plan in plans[::2]]
    assert not np.array_equal(images[0], images[1])


async def test_a_night_stores_and_announces_everything(tmp_path: Path) -> None:
    collector = Collector()
    seen = []
    report = await run_night(night(), tmp_path, collector, on_stored=seen.append)
    assert report.announced == len(collector.events) == len(seen) == 6
    assert report.faults == 0
    assert report.cpu > 0
    for event in collector.events:
        path = Path(urlparse(event.uri).path)
        assert event.checksum == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        assert event.size_bytes == path.stat().st_size
        exposure = Exposure.read(path)
        exposure.check()
        assert (exposure.identity.exposure, exposure.identity.detector) == (event.exposure, event.detector)
        assert (exposure.identity.instrument, exposure.identity.band) == (event.instrument, event.band)
        assert exposure.observation.exposure_time == event.exposure_time
        assert exposure.observation.mid_time == pytest.approx(event.mid_time)
        assert exposure.observation.gain == 1.7
        assert exposure.wcs is not None
        truth = read_truth(truth_path(path))
        assert truth.identity == exposure.identity
    assert [(event.exposure, event.detector) for event in collector.events] == [
        (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1),
    ]  # fmt: skip


async def test_the_process_draws_the_same_pixels(tmp_path: Path) -> None:
    config = night("exposures=1")
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    await run_night(config, tmp_path / "there", None)
    for plan in Telescope(config).night():
        stored = store(plan, tmp_path / "here")
        assert stored.path.read_bytes() == (tmp_path / "there" / plan.file_name).read_bytes()


async def test_no_announcement_comes_before_its_time(tmp_path: Path) -> None:
    times = []
    loop = asyncio.get_running_loop()
    config = night("cadence=0.4", "scene.camera.rows=1")
    start = loop.time()
    await run_night(config, tmp_path, Collector(), on_stored=lambda _: times.append(loop.time() - start))
    assert len(times) > 1
    assert all(time >= 0.4 * number for number, time in enumerate(times))


@pytest.mark.parametrize("fault", ["truncated", "missing", "nan"])
def test_faults_are_what_they_say(tmp_path: Path, fault: str) -> None:
    plans = Telescope(night("exposures=200", "fault_rate=0.5")).night()
    plan = next(plan for plan in plans if plan.fault == fault)
    stored = store(plan, tmp_path)
    assert read_truth(truth_path(stored.path)).fault == fault
    names = sorted(path.name for path in tmp_path.iterdir())
    if fault == "missing":
        assert names == [stored.path.with_suffix(".truth.fits").name]
        assert stored.event().checksum is None
    elif fault == "truncated":
        assert len(names) == 2
        assert stored.path.stat().st_size < stored.size
        with pytest.raises(UnreadableExposureError, match="truncated"):
            Exposure.read(stored.path)
    else:
        assert not np.isfinite(Exposure.read(stored.path).image).any()


async def test_no_partial_file_is_ever_visible(tmp_path: Path) -> None:
    looked = set()

    async def watch() -> None:
        while True:
            for path in set(tmp_path.glob("[!.]*.fits")) - looked:
                if path.name.endswith(".truth.fits"):
                    read_truth(path)
                else:
                    assert truth_path(path).exists()
                    Exposure.read(path).check()
                looked.add(path)
            await asyncio.sleep(0.001)

    watcher = asyncio.create_task(watch())
    await run_night(night(), tmp_path)
    await asyncio.sleep(0.05)
    assert not watcher.done()
    watcher.cancel()
    assert len(looked) == 12


async def test_cancelling_leaves_neither_process_nor_partial_file(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    begun = asyncio.Event()
    task = asyncio.create_task(
        run_night(
            night("exposures=1000", "scene.camera.height=512", "scene.camera.width=512"),
            tmp_path,
            on_stored=lambda _: begun.set(),
        )
    )
    await asyncio.wait_for(begun.wait(), 30)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(psutil.Process().children(recursive=True)) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


async def test_a_directory_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    plan = next(Telescope(night()).night())
    async with Renderer(tmp_path / "nowhere") as renderer:
        with pytest.raises(DrawingError, match=r"SIMCAM-000001-00.fits could not be made: .*No such file"):
            await renderer.render(plan)


async def test_a_lost_process_is_reported(tmp_path: Path) -> None:
    plan = next(Telescope(night()).night())
    before = set(psutil.Process().children())
    async with Renderer(tmp_path) as renderer:
        (process,) = set(psutil.Process().children()) - before
        process.kill()
        with pytest.raises(RendererLostError, match="exit code -9"):
            await renderer.render(plan)


async def test_events_travel_as_json_lines(tmp_path: Path) -> None:
    announcer = JsonLinesAnnouncer(tmp_path / "events.jsonl")
    await run_night(night("exposures=1"), tmp_path, announcer)
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    events = [decode_exposure_ready(line, [("content-type", b"application/json")]) for line in lines]
    assert [event.detector for event in events] == [0, 1]
    assert json.loads(lines[0])["uri"].startswith("file:///")


async def test_events_travel_over_kafka(tmp_path: Path) -> None:
    from aiokafka import AIOKafkaConsumer

    (tmp_path / "images").mkdir()
    async with EmbeddedBroker(BrokerSettings(data_dir=tmp_path / "broker", port=0)) as broker:
        async with KafkaAnnouncer(broker.bootstrap, "ready") as announcer:
            await run_night(night("exposures=1"), tmp_path / "images", announcer)
        consumer = AIOKafkaConsumer("ready", bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
        async with consumer:
            records = [await asyncio.wait_for(consumer.getone(), 10) for _ in range(2)]
    events = [decode_exposure_ready(record.value, record.headers) for record in records]
    assert sorted(event.key for event in events) == ["SIMCAM/1/0", "SIMCAM/1/1"]
    assert {record.key.decode() for record in records} == {event.key for event in events}


async def test_an_absent_broker_is_one_sentence() -> None:
    with pytest.raises(AnnouncementError, match=r"could not be announced to 127\.0\.0\.1:9"):
        async with KafkaAnnouncer("127.0.0.1:9"):
            pass


async def test_a_renderer_is_used_as_a_context(tmp_path: Path) -> None:
    plan = next(Telescope(night()).night())
    with pytest.raises(RuntimeError, match="async with"):
        await Renderer(tmp_path).render(plan)


def test_the_command_takes_a_night(tmp_path: Path) -> None:
    arguments = [
        "telescope", "-o", str(tmp_path / "out"), "--size", "96", "--detectors", "2", "--exposures", "2",
        "--cadence", "0", "--seed", "3", "-c", "scene.truth_grid=2",
    ]  # fmt: skip
    result = CliRunner().invoke(build(arguments), arguments)
    assert result.exit_code == 0, result.output
    assert "4 exposures announced" in result.output
    assert len(list((tmp_path / "out").glob("*[0-9].fits"))) == 4
    assert len((tmp_path / "out" / "events.jsonl").read_text().splitlines()) == 4


def test_the_command_makes_a_named_scene(tmp_path: Path) -> None:
    arguments = ["telescope", "-o", str(tmp_path), "--scene", "sharp", "--size", "128", "--exposures", "1"]
    result = CliRunner().invoke(build(arguments), arguments)
    assert result.exit_code == 0, result.output
    (path,) = tmp_path.glob("*.truth.fits")
    truth = read_truth(path)
    assert truth.psf.fwhm == pytest.approx(2.3, abs=0.03)
    assert truth.identity.detector == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--scene", "sharpp"], "did you mean 'sharp'"),
        (["--duration", "60", "--exposures", "3"], "cannot be combined"),
        (["--duration", "60", "--cadence", "0"], "needs a --cadence"),
        (["-c", "scene.starz.density=1"], "did you mean 'scene.stars'"),
    ],
)
def test_the_command_explains_what_is_wrong(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    words = ["telescope", "-o", str(tmp_path), *arguments]
    result = CliRunner().invoke(build(words), words)
    assert result.exit_code != 0
    assert sentence in str(result.exception)
