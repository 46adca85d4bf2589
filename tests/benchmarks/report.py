"""The figures as one table with the targets beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.benchmarks.instructions import TOLERANCE, Change

Found = Mapping[str, Any]
MB = 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    section, name
        What was measured.
    value
        The figure; NaN when there is none.
    unit
        Of the figure.
    note
        What belongs to it.
    low, high
        Limits it must keep, or None.
    """

    section: str
    name: str
    value: float
    unit: str
    note: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """``PASS`` or ``MISS`` where there is a limit, else nothing."""
        if self.low is None and self.high is None:
            return ""
        above = self.low is None or self.value >= self.low
        below = self.high is None or self.value <= self.high
        return "PASS" if above and below else "MISS"

    @property
    def target(self) -> str:
        """The limits in words."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        if self.low is not None:
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if self.high is not None else ""


def rows(found: Found) -> Iterator[Row]:
    """Every line, of the sections that were measured."""
    makers = {
        "cases": case_rows,
        "peers": peer_rows,
        "workers": worker_rows,
        "sizes": size_rows,
        "counts": count_rows,
        "encodings": encoding_rows,
    }
    for section, make in makers.items():
        if section in found:
            yield from make(found[section])


def case_rows(cases: Found) -> Iterator[Row]:
    """Totals with their targets, then stages."""
    first = next(iter(cases))
    size = first.partition(" ")[0]
    limits = {first: 1.2, f"{first}, measure all": 2.2}
    for label, case in cases.items():
        least = min(case["cpu"])
        note = (
            f"median {median(case['cpu']):.2f}; first exposure {case['first']:.2f}; {case['rows']} sources, "
            f"{case['footprints']} footprints > 5σ; FWHM {case['fwhm']:.1f} px; {case['outcome']}"
        )
        yield Row("CPU per exposure", label, least, "s", note, high=limits.get(label))
    yield from sharp_rows(cases, size)
    for label, case in cases.items():
        limit = 450.0 if label == first else None
        yield Row("peak memory", label, case["peak_bytes"] / MB, "MB", high=limit)
    for label, case in cases.items():
        if label.startswith(size):
            yield from stage_rows(label, case)


def sharp_rows(cases: Found, size: str) -> Iterator[Row]:
    """Sharp seeing over normal seeing."""
    for preset in ("", ", reference"):
        sharp, normal = (min(cases[f"{size} {name}{preset}"]["cpu"]) for name in ("sharp", "normal"))
        yield Row(
            "CPU per exposure", f"sharp / normal{preset}", sharp / normal, "x", high=None if preset else 2.0
        )


def stage_rows(label: str, case: Found) -> Iterator[Row]:
    """Stages, dearest first."""
    stages = {
        name: values for name, values in case["stages"].items() if "." not in name and name != "characterize"
    }
    for name, values in sorted(stages.items(), key=lambda item: -min(item[1])):
        passes = case["passes"].get(name, [])
        note = f"median {median(values):.3f}" + (
            f"; passes {', '.join(f'{x:.3f}' for x in passes)}" if len(passes) > 1 else ""
        )
        if name in case.get("stage_peaks", {}):
            note += f"; peak {case['stage_peaks'][name] / MB:.0f} MB"
        if min(values) >= 0.0005:
            yield Row(f"stages: {label}", name, min(values), "s", note)


def peer_rows(peers: Found) -> Iterator[Row]:
    """Whole processes in turns, and their ratios pair by pair."""
    for label, runs in peers.items():
        seconds = [run["cpu"] for run in runs]
        note = f"median {median(seconds):.2f}; {runs[0]['sources']} sources; peak {runs[0]['peak_bytes'] / MB:.0f} MB"
        if "steps" in runs[0]:
            note += "".join(
                f"; {name} {min(run['steps'][name]['cpu'] for run in runs):.2f}" for name in runs[0]["steps"]
            )
        name = label.replace("chain", "source-extractor + psfex + source-extractor")
        yield Row("whole process, in turns", name, min(seconds), "s", note)
    for chain, label, low in (
        ("chain", "ours", 8.0),
        ("chain with PSF fluxes", "ours", None),
        ("chain", "ours, measure all", None),
        ("chain with PSF fluxes", "ours, measure all", None),
        ("chain", "sep", None),
    ):
        ratios = [a["cpu"] / b["cpu"] for a, b in zip(peers[chain], peers[label], strict=True)]
        note = f"median of pairs; {min(ratios):.2f} to {max(ratios):.2f}"
        yield Row("whole process, in turns", f"{chain} / {label}", median(ratios), "x", note, low=low)
    user = [a["user"] / b["user"] for a, b in zip(peers["chain"], peers["ours"], strict=True)]
    note = (
        f"median of pairs; {min(user):.2f} to {max(user):.2f}; without the kernel's seconds, which a virtual machine "
        "makes many where it gives free memory back to its host"
    )
    yield Row("whole process, in turns", "chain / ours, user seconds", median(user), "x", note)


def worker_rows(workers: Found) -> Iterator[Row]:
    """Start, size and throughput."""
    starts = workers["starts"]
    note = (
        f"median {median(starts):.2f} of {len(starts)}, elapsed; "
        f"{min(workers['start_cpu']):.2f} CPU s to import and build the job"
    )
    yield Row("workers", "start to ready", min(starts), "s", note, high=0.6)
    one = workers["workers"]["1"]
    for count, found in workers["workers"].items():
        label = f"{count} worker" + ("s" if count != "1" else "")
        elapsed, cpu = found["elapsed"], found["cpu"]
        rate = int(count) / min(elapsed)
        note = f"by the least elapsed time of {len(elapsed)}, median {median(elapsed):.2f} s; {median(cpu):.2f} CPU s"
        yield Row("workers", f"{label}: throughput", rate, "/s", note)
        yield Row("workers", f"{label}: peak memory of one", found["peak_bytes"] / MB, "MB", high=450.0)
        if count != "1":
            low = 1.9 if count == "2" else None
            note = f"elapsed: needs free cores; by CPU seconds {int(count) * median(one['cpu']) / median(cpu):.2f}"
            yield Row("workers", f"{label} / one", rate * min(one["elapsed"]), "x", note, low=low)
    if "turns" in workers:
        turns = workers["turns"]
        name = f"1 worker: peak memory over {turns['exposures']} exposures"
        note = "normal and sharp in turn, measure all"
        yield Row("workers", name, turns["peak_bytes"] / MB, "MB", note, high=450.0)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of a straight line through the logarithms; NaN with fewer than two points."""
    usable = [(a, b) for a, b in zip(x, y, strict=True) if a > 0 and b > 0]
    if len(usable) < 2:
        return math.nan
    logs = np.log(np.array(usable))
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


