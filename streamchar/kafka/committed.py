"""What a group has committed, read from an answer that is looked at as a whole.

A broker that is not, or not yet, the group's coordinator says so at the end of its answer, which then names no
partitions (Apache Kafka protocol, OffsetFetch from version 2 on). The client looks for errors at the partitions only,
and takes such an answer for "nothing was ever committed": everything would be read again, or what is new skipped.

A coordinator that has just taken over tells for some seconds what was committed before the last moments of the one
before it, unless it is asked for the latest (measured: Apache Kafka 4.3, in 10 of 14 failovers, for about 3 s).

A coordinator that was frozen while its group moved on to another one answers for some tens of milliseconds after it
wakes as if nothing had happened (measured: Apache Kafka 4.3, 25 to 95 ms). It does not know the group's new generation:
a member asks it for a heartbeat first.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaConnectionError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.structs import OffsetAndMetadata

from streamchar.frozen import frozen
from streamchar.kafka.offset_fetch import UNSTABLE, OffsetFetch

_PAUSE_SECONDS = 0.2
_REFUSALS = 10
"""After so many the member is out of the group, or a transaction hangs: a broker that wakes soon knows that it is no
coordinator, and a transaction of ours is over within milliseconds."""

Committed = dict[TopicPartition, OffsetAndMetadata]


@frozen
class Member:
    """Who asks.

    Attributes
    ----------
    generation
        Of the group, since its last rebalance.
    member_id
        The name it gave the member.
    """

    generation: int
    member_id: str


async def committed_offsets(
    connection: Callable[[], Mapping[str, Any]],
    group: str,
    partitions: Collection[TopicPartition] | None = None,
    *,
    member: Member | None = None,
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
    member
        Of the group: only a coordinator counts that knows it.
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
    aiokafka.errors.IllegalGenerationError, aiokafka.errors.UnknownMemberIdError
        The member is none any more.
    aiokafka.errors.KafkaConnectionError
        No broker answers, and nobody wants to wait for one.
    """
    refusals, topics = 0, _by_topic(partitions)
    while True:
        client = AIOKafkaClient(**connection())
        try:
            await client.bootstrap()
        except KafkaConnectionError:
            if not wait:
                raise
        else:
            try:
                stable = refusals < _REFUSALS  # a transaction that hangs must not hold up everything else
                return await _ask(client, group, member, OffsetFetch(group, topics, stable=stable))
            except (IllegalGenerationError, UnknownMemberIdError):
                refusals += 1
                if refusals >= _REFUSALS:
                    raise
            except _UnstableError:
                refusals += 1
            except KafkaError as error:
                if not error.retriable:
                    raise
        finally:
            await client.close()
        await asyncio.sleep(_PAUSE_SECONDS)


async def _ask(client: AIOKafkaClient, group: str, member: Member | None, request: OffsetFetch) -> Committed:
    coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
    if member is not None:
        heartbeat = HeartbeatRequest(group, member.generation, member.member_id)
        code = (await client.send(coordinator, heartbeat)).error_code
        if code != RebalanceInProgressError.errno:  # it knows us, and that more is to come
            _raise_for(code, group)
    answer = (await client.send(coordinator, request)).to_object()
    _raise_for(answer.get("error_code", 0), group)  # since version 2
    found = {}
    for topic in answer["topics"]:
        for told in topic["partitions"]:
            partition = TopicPartition(topic["topic"], told["partition"])
            _raise_for(told["error_code"], str(partition))
            if told["offset"] >= 0:
                found[partition] = OffsetAndMetadata(told["offset"], told["metadata"])
    return found


def _by_topic(partitions: Collection[TopicPartition] | None) -> dict[str, list[int]] | None:
    if partitions is None:
        return None
    wanted: dict[str, list[int]] = defaultdict(list)
    for partition in partitions:
        wanted[partition.topic].append(partition.partition)
    return wanted


class _UnstableError(KafkaError):  # type: ignore[misc]
    """A transaction is about to commit an offset."""


def _raise_for(code: int, what: str) -> None:
    if code == UNSTABLE:
        raise _UnstableError(what)
    if code:
        raise for_code(code)(what)
