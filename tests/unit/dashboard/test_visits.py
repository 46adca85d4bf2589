"""The night by visit: any order, repeats, bounds, nights told apart, and changes since any revision."""

import itertools
import random
import tracemalloc
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from streamchar.dashboard import summaries
from streamchar.dashboard.visits import DETAILED_VISITS, DROPPED, FAILURES, OUTCOMES, Visits
from streamchar.messages import ExposureStatus, PsfQuality, Reason, SourcePosition
from tests.dashboard_night import DIGEST, PROVENANCE, SimulatedNight

BEGIN = datetime(2026, 1, 2, 23, 0, tzinfo=UTC)
NIGHT = SimulatedNight(begin=BEGIN, rows=2, columns=2, failures=0.2)


def filled(messages, **options):
    visits = Visits(**options)
    for message in messages:
        visits.add(message, recorded=BEGIN.timestamp() + 75)
    visits.settle()
    return visits


def picture(visits):
    """All that is shown, without revisions."""
    return (
        [summaries.visit_row(visit, with_cells=True) for visit in visits],
        summaries.totals(visits),
        summaries.latency(visits),
        sorted(summaries.reasons(visits)),
        sorted(failure["event_id"] for failure in summaries.failures(visits)),
    )


def test_any_order_and_repeats_give_the_same_night():
    messages = [message for visit in range(3) for message in NIGHT.messages(visit)]
    expected = picture(filled(messages))
    for seed in range(5):
        shuffled = messages * 2
        random.Random(seed).shuffle(shuffled)
        assert picture(filled(shuffled)) == expected


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_frame_has_what_its_messages_say(order):
    night = SimulatedNight(begin=BEGIN, rows=1, columns=1, exposure_time=30.0)
    messages = night.messages(7)
    visits = filled([messages[index] for index in order])
    (frame,) = summaries.frame_list(visits.get("TESTCAM", 7), visits)
    ready, quality, status = messages
    assert frame["outcome"] == "succeeded"
    assert frame["seeing"] == pytest.approx(quality.seeing, abs=1e-3)
    assert frame["e1"] == pytest.approx(quality.psf_e1, abs=1e-4)
    assert frame["stars"] == quality.n_psf_used
    # The shutter closed two seconds before the announcement.
    expected = (status.published_at - ready.created_at).total_seconds() + 2.0
    assert frame["latency"] == pytest.approx(expected, abs=0.02)
    assert summaries.latency(visits)["from"] == "shutter"
    assert frame["work"] == pytest.approx(1.3)


def test_an_impossible_shutter_time_is_not_believed():
    night = SimulatedNight(begin=BEGIN, rows=1, columns=1)
    ready, quality, status = night.messages(0)
    quality = quality.model_copy(update={"mid_time": 51544.0, "exposure_time": 30.0})
    visits = filled([ready, quality, status])
    figures = summaries.latency(visits)
    assert figures["from"] == "announcement"
    assert figures["p50"] == pytest.approx((status.published_at - ready.created_at).total_seconds(), abs=0.02)


def test_medians_and_counts_of_a_visit_are_those_of_its_frames():
    triples = list(NIGHT.visit(3))
    visits = filled(NIGHT.messages(3))
    row = dict(zip(summaries.VISIT_COLUMNS, summaries.visit_row(visits.get("TESTCAM", 3)), strict=True))
    seeing = [quality.seeing for _, quality, _ in triples if quality is not None]
    ellipticity = [np.hypot(q.psf_e1, q.psf_e2) for _, q, _ in triples if q is not None]
    assert row["seeing"] == pytest.approx(np.median(seeing), abs=1e-3)
    assert row["seeing_high"] == pytest.approx(np.quantile(seeing, 0.9), abs=1e-3)
    assert row["ellipticity"] == pytest.approx(np.median(ellipticity), abs=1e-4)
    assert row["sources"] == sum(q.n_sources for _, q, _ in triples if q is not None)
    assert row["frames"] == 4
    for outcome in OUTCOMES[1:]:
        assert row[outcome] == sum(status.outcome == outcome for _, _, status in triples)


