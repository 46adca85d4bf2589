"""The security settings on Apache Kafka: SCRAM, PLAIN, TLS, mutual TLS, permissions, and what is said when refused."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from streamchar.errors import ConfigurationError
from streamchar.monitor.metrics import Metrics
from streamchar.stream.errors import PublishAuthorizationError, PublishError, RefusedError, StartError
from streamchar.stream.outbox import AcknowledgedOutbox, TransactionalOutbox
from streamchar.stream.service import Service
from streamchar.stream.settings import KafkaSettings, ServiceSettings
from streamchar.stream.source import Source
from streamchar.stream.topics import ensure_topics
from tests.stream.apache.certificates import Authority, Identity
from tests.stream.apache.kafka import ApacheBroker
from tests.stream.conformance.clients import consumer, drain, fresh, producer
from tests.stream.services import HERE, Night, assert_once, running, stub_event

START = 1.0
"""Seconds a service may try to get in."""

USERS = {"streamchar": "correct horse", "guest": "guest-secret"}
PLAIN_USER, PLAIN_PASSWORD = "operator", "plain-secret"

_LOGIN = "org.apache.kafka.common.security"
_SASL = {
    "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
    "scram-sha-512.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
    "plain.sasl.jaas.config": f'{_LOGIN}.plain.PlainLoginModule required user_{PLAIN_USER}="{PLAIN_PASSWORD}";',
}
PROPERTIES = {
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,"
    "SASL_TLS:SASL_SSL,TLS:SSL,MTLS:SSL",
    "inter.broker.listener.name": "PLAINTEXT",
    **{
        f"listener.name.{listener}.{name}": _SASL[name] for listener in ("sasl", "sasl_tls") for name in _SASL
    },
    "listener.name.mtls.ssl.client.auth": "required",
    "ssl.keystore.type": "PEM",
    "ssl.truststore.type": "PEM",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": f"User:ANONYMOUS;User:streamchar;User:{PLAIN_USER};User:CN=service",
}


@dataclass(frozen=True)
class Fortress:
    """A broker that lets in only whom it knows.

    Attributes
    ----------
    broker
        Its listeners: PLAINTEXT for the test itself, SASL, SASL_TLS, TLS, MTLS.
    authority, stranger
        Certificate authorities: the one it trusts, and another.
    service, forged
        Certificates in the service's name by either.
    """

    broker: ApacheBroker
    authority: Authority
    stranger: Authority
    service: Identity
    forged: Identity

    def options(self, way: str) -> dict[str, Any]:
        """Right settings to get in by a listener."""
        user = {"sasl_username": "streamchar", "sasl_password": USERS["streamchar"]}
        plain = {"sasl_mechanism": "PLAIN", "sasl_username": PLAIN_USER, "sasl_password": PLAIN_PASSWORD}
        trust = {"ssl_cafile": self.authority.certificate}
        certificate = {"ssl_certfile": self.service.certificate, "ssl_keyfile": self.service.key}
        ways: dict[str, tuple[str, str, dict[str, Any]]] = {
            "scram": ("SASL", "SASL_PLAINTEXT", user),
            "plain": ("SASL", "SASL_PLAINTEXT", plain),
            "scram+tls": ("SASL_TLS", "SASL_SSL", user | trust),
            "tls": ("TLS", "SSL", trust),
            "mutual tls": ("MTLS", "SSL", trust | certificate),
        }
        listener, protocol, options = ways[way]
        return {"bootstrap": self.broker.address(listener), "security_protocol": protocol, **options}

    def kafka(self, way: str, **changes: Any) -> KafkaSettings:
        """Settings of a service that gets in by a listener, or does not after some changes."""
        options = {"group": fresh("group"), "start_timeout": START, **self.options(way), **changes}
        return KafkaSettings(**options)

    def settings(self, way: str, **changes: Any) -> ServiceSettings:
        """The same as part of all settings."""
        return ServiceSettings(kafka=self.kafka(way, **changes))


@pytest.fixture(scope="module")
def fortress(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortress]:
    """One secured broker for this module."""
    if shutil.which("openssl") is None:
        pytest.skip("the command 'openssl' was not found, and it makes the certificates")
    directory = tmp_path_factory.mktemp("fortress")
    authority, stranger = Authority(directory / "ours"), Authority(directory / "theirs")
    files = {
        "ssl.keystore.location": str(authority.issue("broker", "127.0.0.1").bundle()),
        "ssl.truststore.location": str(authority.certificate),
    }
    listeners = ("SASL", "SASL_TLS", "TLS", "MTLS")
    broker = ApacheBroker(
        kafka_jars, directory / "kafka", PROPERTIES | files, listeners=listeners, users=USERS
    )
    with broker:
        yield Fortress(broker, authority, stranger, authority.issue("service"), stranger.issue("service"))
    shutil.rmtree(broker.data_dir, ignore_errors=True)


@pytest.mark.parametrize("way", ["scram", "plain", "scram+tls", "tls", "mutual tls"])
async def test_right_settings_let_records_through(fortress: Fortress, way: str) -> None:
    options = KafkaSettings(**fortress.options(way)).connection()
    bootstrap = options.pop("bootstrap_servers")
    topic = fresh("guarded")
    async with (
        producer(bootstrap, **options) as client,
        consumer(bootstrap, topic, group_id=fresh("group"), **options) as reader,
    ):
        await client.send_and_wait(topic, way.encode())
        assert [record.value for record in await drain(reader, 1)] == [way.encode()]


@pytest.mark.parametrize("mode", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("way", ["scram+tls", "mutual tls"])
async def test_a_whole_service_behind_security(
    fortress: Fortress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, mode: str
) -> None:
    """Administration, group, outbox: every client of the service uses the settings, the password from a file."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    secret = tmp_path / "password"
    secret.write_text(USERS["streamchar"] + "\n")
    night = Night(fortress.broker.bootstrap, fresh("guarded"))
    options = fortress.options(way) | {"sasl_password": None, "sasl_password_file": secret}
    settings = night.settings(
        f"delivery.mode={mode}",
        *(f"kafka.{name}='{value}'" for name, value in options.items() if value is not None),
    )
    await ensure_topics(settings)
    await night.announce(stub_event(number) for number in range(4))
    async with running(Service(settings)):
        assert_once(await night.wait_for_statuses(4), range(4))