@dataclass(frozen=True, slots=True)
class Cost:
    """How seconds grow with a number of things: ``fixed + each * number``.

    Attributes
    ----------
    fixed
        Seconds that every exposure costs, however small.
    each
        Seconds that one more thing costs.
    slope
        Of the logarithms of what is above the fixed part: 1 where that is proportional to the number.
    """

    fixed: float
    each: float
    slope: float

    @classmethod
    def of(cls, numbers: Sequence[float], seconds: Sequence[float]) -> Cost:
        """Fit with the least relative deviations, so that small exposures count as much as large ones; NaN with two points."""
        if len(numbers) < 3:
            return cls(math.nan, math.nan, math.nan)
        x, y = np.array(numbers), np.array(seconds)
        (fixed, each), *_ = np.linalg.lstsq(np.stack([1.0 / y, x / y], axis=1), np.ones(len(y)), rcond=None)
        if fixed < 0.0:
            fixed, each = 0.0, float(np.sum(x / y) / np.sum((x / y) ** 2))
        return cls(float(fixed), float(each), slope(numbers, [second - fixed for second in seconds]))

    def at(self, number: float) -> float:
        """Seconds for a number of things."""
        return self.fixed + self.each * number


def cost_rows(
    section: str, label: str, numbers: Sequence[float], seconds: Sequence[float], scale: float, unit: str
) -> Iterator[Row]:
    """Slopes over the whole range, and without what every exposure costs; the cost of one more in ``unit``."""
    cost = Cost.of(numbers, seconds)
    limits = {"low": 0.9, "high": 1.1}
    whole = "log-log, over the whole range: below 1 where small exposures pay the fixed part"
    yield Row(section, f"slope, {label}", slope(numbers, seconds), "", whole, **limits)
    fixed = f"of {max(seconds):.2f} s for the largest; what an exposure costs however small it is"
    yield Row(section, f"fixed part, {label}", cost.fixed, "s", fixed)
    yield Row(section, f"marginal cost, {label}", cost.each * scale, unit, "what more of them cost each")
    above = "log-log, of the cost above the fixed part: 1 is proportional"
    yield Row(section, f"slope without fixed part, {label}", cost.slope, "", above, **limits)


