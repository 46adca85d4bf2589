"""What can go wrong in the service: failures of an event, which it survives, and failures that end it."""

from __future__ import annotations

from typing import ClassVar, Literal

from streamchar.errors import StreamcharError

Mending = Literal["never", "seldom", "always"]
"""Whether the service may go on in process after an error: not at all; a few times in a row, because it may be a defect
that comes again; or as often as it happens, because the brokers were away."""


class StreamError(StreamcharError):
    """A failure of the service."""

    code = "stream"


class ConfigurationMismatchError(StreamError):
    """The announcer expects another configuration than the one in force."""

    code = "configuration_mismatch"
    template = "the event expects the configuration {expected}, in force is {actual}"


class FatalError(StreamError):
    """The service cannot go on as it is.

    Attributes
    ----------
    exit_code
        Exit status of the process when the error ends it; a supervisor starts it again.
    mending
        Whether it may instead join the group anew and go on (see :mod:`streamchar.stream.recovery`).
    """

    code = "fatal"
    exit_code = 4
    mending: ClassVar[Mending] = "never"


class StartError(FatalError):
    """The service cannot start: the surroundings are not as the settings say."""

    code = "start"
    exit_code = 3


class WorkerStartError(StartError):
    """A worker process did not become ready."""

    code = "worker_start"
    template = "a worker process did not become ready: {detail}"


class JobImportError(StartError):
    """The job that workers run cannot be imported."""

    code = "job_import"
    template = "the worker job '{job}' cannot be used: {detail}"


class BrokerUnreachableError(StartError):
    """No broker answers."""

    code = "broker_unreachable"
    template = "no Kafka broker answers at {bootstrap} ({detail})"


class AccessRefusedError(StartError):
    """A broker does not let the service in, or the service does not trust the broker; trying again will not help."""

    code = "access_refused"
    template = "no access to the Kafka broker at {bootstrap}: {detail}"


class RefusedError(StartError):
    """The broker refuses the service as a member of its group."""

    code = "group_refused"
    template = "the brokers at {bootstrap} refuse the group '{group}': {detail}"


class TopicsMissingError(StartError):
    """Topics do not exist and may not be created."""

    code = "topics_missing"
    template = (
        "these topics do not exist: {topics}. Create them with `streamchar topics create`, "
        "or set topics.create = true"
    )


class ReadStalledError(StreamError):
    """Committed records could not be read to the end."""

    code = "read_stalled"
    template = "nothing could be read of {partitions} for {seconds:.0f} s: a transaction is open there"


class HangingTransactionError(ReadStalledError):
    """A transaction that nobody will end hides committed records."""

    code = "hanging_transaction"
    template = "readers of committed records do not get to the end.\n{explanation}"


class ReplayError(StreamError):
    """Dead letters could not be announced again."""

    code = "replay"
    template = "none of {count} dead letters was announced again: {detail}"


class AuthorizationError(StreamError):
    """The broker refuses to tell something."""

    code = "not_authorized"
    template = "the broker refuses to describe the topic {topic}: {detail}"


class OutageError(FatalError):
    """The brokers have been away for longer than the settings allow."""

    code = "outage"
    template = "nothing could be published for {seconds:.0f} s (lifecycle.outage): {detail}"


class GroupError(FatalError):
    """The consumer group failed."""

    code = "group"
    template = "the consumer group '{group}' failed: {detail}"
    mending: ClassVar[Mending] = "seldom"


class GroupForbiddenError(GroupError):
    """The broker forbids what a member of the group must do."""

    code = "group_forbidden"
    mending: ClassVar[Mending] = "never"


class GroupSilentError(GroupError):
    """While partitions were taken over the brokers did not answer in time, or did not know us any more."""

    code = "group_silent"
    mending: ClassVar[Mending] = "always"


class StuckError(FatalError):
    """There is work and no progress."""

    code = "stuck"
    template = "no event was finished for {seconds:.0f} s although {waiting} wait: {detail}"


class PublishError(FatalError):
    """Results could not be published."""

    code = "publish"
    template = "results of {partition} could not be published: {detail}"
    mending: ClassVar[Mending] = "seldom"


class FencedError(PublishError):
    """Another member has the partition now, or a transaction was open for so long that the broker ended it."""

    code = "fenced"
    template = "the producer of {partition} was fenced: {detail}"


class PublishAuthorizationError(PublishError):
    """The broker forbids what the service must do."""

    code = "authorization"
    template = "the broker refuses to publish results of {partition}: {detail}"
    mending: ClassVar[Mending] = "never"


class PublishAbortedError(PublishError):
    """A transaction was aborted and may be tried again with the same results."""

    code = "publish_aborted"
    template = "the transaction of {partition} was aborted: {detail}"


class PublishTimeoutError(PublishError):
    """The broker did not answer in time; whether the results are visible is unknown to this process."""

    code = "publish_timeout"
    template = "publishing the results of {partition} was not acknowledged within {seconds} s"
    mending: ClassVar[Mending] = "always"


class PartitionLostError(PublishError):
    """The results are visible, but the partition went to another member before the offset was committed."""

    code = "partition_lost"
    template = "{partition} was given to another member before its offset was committed: {detail}"


class MessageTooLargeError(PublishError):
    """A message exceeds the limit of the broker or of the producer; nothing of its transaction is visible."""

    code = "message_too_large"
    template = "a message of {size} bytes is larger than the topic allows ({partition}): {detail}"
