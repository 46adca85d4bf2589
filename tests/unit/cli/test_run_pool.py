"""Worker processes of ``streamchar run``: a crash costs one exposure, an end leaves nothing behind."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from streamchar.characterize.config import CharacterizeImageConfig
from streamchar.cli.run_inputs import Input
from streamchar.cli.run_pool import _lost, characterize_all
from streamchar.cli.run_work import Outputs, Plan
from streamchar.image.access import Access
from streamchar.image.exposure import Identity
from streamchar.image.fits import ReadOptions, write_exposure
from streamchar.telescope import named_scene, simulate_exposure


@pytest.fixture(scope="module")
def simulated():
    return simulate_exposure(named_scene("sparse", size=200), 5).exposure


def night(simulated, folder, numbers):
    """Write the same exposure under several numbers."""
    inputs = []
    for number in numbers:
        exposure = simulated.copy()
        exposure.identity = Identity("DemoCam", number, 1, "r")
        path = write_exposure(folder / f"{number}.fits", exposure)
        inputs.append(Input(str(path), str(number)))
    return inputs


def plan(outputs):
    config = CharacterizeImageConfig(subtasks={"repair": "tests.unit.cli.crashing:CrashingRepair"})
    return Plan(config, ReadOptions(), Access(), outputs, {})


def test_a_signal_without_a_name_is_told_by_its_number():
    process = SimpleNamespace(exitcode=-(signal.SIGRTMIN + 3))
    worker = SimpleNamespace(process=process, input=Input("a.fits", "a"), started=0.0)
    found = _lost(worker, plan(Outputs()))
    assert f"was killed by signal {signal.SIGRTMIN + 3}" in str(found.error)


def test_a_crash_costs_one_exposure(simulated, tmp_path, capfd):
    inputs = night(simulated, tmp_path, [13, 14, 15])
    inputs.append(Input(str(tmp_path / "gone.fits"), "gone"))
    attempts = list(characterize_all(plan(Outputs()), inputs, 2))
    found = {attempt.input.stem: attempt for attempt in attempts}
    assert len(attempts) == len(found) == 4
    codes = {stem: attempt.error and attempt.error.code for stem, attempt in found.items()}
    assert codes == {
        "13": "worker_lost",
        "14": "worker_lost",
        "15": None,
        "gone": "file_missing",
    }
    assert found["15"].summary.source_count > 0
    assert "was killed by SIGKILL" in str(found["13"].error)
    assert "ended with status 1" in str(found["14"].error)
    assert "RuntimeError: a bug" in capfd.readouterr().err
    assert multiprocessing.active_children() == []


def test_ctrl_c_ends_with_what_was_done(simulated, tmp_path):
    night(simulated, tmp_path, range(100, 180))
    command = [sys.executable, "-m", "streamchar.cli", "run", "*.fits", "-o", "out", "-j", "2"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        deadline = time.monotonic() + 120
        # The third is begun when the parent has heard of the first.
        while len(list(tmp_path.glob("out/*.summary.json"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "80 exposures" in said
    assert "not done" in said
    assert re.search(r"\b1\d\d +(succeeded|degraded)", printed)
    assert [path.name for path in tmp_path.glob("out/.*")] == []
    assert gone(process.pid)


def gone(group):
    """Wait until no process of a group is left."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
