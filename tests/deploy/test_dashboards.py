"""Grafana dashboards: complete panels that show what there is, and files as generated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.generate import files
from streamchar.monitor.metrics import DEFINITIONS
from tests.deploy.places import DEPLOY, metrics_in, rules, unknown_in

DASHBOARDS = {
    path.stem: json.loads(path.read_text()) for path in (DEPLOY / "grafana/dashboards").glob("*.json")
}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def expressions() -> Iterator[str]:
    for dashboard in DASHBOARDS.values():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield target["expr"]


def test_generated_files_are_up_to_date() -> None:
    old = [str(path) for path, text in files() if not path.exists() or path.read_text() != text]
    assert not old, "run 'make docs'"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_are_complete(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["uid"] == name
    assert dashboard["title"]
    assert dashboard["description"]
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(set(titles)) == len(titles) > 10
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels(dashboard):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert target["legendFormat"], panel["title"]
            assert not unknown_in(target["expr"]), panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lie_beside_each_other_and_inside(name: str) -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & places, panel["title"]
        places |= cells


def test_variables_of_queries_exist() -> None:
    for dashboard in DASHBOARDS.values():
        names = {variable["name"] for variable in dashboard["templating"]["list"]}
        for panel in panels(dashboard):
            for target in panel["targets"]:
                assert set(re.findall(r"\$(\w+)", target["expr"])) <= names
        for variable in dashboard["templating"]["list"]:
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            definition = next(each for each in DEFINITIONS if each.name == metric)
            assert label in {*definition.labels, "instance"}


def test_every_metric_is_on_a_dashboard() -> None:
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    shown: set[str] = set()
    for expression in expressions():
        for name in metrics_in(expression):
            shown |= metrics_in(recorded.get(name, name))
    shown |= {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert {definition.name for definition in DEFINITIONS} - shown == set()


def test_the_provisioned_data_source_is_the_one_that_panels_ask() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    for dashboard in DASHBOARDS.values():
        asked = {panel["datasource"]["uid"] for panel in panels(dashboard)}
        assert asked == {source["uid"]}
