"""``streamchar plan`` as it is called."""

import json

import pytest
from typer.testing import CliRunner

from streamchar.cli import build
from streamchar.errors import StreamcharError


def run(*arguments):
    return CliRunner().invoke(build(["plan"]), ["plan", *arguments], catch_exceptions=True)


def test_the_example_of_the_help():
    done = run("--detectors", "189", "--cadence", "34", "--deadline", "60", "--night", "1")
    assert done.exit_code == 0
    for word in ("cores", "partitions", "memory", "latency, 99 %", "deadline 60 s"):
        assert word in done.stdout


def test_json_and_plot(tmp_path):
    picture = tmp_path / "ztf.png"
    done = run("--survey", "ztf", "--night", "1", "--json", "--plot", str(picture))
    figures = json.loads(done.stdout)
    assert figures["survey"]["detectors"] == 64
    assert figures["latency_seconds"]["p99"] <= 60
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_times_and_workers_can_be_told():
    done = run(
        "--detectors", "4", "--seconds", "2", "--scatter", "0", "--workers", "4", "--night", "0.5", "--json"
    )
    figures = json.loads(done.stdout)
    assert figures["replicas"] * figures["workers"] == 4
    assert figures["profile"]["per_megapixel"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--survey", "atlas"), "known are rubin"),
        (("--shape", "4096"), "4096x4096"),
        (("--seconds", "2", "--profile", "x.json"), "one of the two"),
        (("--profile", "none.json"), "make bench"),
    ],
)
def test_what_is_wrong_is_said(arguments, said):
    done = run(*arguments)
    assert isinstance(done.exception, StreamcharError)
    assert said in str(done.exception)
