"""How the benchmark tells a fixed cost from one that grows with the number of things."""

import math

import pytest

from tests.benchmarks.report import Cost, cost_rows, slope

NUMBERS = [1e2, 1e3, 1e4, 1e5]


def test_fixed_and_marginal_cost_are_found():
    seconds = [0.03 + 9e-5 * number for number in NUMBERS]
    cost = Cost.of(NUMBERS, seconds)
    assert cost.fixed == pytest.approx(0.03)
    assert cost.each == pytest.approx(9e-5)
    assert cost.slope == pytest.approx(1.0)
    assert cost.at(1e4) == pytest.approx(0.93)
    assert slope(NUMBERS, seconds) < 0.85


def test_costs_that_grow_faster_than_their_number_have_no_fixed_part():
    cost = Cost.of(NUMBERS, [1e-6 * number**1.3 for number in NUMBERS])
    assert cost.fixed == 0.0
    assert cost.slope == pytest.approx(1.3)


def test_two_points_say_nothing():
    assert math.isnan(Cost.of([1.0, 2.0], [1.0, 2.0]).fixed)


def test_the_rows_judge_both_slopes():
    rows = list(cost_rows("section", "total", NUMBERS, [0.03 + 9e-5 * n for n in NUMBERS], 1e6, "µs each"))
    verdicts = {row.name: row.verdict for row in rows}
    assert verdicts["slope, total"] == "MISS"
    assert verdicts["slope without fixed part, total"] == "PASS"
    assert next(row.value for row in rows if row.name == "marginal cost, total") == pytest.approx(90)
