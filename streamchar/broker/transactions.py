"""The transaction coordinator: producer ids, fencing, and the two phases of ending a transaction.

The decision goes to the journal first, then the markers to the partitions, then the offsets become visible, then the
end is noted. Whatever a crash interrupts after the decision is completed at the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator

from streamchar.broker.batches import control_batch, parse_header
from streamchar.broker.config import BrokerSettings
from streamchar.broker.errors import BrokerError, ErrorCode, RefusedError
from streamchar.broker.groups import GroupCoordinator
from streamchar.broker.journal import Event, Handlers, Journal
from streamchar.broker.log import now_ms
from streamchar.broker.messages_admin import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    InitProducerIdResponse,
    TxnOffsetCommitRequest,
)
from streamchar.broker.messages_groups import (
    ErrorResponse,
    PartitionResult,
    PartitionResultsResponse,
    TopicPartitions,
    TopicResult,
)
from streamchar.broker.offsets import Commit, Offsets
from streamchar.broker.topics import Topics
from streamchar.broker.transaction import LAST_EPOCH, State, Transaction

_logger = logging.getLogger(__name__)

_ID_BLOCK = 1000

Sync = Callable[[], Awaitable[None]]


class TransactionCoordinator:
    """All transactional ids of the broker.

    Parameters
    ----------
    settings
        Limits on timeouts.
    topics
        Partitions that transactions write to.
    groups
        Checks the offsets that transactions commit.
    offsets
        Where committed offsets become visible.
    journal
        Where decisions are made durable.
    sync
        Forces journal and logs to the disk if the settings ask for it.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        topics: Topics,
        groups: GroupCoordinator,
        offsets: Offsets,
        journal: Journal,
        sync: Sync,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._groups = groups
        self._offsets = offsets
        self._journal = journal
        self._sync = sync
        self._transactions: dict[str, Transaction] = {}
        self._ending: set[str] = set()
        self._next_producer_id = 0
        self._reserved_producer_ids = 0

    # journal

    def handlers(self) -> Handlers:
        """Return what to call when the journal is replayed."""
        return {
            "producer_ids": self._replay_producer_ids,
            "transactional_id": self._replay_owner,
            "transactional_id_forgotten": self._replay_forgotten,
            "transaction_partitions": self._replay_partitions,
            "transaction_group": self._replay_group,
            "transaction_offsets": self._replay_offsets,
            "transaction_decided": self._replay_decided,
            "transaction_completed": self._replay_completed,
        }

    def events(self) -> Iterator[Event]:
        """Return the events that lead to the present state."""
        yield ("producer_ids", self._reserved_producer_ids)
        for transaction in self._transactions.values():
            yield from transaction.events()

    def _replay_producer_ids(self, reserved: int) -> None:
        self._next_producer_id = self._reserved_producer_ids = reserved

    def _replay_owner(
        self,
        name: str,
        producer_id: int,
        epoch: int,
        timeout_ms: int,
        updated_ms: int,
        state: str,
        started_ms: int,
    ) -> None:
        self._transactions[name] = Transaction(
            name, producer_id, epoch, timeout_ms, updated_ms, State(state), started_ms
        )

    def _replay_forgotten(self, name: str) -> None:
        del self._transactions[name]

    def _replay_partitions(self, name: str, partitions: list[list[str | int]], now: int) -> None:
        transaction = self._transactions[name]
        transaction.begin(now)
        transaction.partitions.update((str(topic), int(index)) for topic, index in partitions)

    def _replay_group(self, name: str, group_id: str, now: int) -> None:
        self._transactions[name].begin(now)
        self._transactions[name].groups.add(group_id)

    def _replay_offsets(self, name: str, group_id: str, commits: list[list[object]]) -> None:
        pending = self._transactions[name].offsets.setdefault(group_id, {})
        for values in commits:
            commit = Commit(*values)  # type: ignore[arg-type]
            pending[commit.topic, commit.partition] = commit

    def _replay_decided(self, name: str, commit: bool, epoch: int) -> None:
        self._transactions[name].epoch = epoch
        self._transactions[name].decide(commit)

    def _replay_completed(self, name: str, now: int) -> None:
        transaction = self._transactions[name]
        if transaction.state is State.PREPARE_COMMIT:
            self._apply_offsets(transaction)
        transaction.complete(now)

    async def recover(self) -> None:
        """Complete the transactions whose decision was durable when the broker stopped."""
        for transaction in self._transactions.values():
            if transaction.state.decided:
                _logger.info(
                    "completing transaction of %s (%s)", transaction.transactional_id, transaction.state.value
                )
                await self._complete(transaction)

    # producers

    async def init_producer_id(self, request: InitProducerIdRequest) -> InitProducerIdResponse:
        """Answer InitProducerId; with a transactional id, abort what its previous owner left open."""
        try:
            producer_id, epoch = await self._init(request)
        except RefusedError as refusal:
            return InitProducerIdResponse(0, refusal.error)
        return InitProducerIdResponse(0, ErrorCode.NONE, producer_id, epoch)

    async def _init(self, request: InitProducerIdRequest) -> tuple[int, int]:
        name, timeout = request.transactional_id, request.transaction_timeout_ms
        if name is None:
            return self._new_producer_id(), 0
        if not name:
            raise RefusedError(ErrorCode.INVALID_REQUEST, "empty transactional id")
        if not 0 < timeout <= self._settings.transaction_max_timeout_ms:
            raise RefusedError(ErrorCode.INVALID_TRANSACTION_TIMEOUT, f"{timeout} ms")
        transaction = self._transactions.get(name)
        if transaction is None:
            transaction = Transaction(name, self._new_producer_id(), -1, timeout, now_ms())
        if transaction.state is State.ONGOING:
            await self._end(transaction, commit=False, fence=True)
        if transaction.state.decided:
            raise RefusedError(ErrorCode.CONCURRENT_TRANSACTIONS, name)
        self._take_over(transaction, timeout)
        return transaction.producer_id, transaction.epoch

    def _take_over(self, transaction: Transaction, timeout_ms: int) -> None:
        exhausted = transaction.epoch >= LAST_EPOCH
        producer_id = self._new_producer_id() if exhausted else transaction.producer_id
        owner = Transaction(
            transaction.transactional_id,
            producer_id,
            0 if exhausted else transaction.epoch + 1,
            timeout_ms,
            now_ms(),
        )
        self._journal.append(*owner.owner_event())
        transaction.producer_id, transaction.epoch = owner.producer_id, owner.epoch
        transaction.timeout_ms, transaction.updated_ms, transaction.state = (
            timeout_ms,
            owner.updated_ms,
            State.EMPTY,
        )
        self._transactions[transaction.transactional_id] = transaction

    def _new_producer_id(self) -> int:
        if self._next_producer_id >= self._reserved_producer_ids:
            reserved = self._reserved_producer_ids + _ID_BLOCK
            self._journal.append("producer_ids", reserved)
            self._next_producer_id, self._reserved_producer_ids = reserved - _ID_BLOCK, reserved
        producer_id = self._next_producer_id
        self._next_producer_id += 1
        return producer_id

    def _require(self, transactional_id: str) -> Transaction:
        transaction = self._transactions.get(transactional_id)
        if not transactional_id:
            raise RefusedError(ErrorCode.INVALID_REQUEST, "empty transactional id")
        if transaction is None:
            raise RefusedError(ErrorCode.INVALID_PRODUCER_ID_MAPPING, transactional_id)
        return transaction

    # what belongs to a transaction

    def add_partitions(self, request: AddPartitionsToTxnRequest) -> PartitionResultsResponse:
        """Answer AddPartitionsToTxn: all partitions or none."""
        wanted = [(topic.name, index) for topic in request.topics for index in topic.partitions]
        missing = {key for key in wanted if self._topics.partition(*key) is None}
        error = ErrorCode.OPERATION_NOT_ATTEMPTED if missing else ErrorCode.NONE
        if not missing:
            try:
                self._add_partitions(request, wanted)
            except RefusedError as refusal:
                error = refusal.error
        return _results(
            request.topics,
            lambda key: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if key in missing else error,
        )

    def _add_partitions(self, request: AddPartitionsToTxnRequest, wanted: list[tuple[str, int]]) -> None:
        transaction = self._require(request.transactional_id)
        transaction.check_open_for_more(request.producer_id, request.producer_epoch)
        if transaction.state is State.ONGOING and transaction.partitions.issuperset(wanted):
            return
        now = now_ms()
        self._journal.append("transaction_partitions", request.transactional_id, wanted, now)
        transaction.begin(now)
        transaction.partitions.update(wanted)

    def add_offsets(self, request: AddOffsetsToTxnRequest) -> ErrorResponse:
        """Answer AddOffsetsToTxn."""
        try:
            if not request.group_id:
                raise RefusedError(ErrorCode.INVALID_GROUP_ID, "empty")
            transaction = self._require(request.transactional_id)
            transaction.check_open_for_more(request.producer_id, request.producer_epoch)
        except RefusedError as refusal:
            return ErrorResponse(0, refusal.error)
        if transaction.state is not State.ONGOING or request.group_id not in transaction.groups:
            now = now_ms()
            self._journal.append("transaction_group", request.transactional_id, request.group_id, now)
            transaction.begin(now)
            transaction.groups.add(request.group_id)
        return ErrorResponse(0, ErrorCode.NONE)

    def commit_offsets(self, request: TxnOffsetCommitRequest) -> PartitionResultsResponse:
        """Answer TxnOffsetCommit: keep the offsets until the transaction ends."""
        try:
            transaction = self._require(request.transactional_id)
            transaction.check_open_for_more(request.producer_id, request.producer_epoch)
            if transaction.state is not State.ONGOING or request.group_id not in transaction.groups:
                raise RefusedError(ErrorCode.INVALID_TXN_STATE, "the group was not added to the transaction")
        except RefusedError as refusal:
            topics = [TopicPartitions(t.name, [p.index for p in t.partitions]) for t in request.topics]
            error = refusal.error
            return _results(topics, lambda _: error)
        response, commits = self._groups.check_offsets(request.topics)
        if commits:
            self._journal.append("transaction_offsets", request.transactional_id, request.group_id, commits)
            pending = transaction.offsets.setdefault(request.group_id, {})
            pending.update({(commit.topic, commit.partition): commit for commit in commits})
        return response

    def check_produce(
        self, transactional_id: str, producer_id: int, epoch: int, topic: str, index: int
    ) -> None:
        """Refuse transactional records outside of a transaction of their producer."""
        transaction = self._require(transactional_id)
        transaction.check(producer_id, epoch)
        if transaction.state is not State.ONGOING or (topic, index) not in transaction.partitions:
            raise RefusedError(
                ErrorCode.INVALID_TXN_STATE, f"{topic}-{index} was not added to the transaction"
            )

    # ending

    async def end(self, request: EndTxnRequest) -> ErrorResponse:
        """Answer EndTxn."""
        try:
            transaction = self._require(request.transactional_id)
            if transaction.check_end(request.producer_id, request.producer_epoch, request.committed):
                await self._end(transaction, commit=request.committed, fence=False)
        except RefusedError as refusal:
            return ErrorResponse(0, refusal.error)
        return ErrorResponse(0, ErrorCode.NONE)

    async def _end(self, transaction: Transaction, *, commit: bool, fence: bool) -> None:
        epoch = transaction.epoch + 1 if fence and transaction.epoch < LAST_EPOCH else transaction.epoch
        self._journal.append("transaction_decided", transaction.transactional_id, commit, epoch)
        transaction.epoch = epoch
        transaction.decide(commit)
        await self._complete(transaction)

    async def _complete(self, transaction: Transaction) -> None:
        self._ending.add(transaction.transactional_id)
        try:
            await self._spread(transaction)
        finally:
            self._ending.discard(transaction.transactional_id)

    async def _spread(self, transaction: Transaction) -> None:
        await self._sync()
        self._write_markers(transaction)
        await self._sync()
        if transaction.state is State.PREPARE_COMMIT:
            self._apply_offsets(transaction)
        now = now_ms()
        self._journal.append("transaction_completed", transaction.transactional_id, now)
        transaction.complete(now)

    def _write_markers(self, transaction: Transaction) -> None:
        commit = transaction.state is State.PREPARE_COMMIT
        batch = control_batch(transaction.producer_id, transaction.epoch, commit, now_ms())
        header = parse_header(batch)
        for topic, index in sorted(transaction.partitions):
            partition = self._topics.partition(topic, index)
            # without an open transaction the marker is there already, or nothing was ever written
            if partition is not None and transaction.producer_id in partition.log.producers.ongoing:
                partition.log.append(batch, header)
                partition.notify()

    def _apply_offsets(self, transaction: Transaction) -> None:
        for group_id, commits in transaction.offsets.items():
            self._offsets.apply(group_id, list(commits.values()))

    # time

    async def expire(self) -> None:
        """Abort overdue transactions, retry completions that failed, and forget unused transactional ids."""
        now = now_ms()
        for transaction in list(self._transactions.values()):
            try:
                if transaction.overdue(now):
                    _logger.warning("aborting the overdue transaction of %s", transaction.transactional_id)
                    await self._end(transaction, commit=False, fence=True)
                elif transaction.state.decided and transaction.transactional_id not in self._ending:
                    await self._complete(transaction)
            except BrokerError:
                _logger.exception("transaction of %s could not be completed", transaction.transactional_id)
            unused = now - transaction.updated_ms > self._settings.transactional_id_expiration_ms
            if unused and transaction.state is not State.ONGOING and not transaction.state.decided:
                self._journal.append("transactional_id_forgotten", transaction.transactional_id)
                del self._transactions[transaction.transactional_id]


def _results(
    topics: list[TopicPartitions], error_of: Callable[[tuple[str, int]], ErrorCode]
) -> PartitionResultsResponse:
    results = [
        TopicResult(
            topic.name, [PartitionResult(index, error_of((topic.name, index))) for index in topic.partitions]
        )
        for topic in topics
    ]
    return PartitionResultsResponse(0, results)
