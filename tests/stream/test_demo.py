"""The demo accounts for every event, also when the broker is killed under it, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest


def start(folder, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "streamchar.cli", "demo", "--directory", str(folder), *options],
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


def test_a_broker_killed_during_the_night_loses_nothing(tmp_path):
    demo = start(
        tmp_path, "--duration", "12", "--cadence", "4", "--fault-rate", "0.2", "--kill-broker-after", "6"
    )
    output, _ = demo.communicate(timeout=200)
    assert demo.returncode == 0, output
    assert "All 12 events accounted for" in output
    assert "statuses received" in output
    assert (tmp_path / "broker.log").read_text().count("\nlistening on") + 1 >= 2
    assert wait_until_gone(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(tmp_path, number):
    demo = start(tmp_path, "--duration", "60")
    deadline = time.monotonic() + 60
    while not (tmp_path / "camera.log").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    demo.send_signal(number)
    demo.communicate(timeout=60)
    assert demo.returncode != 0
    assert wait_until_gone(tmp_path) == []
