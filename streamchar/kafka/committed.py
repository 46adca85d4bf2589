"""What a group has committed, read from an answer that is looked at as a whole.

A broker that is not, or not yet, the group's coordinator says so at the end of its answer, which then names no
partitions (Apache Kafka protocol, OffsetFetch from version 2 on). The client looks for errors at the partitions only,
and takes such an answer for "nothing was ever committed": everything would be read again, or what is new skipped.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

_PAUSE_SECONDS = 0.2

Committed = dict[TopicPartition, OffsetAndMetadata]


async def committed_offsets(
    connection: Callable[[], Mapping[str, Any]],
    group: str,
    partitions: Collection[TopicPartition] | None = None,
    *,
    wait: bool = True,
) -> Committed:
    """Ask for committed offsets with their metadata, again and again until a coordinator knows them.

    Parameters
    ----------
    connection
        Returns the client's arguments that say how to reach the brokers.
    group
        Name of the group.
    partitions
        Which; all where the group has ever committed when omitted.
    wait
        Whether to wait for a broker where none answers at all.

    Returns
    -------
    dict
        Nothing for a partition where nothing was committed.

    Raises
    ------
    aiokafka.errors.KafkaError
        The brokers refuse.
    aiokafka.errors.KafkaConnectionError
        No broker answers, and nobody wants to wait for one.
    """
    while True:
        client = AIOKafkaClient(**connection())
        try:
            await client.bootstrap()
        except KafkaConnectionError:
            if not wait:
                raise
        else:
            try:
                return await _ask(client, group, partitions)
            except KafkaError as error:
                if not error.retriable:
                    raise
        finally:
            await client.close()
        await asyncio.sleep(_PAUSE_SECONDS)


async def _ask(
    client: AIOKafkaClient, group: str, partitions: Collection[TopicPartition] | None
) -> Committed:
    coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
    answer = await client.send(coordinator, OffsetFetchRequest(group, _by_topic(partitions)))
    _raise_for(getattr(answer, "error_code", 0), group)  # since version 2
    found = {}
    for topic, offsets in answer.topics:
        for number, offset, metadata, code in offsets:
            _raise_for(code, f"{topic}[{number}]")
            if offset >= 0:
                found[TopicPartition(topic, number)] = OffsetAndMetadata(offset, metadata)
    return found


def _by_topic(partitions: Collection[TopicPartition] | None) -> list[tuple[str, list[int]]] | None:
    if partitions is None:
        return None
    wanted: dict[str, list[int]] = defaultdict(list)
    for partition in partitions:
        wanted[partition.topic].append(partition.partition)
    return list(wanted.items())


def _raise_for(code: int, what: str) -> None:
    if code:
        raise for_code(code)(what)
