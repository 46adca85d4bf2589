"""Settings: where they come from, in which order, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamchar.errors import ConfigurationError
from streamchar.stream.settings import load_settings


def test_file_then_environment_then_overrides(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_text('[kafka]\nbootstrap = "a:1"\ngroup = "file"\n[workers]\ncount = 3\n')
    environment = {"STREAMCHAR__KAFKA__GROUP": "environment", "STREAMCHAR__WORKERS__COUNT": "4", "OTHER": "x"}
    settings = load_settings(path, ["workers.count=5"], environment)
    assert (settings.kafka.bootstrap, settings.kafka.group, settings.workers.count) == (
        "a:1",
        "environment",
        5,
    )
    assert settings.events_in_flight == 15
    assert settings.topics.names.dlq == "streamchar.exposure-ready.v1.dlq"


def test_files_outside_configured_roots_are_closed_by_default() -> None:
    assert load_settings(None, [], {}).fetch.roots == ()
    assert load_settings(None, [], {}).http.host == "127.0.0.1"
    assert load_settings(None, [], {}).delivery.mode == "exactly_once"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("kafka.bootstrp=x", r"did you mean 'kafka.bootstrap'\?"),
        ("worker.count=2", r"did you mean 'workers'\?"),
        ("workers.count=0", "greater than or equal to 1"),
        ("delivery.mode=at_most_once", "exactly_once"),
        ("kafka.heartbeat_interval=20", "half of session_timeout"),
        ("kafka.security_protocol=SASL_SSL", "sasl_username is needed"),
        ("workers", "reads name=value"),
        ("kafka.bootstrap=kafka://x:1", "is a URL; write host:port"),
        ("kafka.bootstrap=x:nine", "'nine' is no port; write host:port"),
        ("kafka.bootstrap=x:1,", "a host is missing"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_remedy(override: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_settings(None, [override], {})


def test_a_mistake_names_where_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_text("[workers]\nmemory = 1\n")
    with pytest.raises(
        ConfigurationError, match=r"night\.toml: 'workers\.memory' is not a setting.*memory_limit"
    ):
        load_settings(path, [], {})
    with pytest.raises(ConfigurationError, match=r"environment.*kafka\.grop"):
        load_settings(None, [], {"STREAMCHAR__KAFKA__GROP": "x"})


def test_passwords_do_not_show() -> None:
    settings = load_settings(None, [], {"STREAMCHAR__KAFKA__SASL_PASSWORD": "geheim"})
    assert "geheim" not in repr(settings)
    assert "geheim" not in settings.model_dump_json()


@pytest.mark.parametrize(
    "override",
    ["kafka={sasl_password = ['geheim']}", "kafka={sasl_password = 'geheim', heartbeat_interval = 20}"],
)
def test_passwords_do_not_show_in_complaints(override: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(None, [override], {"STREAMCHAR__KAFKA__SASL_PASSWORD": "0815"})
    assert "geheim" not in str(caught.value)
    assert "0815" not in str(caught.value)


def test_a_password_of_digits_and_an_ordinal_come_from_the_environment() -> None:
    kafka = load_settings(
        None, [], {"STREAMCHAR__KAFKA__SASL_PASSWORD": "0815", "STREAMCHAR__KAFKA__INSTANCE_ID": "0"}
    ).kafka
    assert kafka.sasl_password is not None
    assert (kafka.sasl_password.get_secret_value(), kafka.instance_id) == ("0815", "0")


@pytest.mark.parametrize(
    "address", ["broker", "a:1, b:2", "[::1]:9092", "[2001:db8::7]", "::1", "2001:db8::7"]
)
def test_every_kind_of_address_is_taken(address: str) -> None:
    assert load_settings(None, [f"kafka.bootstrap={address}"], {}).kafka.bootstrap == address


def test_security_settings_reach_the_client(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("geheim\n")
    settings = load_settings(
        None,
        [
            "kafka.security_protocol=SASL_PLAINTEXT",
            "kafka.sasl_username=night",
            f"kafka.sasl_password_file='{secret}'",
            "kafka.bootstrap=a:1,b:2",
        ],
        {},
    )
    arguments = settings.kafka.connection()
    assert arguments["bootstrap_servers"] == ["a:1", "b:2"]
    assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"
    assert arguments["sasl_plain_password"] == "geheim"
    with pytest.raises(ConfigurationError, match=r"ssl_cafile = /no/where: cannot be read: No such file"):
        load_settings(
            None, ["kafka.security_protocol=SSL", "kafka.ssl_cafile=/no/where"], {}
        ).kafka.connection()
    secret.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"sasl_password_file = .*: cannot be read: 'utf-8' codec"):
        settings.kafka.connection()
