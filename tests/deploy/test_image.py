"""The container image as far as it can be tested without a container engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy.lock_subset import UnknownNameError, dependencies, normalized, read_lock, subset
from tests.deploy.places import DEPLOY, ROOT

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
EXTRAS = re.search(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.MULTILINE).group(1).split(",")  # type: ignore[union-attr]


def names(texts: list[str]) -> set[str]:
    return {normalized(text.split("\n")[0]) for text in texts}


def test_hadolint_has_no_complaint() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, DEPLOY / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_image_is_entered_without_a_shell_and_not_as_root() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    for instruction in ("ENTRYPOINT", "CMD"):
        (words,) = re.findall(rf"^{instruction} (.*)$", final, re.MULTILINE)
        assert json.loads(words)  # the exec form: signals reach the process itself
    assert re.search(r"HEALTHCHECK .*\\\n\s+CMD \[", final)
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", final, re.MULTILINE)
    assert "apt-get" not in final


def test_everything_that_is_copied_passes_the_ignore_file() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    ]
    assert set(copied) == set(allowed)
    assert all((ROOT / name).exists() for name in allowed)


def test_the_subset_for_running_holds_what_runs_and_nothing_for_development() -> None:
    entries = read_lock((DEPLOY / "requirements.lock").read_text())
    texts = subset(entries, dependencies(PYPROJECT, EXTRAS))
    chosen = names(texts)
    project = tomllib.loads(PYPROJECT)["project"]
    assert {normalized(name) for name in project["dependencies"]} <= chosen
    assert not chosen & {"pytest", "playwright", "moto", "mypy", "ruff", "cmake", "galsim"}
    assert {"lz4", "cramjam"} & chosen  # the codecs of aiokafka's extras come along
    assert all("--hash=sha256:" in text for text in texts)
    assert len({normalized(entry.name) for entry in entries}) > len(chosen) + 30


def test_unknown_names_are_refused() -> None:
    entries = read_lock(
        "aiohttp==3.0 \\\n    --hash=sha256:00\n    # via\n    #   streamchar\n    #   moto\nmoto==5 \\\n    --hash=sha256:01"
    )
    assert [entry.via for entry in entries] == [{"streamchar", "moto"}, frozenset()]
    assert names(subset(entries, ["moto"])) == {"aiohttp", "moto"}
    with pytest.raises(UnknownNameError, match="numpi"):
        subset(entries, ["numpi"])
    with pytest.raises(UnknownNameError, match="parket"):
        dependencies(PYPROJECT, ["parket"])


def test_the_entry_point_prints_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamchar.cli", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "streamchar")
