"""What can go wrong in the broker: the protocol's error codes, and typed errors for the operator."""

from __future__ import annotations

from enum import IntEnum

from streamchar.errors import StreamcharError


class ErrorCode(IntEnum):
    """Error codes of the Kafka protocol, as sent in responses."""

    UNKNOWN_SERVER_ERROR = -1
    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    MESSAGE_TOO_LARGE = 10
    OFFSET_METADATA_TOO_LARGE = 12
    COORDINATOR_NOT_AVAILABLE = 15
    INVALID_TOPIC_EXCEPTION = 17
    INVALID_REQUIRED_ACKS = 21
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_REPLICA_ASSIGNMENT = 39
    INVALID_CONFIG = 40
    INVALID_REQUEST = 42
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    INVALID_TRANSACTION_TIMEOUT = 50
    CONCURRENT_TRANSACTIONS = 51
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    OPERATION_NOT_ATTEMPTED = 55
    KAFKA_STORAGE_ERROR = 56
    FETCH_SESSION_ID_NOT_FOUND = 70
    UNKNOWN_LEADER_EPOCH = 76
    MEMBER_ID_REQUIRED = 79
    GROUP_MAX_SIZE_REACHED = 81
    FENCED_INSTANCE_ID = 82
    INVALID_RECORD = 87


class BrokerError(StreamcharError):
    """Base of everything the broker raises."""

    code = "broker"


class RefusedError(BrokerError):
    """A request, or one partition of it, is answered with an error code."""

    code = "broker_refused"
    template = "{name}: {reason}"

    def __init__(self, error: ErrorCode, reason: str = "") -> None:
        self.error = error
        super().__init__(name=error.name, reason=reason)

    def __reduce__(self) -> tuple[object, ...]:
        return RefusedError, (self.error, str(self.values["reason"]))


class MalformedRequestError(BrokerError):
    """Bytes on a connection are not a request of the protocol."""

    code = "broker_malformed_request"
    template = "malformed request: {detail}"


class FrameTooLargeError(BrokerError):
    """A frame announces more bytes than the broker accepts."""

    code = "broker_frame_too_large"
    template = "a request of {size} bytes exceeds the limit of {limit} bytes for {api}"


class UnsupportedRequestError(BrokerError):
    """A request of an API or version that the broker does not speak."""

    code = "broker_unsupported_request"
    template = "unsupported request {api} version {version} from client '{client}' ({supported})"


class DataDirectoryInUseError(BrokerError):
    """Another broker holds the data directory."""

    code = "broker_data_directory_in_use"
    template = (
        "{path} is in use by another broker (process {owner}); stop it or choose another data directory"
    )


class DataDirectoryUnusableError(BrokerError):
    """The data directory cannot be made, read or written."""

    code = "broker_data_directory_unusable"
    template = (
        "{path} cannot hold the broker's data: {detail}; choose another directory (--data-dir) or its owner"
    )


class ListenError(BrokerError):
    """The broker's address cannot be listened on."""

    code = "broker_listen"
    template = "cannot listen on {host} port {port}: {detail}; choose another with --port (0: any free one) or --host"


class JournalCorruptError(BrokerError):
    """The metadata journal is damaged before its last entry."""

    code = "broker_journal_corrupt"
    template = "{path}: line {line} is damaged but later lines are not; restore the file from a backup"


class ForeignJournalError(BrokerError):
    """A file that has the name of the metadata journal is none."""

    code = "broker_journal_foreign"
    template = "{path} is no journal of a broker and is left alone; choose another data directory"


class JournalUnavailableError(BrokerError):
    """The metadata journal cannot be written any more."""

    code = "broker_journal_unavailable"
    template = "{path} cannot be written: {detail}"


class UnsafeListenerError(BrokerError):
    """The broker was asked to listen where everyone could reach it."""

    code = "broker_unsafe_listener"
    template = (
        "listening on {host} would offer an unprotected broker to the network (no TLS, no login); "
        "set allow_remote (--allow-remote) if this network is trusted"
    )
