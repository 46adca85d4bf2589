"""The demo accounts for every event, also when the broker is killed under it, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.stream import readme_subscriber


def start(folder, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "streamchar.cli", "demo", "--port", "0", "--directory", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )


def processes_in(folder):
    """Processes whose command line names the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word for word in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_until_gone(folder, seconds=15):
    deadline = time.monotonic() + seconds
    while processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    return processes_in(folder)


def test_the_subscriber_of_the_readme_is_at_most_ten_lines():
    lines = [line for line in readme_subscriber.program().splitlines() if line.strip()]
    assert 3 <= len(lines) <= 10


def test_a_broker_killed_during_the_night_loses_nothing(tmp_path):
    """And the subscriber of the README, beside it, prints every catalogue, whole and once."""
    demo = start(
        tmp_path, "--duration", "12", "--cadence", "4", "--fault-rate", "0.2", "--kill-broker-after", "6"
    )
    address = re.search(r"broker on (\S+);", demo.stdout.readline())
    with readme_subscriber.running(address[1], tmp_path) as printed:
        output, _ = demo.communicate(timeout=270)
    assert demo.returncode == 0, output
    finished = re.search(r"\((?:\d+ degraded, )?\d+ failed, (\d+) succeeded\)", output)
    assert finished is not None, output
    assert len(printed.catalogues) >= int(finished[1]) >= 6
    assert min(printed.catalogues.values()) > 10
    assert "All 12 events accounted for" in output
    assert "statuses received" in output
    assert (tmp_path / "broker.log").read_text().count("\nlistening on") + 1 >= 2
    assert wait_until_gone(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_leaves_no_process(tmp_path, number):
    """However impatient the user is, and also when it is the terminal that goes."""
    demo = start(tmp_path, "--duration", "60")
    deadline = time.monotonic() + 60
    while not (tmp_path / "camera.log").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    for _ in range(3):
        demo.send_signal(number)
        time.sleep(0.2)
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Traceback" not in output
    assert wait_until_gone(tmp_path) == []