def test_the_grid_tells_width_and_direction():
    visits = filled(NIGHT.messages(0))
    frame = next(f for f in summaries.frame_list(visits.get("TESTCAM", 0), visits) if f["grid"])
    grid = np.array(frame["grid"])
    assert grid.shape == (25, 5)
    assert grid[:, :2].min() == pytest.approx(0.1)
    assert grid[:, :2].max() == pytest.approx(0.9)
    assert grid[12, 2] == pytest.approx(frame["seeing"], abs=1e-3)
    quality = next(q for _, q, _ in NIGHT.visit(0) if q is not None and q.detector == frame["detector"])
    xx, yy, xy = (np.array(getattr(quality.psf_grid, name)) for name in ("ixx", "iyy", "ixy"))
    np.testing.assert_allclose(grid[:, 3], (xx - yy) / (xx + yy), atol=1e-4)
    np.testing.assert_allclose(grid[:, 4], 2 * xy / (xx + yy), atol=1e-4)


def test_changes_since_a_revision_are_complete():
    visits = Visits()
    copy, seen = {}, 0
    for visit in range(6):
        for message in NIGHT.messages(visit):
            visits.add(message, BEGIN.timestamp())
        if visit % 2:
            changed, dropped = visits.changed_since(seen)
            assert dropped == []
            copy.update({item.key: summaries.visit_row(item) for item in changed})
            seen = visits.revision
    assert copy == {item.key: summaries.visit_row(item) for item in visits}
    assert visits.changed_since(visits.revision) == ([], [])
    assert visits.changed_since(visits.revision + 1) is None


def test_visits_forgotten_are_told_and_after_too_many_everything_is_told_anew():
    visits = Visits(max_visits=3)
    for visit in range(3):
        for message in NIGHT.messages(visit):
            visits.add(message)
    seen = visits.revision
    for message in NIGHT.messages(3):
        visits.add(message)
    changed, dropped = visits.changed_since(seen)
    assert [item.key[1] for item in changed] == [3]
    assert dropped == [("TESTCAM", 0)]
    single = SimulatedNight(begin=BEGIN, rows=1, columns=1, grid=False)
    template = single.messages(0)[0]
    for exposure in range(10, DROPPED + 20):
        visits.add(template.model_copy(update={"exposure": exposure}))
    assert visits.changed_since(seen) is None
    assert len(visits) == 3


def test_a_new_night_begins_after_a_pause_and_the_old_one_is_forgotten():
    evening = SimulatedNight(begin=BEGIN + timedelta(hours=20), rows=2, columns=2)
    messages = [m for visit in range(3) for m in NIGHT.messages(visit)]
    messages += [m.model_copy(update={"exposure": m.exposure + 100}) for m in evening.messages(0)]
    unreadable = failed_without_identity(BEGIN)
    for seed in range(3):  # as at the start, when partitions are read one after the other
        shuffled = [unreadable, *messages]
        random.Random(seed).shuffle(shuffled)
        visits = Visits(gap=5 * 3600)
        for message in shuffled:
            is_old = getattr(message, "exposure", None) in range(3)
            visits.add(message, (BEGIN + timedelta(hours=0.1 if is_old else 20.1)).timestamp())
        visits.settle()
        assert [visit.key[1] for visit in visits] == [100]
        assert list(visits.failures) == []
        assert visits.frame_count == 4


def failed_without_identity(at, **changes):
    fields = {
        "event_id": "unknown-1",
        "config_digest": DIGEST,
        "outcome": "failed",
        "reasons": (Reason(code="malformed_message", message="no map"),),
        "source": SourcePosition(topic="t", partition=0, offset=1),
        "published_at": at,
        "provenance": PROVENANCE,
    }
    return ExposureStatus(**{**fields, **changes})


def test_a_failure_without_identity_is_listed():
    visits = filled([failed_without_identity(BEGIN)])
    (failure,) = summaries.failures(visits)
    assert failure["code"] == "malformed_message"
    assert failure["instrument"] is None


