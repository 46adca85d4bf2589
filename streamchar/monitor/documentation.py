"""The table of all metrics as a document. Run as a module to write it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from streamchar.monitor.metrics import DEFINITIONS, LATENCY_BUCKETS, MAX_SERIES, SHORT_BUCKETS, Definition

_HEAD = f"""\
# Metrics

What `/metrics` of a running service tells. This file is generated from `streamchar/monitor/metrics.py` by
`make docs`; rules and dashboards in `deploy/` may use nothing else (a test sees to it).

- Format: Prometheus text, or OpenMetrics for those who ask for it (Prometheus does). In OpenMetrics, counters and
  histograms of single exposures carry an exemplar `exposure="instrument/exposure/detector"`, so that a slow or failed
  exposure is found from its point in the graph.
- Gauges labelled with `instrument` and `band` describe the latest exposure of the process that exposes them;
  `streamchar_last_exposure_timestamp_seconds` tells how old they are.
- Series labelled with `partition` exist for the partitions a process owns at present, and disappear with them.
- Instruments and bands come from messages: beyond {MAX_SERIES} label sets of a metric all further ones are counted under
  the label value `other`.
- Worker processes send changes with their results; one registry in the coordinator holds them all.
"""


def make_document() -> str:
    """Return the document in Markdown: one row for each metric, in the order of the list."""
    rows = ["| metric | type | unit | labels | meaning |", "| --- | --- | --- | --- | --- |"]
    rows += [_row(definition) for definition in DEFINITIONS]
    edges = [
        ("latencies", LATENCY_BUCKETS),
        ("what should be quick", SHORT_BUCKETS),
    ]
    ends = [
        f"- Histogram edges of {what}: {', '.join(f'{edge:g}' for edge in buckets)} s."
        for what, buckets in edges
    ]
    return "\n".join([_HEAD, *rows, "", *ends, ""])


def _row(definition: Definition) -> str:
    labels = ", ".join(f"`{label}`" for label in definition.labels)
    return (
        f"| `{definition.name}` | {definition.kind} | {definition.unit} | {labels} | "
        f"{definition.help.replace('|', chr(92) + '|')} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the document into a file."""
    write_document(make_document, arguments)


def write_document(make: Callable[[], str], arguments: Sequence[str] | None = None) -> None:
    """Write what ``make`` returns into the file that the command line names."""
    parser = argparse.ArgumentParser(description="Write a document that is made from the code.")
    parser.add_argument("path", type=Path)
    path: Path = parser.parse_args(arguments).path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(make())


if __name__ == "__main__":
    main()
