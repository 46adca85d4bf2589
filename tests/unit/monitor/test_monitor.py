"""Metrics, grades, probes and loop lag."""

from __future__ import annotations

import asyncio
import math
import time

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from streamchar.monitor.grades import GradeLimits, assess, limits_for
from streamchar.monitor.health import HealthServer, ListenError, Probes
from streamchar.monitor.loop_lag import LoopLag
from streamchar.monitor.metrics import DEFINITIONS, MAX_SERIES, Metrics
from streamchar.monitor.nonsense import PlausibleRange, implausible, ranges_for


def test_definitions_follow_the_conventions() -> None:
    names = [definition.name for definition in DEFINITIONS]
    assert len(set(names)) == len(names)
    for definition in DEFINITIONS:
        assert definition.name.startswith("streamchar_")
        assert definition.name.endswith("_total") == (definition.kind == "counter")
        assert definition.help.endswith(".")
        assert not {"exposure", "visit", "event"} & set(definition.labels)
        assert (definition.kind == "histogram") == bool(definition.buckets)
        assert 60 in definition.buckets or "end_to_end" not in definition.name


def test_every_metric_can_be_changed_and_is_exposed() -> None:
    metrics = Metrics()
    for definition in DEFINITIONS:
        metrics.change(definition.name, 1.5, dict.fromkeys(definition.labels, "x"))
    families = {family.name for family in text_string_to_metric_families(metrics.text().decode())}
    assert {definition.name.removesuffix("_total") for definition in DEFINITIONS} <= families


def test_changes_of_workers_are_checked() -> None:
    metrics = Metrics()
    assert metrics.apply("streamchar_sources_total", 3.0, {})
    assert not metrics.apply("streamchar_unknown", 3.0, {})
    assert not metrics.apply("streamchar_sources_total", -3.0, {})
    assert not metrics.apply("streamchar_sources_total", math.nan, {})
    assert not metrics.apply("streamchar_sources_total", 3.0, {"instrument": "x"})
    assert b"streamchar_sources_total 3.0" in metrics.text()


def test_grades() -> None:
    rising = GradeLimits(yellow=1.0, orange=1.5, red=2.0)
    falling = GradeLimits(yellow=50, orange=20, red=5)
    limits = {
        "default": {"seeing": rising},
        "Cam": {"n_psf_used": falling},
        "Cam/u": {"seeing": GradeLimits(yellow=2, orange=3, red=4)},
    }
    assert set(limits_for(limits, "Other", "r")) == {"seeing"}
    in_r, in_u = limits_for(limits, "Cam", "r"), limits_for(limits, "Cam", "u")
    assert assess({"seeing": 0.9, "n_psf_used": 60}, in_r).grade == "green"
    assert assess({"seeing": 1.0, "n_psf_used": 60}, in_r).grade == "yellow"
    assert assess({"seeing": 0.9, "n_psf_used": 20}, in_r).grade == "orange"
    assert assess({"seeing": 2.5, "n_psf_used": 20}, in_r).grade == "red"
    assert assess({"seeing": 1.9, "n_psf_used": 60}, in_u).grade == "green"
    assert assess({"seeing": math.nan, "n_psf_used": None}, in_r).grade == "unknown"
    assert assess({}, {}).grade == "unknown"
    worst = assess({"seeing": 1.2, "n_psf_used": 4}, in_r).exceeded
    assert [(item.quantity, item.limit, item.grade) for item in worst] == [
        ("n_psf_used", 5, "red"),
        ("seeing", 1.0, "yellow"),
    ]
    with pytest.raises(ValueError, match="increase"):
        GradeLimits(yellow=1, orange=3, red=2)


