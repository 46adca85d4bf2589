"""A request for committed offsets that may ask for the latest: version 7 of OffsetFetch, which the client does not speak.

Without ``require_stable`` Apache Kafka 4 answers with what had been committed up to the coordinator's high watermark;
one that has just taken over may be behind with it, and tell less than was acknowledged to everybody (KAFKA-14499).
"""

from __future__ import annotations

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.commit import OffsetFetchRequest_v1, OffsetFetchRequest_v2, OffsetFetchRequest_v3
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

UNSTABLE = 88
"""Error of a partition whose offset a transaction is about to commit: UNSTABLE_OFFSET_COMMIT."""


class OffsetFetchResponseV7(Response):  # type: ignore[misc]
    """Committed offsets."""

    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class OffsetFetchRequestV7(RequestStruct):  # type: ignore[misc]
    """Ask for committed offsets; no topics means all."""

    FLEXIBLE_VERSION = True
    API_KEY = 9
    API_VERSION = 7
    RESPONSE_TYPE = OffsetFetchResponseV7
    SCHEMA = Schema(
        ("consumer_group", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class OffsetFetch(
    Request[OffsetFetchRequest_v1 | OffsetFetchRequest_v2 | OffsetFetchRequest_v3 | OffsetFetchRequestV7]  # type: ignore[misc]
):
    """Ask for committed offsets in the newest version that both sides speak.

    Parameters
    ----------
    group
        Name of the group.
    topics
        Partitions of each topic; all where the group has ever committed when None.
    stable
        Whether to wait for what is being committed; brokers before Apache Kafka 2.5 cannot.
    """

    API_KEY = 9

    def __init__(self, group: str, topics: dict[str, list[int]] | None, *, stable: bool) -> None:
        self._group = group
        self._topics = topics
        self.stable = stable

    def build(self, request_struct_class: type[RequestStruct]) -> RequestStruct:
        """Return the request in one of its versions.

        Raises
        ------
        aiokafka.errors.IncompatibleBrokerVersion
            The broker cannot tell about all partitions.
        """
        topics = None if self._topics is None else list(self._topics.items())
        if topics is None and request_struct_class.API_VERSION < 2:
            raise IncompatibleBrokerVersion("brokers before 0.10.2 tell committed offsets by partition only")
        if request_struct_class is not OffsetFetchRequestV7:
            return request_struct_class(self._group, topics)
        no_tags: dict[int, bytes] = {}
        flexible = None if topics is None else [(*topic, no_tags) for topic in topics]
        return request_struct_class(self._group, flexible, self.stable, no_tags)