REFUSED: dict[str, tuple[str, Callable[[Fortress], dict[str, Any]]]] = {
    "wrong password": ("scram", lambda _: {"sasl_password": "wrong horse"}),
    "no password": ("scram", lambda _: {"sasl_password": None}),
    "unknown user": ("scram", lambda _: {"sasl_username": "nobody"}),
    "wrong plain password": ("plain", lambda _: {"sasl_password": "wrong"}),
    "mechanism not offered": ("scram", lambda _: {"sasl_mechanism": "SCRAM-SHA-256"}),
    "no certificate": ("mutual tls", lambda _: {"ssl_certfile": None, "ssl_keyfile": None}),
    "certificate of a stranger": (
        "mutual tls",
        lambda f: {"ssl_certfile": f.forged.certificate, "ssl_keyfile": f.forged.key},
    ),
    "authority we do not trust": ("tls", lambda f: {"ssl_cafile": f.stranger.certificate}),
    "name not in the certificate": (
        "tls",
        lambda f: {"bootstrap": f"localhost:{f.broker.ports['TLS']}"},
    ),
    "plain text to a TLS port": ("tls", lambda _: {"security_protocol": "PLAINTEXT"}),
    "no login at a SASL port": ("scram", lambda _: {"security_protocol": "PLAINTEXT"}),
    "TLS to a plain port": ("tls", lambda f: {"bootstrap": f.broker.bootstrap}),
}


WORDS = {
    "wrong password": r"user 'streamchar' with SCRAM-SHA-512 .*invalid credentials",
    "no password": r"invalid credentials",
    "unknown user": r"user 'nobody'",
    "wrong plain password": r"Invalid username or password",
    "mechanism not offered": r"sasl_mechanism=SCRAM-SHA-256 is not offered",
    "no certificate": r"no certificate .*ssl_certfile.*broker answered",
    "certificate of a stranger": r"service.pem, the broker answered 'sslv3 alert certificate unknown'|service.pem, the broker answered",
    "authority we do not trust": r"not accepted by the service .*issuer",
    "name not in the certificate": r"Hostname mismatch",
    "plain text to a TLS port": r"does kafka.security_protocol=PLAINTEXT fit",
    "no login at a SASL port": r"no answer with kafka.security_protocol=PLAINTEXT",
    "TLS to a plain port": r"does kafka.security_protocol=SSL fit",
}


