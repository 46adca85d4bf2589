"""The jars of Apache Kafka: resolved by Maven from ``pom.xml``, once for each checkout, into ``.cache``."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
POM = HERE / "pom.xml"
CACHE = HERE.parents[2] / ".cache" / "apache-kafka"

JAVA_NEEDED = 17
DOWNLOAD_SECONDS = 240
"""Below pytest's time limit for a test, so that a slow download is reported as what it is. What has arrived by then
stays in Maven's own repository: the next run continues."""


class ApacheUnavailableError(Exception):
    """Apache Kafka cannot be run here; says why and what to do."""


@cache
def apache_jars() -> Path:
    """Return the folder with the jars, downloading them first when they are not there.

    Raises
    ------
    ApacheUnavailableError
        Java or Maven is missing, or Maven could not resolve the jars.
    """
    _check_java()
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    libs = CACHE / digest
    CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(CACHE / "lock"):
        if not libs.is_dir():
            _resolve(libs)
    return libs


def _check_java() -> None:
    if shutil.which("java") is None:
        raise ApacheUnavailableError(f"'java' was not found: install Java {JAVA_NEEDED} or newer")
    answer = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False, timeout=60)
    text = answer.stderr + answer.stdout
    found = re.search(r'version "(\d+)', text)
    if answer.returncode != 0 or found is None:
        raise ApacheUnavailableError(f"'java -version' failed: {text.strip()[-300:]}")
    if int(found[1]) < JAVA_NEEDED:
        raise ApacheUnavailableError(f"Java {found[1]} was found: install Java {JAVA_NEEDED} or newer")


def _resolve(libs: Path) -> None:
    """Copy the jars into a folder that appears only when it is complete."""
    if shutil.which("mvn") is None:
        raise ApacheUnavailableError(
            "'mvn' was not found: install Apache Maven (on Debian: apt-get install maven)"
        )
    partial = libs.with_name(f"{libs.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    try:
        answer = subprocess.run(
            [*command, f"-DoutputDirectory={partial}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=DOWNLOAD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        reason = (
            f"Maven did not resolve the jars within {DOWNLOAD_SECONDS} s; run the tests again to continue"
        )
        raise ApacheUnavailableError(reason) from None
    if answer.returncode != 0:
        errors = [line for line in answer.stdout.splitlines() if "ERROR" in line] or [answer.stdout]
        raise ApacheUnavailableError(
            f"Maven could not resolve the jars of {POM.name}: {errors[0].strip()[:500]}"
        )
    partial.rename(libs)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process; others may be downloading the same."""
    deadline = time.monotonic() + DOWNLOAD_SECONDS
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ApacheUnavailableError(
                        f"another process has held {path} for {DOWNLOAD_SECONDS} s"
                    ) from None
                time.sleep(0.2)
        file.write(str(os.getpid()))
        yield
