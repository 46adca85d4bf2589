"""Where the files of deploy/ are, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
RULES = sorted((DEPLOY / "prometheus/rules").glob("*.yaml"))

_FROM_PROMETHEUS = {"up", "ALERTS"}
_HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")
_AGGREGATION = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\s*\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_:][\w:]*")


def documents(path: Path) -> list[dict[str, Any]]:
    """All YAML documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def rules() -> Iterator[dict[str, Any]]:
    """All recording and alert rules."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def metrics_in(expression: str) -> set[str]:
    """Names of metrics and recorded figures in a PromQL expression."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", expression)
    return {
        name
        for name in _NAME.findall(_AGGREGATION.sub("", bare))
        if name.startswith("streamchar_") or ":" in name.strip(":") or name in _FROM_PROMETHEUS
    }


def labels_in(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Metrics that are selected by labels, with those labels."""
    for name, matchers in _SELECTOR.findall(expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


def unknown_in(expression: str) -> set[str]:
    """Metrics, recorded figures and labels in an expression that there are not."""
    from streamchar.monitor.metrics import DEFINITIONS

    known = {definition.name: set(definition.labels) for definition in DEFINITIONS}
    for definition in DEFINITIONS:
        if definition.kind == "histogram":
            for suffix in _HISTOGRAM_SUFFIXES:
                known[definition.name + suffix] = {*definition.labels, "le"}
            del known[definition.name]
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    wrong = metrics_in(expression) - set(known) - recorded - _FROM_PROMETHEUS
    for name, labels in labels_in(expression):
        wrong |= {f"{name}{{{label}}}" for label in labels - known.get(name, labels) - {"instance", "job"}}
    return wrong