def test_details_only_of_the_latest_visits():
    visits = filled([m for visit in range(DETAILED_VISITS + 6) for m in NIGHT.messages(visit)])
    detailed = [visit.key[1] for visit in visits if visit.details]
    assert detailed == list(range(6, DETAILED_VISITS + 6))
    old = next(iter(summaries.frame_list(visits.get("TESTCAM", 0), visits)))
    assert old["detailed"] is False
    assert old["grid"] is None
    assert old["reasons"] == []


def test_reason_codes_without_end_are_summed():
    visits = Visits()
    template = next(m for m in NIGHT.messages(0) if isinstance(m, ExposureStatus))
    for number in range(1000):
        status = template.model_copy(
            update={
                "exposure": number % 50,
                "detector": number,
                "outcome": "failed",
                "reasons": (Reason(code=f"reason-{number}"),),
            }
        )
        visits.add(status)
    counts = {code: count for _, code, count in summaries.reasons(visits)}
    assert counts["other"] > 400
    assert len(visits.failures) == FAILURES


def flood(visits, exposures, *, with_quality):
    """What 189 detectors publish every 34 seconds; constructed, not validated: the time belongs to the state."""
    night = SimulatedNight(begin=BEGIN, rows=15, columns=15, corner=3)
    _, quality, status = next(night.visit(0))
    for exposure in exposures:
        created = BEGIN + timedelta(seconds=34 * exposure)
        for detector in range(189):
            change = {"exposure": exposure, "detector": detector}
            if with_quality:
                visits.add(quality.model_copy(update=change), created.timestamp())
            change |= {"created_at": created, "published_at": created + timedelta(seconds=9)}
            visits.add(status.model_copy(update=change))
    visits.settle()


def test_two_hundred_thousand_frames_of_a_rubin_night():
    visits = Visits(max_visits=1000)
    flood(visits, range(1058), with_quality=False)
    assert len(visits) == 1000
    assert visits.frame_count == 189_000
    assert [next(iter(visits)).key[1], next(reversed(visits)).key[1]] == [58, 1057]
    assert summaries.totals(visits)["succeeded"] == 189_000
    assert summaries.latency(visits)["p95"] == pytest.approx(9.0)
    changed, dropped = visits.changed_since(visits.revision - 10)
    assert [visit.key[1] for visit in changed] == [1057]
    assert dropped == []


def test_a_rubin_night_needs_less_than_60_megabytes():
    flood(Visits(), range(2), with_quality=True)
    tracemalloc.start()
    visits = Visits()
    flood(visits, range(DETAILED_VISITS), with_quality=True)
    detailed, _ = tracemalloc.get_traced_memory()
    flood(visits, range(DETAILED_VISITS, 2 * DETAILED_VISITS), with_quality=True)
    both, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    of_a_visit = (both - detailed) / DETAILED_VISITS
    assert 1000 * of_a_visit + detailed < 60e6


def test_a_night_is_bounded_by_its_frames():
    visits = Visits(max_frames=10)
    for visit in range(6):
        for message in NIGHT.messages(visit):
            visits.add(message)
    assert visits.frame_count <= 10
    assert [visit.key[1] for visit in visits] == [4, 5]


def test_quality_that_is_not_known_is_none():
    bare = PsfQuality(
        event_id="e",
        instrument="CAM",
        exposure=1,
        detector=0,
        config_digest=DIGEST,
        outcome="degraded",
        provenance=PROVENANCE,
    )
    visits = filled([bare])
    row = dict(zip(summaries.VISIT_COLUMNS, summaries.visit_row(visits.get("CAM", 1)), strict=True))
    assert row["seeing"] is None
    assert row["sources"] is None
    assert row["grade"] == "unknown"
    (frame,) = summaries.frame_list(visits.get("CAM", 1), visits)
    assert frame["fwhm"] is None
    assert summaries.cells(visits.get("CAM", 1)) == [[0], [-1]]


@pytest.mark.parametrize(
    ("grades", "expected"),
    [
        ([], "unknown"),
        ([0, 0], "unknown"),
        ([1, 1, 4], "red"),
        ([1] * 19 + [4], "green"),
        ([1] * 17 + [3, 3, 4], "orange"),
    ],
)
def test_the_grade_is_what_a_tenth_of_the_frames_have(grades, expected):
    assert summaries.worst_grade(np.array(grades, np.uint8)) == expected