async def test_probes_answer_and_say_what_is_wrong() -> None:
    wrong = {"breaker": ""}
    probes = Probes(
        dict,
        lambda: wrong,
        dict,
        lambda accept: (b"metric 1\n", "text/x"),
        lambda: {"version": "1"},
    )
    server = HealthServer(probes)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:
            async with client.get("/readyz") as answer:
                assert (answer.status, (await answer.json())["checks"]) == (200, {"breaker": "ok"})
            wrong["breaker"] = "open"
            async with client.get("/readyz") as answer:
                assert (answer.status, (await answer.json())["checks"]) == (503, {"breaker": "open"})
            async with client.get("/livez") as answer:
                assert answer.status == 200
            async with client.get("/metrics") as answer:
                assert await answer.text() == "metric 1\n"
        with pytest.raises(ListenError, match=f"127.0.0.1:{server.port}: Address already in use"):
            await HealthServer(probes, port=server.port).start()
    finally:
        await server.stop()


async def test_a_blocked_loop_shows() -> None:
    lags: list[float] = []
    task = asyncio.ensure_future(LoopLag(lags.append, 0.01).run())
    await asyncio.sleep(0.05)
    time.sleep(0.1)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert 0.05 < max(lags) < 0.2
    assert min(lags) < 0.02


def test_exemplars_name_the_exposure_in_openmetrics_only() -> None:
    metrics = Metrics()
    metrics.change("streamchar_dead_letters_total", 1, {"reason": "x"}, "Cam/12/3")
    metrics.change("streamchar_attempt_seconds", 0.7, exposure="Cam/12/3" + "x" * 200)
    metrics.change("streamchar_psf_fwhm_arcsec", 0.7, {"instrument": "Cam", "band": "r"}, "Cam/12/3")
    body, kind = metrics.exposition("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert b'streamchar_dead_letters_total{reason="x"} 1.0 # {exposure="Cam/12/3"} 1.0' in body
    assert b'streamchar_attempt_seconds_bucket{le="1.0"} 1.0 # {exposure="Cam/12/3xxx' in body
    samples = [sample for family in parse_openmetrics(body.decode()) for sample in family.samples]
    exemplars = {sample.name: sample.exemplar.labels for sample in samples if sample.exemplar}
    assert exemplars["streamchar_dead_letters_total"] == {"exposure": "Cam/12/3"}
    assert b"Cam/12/3" not in metrics.exposition("")[0]
    assert metrics.exposition("*/*")[1].startswith("text/plain")


def test_messages_cannot_make_series_without_end() -> None:
    metrics = Metrics()
    for number in range(MAX_SERIES + 50):
        metrics.change("streamchar_duplicates_total", 1, {"instrument": f"Cam{number}"})
    metrics.change("streamchar_duplicates_total", 1, {"instrument": "Cam7"})
    text = metrics.text()
    assert text.count(b"streamchar_duplicates_total{") == MAX_SERIES + 1
    assert b'streamchar_duplicates_total{instrument="other"} 50.0' in text
    assert b'streamchar_duplicates_total{instrument="Cam7"} 2.0' in text
    metrics.clear("streamchar_duplicates_total")
    metrics.change("streamchar_duplicates_total", 1, {"instrument": "new"})
    assert b'streamchar_duplicates_total{instrument="new"} 1.0' in metrics.text()


def test_nonsense_is_what_lies_outside_the_possible() -> None:
    ranges = ranges_for({}, "Cam", "r")
    assert implausible({"psf_fwhm": 2.5, "seeing": 0.8, "star_e_median": math.nan}, ranges) == ()
    assert implausible({"psf_fwhm": None, "seeing": "?"}, ranges) == ()
    assert [
        (item.quantity, item.value) for item in implausible({"psf_fwhm": 0.3, "seeing": math.inf}, ranges)
    ] == [
        ("psf_fwhm", 0.3),
        ("seeing", math.inf),
    ]
    own = {
        "default": {"psf_fwhm": PlausibleRange(most=5)},
        "Cam": {"psf_fwhm": PlausibleRange(least=0.1)},
        "Cam/u": {"n_sources": PlausibleRange(least=1)},
    }
    assert implausible({"psf_fwhm": 300.0}, ranges_for(own, "Cam", "r")) == ()
    assert implausible({"psf_fwhm": 6.0}, ranges_for(own, "Other", "r"))
    assert implausible({"n_sources": 0}, ranges_for(own, "Cam", "u"))
    with pytest.raises(ValueError, match="least must not be above most"):
        PlausibleRange(least=2, most=1)
