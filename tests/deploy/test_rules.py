"""Prometheus rules: right by promtool, each alert tried both ways, nothing used that there is not."""

from __future__ import annotations

import subprocess
from collections import Counter

import pytest
import yaml

from tests.debian import ProgramsMissingError, install
from tests.deploy.places import DEPLOY, ROOT, RULES, rules, unknown_in

ALERTS = [rule for rule in rules() if "alert" in rule]


@pytest.fixture(scope="module")
def promtool() -> str:
    try:
        install({"promtool": "prometheus", "prometheus": "prometheus"})
    except ProgramsMissingError as error:
        pytest.skip(str(error))
    return "promtool"


def run(*words: object) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_configuration_and_the_rules(promtool: str) -> None:
    run(promtool, "check", "config", DEPLOY / "prometheus/prometheus.yml")
    run(promtool, "check", "rules", *RULES)


def test_alerts_fire_and_are_silent_when_they_should(promtool: str) -> None:
    run(promtool, "test", "rules", *sorted((DEPLOY / "prometheus/tests").glob("*.yaml")))


def test_every_alert_is_tried_both_ways() -> None:
    tried: Counter[tuple[str, bool]] = Counter()
    for case in yaml.safe_load((DEPLOY / "prometheus/tests/rules.yaml").read_text())["tests"]:
        name, _, ending = case["name"].partition(" ")
        for expected in case.get("promql_expr_test", []):
            if f'alertname="{name}"' in expected["expr"]:
                tried[name, bool(expected["exp_samples"])] += 1
                assert ending.startswith("fires" if expected["exp_samples"] else "is silent")
    assert tried == {(rule["alert"], fires): 1 for rule in ALERTS for fires in (True, False)}


@pytest.mark.parametrize("rule", list(rules()), ids=lambda rule: rule.get("alert") or rule.get("record"))
def test_rules_use_what_there_is(rule: dict[str, str]) -> None:
    assert not unknown_in(rule["expr"])


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alerts_say_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert len(annotations["summary"]) < 110
    assert annotations["description"].endswith(".")
    runbook = (ROOT / "docs/runbook.md").read_text()
    assert f"\n## {rule['alert']}\n" in runbook
    assert annotations["runbook_url"] == f"docs/runbook.md#{str(rule['alert']).lower()}"


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("rate(streamchar_events_total[5m])", set()),
        ("streamchar_event_total > 1", {"streamchar_event_total"}),
        ("streamchar_end_to_end_seconds", {"streamchar_end_to_end_seconds"}),
        ('sum by (le) (streamchar_end_to_end_seconds_bucket{le="60.0"})', set()),
        ('streamchar_events_total{result="x"}', {"streamchar_events_total{result}"}),
        ("instrument:streamchar_nothing:p99_5m", {"instrument:streamchar_nothing:p99_5m"}),
    ],
)
def test_the_check_of_names_finds_what_is_wrong(expression: str, wrong: set[str]) -> None:
    assert unknown_in(expression) == wrong
