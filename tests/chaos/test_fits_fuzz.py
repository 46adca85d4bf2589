"""Twenty thousand damaged FITS files, in processes of their own: nothing crashes, hangs, fills memory or looks elsewhere."""

from __future__ import annotations

import asyncio
import collections
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = 20_000
PART = 2_500
AT_ONCE = 2


async def _part(first: int, turn: asyncio.Semaphore) -> dict[str, Any]:
    async with turn:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.fits_fuzz", "--seed", str(first), "--count", str(PART)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, notes = await process.communicate()
    assert process.returncode == 0, f"the reader died of file {notes.splitlines()[-1:]}"
    report: dict[str, Any] = json.loads(output)
    return report


@pytest.mark.chaos
@pytest.mark.timeout(3600)
async def test_twenty_thousand_damaged_files(seed: int) -> None:
    turn = asyncio.Semaphore(AT_ONCE)
    reports = await asyncio.gather(*(_part(seed + first, turn) for first in range(1, FILES, PART)))
    outcomes: collections.Counter[str] = collections.Counter()
    for report in reports:
        outcomes.update(report["outcomes"])
    grown = max(report["grown_mib"] for report in reports)
    print(f"\nseed {seed}: {dict(outcomes.most_common())}, memory grew by at most {grown} MiB")
    assert [failure for report in reports for failure in report["failures"]] == []
    assert [path for report in reports for path in report["opened_outside"]] == []
    assert sum(report["files"] for report in reports) == FILES
    assert grown < 100
