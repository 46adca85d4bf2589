"""Damaged FITS files of every layout: an exposure within the limits or a typed error, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
FILES = 400


def test_damaged_files_are_a_typed_error():
    run = subprocess.run(
        [sys.executable, "-m", "tests.fits_fuzz", "--seed", "1", "--count", str(FILES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    last = run.stderr.splitlines()[-1:]
    assert run.returncode == 0, (
        f"the reader died of file {last}; see `python -m tests.fits_fuzz --only NUMBER`"
    )
    report = json.loads(run.stdout)
    assert report["failures"] == []
    assert report["opened_outside"] == []
    assert report["files"] == FILES
    # The limits allow planes of 4 MB; the reader may need several of them at once.
    assert report["grown_mib"] < 100
    outcomes = report["outcomes"]
    assert {"unreadable", "invalid_exposure", "read"} <= outcomes.keys()  # the mutations are of all kinds
