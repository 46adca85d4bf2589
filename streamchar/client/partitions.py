"""Where the topics of a subscription are, and what to say when they cannot be read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from streamchar.client.errors import (
    AddressError,
    ForbiddenError,
    RefusedError,
    SubscriptionError,
    UnreachableError,
)
from streamchar.kafka import partitions
from streamchar.kafka.addresses import problem_of
from streamchar.kafka.contact import CONNECTION_OPTIONS, try_brokers

_FORBIDDEN = (TopicAuthorizationFailedError, GroupAuthorizationFailedError)


async def find_partitions(
    settings: Mapping[str, Any], topics: Collection[str]
) -> dict[str, list[TopicPartition]]:
    """Return the partitions of each topic; topics that do not exist are left out. Creates none.

    Parameters
    ----------
    settings
        Arguments of the consumer.
    topics
        Names.

    Raises
    ------
    SubscriptionError
        No broker answers, or it does not let us in.
    """
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        try:
            await admin.start()
            return await partitions.find_partitions(admin, topics)
        finally:
            await admin.close()
    except (KafkaError, TimeoutError, OSError) as error:
        raise await explain(error, settings, topics) from error


def connection(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the consumer that every client takes: how to reach the brokers."""
    return {name: settings[name] for name in ("bootstrap_servers", *CONNECTION_OPTIONS) if name in settings}


async def explain(
    error: BaseException, settings: Mapping[str, Any], topics: Collection[str]
) -> SubscriptionError:
    """Turn an error of the client into one that says what to do."""
    bootstrap = str(settings["bootstrap_servers"])
    if isinstance(error, _FORBIDDEN):
        return ForbiddenError(
            bootstrap=bootstrap,
            detail=str(error),
            topics=", ".join(topics),
            group=settings.get("group_id") or "",
        )
    attempts = await try_brokers(settings, who="the subscriber")
    for attempt in attempts:
        if attempt.is_refusal:
            return RefusedError(bootstrap=attempt.address, detail=attempt.detail)
    details = "; ".join(dict.fromkeys(attempt.detail for attempt in attempts))
    return UnreachableError(bootstrap=bootstrap, detail=details or str(error))


def check_address(bootstrap: object) -> None:
    """Refuse what is no list of addresses.

    Raises
    ------
    AddressError
        It is empty, holds a scheme, or a port is no number between 1 and 65535.
    """
    problem = problem_of(bootstrap) if isinstance(bootstrap, str) else "it is not text"
    if problem:
        raise AddressError(bootstrap=str(bootstrap), detail=problem)
