"""The benchmark (``make bench``): CPU seconds, memory and instructions, against targets and against other programs.

Measures in child processes with one thread each; prints one table and writes ``.cache/bench/report.json`` and
``report.png``. Timings never fail the run; a kernel that executes 5 % more instructions than stored does.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from tests.benchmarks import instructions, measurements, report
from tests.benchmarks.processes import CACHE, ProcessError
from tests.debian import ProgramsMissingError

SIZES = (512, 1024, 2048, 4096, 8192)
COUNTS = (100, 1_000, 10_000, 100_000)


def main(words: list[str] | None = None) -> int:
    """Measure what the command line asks for; returns the exit status."""
    arguments = parse(words)
    CACHE.mkdir(parents=True, exist_ok=True)
    console = Console(width=arguments.width)
    if arguments.record_instructions:
        instructions.store(instructions.count())
        console.print(f"recorded {instructions.STORED}")
        return 0
    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m tests.benchmarks", *(words if words is not None else sys.argv[1:])]),
        "machine": measurements.machine(),
    }
    failed = False
    for name, measure in sections(arguments, console).items():
        if name in arguments.sections:
            console.print(f"[bold]{name}[/bold]")
            try:
                found[name] = measure()
            except ProcessError as error:
                failed = True
                console.print(f"[red bold]{name} FAILED[/red bold]: {error}", highlight=False)
            except ProgramsMissingError as error:
                console.print(
                    f"[red bold]NOT COMPARED with source-extractor and psfex. Install them {error}[/red bold]"
                )
    lines = list(report.rows(found))
    if "instructions" in arguments.sections:
        more, grown = guard(console, found)
        lines += more
        failed = failed or grown
    found["machine"]["load_after"] = measurements.machine()["load"]
    finish(found, lines, console)
    return int(failed)


def parse(words: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    names = ("cases", "peers", "workers", "sizes", "counts", "encodings", "instructions")
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"of {', '.join(names)}; all when omitted"
    )
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each measurement")
    parser.add_argument("--size", type=int, default=4096, help="width and height of the main scene in pixels")
    parser.add_argument("--width", type=int, default=None, help="columns of the printed table")
    parser.add_argument(
        "--record-instructions", action="store_true", help="store the present instruction counts and stop"
    )
    arguments = parser.parse_args(words)
    unknown = set(arguments.sections) - set(names)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; known are {', '.join(names)}")
    arguments.sections = arguments.sections or names
    return arguments


def sections(arguments: argparse.Namespace, console: Console) -> dict[str, Callable[[], dict[str, Any]]]:
    """The measurements by name, in order."""

    def say(text: str) -> None:
        console.print(f"  {text}", style="dim")

    size, runs = arguments.size, arguments.runs
    return {
        "cases": lambda: measurements.measure_cases(size, runs, say),
        "peers": lambda: measurements.measure_peers(size, runs, say),
        "workers": lambda: measurements.measure_workers(size, say),
        "sizes": lambda: measurements.measure_sizes([side for side in SIZES if side <= 2 * size], say),
        "counts": lambda: measurements.measure_counts(
            [count for count in COUNTS if count <= max(COUNTS) * (size / 4096) ** 2], size, say
        ),
        "encodings": lambda: measurements.measure_encodings(size, say),
    }


def guard(console: Console, found: dict[str, Any]) -> tuple[list[report.Row], bool]:
    """Count instructions and compare; whether a kernel needs more than it may."""
    console.print("[bold]instructions[/bold]")
    try:
        counts = instructions.count()
    except instructions.CountingError as error:
        console.print(f"[red bold]INSTRUCTIONS NOT COUNTED: {error}[/red bold]")
        return [], False
    found["instructions"] = dataclasses.asdict(counts)
    stored = instructions.read_stored() or instructions.Counts(counts.build, {})
    comparable = stored.build == counts.build
    if not comparable:
        console.print(
            f"  stored with {stored.build}, counted with {counts.build}: shown, not judged", style="yellow"
        )
    changes = instructions.compare(counts, stored)
    failed = comparable and not all(change.ok for change in changes)
    return list(report.instruction_rows(changes, comparable)), failed


def finish(found: dict[str, Any], lines: list[report.Row], console: Console) -> None:
    """Print the table, write JSON and picture."""
    machine = found["machine"]
    load = " / ".join(f"{machine[key][0]:.1f}" for key in ("load", "load_after"))
    title = (
        f"streamchar benchmark, {found['date']}, {machine['cpu']}, {machine['cores']} cores, "
        f"load average {load} (before / after), revision {machine['revision']}, {found['command']}\n"
        "CPU seconds are user + system of one process with one thread: the least of the runs."
    )
    report.print_table(title, lines, console)
    found["rows"] = [
        {**dataclasses.asdict(line), "target": line.target, "verdict": line.verdict} for line in lines
    ]
    (CACHE / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    from tests.benchmarks.figure import draw

    draw(found, title, CACHE / "report.png")
    console.print(f"{CACHE / 'report.json'} and report.png")


if __name__ == "__main__":
    sys.exit(main())
