"""The table of metrics is as the code says."""

from __future__ import annotations

from pathlib import Path

from streamchar.monitor.documentation import main, make_document
from streamchar.monitor.metrics import DEFINITIONS


def test_the_document_is_up_to_date(tmp_path: Path) -> None:
    main([str(tmp_path / "new" / "metrics.md")])
    written = (tmp_path / "new" / "metrics.md").read_text()
    assert (Path(__file__).parents[3] / "docs/metrics.md").read_text() == written, "run 'make docs'"


def test_every_metric_has_a_row() -> None:
    rows = [line for line in make_document().splitlines() if line.startswith("| `streamchar_")]
    assert [row.split("`")[1] for row in rows] == [definition.name for definition in DEFINITIONS]
    assert all(row.count(" | ") == 4 for row in rows)
