"""The simulated night against queueing theory and plain counting."""

from dataclasses import replace

import numpy as np
import pytest

from streamchar.planning import SURVEYS, Faults, Fleet, ServiceProfile, Survey, simulate_night

EVEN = ServiceProfile(fixed=1.0, per_megapixel=0.0, scatter=0.0, overhead=0.0)
BURST = Survey("burst", 1, 10, 100.0, 60.0, 1000, 1000, announce_delay=2.0, announce_spread=0.0)


def test_a_burst_is_served_in_rounds():
    latencies = simulate_night(BURST, Fleet(1, 4, 4), EVEN, exposures=50)
    per_burst = latencies.reshape(50, 10)
    # Ten events of a second on four workers: four after 1 s, four after 2 s, two after 3 s, and 2 s before.
    assert np.sort(per_burst, axis=1) == pytest.approx(np.tile([3] * 4 + [4] * 4 + [5] * 2, (50, 1)))


def test_a_worker_for_each_event_leaves_no_queue():
    assert simulate_night(BURST, Fleet(1, 10, 4), EVEN, exposures=5) == pytest.approx(3.0)


def test_one_worker_and_random_arrivals_wait_as_theory_says():
    # Many independent cameras make a Poisson process; M/D/1 waits rho / (2 (1 - rho)) service times on average.
    survey = Survey("many", 4000, 1, 5000.0, 60.0, 1000, 1000, announce_delay=0.0, announce_spread=0.0)
    latencies = simulate_night(survey, Fleet(1, 1, 4), EVEN, exposures=200_000, seed=3)
    rho = 0.8
    assert latencies.mean() == pytest.approx(1.0 + rho / (2 * (1 - rho)), rel=0.15)


def test_replicas_share_no_workers():
    shared = simulate_night(BURST, Fleet(1, 10, 20), EVEN, exposures=300)
    split = simulate_night(BURST, Fleet(5, 2, 20), EVEN, exposures=300)
    assert np.percentile(split, 99) > np.percentile(shared, 99)


def test_kills_cost_time():
    profile = replace(EVEN, fixed=10.0)
    calm = simulate_night(BURST, Fleet(1, 10, 4), profile, exposures=300)
    rough = simulate_night(
        BURST, Fleet(1, 10, 4), profile, exposures=300, faults=Faults(kills_per_worker_hour=36.0, restart=2.0)
    )
    # A tenth of the attempts is killed, half done on average.
    assert (rough > calm.max() + 1e-9).mean() == pytest.approx(0.1, abs=0.02)
    assert rough.mean() - calm.mean() == pytest.approx(0.1 * (5.0 + 2.0), rel=0.2)


def test_a_seed_repeats_the_night():
    nights = [
        simulate_night(SURVEYS["ztf"], Fleet(2, 2, 8), ServiceProfile(), exposures=20, seed=s)
        for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(nights[0], nights[1])
    assert (nights[0] != nights[2]).any()
