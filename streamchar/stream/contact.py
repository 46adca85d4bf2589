"""First contact of the service: a silent broker is waited for, a refusal is not."""

from __future__ import annotations

from aiokafka.errors import KafkaConnectionError

from streamchar.kafka.contact import try_brokers
from streamchar.stream.errors import AccessRefusedError, BrokerUnreachableError, StartError
from streamchar.stream.settings import KafkaSettings


async def diagnose(kafka: KafkaSettings) -> StartError:
    """Connect to each bootstrap address in turn and say what is wrong.

    Returns
    -------
    StartError
        `AccessRefusedError` when trying again will not help: user, password, mechanism or certificate are not
        accepted. Otherwise `BrokerUnreachableError` with what happened at each address.
    """
    attempts = await try_brokers(
        kafka.connection(), who="the service", prefix="kafka.", certificate=kafka.ssl_certfile
    )
    for attempt in attempts:
        if attempt.is_refusal:
            return AccessRefusedError(bootstrap=attempt.address, detail=attempt.detail)
    details = "; ".join(f"{attempt.address}: {attempt.detail}" for attempt in attempts)
    return BrokerUnreachableError(bootstrap=kafka.bootstrap, detail=details)


async def cause_of(error: BaseException, kafka: KafkaSettings) -> StartError:
    """Say why nothing could be read: what is found out about the brokers when they did not answer, or else the error."""
    if isinstance(error, (TimeoutError, KafkaConnectionError)):
        return await diagnose(kafka)
    return BrokerUnreachableError(bootstrap=kafka.bootstrap, detail=str(error))
