"""The group coordinator: requests about consumer groups and their offsets."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable

from streamchar.broker.config import BrokerSettings
from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.broker.group import Group, Joined, MemberTerms, State
from streamchar.broker.messages_groups import (
    CommittedPartition,
    CommittedTopic,
    DescribedGroup,
    DescribedMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    EmptyRequest,
    ErrorResponse,
    HeartbeatRequest,
    JoinedMember,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    ListedGroup,
    ListGroupsResponse,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
    OffsetFetchRequest,
    OffsetFetchResponse,
    PartitionResult,
    PartitionResultsResponse,
    SyncGroupRequest,
    SyncGroupResponse,
    TopicResult,
)
from streamchar.broker.offsets import Commit, Offsets
from streamchar.broker.topics import Topics

_logger = logging.getLogger(__name__)

_FORGET_EMPTY_AFTER = 600.0


class GroupCoordinator:
    """All consumer groups of the broker.

    Parameters
    ----------
    settings
        Limits on timeouts and sizes.
    topics
        To refuse offsets of partitions that do not exist.
    offsets
        Where committed offsets are kept.
    clock
        Seconds that only grow; replaced in tests.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        topics: Topics,
        offsets: Offsets,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._offsets = offsets
        self._clock = clock
        self._groups: dict[str, Group] = {}

    # membership

    async def join(self, request: JoinGroupRequest, client_id: str, client_host: str) -> JoinGroupResponse:
        """Answer JoinGroup when the next generation is complete."""
        try:
            joined = await self._join(request, client_id, client_host)
        except RefusedError as refusal:
            member_id = (
                str(refusal.values["reason"])
                if refusal.error is ErrorCode.MEMBER_ID_REQUIRED
                else request.member_id
            )
            return JoinGroupResponse(0, refusal.error, -1, "", "", member_id, [])
        members = [JoinedMember(*member) for member in joined.members]
        return JoinGroupResponse(
            0, ErrorCode.NONE, joined.generation, joined.protocol, joined.leader, joined.member_id, members
        )

    def _join(self, request: JoinGroupRequest, client_id: str, client_host: str) -> asyncio.Future[Joined]:
        self._check_join(request)
        group = self._groups.get(request.group_id)
        if group is None:
            if request.member_id:
                raise RefusedError(ErrorCode.UNKNOWN_MEMBER_ID, request.member_id)
            group = self._groups[request.group_id] = Group(
                request.group_id, self._clock, empty_since=self._clock()
            )
        terms = MemberTerms(
            client_id=client_id,
            client_host=client_host,
            instance_id=request.group_instance_id,
            session_timeout=request.session_timeout_ms / 1000,
            rebalance_timeout=max(request.rebalance_timeout_ms, 0) / 1000,
            protocol_type=request.protocol_type,
            protocols=tuple((protocol.name, bytes(protocol.metadata)) for protocol in request.protocols),
        )
        if not request.member_id:
            return self._join_unknown(group, terms)
        if request.member_id in group.announced:
            return group.join_new(request.member_id, terms)
        return group.rejoin(request.member_id, terms)

    def _join_unknown(self, group: Group, terms: MemberTerms) -> asyncio.Future[Joined]:
        if terms.instance_id is not None:
            member_id = f"{terms.instance_id}-{uuid.uuid4()}"
            present = group.static_member(terms.instance_id)
            if present is not None:
                _logger.info("group %s: static member %s returned", group.group_id, terms.instance_id)
                return group.replace_static(present.member_id, member_id, terms)
            self._check_size(group)
            return group.join_new(member_id, terms)
        group.check_protocols(terms)
        self._check_size(group)
        member_id = f"{terms.client_id}-{uuid.uuid4()}"
        group.announced[member_id] = self._clock() + terms.session_timeout
        raise RefusedError(ErrorCode.MEMBER_ID_REQUIRED, member_id)

    def _check_join(self, request: JoinGroupRequest) -> None:
        if not request.group_id:
            raise RefusedError(ErrorCode.INVALID_GROUP_ID, "empty")
        low, high = self._settings.group_min_session_timeout_ms, self._settings.group_max_session_timeout_ms
        if not low <= request.session_timeout_ms <= high:
            raise RefusedError(ErrorCode.INVALID_SESSION_TIMEOUT, f"{request.session_timeout_ms} ms")

    def _check_size(self, group: Group) -> None:
        if len(group.members) + len(group.announced) >= self._settings.group_max_size:
            raise RefusedError(ErrorCode.GROUP_MAX_SIZE_REACHED, group.group_id)

    async def sync(self, request: SyncGroupRequest) -> SyncGroupResponse:
        """Answer SyncGroup when the leader has assigned."""
        try:
            group = self._require(request.group_id)
            shares = {share.member_id: bytes(share.assignment) for share in request.assignments}
            assignment = await group.sync(
                request.member_id, request.group_instance_id, request.generation_id, shares
            )
        except RefusedError as refusal:
            return SyncGroupResponse(0, refusal.error, b"")
        return SyncGroupResponse(0, ErrorCode.NONE, assignment)

    def heartbeat(self, request: HeartbeatRequest) -> ErrorResponse:
        """Answer Heartbeat."""
        try:
            self._require(request.group_id).heartbeat(request.member_id, request.generation_id)
        except RefusedError as refusal:
            return ErrorResponse(0, refusal.error)
        return ErrorResponse(0, ErrorCode.NONE)

    def leave(self, request: LeaveGroupRequest) -> ErrorResponse:
        """Answer LeaveGroup."""
        try:
            self._require(request.group_id).leave(request.member_id)
        except RefusedError as refusal:
            return ErrorResponse(0, refusal.error)
        return ErrorResponse(0, ErrorCode.NONE)

    def _require(self, group_id: str) -> Group:
        if not group_id:
            raise RefusedError(ErrorCode.INVALID_GROUP_ID, "empty")
        group = self._groups.get(group_id)
        if group is None:
            raise RefusedError(ErrorCode.UNKNOWN_MEMBER_ID, f"group {group_id} has no members")
        return group

    # looking

    def describe(self, request: DescribeGroupsRequest) -> DescribeGroupsResponse:
        """Answer DescribeGroups; a group that does not exist is shown as dead."""
        return DescribeGroupsResponse(0, [self._describe(group_id) for group_id in request.groups])

    def _describe(self, group_id: str) -> DescribedGroup:
        group = self._groups.get(group_id)
        if group is None:
            state = State.EMPTY.value if self._offsets.has_group(group_id) else "Dead"
            return DescribedGroup(ErrorCode.NONE, group_id, state, "", "", [])
        stable = group.state is State.STABLE
        members = [
            DescribedMember(
                member.member_id,
                member.terms.client_id,
                member.terms.client_host,
                member.terms.metadata(group.protocol) if stable else b"",
                member.assignment if stable else b"",
            )
            for member in group.members.values()
        ]
        protocol = group.protocol if stable else ""
        return DescribedGroup(
            ErrorCode.NONE, group_id, group.state.value, group.protocol_type, protocol, members
        )

    def list_groups(self, _request: EmptyRequest) -> ListGroupsResponse:
        """Answer ListGroups."""
        kinds = dict.fromkeys(self._offsets.groups(), "")
        kinds |= {group_id: group.protocol_type for group_id, group in self._groups.items()}
        return ListGroupsResponse(0, ErrorCode.NONE, [ListedGroup(*item) for item in kinds.items()])

    # offsets

    def commit(self, request: OffsetCommitRequest) -> PartitionResultsResponse:
        """Answer OffsetCommit."""
        response, commits = self.check_offsets(request.topics)
        try:
            self._check_commit(request)
        except RefusedError as refusal:
            return _refuse_known(response, refusal.error)
        self._offsets.commit(request.group_id, commits)
        return response

    def _check_commit(self, request: OffsetCommitRequest) -> None:
        group = self._groups.get(request.group_id)
        if group is not None:
            group.check_commit(request.member_id, request.generation_id)
        elif request.generation_id >= 0:
            known = self._offsets.has_group(request.group_id)
            error = ErrorCode.UNKNOWN_MEMBER_ID if known else ErrorCode.ILLEGAL_GENERATION
            raise RefusedError(error, f"group {request.group_id} has no members")

    def check_offsets(self, topics: list[OffsetCommitTopic]) -> tuple[PartitionResultsResponse, list[Commit]]:
        """Separate the offsets that can be committed from those that cannot."""
        commits: list[Commit] = []
        results = []
        for topic in topics:
            partitions = []
            for partition in topic.partitions:
                error = self._check_offset(topic.name, partition)
                if error is ErrorCode.NONE:
                    text = partition.metadata or ""
                    commits.append(Commit(topic.name, partition.index, partition.offset, text))
                partitions.append(PartitionResult(partition.index, error))
            results.append(TopicResult(topic.name, partitions))
        return PartitionResultsResponse(0, results), commits

    def _check_offset(self, topic: str, partition: OffsetCommitPartition) -> ErrorCode:
        if self._topics.partition(topic, partition.index) is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if len(partition.metadata or "") > self._settings.offset_metadata_max_bytes:
            return ErrorCode.OFFSET_METADATA_TOO_LARGE
        return ErrorCode.NONE

    def fetch_offsets(self, request: OffsetFetchRequest) -> OffsetFetchResponse:
        """Answer OffsetFetch; -1 means that nothing was committed."""
        wanted: dict[str, list[int]] = {}
        if request.topics is None:
            for commit in self._offsets.of_group(request.group_id):
                wanted.setdefault(commit.topic, []).append(commit.partition)
        else:
            for topic in request.topics:
                wanted.setdefault(topic.name, []).extend(topic.partitions)
        topics = [
            CommittedTopic(name, [self._committed(request.group_id, name, index) for index in indices])
            for name, indices in wanted.items()
        ]
        return OffsetFetchResponse(0, topics, ErrorCode.NONE)

    def _committed(self, group_id: str, topic: str, index: int) -> CommittedPartition:
        commit = self._offsets.get(group_id, topic, index)
        if commit is None:
            return CommittedPartition(index, -1, "")
        return CommittedPartition(index, commit.offset, commit.metadata)

    # time

    def expire(self) -> None:
        """Evict the silent, end phases that took too long, and forget groups nobody uses."""
        now = self._clock()
        for group in list(self._groups.values()):
            before = set(group.members)
            group.expire()
            for member_id in before - set(group.members):
                _logger.info("group %s: evicted member %s", group.group_id, member_id)
            unused = group.state is State.EMPTY and not group.announced
            if unused and now - group.empty_since > _FORGET_EMPTY_AFTER:
                del self._groups[group.group_id]

    def abandon(self) -> None:
        """Answer everyone who still waits; the broker stops."""
        for group in self._groups.values():
            group.abandon()


def _refuse_known(response: PartitionResultsResponse, error: ErrorCode) -> PartitionResultsResponse:
    """Give all partitions that exist the error of the group."""
    for topic in response.topics:
        for partition in topic.partitions:
            if partition.error_code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                partition.error_code = error
    return response