@pytest.mark.parametrize("case", REFUSED)
async def test_wrong_settings_end_the_start_with_a_clear_error_in_bounded_time(
    fortress: Fortress, case: str
) -> None:
    way, change = REFUSED[case]
    settings = fortress.settings(way, **change(fortress))
    begin = time.monotonic()
    with pytest.raises(StartError, match=f"{settings.kafka.bootstrap}.*{WORDS[case]}"):
        await ensure_topics(settings)
    assert time.monotonic() - begin < START + 2


@pytest.mark.parametrize("case", ["wrong password", "no certificate"])
async def test_no_part_of_the_service_hangs_when_refused(fortress: Fortress, case: str) -> None:
    way, change = REFUSED[case]
    settings = fortress.settings(way, **change(fortress))
    begin = time.monotonic()
    with pytest.raises(StartError, match=settings.kafka.bootstrap):
        await Source(settings, Metrics(), pytest.fail).start(None, None)  # type: ignore[arg-type]
    with pytest.raises(PublishError, match="input"):
        await TransactionalOutbox(settings.kafka, settings.delivery).open(TopicPartition("input", 0))
    client = AIOKafkaProducer(**settings.kafka.connection())
    with pytest.raises(KafkaConnectionError):
        await client.start()
    await client.stop()
    assert time.monotonic() - begin < 3 * (START + 2)


async def test_an_authority_for_another_host_name_is_accepted_when_told_so(fortress: Fortress) -> None:
    options = fortress.options("tls") | {
        "bootstrap": f"localhost:{fortress.broker.ports['TLS']}",
        "ssl_check_hostname": False,
    }
    client = AIOKafkaProducer(**KafkaSettings(**options).connection())
    await asyncio.wait_for(client.start(), 10)
    await client.stop()


async def test_a_user_without_rights_is_told_what_is_forbidden(fortress: Fortress) -> None:
    known = {"sasl_username": "guest", "sasl_password": USERS["guest"]}
    settings = fortress.settings("scram", **known)
    partition = TopicPartition("input", 0)
    with pytest.raises(StartError, match=r"refuses to create the topic .*Authorization failed"):
        await ensure_topics(settings)
    with pytest.raises(PublishAuthorizationError, match="TransactionalIdAuthorizationFailed"):
        await TransactionalOutbox(settings.kafka, settings.delivery).open(partition)
    await ensure_topics(fortress.settings("scram"))
    with pytest.raises(RefusedError, match="exposure-ready"):
        await Source(settings, Metrics(), pytest.fail).start(None, None)  # type: ignore[arg-type]


async def test_a_user_who_may_not_write_is_told_so(fortress: Fortress) -> None:
    settings = fortress.settings("scram", sasl_username="guest", sasl_password=USERS["guest"])

    async def commit(_: object) -> None:
        pytest.fail("nothing may be committed before it is published")

    outbox = AcknowledgedOutbox(settings.kafka, settings.delivery, commit)
    with pytest.raises(PublishAuthorizationError, match="ClusterAuthorizationFailed"):
        await outbox.open(TopicPartition("input", 0))
    await outbox.stop()


@pytest.mark.parametrize(
    ("field", "content"),
    [
        ("ssl_cafile", None),
        ("ssl_cafile", "not PEM"),
        ("ssl_certfile", None),
        ("ssl_certfile", "not PEM"),
        ("sasl_password_file", None),
    ],
)
def test_files_that_cannot_be_used_end_in_a_typed_error(
    tmp_path: Path, field: str, content: str | None
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
    settings = KafkaSettings(
        security_protocol="SASL_SSL", sasl_username="streamchar", sasl_password="x", **{field: path}
    )
    with pytest.raises(ConfigurationError, match=rf"kafka: {field} = {path}: cannot be read: "):
        settings.connection()
