"""What commands print is what they were told: no text is taken for markup, and no broker's silence for a riddle."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from streamchar.cli import build, main
from streamchar.cli.dlq import _print
from streamchar.cli.tail import ProductChoice, _Rows
from streamchar.dashboard.night import Night
from streamchar.dashboard.terminal import render
from streamchar.errors import StreamcharError
from streamchar.messages import ExposureReady, ExposureStatus, Provenance, Reason
from streamchar.stream.dead_letters import Origin
from streamchar.stream.letters import Letter

ODD = "/data[/night] of [bold]x"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_an_error_is_told_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["streamchar", "run", f"{ODD}.fits"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == f"error: {ODD}.fits: matches no file\n"


def test_a_dead_letter_is_listed_with_the_text_it_carries(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    headers = (("sc-error-text", f"{ODD}: no such file\x1b[2J".encode()),)
    letter = Letter("dlq", 0, 1, NOW, b"[/key]", b"", headers, Origin("ready", 0, 1, NOW))
    _print([letter], as_json=False)
    printed = capsys.readouterr().out
    assert f"{ODD}: no such file\\x1b[2J\n" in printed
    assert "[/key]" in printed


@pytest.fixture
def status() -> ExposureStatus:
    example: dict[str, Any] = {
        "message_type": "exposure-status",
        "event_id": "e",
        "instrument": "Cam[bold]",
        "exposure": 1,
        "detector": 2,
        "band": "[/r]\x1b[2J",
        "outcome": "failed",
        "config_digest": "sha256:" + "0" * 64,
        "attempts": 1,
    }
    return ExposureStatus.model_construct(
        **example,
        created_at=NOW,
        received_at=NOW,
        published_at=NOW,
        reasons=(Reason(code="[/code]"),),
        provenance=Provenance(software_version="1"),
    )


def test_rows_show_names_as_they_are(status: ExposureStatus, capsys: pytest.CaptureFixture[str]) -> None:
    _Rows(ProductChoice.STATUS).show(status)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("Cam[bold]", r"[/r]\x1b[2J", "[/code]"))


def test_the_live_table_shows_names_as_they_are(status: ExposureStatus) -> None:
    night = Night()
    night.add(
        ExposureReady(
            event_id="e",
            instrument="Cam[bold]",
            exposure=1,
            detector=2,
            uri="x",
            band="[/r]\x1b[2J",
            created_at=NOW,
        )
    )
    night.add(status)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(render(night))
    assert r"[/r]\x1b[2J" in captured.get()
    assert "[/code]" in captured.get()


@pytest.mark.parametrize(
    "words",
    [
        "lag",
        "dlq list",
        "dlq replay --all",
        "verify",
        "topics check",
        "topics create",
        "watch --bootstrap 127.0.0.1:1",
    ],
)
def test_a_broker_that_is_not_there_is_one_sentence(words: str) -> None:
    arguments = words.split()
    if "watch" not in arguments:
        arguments += ["-c", "kafka.bootstrap=127.0.0.1:1", "-c", "kafka.start_timeout=0.5"]
    result = CliRunner().invoke(build(arguments), arguments)
    assert isinstance(result.exception, StreamcharError)
    text = str(result.exception)
    assert "no Kafka broker answers at 127.0.0.1:1" in text
    assert "Connect call failed" in text
    assert "AddressFamily" not in text
    assert "Unclosed" not in result.output


@pytest.mark.parametrize(
    "command",
    ["run", "serve", "archive", "tail", "lag", "verify", "plan", "dlq replay", "topics check", "config show"],
)
def test_help_flows_to_the_width_of_the_terminal(command: str) -> None:
    width = 70
    arguments = [*command.split(), "--help"]
    printed = CliRunner().invoke(build(arguments), arguments, env={"COLUMNS": str(width)}).output
    prose = [line.strip() for line in printed.partition("╭")[0].splitlines()]
    for line, following in pairwise(prose):
        if line and following[:1].islower() and not following.startswith("streamchar"):
            assert len(line) + len(following.split()[0]) + 1 > width - 2, (line, following)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict", "utf-8:strict"])
def test_characters_that_the_terminal_lacks_end_no_command(tmp_path: Path, encoding: str) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xffno\xe2\x80\xb3.fits")
    run = subprocess.run(
        [sys.executable, "-m", "streamchar.cli", "run", odd],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 11
    assert b"failed" in run.stdout
    assert b"no such file" in run.stderr


def _piped(words: str, output: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamchar.cli", *words.split()]
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False, timeout=60)


WORDS = ["--help", "--version", "config show", "instruments list"]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.skipif(
    not Path("/dev/full").is_char_device(), reason="/dev/full, a disk without room, is Linux's"
)
def test_a_full_disk_is_one_sentence(words: str) -> None:
    with Path("/dev/full").open("w") as full:
        ended = _piped(words, full)
    assert ended.stderr == "error: the output cannot be written: No space left on device\n"
    assert ended.returncode == 2


@pytest.mark.parametrize("words", WORDS)
def test_nobody_who_reads_on_is_no_error(words: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = _piped(words, writing)
    finally:
        os.close(writing)
    assert ended.stderr == ""
    assert ended.returncode == 1
