"""Brokers for every test of the stream: the embedded one, Apache Kafka, or any at ``STREAMCHAR_TEST_BOOTSTRAP``."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.stream.apache.fixtures import (
    apache,
    apache_cluster,
    apache_module_cluster,
    apache_session,
    kafka_jars,
    report_log,
    summarize,
)
from tests.stream.brokers import Broker, BrokerProcess

__all__ = ["apache", "apache_cluster", "apache_module_cluster", "apache_session", "kafka_jars"]

KINDS = ["embedded", "apache"]
EXTERNAL = os.environ.get("STREAMCHAR_TEST_BOOTSTRAP")


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """A broker that may be killed, of each kind in turn; on Apache Kafka, which is shared, use names of your own."""
    if EXTERNAL:
        pytest.skip("may kill the broker; STREAMCHAR_TEST_BOOTSTRAP names one that is not ours to kill")
    if request.param == "apache":
        yield request.getfixturevalue("apache")
        return
    with BrokerProcess(tmp_path / "broker") as process:
        yield process


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what Apache Kafka has to say about a failure."""
    report = yield
    if report.failed:
        report_log(item, report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was left out."""
    summarize(terminalreporter)
