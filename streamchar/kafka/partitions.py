"""The partitions of topics, as one broker describes them in one answer.

Asked twice, for the names and then for these topics, a client may reach a broker that has not heard of a new topic yet:
it describes it without partitions, and creates it where brokers may.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient


async def describe_partitions(admin: AIOKafkaAdminClient, topics: Collection[str]) -> dict[str, list[Any]]:
    """Return what describes the partitions of each topic; topics that the broker does not know are left out.

    Raises
    ------
    aiokafka.errors.KafkaError
        The broker refuses or does not answer.
    """
    return {
        topic["topic"]: topic["partitions"]
        for topic in await admin.describe_topics()
        if topic["topic"] in topics and topic["partitions"]
    }


async def find_partitions(
    admin: AIOKafkaAdminClient, topics: Collection[str]
) -> dict[str, list[TopicPartition]]:
    """Return the partitions of each topic, in order; topics that the broker does not know are left out.

    Raises
    ------
    aiokafka.errors.KafkaError
        The broker refuses or does not answer.
    """
    described = await describe_partitions(admin, topics)
    return {
        topic: sorted(TopicPartition(topic, one["partition"]) for one in partitions)
        for topic, partitions in described.items()
    }
