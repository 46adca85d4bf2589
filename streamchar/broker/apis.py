"""The table of APIs and versions the broker speaks, and the request header that selects one.

These are the 24 (API, version) pairs that aiokafka 0.14 chooses, plus older Metadata and ApiVersions versions, which
other clients use before they know what a broker supports.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from streamchar.broker import messages_admin, messages_data, messages_groups
from streamchar.broker.codec import Int16, Int32
from streamchar.frozen import frozen


class ApiKey(IntEnum):
    """The number of each API in a request header."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CONFIGS = 32
    CREATE_PARTITIONS = 37


@dataclass(slots=True)
class RequestHeader:
    """What precedes every request (header version 1)."""

    api_key: Int16
    api_version: Int16
    correlation_id: Int32
    client_id: str | None


@frozen
class Api:
    """One API: its versions, its request type and how many bytes a request may have."""

    key: ApiKey
    min_version: int
    max_version: int
    request: type[object]
    max_bytes: int = 4 << 20

    def speaks(self, version: int) -> bool:
        """Whether a request of this version is understood."""
        return self.min_version <= version <= self.max_version


def _table(*apis: Api) -> dict[int, Api]:
    return {api.key: api for api in apis}


def supported_apis(max_produce_bytes: int) -> dict[int, Api]:
    """Return the APIs by key; only Produce may be larger than 4 MiB."""
    data, groups, admin = messages_data, messages_groups, messages_admin
    return _table(
        Api(ApiKey.PRODUCE, 7, 7, data.ProduceRequest, max_produce_bytes),
        Api(ApiKey.FETCH, 11, 11, data.FetchRequest),
        Api(ApiKey.LIST_OFFSETS, 3, 3, data.ListOffsetsRequest),
        Api(ApiKey.METADATA, 0, 5, data.MetadataRequest),
        Api(ApiKey.OFFSET_COMMIT, 3, 3, groups.OffsetCommitRequest),
        Api(ApiKey.OFFSET_FETCH, 3, 3, groups.OffsetFetchRequest),
        Api(ApiKey.FIND_COORDINATOR, 1, 1, groups.FindCoordinatorRequest),
        Api(ApiKey.JOIN_GROUP, 5, 5, groups.JoinGroupRequest),
        Api(ApiKey.HEARTBEAT, 1, 1, groups.HeartbeatRequest),
        Api(ApiKey.LEAVE_GROUP, 1, 1, groups.LeaveGroupRequest),
        Api(ApiKey.SYNC_GROUP, 3, 3, groups.SyncGroupRequest),
        Api(ApiKey.DESCRIBE_GROUPS, 2, 2, groups.DescribeGroupsRequest),
        Api(ApiKey.LIST_GROUPS, 1, 1, groups.EmptyRequest),
        Api(ApiKey.API_VERSIONS, 0, 2, groups.EmptyRequest),
        Api(ApiKey.CREATE_TOPICS, 3, 3, admin.CreateTopicsRequest),
        Api(ApiKey.DELETE_TOPICS, 3, 3, admin.DeleteTopicsRequest),
        Api(ApiKey.DELETE_RECORDS, 1, 1, admin.DeleteRecordsRequest),
        Api(ApiKey.INIT_PRODUCER_ID, 0, 0, admin.InitProducerIdRequest),
        Api(ApiKey.ADD_PARTITIONS_TO_TXN, 0, 0, admin.AddPartitionsToTxnRequest),
        Api(ApiKey.ADD_OFFSETS_TO_TXN, 0, 0, admin.AddOffsetsToTxnRequest),
        Api(ApiKey.END_TXN, 0, 0, admin.EndTxnRequest),
        Api(ApiKey.TXN_OFFSET_COMMIT, 0, 0, admin.TxnOffsetCommitRequest),
        Api(ApiKey.DESCRIBE_CONFIGS, 2, 2, admin.DescribeConfigsRequest),
        Api(ApiKey.CREATE_PARTITIONS, 1, 1, admin.CreatePartitionsRequest),
    )
