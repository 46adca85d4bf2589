"""One transactional id: its producer, its open transaction, and how it is written to the journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.broker.journal import Event
from streamchar.broker.offsets import Commit

LAST_EPOCH = 0x7FFF - 1
"""The epoch after which a transactional id continues with a new producer id."""


class State(Enum):
    """Where a transaction stands. In a prepare state the decision is durable and its markers are being written."""

    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"

    @property
    def decided(self) -> bool:
        """Whether the outcome is fixed but not everywhere yet."""
        return self in (State.PREPARE_COMMIT, State.PREPARE_ABORT)


@dataclass(slots=True, eq=False)
class Transaction:
    """The state of one transactional id."""

    transactional_id: str
    producer_id: int
    epoch: int
    timeout_ms: int
    updated_ms: int
    state: State = State.EMPTY
    started_ms: int = -1
    partitions: set[tuple[str, int]] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    offsets: dict[str, dict[tuple[str, int], Commit]] = field(default_factory=dict)

    def begin(self, now: int) -> None:
        """Open a transaction unless one is open."""
        if self.state is not State.ONGOING:
            self.state, self.started_ms = State.ONGOING, now
        self.updated_ms = now

    def decide(self, commit: bool) -> None:
        """Fix the outcome."""
        self.state = State.PREPARE_COMMIT if commit else State.PREPARE_ABORT

    def complete(self, now: int) -> None:
        """Forget the finished transaction."""
        self.state = State.COMPLETE_COMMIT if self.state is State.PREPARE_COMMIT else State.COMPLETE_ABORT
        self.started_ms, self.updated_ms = -1, now
        self.partitions, self.groups, self.offsets = set(), set(), {}

    def overdue(self, now: int) -> bool:
        """Whether the producer took longer than it promised."""
        return self.state is State.ONGOING and now - self.started_ms > self.timeout_ms

    def check(self, producer_id: int, epoch: int) -> None:
        """Refuse everyone but the present owner.

        The versions aiokafka speaks say ``INVALID_PRODUCER_EPOCH`` where newer ones say ``PRODUCER_FENCED``.
        """
        if producer_id != self.producer_id:
            raise RefusedError(ErrorCode.INVALID_PRODUCER_ID_MAPPING, self.transactional_id)
        if epoch != self.epoch:
            raise RefusedError(ErrorCode.INVALID_PRODUCER_EPOCH, self.transactional_id)

    def check_open_for_more(self, producer_id: int, epoch: int) -> None:
        """Refuse additions while the previous transaction is still being completed."""
        self.check(producer_id, epoch)
        if self.state.decided:
            raise RefusedError(ErrorCode.CONCURRENT_TRANSACTIONS, self.transactional_id)

    def check_end(self, producer_id: int, epoch: int, commit: bool) -> bool:
        """Check whether the transaction may end so.

        Returns
        -------
        bool
            Whether there is anything to do; a repeated request finds its outcome reached.
        """
        self.check(producer_id, epoch)
        if self.state is State.ONGOING:
            return True
        reached = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
        preparing = State.PREPARE_COMMIT if commit else State.PREPARE_ABORT
        if self.state is preparing:
            raise RefusedError(ErrorCode.CONCURRENT_TRANSACTIONS, self.transactional_id)
        if self.state is not reached:
            raise RefusedError(ErrorCode.INVALID_TXN_STATE, f"{self.transactional_id} is {self.state.value}")
        return False

    def owner_event(self) -> Event:
        """Return the journal event that restores owner and state."""
        return (
            "transactional_id",
            self.transactional_id,
            self.producer_id,
            self.epoch,
            self.timeout_ms,
            self.updated_ms,
            self.state.value,
            self.started_ms,
        )

    def events(self) -> Iterator[Event]:
        """Return the events that restore everything, the open transaction included."""
        yield self.owner_event()
        now = self.updated_ms
        if self.partitions:
            yield ("transaction_partitions", self.transactional_id, sorted(self.partitions), now)
        for group_id in sorted(self.groups):
            yield ("transaction_group", self.transactional_id, group_id, now)
        for group_id, commits in self.offsets.items():
            yield ("transaction_offsets", self.transactional_id, group_id, list(commits.values()))
        if self.state.decided:
            yield (
                "transaction_decided",
                self.transactional_id,
                self.state is State.PREPARE_COMMIT,
                self.epoch,
            )
