"""Requests and responses that carry or locate records: Produce, Fetch, ListOffsets, Metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from streamchar.broker.codec import Buffer, Int8, Int16, Int32, Int64, Part, Since

# Produce


@dataclass(slots=True)
class ProducePartition:
    """Record batches for one partition."""

    index: Int32
    records: Buffer | None


@dataclass(slots=True)
class ProduceTopic:
    """Record batches for one topic."""

    name: str
    partitions: list[ProducePartition]


@dataclass(slots=True)
class ProduceRequest:
    """Append records."""

    transactional_id: str | None
    acks: Int16
    timeout_ms: Int32
    topics: list[ProduceTopic]


@dataclass(slots=True)
class ProducedPartition:
    """What became of the records of one partition."""

    index: Int32
    error_code: Int16
    base_offset: Int64 = -1
    log_append_time_ms: Int64 = -1
    log_start_offset: Int64 = -1


@dataclass(slots=True)
class ProducedTopic:
    """What became of the records of one topic."""

    name: str
    partitions: list[ProducedPartition]


@dataclass(slots=True)
class ProduceResponse:
    """Offsets given to the records."""

    topics: list[ProducedTopic]
    throttle_time_ms: Int32 = 0


# Fetch


@dataclass(slots=True)
class FetchPartition:
    """Where to read one partition."""

    index: Int32
    current_leader_epoch: Int32
    fetch_offset: Int64
    log_start_offset: Int64
    max_bytes: Int32


@dataclass(slots=True)
class FetchTopic:
    """Where to read one topic."""

    name: str
    partitions: list[FetchPartition]


@dataclass(slots=True)
class ForgottenTopic:
    """Partitions removed from a fetch session."""

    name: str
    partitions: list[Int32]


@dataclass(slots=True)
class FetchRequest:
    """Read records, waiting for them if there are too few."""

    replica_id: Int32
    max_wait_ms: Int32
    min_bytes: Int32
    max_bytes: Int32
    isolation_level: Int8
    session_id: Int32
    session_epoch: Int32
    topics: list[FetchTopic]
    forgotten_topics: list[ForgottenTopic]
    rack_id: str


@dataclass(slots=True)
class AbortedTransaction:
    """A transaction whose records between ``first_offset`` and its marker a reader must skip."""

    producer_id: Int64
    first_offset: Int64


@dataclass(slots=True)
class FetchedPartition:
    """What one partition had to give."""

    index: Int32
    error_code: Int16
    high_watermark: Int64 = -1
    last_stable_offset: Int64 = -1
    log_start_offset: Int64 = -1
    aborted_transactions: list[AbortedTransaction] | None = None
    preferred_read_replica: Int32 = -1
    records: Part | None = b""


@dataclass(slots=True)
class FetchedTopic:
    """What one topic had to give."""

    name: str
    partitions: list[FetchedPartition]


@dataclass(slots=True)
class FetchResponse:
    """Record batches as they are on disk."""

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    session_id: Int32 = 0
    topics: list[FetchedTopic] = field(default_factory=list)


# ListOffsets


@dataclass(slots=True)
class ListOffsetsPartition:
    """A timestamp to find in one partition (-1 latest, -2 earliest)."""

    index: Int32
    timestamp: Int64


@dataclass(slots=True)
class ListOffsetsTopic:
    """Timestamps to find in one topic."""

    name: str
    partitions: list[ListOffsetsPartition]


@dataclass(slots=True)
class ListOffsetsRequest:
    """Find offsets by time."""

    replica_id: Int32
    isolation_level: Int8
    topics: list[ListOffsetsTopic]


@dataclass(slots=True)
class ListedPartition:
    """The offset found in one partition."""

    index: Int32
    error_code: Int16
    timestamp: Int64 = -1
    offset: Int64 = -1


@dataclass(slots=True)
class ListedTopic:
    """The offsets found in one topic."""

    name: str
    partitions: list[ListedPartition]


@dataclass(slots=True)
class ListOffsetsResponse:
    """Offsets found by time."""

    throttle_time_ms: Int32
    topics: list[ListedTopic]


# Metadata


@dataclass(slots=True)
class MetadataRequest:
    """Ask for brokers and topics."""

    topics: list[str] | None
    allow_auto_topic_creation: Annotated[bool, Since(4)] = True


@dataclass(slots=True)
class MetadataBroker:
    """A node to connect to."""

    node_id: Int32
    host: str
    port: Int32
    rack: Annotated[str | None, Since(1)] = None


@dataclass(slots=True)
class MetadataPartition:
    """Leader and replicas of a partition."""

    error_code: Int16
    index: Int32
    leader_id: Int32
    replica_nodes: list[Int32]
    isr_nodes: list[Int32]
    offline_replicas: Annotated[list[Int32], Since(5)] = field(default_factory=list)


@dataclass(slots=True)
class MetadataTopic:
    """Partitions of a topic."""

    error_code: Int16
    name: str
    is_internal: Annotated[bool, Since(1)] = False
    partitions: list[MetadataPartition] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class MetadataResponse:
    """Brokers and topics."""

    throttle_time_ms: Annotated[Int32, Since(3)] = 0
    brokers: list[MetadataBroker]
    cluster_id: Annotated[str | None, Since(2)] = None
    controller_id: Annotated[Int32, Since(1)] = 0
    topics: list[MetadataTopic]
