"""Requests and responses of consumer groups and their committed offsets."""

from __future__ import annotations

from dataclasses import dataclass

from streamchar.broker.codec import Buffer, Int8, Int16, Int32, Int64


@dataclass(slots=True)
class OffsetCommitPartition:
    """The offset to commit for one partition."""

    index: Int32
    offset: Int64
    metadata: str | None


@dataclass(slots=True)
class OffsetCommitTopic:
    """The offsets to commit for one topic."""

    name: str
    partitions: list[OffsetCommitPartition]


@dataclass(slots=True)
class OffsetCommitRequest:
    """Commit offsets of a group."""

    group_id: str
    generation_id: Int32
    member_id: str
    retention_time_ms: Int64
    topics: list[OffsetCommitTopic]


@dataclass(slots=True)
class PartitionResult:
    """An error code for one partition."""

    index: Int32
    error_code: Int16


@dataclass(slots=True)
class TopicResult:
    """Error codes for the partitions of a topic."""

    name: str
    partitions: list[PartitionResult]


@dataclass(slots=True)
class PartitionResultsResponse:
    """An error code per partition (OffsetCommit, TxnOffsetCommit, AddPartitionsToTxn)."""

    throttle_time_ms: Int32
    topics: list[TopicResult]


@dataclass(slots=True)
class TopicPartitions:
    """Partitions of a topic by index."""

    name: str
    partitions: list[Int32]


@dataclass(slots=True)
class OffsetFetchRequest:
    """Read committed offsets of a group; no topics means all."""

    group_id: str
    topics: list[TopicPartitions] | None


@dataclass(slots=True)
class CommittedPartition:
    """A committed offset."""

    index: Int32
    offset: Int64
    metadata: str | None
    error_code: Int16 = 0


@dataclass(slots=True)
class CommittedTopic:
    """Committed offsets of a topic."""

    name: str
    partitions: list[CommittedPartition]


@dataclass(slots=True)
class OffsetFetchResponse:
    """Committed offsets."""

    throttle_time_ms: Int32
    topics: list[CommittedTopic]
    error_code: Int16


@dataclass(slots=True)
class FindCoordinatorRequest:
    """Ask which node coordinates a group (type 0) or transactional id (type 1)."""

    key: str
    key_type: Int8


@dataclass(slots=True)
class FindCoordinatorResponse:
    """The coordinating node."""

    throttle_time_ms: Int32
    error_code: Int16
    error_message: str | None
    node_id: Int32
    host: str
    port: Int32


@dataclass(slots=True)
class GroupProtocol:
    """An assignment strategy a member supports, with its subscription."""

    name: str
    metadata: Buffer


@dataclass(slots=True)
class JoinGroupRequest:
    """Become a member of a group, or take part in its next generation."""

    group_id: str
    session_timeout_ms: Int32
    rebalance_timeout_ms: Int32
    member_id: str
    group_instance_id: str | None
    protocol_type: str
    protocols: list[GroupProtocol]


@dataclass(slots=True)
class JoinedMember:
    """A member as the leader sees it."""

    member_id: str
    group_instance_id: str | None
    metadata: Buffer


@dataclass(slots=True)
class JoinGroupResponse:
    """The new generation; only the leader receives the members."""

    throttle_time_ms: Int32
    error_code: Int16
    generation_id: Int32
    protocol_name: str
    leader: str
    member_id: str
    members: list[JoinedMember]


@dataclass(slots=True)
class HeartbeatRequest:
    """Stay a member."""

    group_id: str
    generation_id: Int32
    member_id: str


@dataclass(slots=True)
class LeaveGroupRequest:
    """Stop being a member."""

    group_id: str
    member_id: str


@dataclass(slots=True)
class ErrorResponse:
    """Only an error code (Heartbeat, LeaveGroup, AddOffsetsToTxn, EndTxn)."""

    throttle_time_ms: Int32
    error_code: Int16


@dataclass(slots=True)
class MemberAssignment:
    """What the leader gives to a member."""

    member_id: str
    assignment: Buffer


@dataclass(slots=True)
class SyncGroupRequest:
    """Hand in (leader) or wait for (others) the assignments of a generation."""

    group_id: str
    generation_id: Int32
    member_id: str
    group_instance_id: str | None
    assignments: list[MemberAssignment]


@dataclass(slots=True)
class SyncGroupResponse:
    """The assignment of this member."""

    throttle_time_ms: Int32
    error_code: Int16
    assignment: Buffer


@dataclass(slots=True)
class DescribeGroupsRequest:
    """Ask for state and members of groups."""

    groups: list[str]


@dataclass(slots=True)
class DescribedMember:
    """A member with its subscription and assignment."""

    member_id: str
    client_id: str
    client_host: str
    metadata: Buffer
    assignment: Buffer


@dataclass(slots=True)
class DescribedGroup:
    """State and members of a group."""

    error_code: Int16
    group_id: str
    state: str
    protocol_type: str
    protocol: str
    members: list[DescribedMember]


@dataclass(slots=True)
class DescribeGroupsResponse:
    """States and members of groups."""

    throttle_time_ms: Int32
    groups: list[DescribedGroup]


@dataclass(slots=True)
class EmptyRequest:
    """A request without fields (ListGroups, ApiVersions)."""


@dataclass(slots=True)
class ListedGroup:
    """A group and its protocol type."""

    group_id: str
    protocol_type: str


@dataclass(slots=True)
class ListGroupsResponse:
    """All groups."""

    throttle_time_ms: Int32
    error_code: Int16
    groups: list[ListedGroup]
