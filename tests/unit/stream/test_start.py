"""What a worker imports when it starts: nothing that belongs to the coordinator, to errors or to rare files."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import streamchar

ROOT = Path(streamchar.__file__).parent

PROGRAM = """
import json, sys
import streamchar.stream.worker
from streamchar.stream.characterize_job import characterize, digest_of, load_config

config = load_config({})
characterize({
    "characterize": config.model_dump(mode="json"),
    "config_digest": digest_of(config),
    "fetch": {"roots": ["/"]},
    "read": {},
    "store": {},
})
print(json.dumps(sorted(sys.modules)))
"""

NEEDLESS = {
    "aiohttp", "aiokafka", "asyncio", "astropy", "cProfile", "concurrent.futures", "difflib", "fsspec", "html",
    "http", "http.client", "logging", "matplotlib", "multiprocessing", "numpy.fft", "numpy.ma", "numpy.random", "numpy.testing",
    "pandas", "prometheus_client", "psutil", "pyarrow", "pydantic.networks", "pydantic_settings", "rich", "scipy",
    "ssl", "subprocess", "typer", "unittest", "urllib.request", "xml",
}  # fmt: skip
"""Dear, and of no use to a worker that reads plain files."""

COORDINATORS = {
    "dispatcher",
    "exposure_store",
    "ledger",
    "outbox",
    "pool",
    "process",
    "service",
    "settings",
    "source",
}

MODEL = re.compile(r"^class \w+\((BaseModel|Part|Message|ProductMessage)\):", re.MULTILINE)


@pytest.fixture(scope="module")
def imported():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120
    )
    return set(ast.literal_eval(run.stdout))


def test_a_worker_starts_without_what_it_does_not_need(imported):
    assert "streamchar.characterize.task" in imported
    assert sorted(NEEDLESS & imported) == []


def test_a_worker_starts_without_the_coordinator(imported):
    others = {f"streamchar.stream.{name}" for name in COORDINATORS}
    others |= {
        f"streamchar.{name}" for name in ("client", "cli", "dashboard", "monitor.metrics", "telescope")
    }
    assert sorted(others & imported) == []


def test_annotations_of_messages_are_no_text_to_compile():
    """Pydantic would parse and compile each again: a fiftieth of a worker's start."""
    models = {
        path.name: path.read_text()
        for path in (ROOT / "messages").glob("*.py")
        if MODEL.search(path.read_text())
    }
    assert models
    assert [name for name, text in models.items() if "\nfrom __future__" in text] == []


def test_a_program_that_leaves_has_written_what_it_printed():
    code = "from streamchar.stream.heap import leave\nimport atexit\natexit.register(print, 'late')\nprint('early')\nleave(3)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (run.returncode, run.stdout) == (3, "early\n")
