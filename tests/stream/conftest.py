"""Brokers for every test of the stream: the embedded one, Apache Kafka, or any at ``STREAMCHAR_TEST_BOOTSTRAP``."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamchar.messages import TopicNames
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
from tests.stream.conformance.clients import fresh
from tests.stream.services import EXTERNAL, HERE, Night

__all__ = ["apache", "apache_cluster", "apache_module_cluster", "apache_session", "kafka_jars"]

KINDS = ["embedded", "apache"]


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


@pytest.fixture(scope="session")
def embedded_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """The one embedded broker of the session, never killed: use names of your own."""
    with BrokerProcess(tmp_path_factory.mktemp("embedded") / "broker") as broker:
        yield broker


@pytest.fixture
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of a broker that is not killed."""
    if EXTERNAL:
        return EXTERNAL
    session: Broker = request.getfixturevalue("embedded_session")
    return session.bootstrap


@pytest.fixture
async def topics(bootstrap: str) -> TopicNames:
    """Fresh topics with two partitions each."""
    names = TopicNames(fresh("test"))
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1) for name in names.all()])
    finally:
        await admin.close()
    return names


@pytest.fixture
def strict_warnings() -> Iterator[None]:
    """Every warning is an error, also where a test or its plugins have changed the filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(params=["external"] if EXTERNAL else KINDS)
def night(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Night:
    """Topics and a group of one's own, not made yet, on a broker of each kind in turn; workers find the stub jobs."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    if EXTERNAL:
        return Night(EXTERNAL, fresh("night"))
    kind = "apache" if request.param == "apache" else "embedded_session"
    return Night(request.getfixturevalue(kind).bootstrap, fresh("night"))


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
