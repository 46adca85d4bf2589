"""Follows the topics an operator watches, repeats included."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer

from streamchar.client.partitions import check_address, find_partitions
from streamchar.client.subscription import WAIT_FOR_TOPICS
from streamchar.kafka.moments import offsets_since
from streamchar.kafka.tolerant import poll, rewind
from streamchar.messages import (
    ExposureReady,
    ExposureStatus,
    MessageError,
    PsfQuality,
    TopicNames,
    decode,
    decode_exposure_ready,
)

log = logging.getLogger(__name__)

Watched = ExposureReady | ExposureStatus | PsfQuality


async def follow(
    bootstrap: str,
    topics: TopicNames | None = None,
    *,
    span: float | None = None,
    wait: float = 0.2,
    **options: Any,
) -> AsyncIterator[Watched | None]:
    """Yield announcements, quality records and statuses; ``None`` whenever a poll brought all there is for now.

    Unlike :func:`streamchar.client.subscribe` it drops nothing that was published twice: the operator is to see it.

    Parameters
    ----------
    bootstrap
        Address of a broker.
    topics
        Names of the topics.
    span
        Seconds to read back at the start; ``None`` for all there is.
    wait
        Seconds between two ``None`` at most.
    **options
        Further arguments of the client: how to reach the brokers.

    Raises
    ------
    SubscriptionError
        The address is none, or no broker answers there, or it does not let us in. Topics that do not exist are waited for.
    """
    check_address(bootstrap)
    names = topics or TopicNames()
    followed = (names.exposure_ready, names.psf_quality, names.exposure_status)
    connection = {"bootstrap_servers": bootstrap, **options}
    # A client that asks for a topic may create it, with other settings than it should have.
    while len(await find_partitions(connection, followed)) < len(followed):
        yield None
        await asyncio.sleep(WAIT_FOR_TOPICS)
    consumer = AIOKafkaConsumer(
        *followed,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        group_id=None,
        metadata_max_age_ms=5_000,
        **connection,
    )
    try:
        await consumer.start()
        if span is not None:
            rewind(consumer, await offsets_since(consumer, consumer.assignment(), time.time() - span))
        while True:
            for records in (await poll(consumer, lambda: connection, wait=wait)).values():
                for record in records:
                    message = read_watched(record, names)
                    if message is not None:
                        yield message
            yield None
    finally:
        await consumer.stop()


def read_watched(record: Any, names: TopicNames) -> Watched | None:
    """Decode a record of one of the followed topics; None, with a warning in the log, when it cannot be read."""
    try:
        if record.topic == names.exposure_ready:
            return decode_exposure_ready(record.value or b"", record.headers)
        message = decode(record.value or b"", record.headers)
    except MessageError as error:
        log.warning("a record of %s cannot be read: %s", record.topic, error)
        return None
    return message if isinstance(message, ExposureStatus | PsfQuality) else None
