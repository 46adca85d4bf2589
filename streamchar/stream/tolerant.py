"""Reading on where the client cannot: a record with a header name that is no UTF-8 must not stop a partition.

The client raises ``UnicodeDecodeError`` from a poll that meets such a record, drops what it read before it, and
would do so again after every restart. The poll is then done here instead, with a parser that escapes such names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest

from streamchar.stream.raw_records import RawRecord, read_committed
from streamchar.stream.settings import KafkaSettings

_READ_COMMITTED = 1
_PARTITION_BYTES = 256 << 10
_RESPONSE_BYTES = 8 << 20
_WAIT_MS = 50

Fetched = dict[TopicPartition, tuple[list[RawRecord], int]]


def rewind(consumer: AIOKafkaConsumer, following: Mapping[TopicPartition, int]) -> None:
    """Take a consumer back to the records that its failed poll dropped.

    Parameters
    ----------
    consumer
        Its poll raised ``UnicodeDecodeError``.
    following
        The next offset wanted of each of its partitions.
    """
    for partition, offset in following.items():
        consumer.seek(partition, offset)


async def fetch_leniently(kafka: KafkaSettings, wanted: Mapping[TopicPartition, int]) -> Fetched:
    """Read once from each partition, of committed records only.

    Parameters
    ----------
    kafka
        How to reach the brokers.
    wanted
        First offset of each partition.

    Returns
    -------
    dict
        For each partition the records, at most about 256 KiB of them, and the offset after the last.

    Raises
    ------
    aiokafka.errors.KafkaError
        The brokers refuse or do not answer.
    """
    client = AIOKafkaClient(**kafka.connection())
    try:
        await client.bootstrap()
        await client.set_topics({partition.topic for partition in wanted})
        by_leader: dict[int, dict[TopicPartition, int]] = defaultdict(dict)
        for partition, offset in wanted.items():
            leader = client.cluster.leader_for_partition(partition)
            if leader is None or leader < 0:
                raise LeaderNotAvailableError(str(partition))
            by_leader[leader][partition] = offset
        fetched: Fetched = {}
        for leader, offsets in by_leader.items():
            fetched.update(await _fetch_from(client, leader, offsets))
        return fetched
    finally:
        await client.close()


async def _fetch_from(client: AIOKafkaClient, leader: int, offsets: Mapping[TopicPartition, int]) -> Fetched:
    topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for partition, offset in offsets.items():
        topics[partition.topic].append((partition.partition, offset, _PARTITION_BYTES))
    request = FetchRequest(_WAIT_MS, 1, _RESPONSE_BYTES, _READ_COMMITTED, list(topics.items()))
    response = await client.send(leader, request)
    fetched: Fetched = {}
    for topic, answers in response.topics:
        for number, code, _, *rest in answers:
            if code:
                raise for_code(code)(f"{topic}[{number}]")
            partition = TopicPartition(topic, number)
            # The layout grows with the version; the aborted transactions are the only list in it.
            aborted = next((part for part in rest if isinstance(part, list)), [])
            fetched[partition] = read_committed(
                topic, number, bytes(rest[-1] or b""), aborted, offsets[partition]
            )
    return fetched
