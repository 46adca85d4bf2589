"""The brokers under test: the embedded one and Apache Kafka, or the one at ``STREAMCHAR_TEST_BOOTSTRAP``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stream.apache.kafka import ApacheBroker
from tests.stream.brokers import Broker, BrokerProcess

EXTERNAL = os.environ.get("STREAMCHAR_TEST_BOOTSTRAP")
KINDS = ["external"] if EXTERNAL else ["embedded", "apache"]


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One embedded broker for the whole session, never killed."""
    if EXTERNAL:
        pytest.skip("about the embedded broker's process; STREAMCHAR_TEST_BOOTSTRAP names another one")
    directory = tmp_path_factory.mktemp("broker") / "data"
    with BrokerProcess(directory, ["retention_check_interval_ms=200"]) as broker:
        yield broker


@pytest.fixture(scope="session", params=KINDS)
def bootstrap(request: pytest.FixtureRequest) -> str:
    """Where to connect."""
    if EXTERNAL:
        return EXTERNAL
    if request.param == "apache":
        apache: ApacheBroker = request.getfixturevalue("apache_session")
        return apache.bootstrap
    broker: BrokerProcess = request.getfixturevalue("embedded")
    return broker.bootstrap


@pytest.fixture
def mortal_embedded(tmp_path: Path) -> Iterator[BrokerProcess]:
    """An embedded broker of one's own, to be killed."""
    if EXTERNAL:
        pytest.skip("kills the broker; STREAMCHAR_TEST_BOOTSTRAP names one that is not ours to kill")
    with BrokerProcess(tmp_path / "data") as broker:
        yield broker


@pytest.fixture(params=KINDS)
def mortal(request: pytest.FixtureRequest) -> Broker:
    """A broker to be killed. Apache Kafka's is the session's: starting one for each test takes too long."""
    name = "apache" if request.param == "apache" else "mortal_embedded"
    broker: Broker = request.getfixturevalue(name)
    return broker
