"""Fixtures that run Apache Kafka, and a loud word in the summary when it cannot be run.

``STREAMCHAR_TEST_APACHE=required`` turns what would be skipped into failures, ``=off`` leaves Apache Kafka out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stream.apache.jars import ApacheUnavailableError, apache_jars
from tests.stream.apache.kafka import ApacheBroker, ApacheCluster, archive_classes

CHOICE = "STREAMCHAR_TEST_APACHE"
SKIPPED = pytest.StashKey[str]()
_LOG_LINES = 40


@pytest.fixture(scope="session")
def kafka_jars(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with Apache Kafka's jars; what needs them is skipped, loudly, where they cannot be had."""
    reason = f"{CHOICE}=off"
    if os.environ.get(CHOICE) != "off":
        try:
            jars = apache_jars()
            archive_classes(jars, tmp_path_factory.mktemp("apache-archive"))
            return jars
        except ApacheUnavailableError as error:
            reason = str(error)
            if os.environ.get(CHOICE) == "required":
                pytest.fail(f"Apache Kafka is required and cannot be run: {reason}", pytrace=False)
    pytestconfig.stash[SKIPPED] = reason
    pytest.skip(f"Apache Kafka cannot be run: {reason}")


@pytest.fixture(scope="session")
def apache_session(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheBroker]:
    """The one Apache broker of the session; use :func:`apache`."""
    broker = ApacheBroker(kafka_jars, tmp_path_factory.mktemp("apache") / "kafka")
    try:
        yield broker.start()
    finally:
        broker.stop()
        shutil.rmtree(broker.data_dir, ignore_errors=True)


@pytest.fixture
def apache(apache_session: ApacheBroker) -> ApacheBroker:
    """Apache Kafka, shared by the whole session: use names of your own. It may be killed; the next test mends it."""
    return apache_session if apache_session.running else apache_session.start()


@pytest.fixture(scope="module")
def apache_module_cluster(
    kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApacheCluster]:
    """The cluster of a module; use :func:`apache_cluster`."""
    directory = tmp_path_factory.mktemp("apache-cluster")
    cluster = ApacheCluster(kafka_jars, directory)
    try:
        yield cluster.start()
    finally:
        cluster.stop()
        for broker in cluster.brokers:
            shutil.rmtree(broker.data_dir, ignore_errors=True)


@pytest.fixture
async def apache_cluster(apache_module_cluster: ApacheCluster) -> ApacheCluster:
    """Three brokers of Apache Kafka, shared by the module and whole when a test begins: use names of your own."""
    apache_module_cluster.mend()
    await apache_module_cluster.settled()
    return apache_module_cluster


def report_log(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add the end of the log of each Apache broker a failed test had to its report."""
    arguments = getattr(item, "funcargs", {})
    for name in ("apache_session", "apache_module_cluster"):
        server = arguments.get(name)
        brokers = getattr(server, "brokers", [server] if server is not None else [])
        for broker in brokers:
            tail = "\n".join(broker.log.splitlines()[-_LOG_LINES:])
            report.sections.append((f"Apache Kafka, {broker.log_path}", tail))


def summarize(reporter: pytest.TerminalReporter) -> None:
    """Say in the summary that nothing was tested against Apache Kafka, and why."""
    reason = reporter.config.stash.get(SKIPPED, "")
    if reason:
        reporter.section("NOT TESTED AGAINST APACHE KAFKA", sep="!", yellow=True, bold=True)
        reporter.line(f"{reason}.", yellow=True)
        reporter.line("Everything else ran on the embedded broker.", yellow=True)
