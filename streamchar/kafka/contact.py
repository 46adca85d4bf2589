"""First contact: when no client can be made, find out whether the brokers are silent or say no, and why.

The Kafka client tries every address, logs what went wrong, and raises one and the same error for a dead broker, a
wrong password and a certificate that is not accepted. One connection of its lower layer tells them apart.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from streamchar.frozen import frozen

CONNECTION_OPTIONS = (
    "client_id",
    "request_timeout_ms",
    "security_protocol",
    "ssl_context",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
)
"""Arguments that every client takes, whatever it is for."""


@frozen
class Attempt:
    """What happened at one address.

    Attributes
    ----------
    address
        Host and port.
    is_refusal
        Whether trying again will not help: user, password, mechanism or certificate are not accepted.
    detail
        What happened.
    """

    address: str
    is_refusal: bool
    detail: str


async def try_brokers(
    options: Mapping[str, Any], *, who: str, prefix: str = "", certificate: object = None
) -> list[Attempt]:
    """Connect to each bootstrap address in turn and say what happened; ends with the first that refuses.

    Parameters
    ----------
    options
        Keyword arguments of an aiokafka client.
    who
        Who tries, for example ``"the service"``.
    prefix
        What comes before the names of options where the reader sets them, for example ``"kafka."``.
    certificate
        The file whose certificate is shown, when one is.

    Raises
    ------
    ValueError
        ``bootstrap_servers`` is no list of addresses.
    """
    reader = _Reader(options, who, prefix, certificate)
    passed = {name: options[name] for name in CONNECTION_OPTIONS if name in options}
    attempts: list[Attempt] = []
    for host, port, _ in collect_hosts(options["bootstrap_servers"], randomize=False):
        address = f"{host}:{port}"
        try:
            connection = await create_conn(host, port, **passed)
        except (TimeoutError, KafkaError, OSError) as error:
            refusal = reader.refusal(error)
            attempts.append(Attempt(address, bool(refusal), refusal or reader.reason(error)))
            if refusal:
                break
        else:
            connection.close()
            attempts.append(Attempt(address, False, f"connected, and no answer with {reader.protocol}"))
    return attempts


def leave_logging_to_the_application() -> None:
    """Keep the client's log off the terminal of programs that have not asked for any log.

    It writes several lines a second while a broker is away. Programs that configure logging get all of it.
    """
    logger = logging.getLogger("aiokafka")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


class _Reader:
    """Puts errors of the client into words."""

    def __init__(self, options: Mapping[str, Any], who: str, prefix: str, certificate: object) -> None:
        self._options = options
        self._who = who
        self._prefix = prefix
        self._certificate = certificate

    @property
    def protocol(self) -> str:
        """The setting that says how connections are secured."""
        return f"{self._prefix}security_protocol={self._options.get('security_protocol', 'PLAINTEXT')}"

    def refusal(self, error: BaseException) -> str:
        """Say who refused whom for what, or nothing when it was not a refusal."""
        mechanism = self._options.get("sasl_mechanism", "PLAIN")
        if isinstance(error, SaslAuthenticationFailed):
            detail = error.args[0] if error.args else "no reason given"
            return f"user '{self._options.get('sasl_plain_username')}' with {mechanism} ({detail})"
        if isinstance(error, (UnsupportedSaslMechanismError, IllegalSaslStateError)):
            return f"{self._prefix}sasl_mechanism={mechanism} is not offered"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the broker's certificate is not accepted by {self._who} ({error.verify_message})"
        if isinstance(
            error.__cause__, ssl.SSLError
        ):  # with TLS 1.3 the broker's verdict comes after the handshake
            reason = (error.__cause__.reason or str(error.__cause__)).replace("_", " ").lower()
            shown = (
                f"certificate {self._certificate}"
                if self._certificate
                else f"no certificate ({self._prefix}ssl_certfile)"
            )
            return f"{self._who} showed {shown}, the broker answered '{reason}'"
        return ""

    def reason(self, error: BaseException) -> str:
        """Say why there was no connection."""
        if isinstance(error, asyncio.TimeoutError):
            return f"no answer within {self._options.get('request_timeout_ms', 40_000) / 1000:g} s"
        if isinstance(error, (KafkaConnectionError, ConnectionResetError, ssl.SSLError)):
            return f"the connection was closed at once; does {self.protocol} fit this port?"
        return str(error) or type(error).__name__
