"""The night as a live table in a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamchar.dashboard.night import Night, Row, middle
from streamchar.printable import as_markup

STYLES = {"succeeded": "green", "degraded": "yellow", "failed": "red", "expired": "magenta"}


def render(night: Night, *, rows: int = 16, title: str = "streamchar") -> RenderableType:
    """Draw the latest rows and the figures of the whole night."""
    table = Table(title=title, header_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("exposure", "det", "band"):
        table.add_column(name, no_wrap=True)
    for name in ("seeing″", "ellipt", "stars", "sources", "latency"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcome")
    for row in night.latest(rows):
        table.add_row(*_cells(row))
    return Group(table, _footer(night))


def _cells(row: Row) -> list[str]:
    quality = row.quality
    exposure, detector = ("?", "?") if row.key is None else (str(row.key[1]), str(row.key[2]))
    if row.outcome is None:
        outcome = "[dim]waiting[/]"
    else:
        codes = as_markup(", ".join(row.reasons))
        outcome = f"[{STYLES[row.outcome]}]{row.outcome}[/]" + (f" [dim]{codes}[/]" if codes else "")
    return [
        exposure,
        detector,
        as_markup(row.band or ""),
        figure(quality.seeing, 2),
        figure(quality.ellipticity, 3),
        figure(quality.n_psf_used, 0),
        figure(quality.n_sources, 0),
        "–" if row.latency is None else f"{row.latency:.2f} s",
        outcome,
    ]


def _footer(night: Night) -> Text:
    counts = night.outcomes
    parts = [f"announced {night.announced}", f"finished {sum(counts.values())}"]
    parts += [f"{name} {counts[name]}" for name in STYLES if counts[name]]
    latency, seeing = middle(night.latencies), middle(night.seeings)
    parts.append(f"median latency {figure(latency, 2)} s")
    parts.append(f"median seeing {figure(seeing, 2)}″")
    return Text("  ".join(parts), style="bold")


def figure(value: float | None, digits: int) -> str:
    """Format a number, or a dash when it is not known."""
    return "–" if value is None else f"{value:.{digits}f}"
