"""The night's state does not depend on the order in which messages come."""

import gc
import itertools
import weakref
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from streamchar.dashboard.night import Night
from streamchar.dashboard.terminal import render
from streamchar.messages import ExposureReady, ExposureStatus, Provenance, PsfQuality, Reason, SourcePosition

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 64
PROVENANCE = Provenance(software_version="1", config_digest=DIGEST)


def announced(exposure=1, detector=0):
    return ExposureReady(
        event_id=f"e{exposure}-{detector}",
        instrument="CAM",
        exposure=exposure,
        detector=detector,
        uri="/data/a.fits",
        band="r",
        created_at=START,
    )


def status(exposure=1, detector=0, outcome="succeeded", seconds=2.5, reasons=()):
    return ExposureStatus(
        event_id=f"e{exposure}-{detector}",
        instrument="CAM",
        exposure=exposure,
        detector=detector,
        config_digest=DIGEST,
        outcome=outcome,
        reasons=reasons,
        source=SourcePosition(topic="t", partition=0, offset=1),
        published_at=START + timedelta(seconds=seconds),
        provenance=PROVENANCE,
    )


def quality(exposure=1, detector=0, seeing=0.8):
    return PsfQuality(
        instrument="CAM",
        exposure=exposure,
        detector=detector,
        event_id=f"e{exposure}-{detector}",
        config_digest=DIGEST,
        outcome="succeeded",
        seeing=seeing,
        psf_e1=0.03,
        psf_e2=0.04,
        n_psf_used=30,
        n_sources=99,
        provenance=PROVENANCE,
        created_at=START,
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_order_gives_the_same_row(order):
    messages = [announced(), status(), quality()]
    night = Night()
    for index in order:
        night.add(messages[index])
    (row,) = night.latest(5)
    assert row.key == ("CAM", 1, 0)
    assert row.latency == 2.5
    assert row.quality.seeing == 0.8
    assert row.quality.ellipticity == pytest.approx(0.05)
    assert (night.missing, night.repeated, night.unannounced) == ([], [], [])


def test_what_is_missing_repeated_or_unannounced_is_named():
    night = Night()
    for message in (announced(1), announced(2), status(2), status(2), status(3)):
        night.add(message)
    assert night.missing == ["e1-0"]
    assert night.repeated == ["e2-0"]
    assert night.unannounced == ["e3-0"]


def test_an_event_counts_once_by_its_last_outcome():
    night = Night()
    for message in (announced(), announced(), status(outcome="expired"), status(), status(2)):
        night.add(message)
    assert night.announced == 1
    assert night.outcomes == {"succeeded": 2}


def test_figures_of_an_exposure_stay_with_a_later_event_of_it():
    night = Night()
    again = announced().model_copy(update={"event_id": "again"})
    for message in (announced(), quality(), again):
        night.add(message)
    assert [row.quality.seeing for row in night.latest(2)] == [0.8, 0.8]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_forgotten_events_only_the_numbers_stay(order):
    night = Night(remembered=3)
    for exposure in range(1, 51):
        messages = [announced(exposure), status(exposure), quality(exposure, seeing=exposure / 100)]
        for index in order:
            night.add(messages[index])
    for unknown in range(100, 150):
        night.add(quality(unknown))
    assert (night.announced, night.outcomes) == (50, {"succeeded": 50})
    assert [row.event_id for row in night.latest(9)] == ["e48-0", "e49-0", "e50-0"]
    assert night.seeings == [0.48, 0.49, 0.5]
    assert night.latencies == [2.5, 2.5, 2.5]
    assert (night.missing, night.repeated, night.unannounced) == ([], [], [])
    kept = [getattr(night, name) for name in Night.__slots__]
    assert max(len(each) for each in kept if isinstance(each, dict)) <= 3


def test_the_table_shows_outcomes_with_their_reasons():
    night = Night()
    night.add(announced(7, 3))
    night.add(status(7, 3, "failed", reasons=(Reason(code="unreadable", detail="gone"),)))
    night.add(announced(8, 3))
    console = Console(width=120, file=StringIO())
    console.print(render(night))
    text = console.file.getvalue()
    assert "unreadable" in text
    assert "waiting" in text
    assert "announced 2" in text


def test_no_message_is_kept_in_memory_over_a_long_night():
    messages = [announced(), quality(), status(reasons=(Reason(code="late"),))]
    night = Night()
    for message in messages:
        night.add(message)
    kept = [weakref.ref(message) for message in messages]
    del messages, message
    gc.collect()
    assert [message() for message in kept] == [None, None, None]
    assert night.latest(1)[0].reasons == ("late",)
