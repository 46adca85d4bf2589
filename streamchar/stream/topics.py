"""The topics of the service: create what is missing, or say exactly what is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streamchar.frozen import frozen
from streamchar.kafka.partitions import describe_partitions
from streamchar.stream.contact import cause_of, diagnose
from streamchar.stream.errors import (
    AccessRefusedError,
    AuthorizationError,
    StartError,
    TopicsMissingError,
)
from streamchar.stream.settings import KafkaSettings, ServiceSettings, TopicSettings

log = logging.getLogger(__name__)

_LIMIT = "max.message.bytes"
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
    AccessRefusedError
        A broker refuses the user, the password or the certificate, or its own certificate is not trusted.
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
            await _connect(admin, kafka)
            missing = await missing_topics(admin, settings.topics)
            if missing and not settings.topics.create:
                raise TopicsMissingError(topics=", ".join(missing))
            if missing:
                await create_topics(admin, settings.topics, missing)
                await _wait_for_topics(admin, settings.topics)
            return missing
    except (TimeoutError, KafkaError) as error:
        raise await cause_of(error, kafka) from error
    finally:
        await _close(admin, kafka)


async def message_limit(settings: ServiceSettings) -> int:
    """Return how large a message may be: the setting, or less where a topic allows less (``max.message.bytes``).

    Where the broker does not tell, which it may forbid, the setting stands and a warning is logged.

    Raises
    ------
    BrokerUnreachableError
        No broker answers in time.
    """
    wanted = settings.delivery.max_message_bytes
    try:
        found = await topic_settings(settings.kafka, list(settings.topics.names.all()))
    except AuthorizationError as error:
        log.warning("the topics' limits cannot be read (%s): messages have up to %d bytes", error, wanted)
        return wanted
    limits = {topic: int(values[_LIMIT]) for topic, values in found.items() if _LIMIT in values}
    for topic, limit in limits.items():
        if limit < wanted:
            log.info("messages are kept below %d bytes, as the topic %s demands", limit, topic)
    return min([wanted, *limits.values()])


async def topic_settings(kafka: KafkaSettings, names: list[str]) -> dict[str, dict[str, str]]:
    """Read the configuration of topics, those included that come from the broker's defaults.

    Raises
    ------
    BrokerUnreachableError
        No broker answers in time.
    AuthorizationError
        The broker refuses to tell.
    """
    admin = AIOKafkaAdminClient(**kafka.connection())
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        async with asyncio.timeout(kafka.start_timeout):
            await _connect(admin, kafka)
            answers = await admin.describe_configs(resources)
    except (TimeoutError, KafkaError) as error:
        raise await cause_of(error, kafka) from error
    finally:
        await _close(admin, kafka)
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, message, _, name, options in answer.resources:
            if code:
                raise AuthorizationError(topic=name, detail=message or for_code(code).__name__)
            found[name] = {option: value for option, value, *_ in options if value is not None}
    return found


@frozen
class Difference:
    """Something about a topic that is not as recommended.

    Attributes
    ----------
    topic, option
        What; the option is "topic" when the topic does not exist.
    actual, recommended
        As it is and as it should be.
    harmful
        Whether messages may be refused or lost because of it.
    """

    topic: str
    option: str
    actual: str
    recommended: str
    harmful: bool


async def check_topics(settings: ServiceSettings) -> list[Difference]:
    """Compare the topics with what is recommended; an empty list means that all is well.

    Raises
    ------
    BrokerUnreachableError
        No broker answers in time.
    AuthorizationError
        The broker refuses to tell.
    """
    kafka, recommended = settings.kafka, settings.topics.names.all()
    admin = AIOKafkaAdminClient(**kafka.connection())
    try:
        async with asyncio.timeout(kafka.start_timeout):
            await _connect(admin, kafka)
            described = await describe_partitions(admin, recommended)
            replicas = settings.topics.replication or await _usual_replication(admin)
    except (TimeoutError, KafkaError) as error:
        raise await cause_of(error, kafka) from error
    finally:
        await _close(admin, kafka)
    differences = [
        Difference(name, "topic", "missing", "present", harmful=True)
        for name in recommended
        if name not in described
    ]
    for name, partitions in described.items():
        fewest = min(len(partition["replicas"]) for partition in partitions)
        if fewest < replicas:
            differences.append(Difference(name, "replicas", str(fewest), str(replicas), harmful=False))
    actual = await topic_settings(kafka, list(described)) if described else {}
    for name, options in actual.items():
        differences += _compare(name, options, recommended[name].settings(), settings)
    return differences


def _compare(
    name: str, actual: Mapping[str, str], recommended: Mapping[str, str], settings: ServiceSettings
) -> Iterator[Difference]:
    for option, value in recommended.items():
        found = actual.get(option, value)
        if option == _LIMIT:
            wanted = settings.delivery.max_message_bytes
            if int(found) < wanted:
                yield Difference(name, option, found, f"at least {wanted}", harmful=False)
        elif option == "cleanup.policy" and found != value:
            yield Difference(name, option, found, value, harmful=True)
        elif option == "retention.ms" and 0 <= int(found) < int(value):
            yield Difference(name, option, found, f"at least {value}", harmful=False)


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


async def _connect(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> None:
    """Connect, again and again until the caller's time is over: the broker may be starting too.

    Raises
    ------
    AccessRefusedError
        The broker is there and refuses; a wrong password is not tried a second time.
    """
    while True:
        try:
            await admin.start()
        except KafkaError as error:
            reason = await diagnose(kafka)
            if isinstance(reason, AccessRefusedError):
                raise reason from error
            await asyncio.sleep(_SETTLE_SECONDS)
        else:
            return


async def _close(admin: AIOKafkaAdminClient, kafka: KafkaSettings) -> None:
    try:
        async with asyncio.timeout(kafka.request_timeout):
            await admin.close()
    except (TimeoutError, KafkaError):
        return
