"""Plans: the fewest workers that do, and figures that add up."""

import json

import numpy as np
import pytest

from streamchar.planning import (
    SURVEYS,
    ProfileError,
    ServiceProfile,
    Survey,
    UnreachableDeadlineError,
    make_plan,
    read_profile,
)

SMALL = Survey("small", 1, 20, 30.0, 20.0, 2000, 2000, announce_delay=2.0, night=2.0)
PROFILE = ServiceProfile(fixed=2.0, per_megapixel=0.0)


def test_one_worker_less_would_be_late():
    found = make_plan(SMALL, PROFILE, min_replicas=1)
    workers = found.fleet.workers * found.fleet.replicas
    assert found.latency(99) <= 20.0
    less = make_plan(SMALL, PROFILE, min_replicas=1, workers=workers - 1)
    assert less.latency(99) > 20.0 or less.utilisation > 0.8


def test_a_loose_deadline_still_leaves_room():
    found = make_plan(Survey("x", 1, 20, 30.0, 1e5, 2000, 2000, night=2.0), PROFILE, max_utilisation=0.5)
    assert 0.3 < found.utilisation <= 0.5


def test_large_fleets_are_split_into_replicas():
    found = make_plan(SMALL, PROFILE, cores_per_replica=2, min_replicas=1)
    assert found.fleet.workers == 1
    assert found.fleet.replicas >= 2
    assert found.fleet.partitions == 4 * found.fleet.replicas
    assert found.cores == 2 * found.fleet.replicas


@pytest.mark.parametrize("name", sorted(SURVEYS))
def test_known_surveys_have_plans(name):
    found = make_plan(SURVEYS[name], ServiceProfile())
    assert found.latency(99) <= SURVEYS[name].deadline
    assert found.utilisation <= 0.8
    assert found.fleet.replicas >= 2
    figures = json.loads(json.dumps(found.figures()))
    assert figures["night_bytes"] == pytest.approx(3 * found.bandwidth * SURVEYS[name].night * 3600, rel=1e-6)


def test_what_cannot_be_had_is_said():
    with pytest.raises(UnreachableDeadlineError, match="no number of workers meets 1 s"):
        make_plan(Survey("x", 1, 4, 30.0, 1.0, 2000, 2000), PROFILE)


def test_a_profile_is_the_line_through_the_benchmark(tmp_path):
    cases = {
        f"{side}x{side} normal": {
            "cpu": [0.1 + 0.1 * side**2 / 1e6, 99.0, 0.1 + 0.1 * side**2 / 1e6],
            "peak_bytes": 1e8 + 20 * side**2,
            "bytes": 1e5 + 0.03 * side**2,
        }
        for side in (1024, 2048, 4096)
    }
    cases["4096x4096 sharp"] = {"cpu": [99.0], "peak_bytes": 1, "bytes": 1}
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"date": "2026-11-22", "cases": cases}))
    found = read_profile(path)
    assert (found.fixed, found.per_megapixel) == pytest.approx((0.1, 0.1))
    assert found.memory(16.0) == pytest.approx(1e8 + 20 * 16e6)
    assert found.message_bytes(16.0) == pytest.approx(1e5 + 0.03 * 16e6)
    assert "2026-11-22" in found.origin


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a report"),
        ("[]", "not a report"),
        ('{"cases": {}, "date": ""}', "fewer than two sizes"),
        ('{"cases": {"4x4 normal": {}}, "date": ""}', "not a report"),
    ],
)
def test_files_that_are_no_profile(tmp_path, content, said):
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(ProfileError, match=said):
        read_profile(path)
    with pytest.raises(ProfileError, match="cannot be read"):
        read_profile(tmp_path / "none.json")


def test_times_scatter_about_the_median():
    drawn = ServiceProfile(fixed=2.0, per_megapixel=0.0, scatter=0.3).draw(
        16.0, 20_000, np.random.default_rng(1)
    )
    assert np.median(drawn) == pytest.approx(2.0, rel=0.01)
    assert np.log(drawn).std() == pytest.approx(0.3, rel=0.02)
