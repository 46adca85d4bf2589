"""The topics of the service: create what is missing, or say exactly what is."""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streamchar.stream.errors import BrokerUnreachableError, StartError, TopicsMissingError
from streamchar.stream.settings import KafkaSettings, ServiceSettings, TopicSettings

_USUAL_REPLICAS = 3
_SETTLE_SECONDS = 0.2


async def ensure_topics(settings: ServiceSettings) -> list[str]:
    """Create the topics that are missing, when the settings allow it.

    Returns
    -------
    list of str
        Names of the topics that were created.

    Raises
    ------
    BrokerUnreachableError
        No broker answers in time.
    TopicsMissingError
        Topics are missing and may not be created.
    StartError
        The broker refuses to create one.
    """
    kafka = settings.kafka
    admin = AIOKafkaAdminClient(**kafka.connection())
    try:
        async with asyncio.timeout(kafka.start_timeout):
            await _connect(admin)
            missing = await missing_topics(admin, settings.topics)
            if missing and not settings.topics.create:
                raise TopicsMissingError(topics=", ".join(missing))
            if missing:
                await create_topics(admin, settings.topics, missing)
                await _wait_for_topics(admin, settings.topics)
            return missing
    except (TimeoutError, KafkaError) as error:
        raise BrokerUnreachableError(bootstrap=kafka.bootstrap, detail=str(error) or "no answer") from error
    finally:
        await _close(admin, kafka)


async def missing_topics(admin: AIOKafkaAdminClient, settings: TopicSettings) -> list[str]:
    """Names of the topics that do not exist."""
    present = set(await admin.list_topics())
    return [name for name in settings.names.all() if name not in present]


async def create_topics(admin: AIOKafkaAdminClient, settings: TopicSettings, names: list[str]) -> None:
    """Create topics with their recommended configuration.

    Raises
    ------
    StartError
        The broker refuses one, for another reason than that it exists by now.
    """
    refused = await _create(admin, settings, names, without=())
    if refused:
        # A broker that never recompresses (the embedded one) refuses that choice; it is a wish, not a need.
        refused = await _create(admin, settings, list(refused), without=("compression.type",))
    for name, reason in refused.items():
        raise StartError(detail=f"the broker refuses to create the topic {name}: {reason}")


async def _create(
    admin: AIOKafkaAdminClient, settings: TopicSettings, names: list[str], without: tuple[str, ...]
) -> dict[str, str]:
    """Create topics; return the reasons of those that were refused."""
    recommended = settings.names.all()
    replication = settings.replication if settings.replication > 0 else await _usual_replication(admin)
    topics = [
        NewTopic(
            name,
            num_partitions=settings.partitions or recommended[name].partitions,
            replication_factor=replication,
            topic_configs={
                option: value
                for option, value in recommended[name].settings().items()
                if option not in without
            },
        )
        for name in names
    ]
    response = await admin.create_topics(topics)
    refused = {}
    for name, code, *rest in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            refused[name] = (rest[0] if rest else "") or error.__name__
    return refused


async def _usual_replication(admin: AIOKafkaAdminClient) -> int:
    # aiokafka cannot ask for the brokers' own default (-1).
    cluster = await admin.describe_cluster()
    return min(_USUAL_REPLICAS, len(cluster["brokers"]))


async def _wait_for_topics(admin: AIOKafkaAdminClient, settings: TopicSettings) -> None:
    """Wait until every topic is known to the brokers, which learn of new ones a little later."""
    missing = await missing_topics(admin, settings)
    while missing:
        await asyncio.sleep(_SETTLE_SECONDS)
        missing = await missing_topics(admin, settings)


async def _connect(admin: AIOKafkaAdminClient) -> None:
    """Connect, again and again until the caller's time is over: the broker may be starting too."""
    while True:
        try:
            await admin.start()
        except KafkaError:
            await asyncio.sleep(_SETTLE_SECONDS)
        else:
            return


async def _close(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> None:
    try:
        async with asyncio.timeout(kafka.request_timeout):
            await admin.close()
    except (TimeoutError, KafkaError):
        return
