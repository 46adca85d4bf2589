"""Programs that tests need and Debian packages: found, or installed with apt-get by root."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path


class ProgramsMissingError(Exception):
    """Programs are neither installed nor installable here; the message says which command installs them."""


def install(packages: Mapping[str, str]) -> None:
    """Install the programs that are missing, when this is root on a Debian.

    Parameters
    ----------
    packages
        For each program, as found on the path, the Debian package that holds it.

    Raises
    ------
    ProgramsMissingError
        Some are missing still.
    """
    with (Path(tempfile.gettempdir()) / "streamchar-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = sorted({package for program, package in packages.items() if shutil.which(program) is None})
        if not missing:
            return
        command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise ProgramsMissingError(f"run as root: {' '.join(command)}")
        print(f"installing {' '.join(missing)}", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["apt-get", "update", "--quiet"], command):
            done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
        if any(shutil.which(program) is None for program in packages):
            raise ProgramsMissingError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