def size_rows(sizes: Found) -> Iterator[Row]:
    """Cost against pixels."""
    section = "scaling with pixels"
    for size, found in sizes.items():
        note = (
            f"pixels' stages {found['pixels']:.3f}, sources' {found['sources']:.3f}, PSF {found['measure_psf']:.3f}; "
            f"{found['rows']} sources; {found['peak_bytes'] / MB:.0f} MB; {found['outcome']}"
        )
        yield Row(section, f"{size}x{size}", found["cpu"], "s", note)
    pixels = [float(size) ** 2 for size in sizes]
    for label, key in (("total", "cpu"), ("pixels' stages", "pixels")):
        seconds = [found[key] for found in sizes.values()]
        yield from cost_rows(section, label, pixels, seconds, 1e9, "ns a pixel")
    value = slope(pixels, [found["measure_psf"] for found in sizes.values()])
    yield Row(section, "slope, PSF", value, "", "at most 600 stars are fitted")


def count_rows(counts: Found) -> Iterator[Row]:
    """Cost against sources."""
    section = "scaling with sources"
    for count, found in counts.items():
        each = 1e6 * found["sources"] / max(found["rows"], 1)
        note = f"{found['rows']} measured; total {found['cpu']:.2f} s; {each:.0f} µs a source; PSF {found['measure_psf']:.2f} s; {found['outcome']}"
        yield Row(section, f"{count} stars: sources' stages", found["sources"], "s", note)
    rows_ = [float(found["rows"]) for found in counts.values()]
    seconds = [found["sources"] for found in counts.values()]
    yield from cost_rows(section, "sources' stages", rows_, seconds, 1e6, "µs a source")
    final = slope(rows_, [found["final_measurement"] for found in counts.values()])
    note = "the passes before measure at most 500 of many sources, and all of few"
    yield Row(section, "slope, final measurement", final, "", note, low=0.9, high=1.1)
    whole = slope(rows_, [found["cpu"] for found in counts.values()])
    yield Row(section, "slope, total", whole, "", "pixels included")


def encoding_rows(encodings: Found) -> Iterator[Row]:
    """Milliseconds by format."""
    section = f"catalogue of {encodings['rows']} rows x {encodings['columns']} columns"
    for name, found in encodings["formats"].items():
        note = f"decode {found['decode_ms']:.1f} ms; {found['bytes'] / MB:.2f} MB"
        yield Row(section, f"encode, {name}", found["encode_ms"], "ms", note)


def instruction_rows(changes: Sequence[Change], comparable: bool) -> Iterator[Row]:
    """Instructions against the stored figures; without limits where the build is another."""
    for change in changes:
        stored = "nothing stored" if change.stored is None else f"stored {change.stored / 1e6:.3f}"
        note = f"{stored}; ratio {change.ratio:.3f}" + ("; record anew" if change.stale else "")
        judged = comparable and change.stored is not None
        high = change.stored * (1 + TOLERANCE) / 1e6 if judged and change.stored else None
        found = math.nan if change.found is None else change.found / 1e6
        yield Row("instructions", change.name, found, "M", note, high=high)


def print_table(title: str, lines: Sequence[Row], console: Console) -> None:
    """Print everything."""
    console.print(title, highlight=False)
    table = Table(show_edge=False)
    for header, options in (
        ("what", {"overflow": "fold"}),
        ("value", {"justify": "right", "no_wrap": True}),
        ("target", {"no_wrap": True}),
        ("", {"no_wrap": True}),
        ("note", {"overflow": "fold", "style": "dim"}),
    ):
        table.add_column(header, **options)
    section = ""
    for row in lines:
        if row.section != section:
            table.add_section()
            table.add_row(f"[bold]{row.section}[/bold]")
            section = row.section
        style = {"PASS": "green", "MISS": "red"}.get(row.verdict, "")
        verdict = f"[{style}]{row.verdict}[/{style}]" if style else ""
        value = "-" if math.isnan(row.value) else f"{row.value:.3g} {row.unit}"
        table.add_row(f"  {row.name}", value, row.target, verdict, row.note)
    console.print(table)
