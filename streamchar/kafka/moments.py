"""Where in its partitions a consumer finds what was published since a moment."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition


async def offsets_since(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition], moment: float
) -> dict[TopicPartition, int]:
    """Return the offset of the first record since a moment, or behind the last where there is none.

    Parameters
    ----------
    consumer
        Has been started.
    partitions
        Which.
    moment
        Seconds since 1970.

    Raises
    ------
    aiokafka.errors.KafkaError
        The brokers refuse or do not answer.
    """
    wanted = list(partitions)
    found = await consumer.offsets_for_times(dict.fromkeys(wanted, int(1000 * max(0.0, moment))))
    end = await consumer.end_offsets(wanted)
    return {
        partition: end[partition] if found.get(partition) is None else found[partition].offset
        for partition in wanted
    }
