"""First contact: when no client can be made, find out whether the brokers are silent or say no, and why.

The Kafka client tries every address, logs what went wrong, and raises one and the same error for a dead broker, a
wrong password and a certificate that is not accepted. One connection of its lower layer tells them apart.
"""

from __future__ import annotations

import asyncio
import ssl

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from streamchar.stream.errors import AccessRefusedError, BrokerUnreachableError, StartError
from streamchar.stream.settings import KafkaSettings

_OPTIONS = (
    "client_id",
    "request_timeout_ms",
    "security_protocol",
    "ssl_context",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
)


async def diagnose(kafka: KafkaSettings) -> StartError:
    """Connect to each bootstrap address in turn and say what is wrong.

    Returns
    -------
    StartError
        `AccessRefusedError` when trying again will not help: user, password, mechanism or certificate are not
        accepted. Otherwise `BrokerUnreachableError` with what happened at each address.
    """
    arguments = kafka.connection()
    options = {name: arguments[name] for name in _OPTIONS if name in arguments}
    reasons: list[str] = []
    for host, port, _ in collect_hosts(arguments["bootstrap_servers"], randomize=False):
        try:
            connection = await create_conn(host, port, **options)
        except (TimeoutError, KafkaError, OSError) as error:
            refusal = _refusal(kafka, error)
            if refusal:
                return AccessRefusedError(bootstrap=f"{host}:{port}", detail=refusal)
            reasons.append(f"{host}:{port}: {_reason(kafka, error)}")
        else:
            connection.close()
            reasons.append(
                f"{host}:{port}: connected, and no answer with kafka.security_protocol={kafka.security_protocol}"
            )
    return BrokerUnreachableError(bootstrap=kafka.bootstrap, detail="; ".join(reasons))


def _refusal(kafka: KafkaSettings, error: BaseException) -> str:
    """Say who refused whom for what, or nothing when it was not a refusal."""
    if isinstance(error, SaslAuthenticationFailed):
        detail = error.args[0] if error.args else "no reason given"
        return f"user '{kafka.sasl_username}' with {kafka.sasl_mechanism} ({detail})"
    if isinstance(error, (UnsupportedSaslMechanismError, IllegalSaslStateError)):
        return f"kafka.sasl_mechanism={kafka.sasl_mechanism} is not offered"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not accepted by the service ({error.verify_message})"
    if isinstance(
        error.__cause__, ssl.SSLError
    ):  # with TLS 1.3 the broker's verdict comes after the handshake
        reason = (error.__cause__.reason or str(error.__cause__)).replace("_", " ").lower()
        shown = (
            f"certificate {kafka.ssl_certfile}"
            if kafka.ssl_certfile
            else "no certificate (kafka.ssl_certfile)"
        )
        return f"the service showed {shown}, the broker answered '{reason}'"
    return ""


def _reason(kafka: KafkaSettings, error: BaseException) -> str:
    """Say why there was no connection."""
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {kafka.request_timeout:g} s"
    if isinstance(error, (KafkaConnectionError, ConnectionResetError, ssl.SSLError)):
        return f"the connection was closed at once; does kafka.security_protocol={kafka.security_protocol} fit this port?"
    return str(error) or type(error).__name__
