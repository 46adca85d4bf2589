"""Requests and responses of administration and of transactions, and the list of API versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from streamchar.broker.codec import Int8, Int16, Int32, Int64, Since
from streamchar.broker.messages_groups import OffsetCommitTopic, TopicPartitions


@dataclass(slots=True)
class ApiVersionRange:
    """The versions of one API."""

    api_key: Int16
    min_version: Int16
    max_version: Int16


@dataclass(slots=True)
class ApiVersionsResponse:
    """The versions of all APIs."""

    error_code: Int16
    api_versions: list[ApiVersionRange]
    throttle_time_ms: Annotated[Int32, Since(1)] = 0


@dataclass(slots=True)
class ReplicaAssignment:
    """Replicas wished for one partition."""

    partition: Int32
    replicas: list[Int32]


@dataclass(slots=True)
class ConfigEntry:
    """One topic setting."""

    name: str
    value: str | None


@dataclass(slots=True)
class NewTopic:
    """A topic to create."""

    name: str
    num_partitions: Int32
    replication_factor: Int16
    assignments: list[ReplicaAssignment]
    configs: list[ConfigEntry]


@dataclass(slots=True)
class CreateTopicsRequest:
    """Create topics."""

    topics: list[NewTopic]
    timeout_ms: Int32
    validate_only: bool


@dataclass(slots=True)
class TopicError:
    """What became of one topic."""

    name: str
    error_code: Int16
    error_message: str | None


@dataclass(slots=True)
class TopicErrorsResponse:
    """What became of each topic (CreateTopics, CreatePartitions)."""

    throttle_time_ms: Int32
    topics: list[TopicError]


@dataclass(slots=True)
class DeleteTopicsRequest:
    """Delete topics with their records."""

    topics: list[str]
    timeout_ms: Int32


@dataclass(slots=True)
class TopicErrorCode:
    """An error code for one topic."""

    name: str
    error_code: Int16


@dataclass(slots=True)
class DeleteTopicsResponse:
    """What became of each topic."""

    throttle_time_ms: Int32
    topics: list[TopicErrorCode]


@dataclass(slots=True)
class NewPartitionCount:
    """The partition count a topic should have, with optional replicas of the new ones."""

    count: Int32
    assignments: list[list[Int32]] | None


@dataclass(slots=True)
class CreatePartitionsTopic:
    """A topic to extend."""

    name: str
    partitions: NewPartitionCount


@dataclass(slots=True)
class CreatePartitionsRequest:
    """Add partitions to topics."""

    topics: list[CreatePartitionsTopic]
    timeout_ms: Int32
    validate_only: bool


@dataclass(slots=True)
class DeleteRecordsPartition:
    """The first offset to keep (-1: none of the present ones)."""

    index: Int32
    offset: Int64


@dataclass(slots=True)
class DeleteRecordsTopic:
    """The first offsets to keep in a topic."""

    name: str
    partitions: list[DeleteRecordsPartition]


@dataclass(slots=True)
class DeleteRecordsRequest:
    """Delete the oldest records of partitions."""

    topics: list[DeleteRecordsTopic]
    timeout_ms: Int32


@dataclass(slots=True)
class DeletedRecordsPartition:
    """The new first offset of a partition."""

    index: Int32
    low_watermark: Int64
    error_code: Int16


@dataclass(slots=True)
class DeletedRecordsTopic:
    """The new first offsets of a topic."""

    name: str
    partitions: list[DeletedRecordsPartition]


@dataclass(slots=True)
class DeleteRecordsResponse:
    """The new first offsets."""

    throttle_time_ms: Int32
    topics: list[DeletedRecordsTopic]


@dataclass(slots=True)
class ConfigResource:
    """A topic (type 2) or broker (type 4) whose settings are wanted."""

    resource_type: Int8
    resource_name: str
    config_names: list[str] | None


@dataclass(slots=True)
class DescribeConfigsRequest:
    """Read settings."""

    resources: list[ConfigResource]
    include_synonyms: bool


@dataclass(slots=True)
class ConfigSynonym:
    """Another name a setting has at another level."""

    name: str
    value: str | None
    source: Int8


@dataclass(slots=True)
class DescribedConfig:
    """One setting and where its value comes from."""

    name: str
    value: str | None
    read_only: bool
    source: Int8
    sensitive: bool = False
    synonyms: list[ConfigSynonym] = field(default_factory=list)


@dataclass(slots=True)
class DescribedResource:
    """The settings of one topic or broker."""

    error_code: Int16
    error_message: str | None
    resource_type: Int8
    resource_name: str
    configs: list[DescribedConfig]


@dataclass(slots=True)
class DescribeConfigsResponse:
    """Settings."""

    throttle_time_ms: Int32
    resources: list[DescribedResource]


@dataclass(slots=True)
class InitProducerIdRequest:
    """Obtain a producer id; with a transactional id, fence its previous owner."""

    transactional_id: str | None
    transaction_timeout_ms: Int32


@dataclass(slots=True)
class InitProducerIdResponse:
    """A producer id and epoch."""

    throttle_time_ms: Int32
    error_code: Int16
    producer_id: Int64 = -1
    producer_epoch: Int16 = -1


@dataclass(slots=True)
class AddPartitionsToTxnRequest:
    """Announce partitions a transaction will write to."""

    transactional_id: str
    producer_id: Int64
    producer_epoch: Int16
    topics: list[TopicPartitions]


@dataclass(slots=True)
class AddOffsetsToTxnRequest:
    """Announce a group whose offsets a transaction will commit."""

    transactional_id: str
    producer_id: Int64
    producer_epoch: Int16
    group_id: str


@dataclass(slots=True)
class EndTxnRequest:
    """Commit or abort a transaction."""

    transactional_id: str
    producer_id: Int64
    producer_epoch: Int16
    committed: bool


@dataclass(slots=True)
class TxnOffsetCommitRequest:
    """Offsets that become visible when the transaction commits."""

    transactional_id: str
    group_id: str
    producer_id: Int64
    producer_epoch: Int16
    topics: list[OffsetCommitTopic]
