"""The rights of Strimzi's users on Apache Kafka: enough for what each is for, and not for anything else."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.protocol.admin import CreateAclsRequest

from streamchar import subscribe
from streamchar.dashboard.follow import follow
from streamchar.messages import ExposureReady, ExposureStatus, PsfQuality
from streamchar.stream.service import Service
from streamchar.stream.settings import KafkaSettings, ServiceSettings, load_settings
from streamchar.stream.topics import ensure_topics
from tests.deploy.places import KUBERNETES, documents
from tests.stream.apache.kafka import ApacheBroker
from tests.stream.conformance.clients import admin
from tests.stream.services import BASE, HERE, JSON_HEADERS, Night, outcomes, running, stub_event

USERS = {user["metadata"]["name"]: user for user in documents(KUBERNETES / "components/strimzi/users.yaml")}
PASSWORD = "rights-secret"
PROPERTIES = {
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "listener.name.sasl.scram-sha-512.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}

# Codes of the protocol (ResourceType, PatternType, AclOperation, AclPermissionType).
RESOURCES = {"topic": 2, "group": 3, "cluster": 4, "transactionalId": 5}
PATTERNS = {"literal": 3, "prefix": 4}
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10, "IdempotentWrite": 12}
ALLOW = 3


class Guarded:
    """A broker that knows the users of the manifests.

    Attributes
    ----------
    night
        The broker seen by the test, which may do everything.
    """

    def __init__(self, broker: ApacheBroker) -> None:
        self.night = Night(broker.bootstrap)
        self.address = broker.address("SASL")

    def options(self, user: str) -> dict[str, str]:
        """Settings with which a user logs in."""
        return {
            "bootstrap": self.address,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": user,
            "sasl_password": PASSWORD,
        }

    def client(self, user: str) -> dict[str, object]:
        """Arguments of a client of the user."""
        return KafkaSettings(**self.options(user)).connection()

    def overrides(self, user: str) -> list[str]:
        """The same as overrides of settings."""
        return [f"kafka.{name}='{value}'" for name, value in self.options(user).items()]

    def settings(self, user: str, *more: str) -> ServiceSettings:
        """Settings of a service, with the names of the manifests."""
        return load_settings(None, [*BASE, *self.overrides(user), "topics.create=false", *more], {})


@pytest.fixture(scope="module")
def guarded(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("rights")
    users = dict.fromkeys(USERS, PASSWORD)
    broker = ApacheBroker(kafka_jars, folder / "kafka", PROPERTIES, listeners=("SASL",), users=users)
    with broker:
        asyncio.run(prepare(broker))
        yield Guarded(broker)
    shutil.rmtree(broker.data_dir, ignore_errors=True)


async def prepare(broker: ApacheBroker) -> None:
    """Create topics and rights, as the operators of Strimzi would."""
    await ensure_topics(Night(broker.bootstrap).settings())
    async with admin(broker.bootstrap) as client:
        for name, user in USERS.items():
            for acl in user["spec"]["authorization"]["acls"]:
                resource = acl["resource"]
                for operation in acl["operations"]:
                    answer = await client._send_request(
                        CreateAclsRequest(
                            RESOURCES[resource["type"]],
                            resource["name"],
                            PATTERNS[resource["patternType"]],
                            f"User:{name}",
                            "*",
                            OPERATIONS[operation],
                            ALLOW,
                        )
                    )
                    assert [code for code, *_ in answer.creation_responses] == [0], answer


async def announce(guarded: Guarded, *events: bytes) -> None:
    """Announce as the camera does."""
    client = AIOKafkaProducer(enable_idempotence=True, **guarded.client("streamchar-camera"))
    await client.start()
    try:
        for value in events:
            topic = guarded.night.topics.exposure_ready
            await client.send_and_wait(topic, value, key=b"k", headers=JSON_HEADERS)
    finally:
        await client.stop()


async def command(guarded: Guarded, *words: str) -> str:
    """Run a command as the operator; it must succeed."""
    options = [word for text in guarded.overrides("streamchar-operator") for word in ("-c", text)]

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streamchar.cli",
        *words,
        *options,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, (words, output.decode())
    return output.decode()


async def test_everybody_can_do_what_they_are_for(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Announce, process with retries and dead letters in both ways of delivery, subscribe, watch, operate."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    night = guarded.night
    real = "workers.job=stub_jobs:cataloguing"
    await announce(
        guarded, stub_event(1), stub_event(2, do="missing", well_from=5), stub_event(3, do="raise")
    )
    async with running(Service(guarded.settings("streamchar-service", real))):
        assert outcomes(await night.wait_for_statuses(3, 60)) == {"succeeded": 2, "failed": 1}
    await announce(guarded, stub_event(4))
    atleast = guarded.settings("streamchar-service", real, "delivery.mode=at_least_once")
    async with running(Service(atleast)):
        await night.wait_for_statuses(4, 60)
        assert "stub" in await command(guarded, "dlq", "list", "--json")
        assert "replay" in await command(guarded, "dlq", "replay", "--all")
        await night.wait_for_statuses(5, 60)
    await command(guarded, "lag")
    await command(guarded, "topics", "check")
    await command(guarded, "verify", "--allow-repeats")
    await check_readers(guarded)


async def check_readers(guarded: Guarded) -> None:
    """The subscriber gets catalogues with a group, and the page sees the night."""
    options = {
        key: value
        for key, value in guarded.client("streamchar-subscriber").items()
        if key != "bootstrap_servers"
    }
    exposures = set()
    subscription = subscribe(
        guarded.address,
        products="catalog",
        group="subscriber-test",
        from_beginning=True,
        stop_at_end=True,
        consumer_options=options,
    )
    async with asyncio.timeout(60), subscription:
        async for catalog in subscription:
            exposures.add(catalog.key)
    assert {f"StubCam/{n}/0" for n in (1, 2, 4)} <= exposures
    options = {
        key: value
        for key, value in guarded.client("streamchar-dashboard").items()
        if key != "bootstrap_servers"
    }
    kinds = set()
    async with asyncio.timeout(60):
        async for message in follow(guarded.address, **options):
            kinds.add(type(message))
            if {ExposureReady, ExposureStatus, PsfQuality} <= kinds:
                break


async def read_topic(guarded: Guarded, user: str, topic: str, group: str | None = None) -> None:
    """Try to read a topic as a user: the first partition, or as a member of a group."""
    client = AIOKafkaConsumer(group_id=group, **guarded.client(user))
    await client.start()
    try:
        if group is None:
            client.assign([TopicPartition(topic, 0)])
        else:
            client.subscribe([topic])
        async with asyncio.timeout(10):
            await client.getmany(timeout_ms=5000)
    finally:
        await client.stop()


async def write_topic(guarded: Guarded, user: str, topic: str) -> None:
    """Try to write to a topic as a user."""
    client = AIOKafkaProducer(**guarded.client(user))
    try:
        await client.start()
        await client.send_and_wait(topic, b"x")
    finally:
        await client.stop()


async def open_transaction(guarded: Guarded, user: str, identifier: str) -> None:
    """Try to begin transactions under an identifier as a user."""
    client = AIOKafkaProducer(transactional_id=identifier, **guarded.client(user))
    try:
        await client.start()
    finally:
        await client.stop()


Attempt = Callable[[Guarded], Awaitable[None]]
FORBIDDEN: dict[str, tuple[Attempt, type[Exception]]] = {
    "the camera reads": (
        lambda g: read_topic(g, "streamchar-camera", g.night.topics.exposure_ready),
        TopicAuthorizationFailedError,
    ),
    "the camera publishes quality": (
        lambda g: write_topic(g, "streamchar-camera", g.night.topics.psf_quality),
        TopicAuthorizationFailedError,
    ),
    "a subscriber announces": (
        lambda g: write_topic(g, "streamchar-subscriber", g.night.topics.exposure_ready),
        TopicAuthorizationFailedError,
    ),
    "a subscriber joins the service's group": (
        lambda g: read_topic(g, "streamchar-subscriber", g.night.topics.psf_quality, "streamchar"),
        GroupAuthorizationFailedError,
    ),
    "the service announces": (
        lambda g: write_topic(g, "streamchar-service", g.night.topics.exposure_ready),
        TopicAuthorizationFailedError,
    ),
    "the service uses another's transactions": (
        lambda g: open_transaction(g, "streamchar-service", "streamchar-dlq-replay"),
        TransactionalIdAuthorizationFailed,
    ),
    "the operator publishes quality": (
        lambda g: write_topic(g, "streamchar-operator", g.night.topics.psf_quality),
        TopicAuthorizationFailedError,
    ),
    "the operator takes the service's partitions": (
        lambda g: read_topic(g, "streamchar-operator", g.night.topics.exposure_ready, "streamchar"),
        GroupAuthorizationFailedError,
    ),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nobody_can_do_more(guarded: Guarded, what: str) -> None:
    attempt, error = FORBIDDEN[what]

    async def refused() -> None:
        with pytest.raises(error):
            await attempt(guarded)

    asyncio.run(refused())
    with warnings.catch_warnings():
        # The client may leave the connection open over which it was refused.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_the_prefix_of_transactional_ids_is_that_of_the_service() -> None:
    settings = load_settings(None, (), {})
    rights = USERS["streamchar-service"]["spec"]["authorization"]["acls"]
    (prefix,) = [acl["resource"]["name"] for acl in rights if acl["resource"]["type"] == "transactionalId"]
    for topic in settings.topics.inputs():
        assert f"{settings.kafka.group}-{TopicPartition(topic, 0).topic}-0".startswith(prefix)
