"""Topics and their partitions: creation, deletion, and their place on disk."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streamchar.broker.config import BrokerSettings
from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.broker.journal import Event, Handlers, Journal
from streamchar.broker.log import LogLimits, PartitionLog, now_ms
from streamchar.broker.topic_config import TopicConfig, check_overrides

_logger = logging.getLogger(__name__)

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@dataclass(slots=True, eq=False)
class Partition:
    """One partition, its log, and those waiting for it to change."""

    topic: Topic
    index: int
    log: PartitionLog
    waiters: set[asyncio.Event] = field(default_factory=set)

    def notify(self) -> None:
        """Wake everyone who waits for records or for the end of a transaction."""
        for waiter in self.waiters:
            waiter.set()


@dataclass(slots=True, eq=False)
class Topic:
    """A topic; the identifier distinguishes it from a deleted one of the same name."""

    name: str
    identifier: str
    config: TopicConfig
    count: int
    partitions: list[Partition] = field(default_factory=list)

    def event(self) -> Event:
        """Return the journal event that creates this topic, or extends it to its present size."""
        return ("topic", self.name, self.identifier, self.count, self.config.overrides)


def check_name(name: str) -> None:
    """Refuse names that Kafka refuses; the others are safe as directory names."""
    if name in ("", ".", "..") or not _NAME.fullmatch(name):
        raise RefusedError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"invalid topic name {name[:260]!r}")


class Topics:
    """All topics of the broker.

    Parameters
    ----------
    settings
        Defaults and limits.
    journal
        Where changes are made durable before they happen.
    """

    def __init__(self, settings: BrokerSettings, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self._directory = settings.data_dir / "partitions"
        self._by_name: dict[str, Topic] = {}
        self._starts: dict[tuple[str, int], int] = {}
        self._deleted: set[str] = set()

    # journal

    def handlers(self) -> Handlers:
        """Return what to call when the journal is replayed."""
        return {
            "topic": self._replay_topic,
            "topic_deleted": self._replay_deleted,
            "start": self._replay_start,
        }

    def events(self) -> Iterator[Event]:
        """Return the events that lead to the present state."""
        for topic in self:
            yield topic.event()
            for partition in topic.partitions:
                if (topic.identifier, partition.index) in self._starts:
                    yield ("start", topic.identifier, partition.index, partition.log.start_offset)

    def _replay_topic(self, name: str, identifier: str, count: int, overrides: Mapping[str, str]) -> None:
        self._by_name[name] = Topic(name, identifier, TopicConfig(overrides, self._settings), count)

    def _replay_deleted(self, name: str) -> None:
        self._deleted.add(self._by_name.pop(name).identifier)

    def _replay_start(self, identifier: str, index: int, offset: int) -> None:
        self._starts[identifier, index] = offset

    def open(self) -> None:
        """Open all logs after the journal was replayed, and finish deletions that were interrupted."""
        self._directory.mkdir(parents=True, exist_ok=True)
        known = {topic.identifier for topic in self}
        for path in sorted(self._directory.iterdir()):
            identifier = path.name.rpartition(".")[2]
            if identifier in self._deleted:
                shutil.rmtree(path)
            elif identifier not in known:
                _logger.warning("%s belongs to no topic; left alone", path)
        for topic in self:
            self._open_partitions(topic)

    def _open_partitions(self, topic: Topic) -> None:
        for index in range(len(topic.partitions), topic.count):
            log = PartitionLog(self._path(topic, index), lambda: self._limits(topic))
            log.advance_start(self._starts.get((topic.identifier, index), 0))
            topic.partitions.append(Partition(topic, index, log))

    def _path(self, topic: Topic, index: int) -> Path:
        return self._directory / f"{topic.name}-{index}.{topic.identifier}"

    def _limits(self, topic: Topic) -> LogLimits:
        config = topic.config
        return LogLimits(
            segment_bytes=config.integer("segment.bytes"),
            segment_ms=config.integer("segment.ms"),
            retention_ms=config.integer("retention.ms") if config.deletes else -1,
            retention_bytes=config.integer("retention.bytes") if config.deletes else -1,
            durable=self._settings.fsync != "never",
        )

    # looking up

    def __iter__(self) -> Iterator[Topic]:
        return iter(list(self._by_name.values()))

    def get(self, name: str) -> Topic | None:
        """Return a topic by name."""
        return self._by_name.get(name)

    def partition(self, name: str, index: int) -> Partition | None:
        """Return a partition, or ``None`` when topic or index do not exist."""
        topic = self._by_name.get(name)
        return topic.partitions[index] if topic and 0 <= index < len(topic.partitions) else None

    def require(self, name: str, index: int) -> Partition:
        """Return a partition or refuse with ``UNKNOWN_TOPIC_OR_PARTITION``."""
        partition = self.partition(name, index)
        if partition is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{name}-{index}")
        return partition

    # changing

    def create(
        self, name: str, count: int, overrides: Mapping[str, str | None], *, dry_run: bool = False
    ) -> None:
        """Create a topic; ``count`` -1 means the default number of partitions."""
        self._check_free(name)
        kept = check_overrides(overrides)
        count = self._settings.default_partitions if count == -1 else count
        if count <= 0:
            raise RefusedError(
                ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid value."
            )
        self._check_room(count)
        if dry_run:
            return
        if "compact" in kept.get("cleanup.policy", ""):
            _logger.warning(
                "topic %s asks for compaction; this broker keeps all of its records instead", name
            )
        topic = Topic(name, uuid.uuid4().hex[:12], TopicConfig(kept, self._settings), count)
        self._journal.append(*topic.event())
        self._by_name[name] = topic
        self._open_partitions(topic)
        _logger.info("created topic %s with %d partitions", name, count)

    def _check_free(self, name: str) -> None:
        check_name(name)
        if name in self._by_name:
            raise RefusedError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        metric = name.replace(".", "_")
        twin = next((other for other in self._by_name if other.replace(".", "_") == metric), None)
        if twin is not None:
            raise RefusedError(
                ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {twin}"
            )

    def _check_room(self, more: int) -> None:
        present = sum(topic.count for topic in self)
        if present + more > self._settings.max_partitions:
            reason = f"{present} partitions exist, {self._settings.max_partitions} are allowed"
            raise RefusedError(ErrorCode.POLICY_VIOLATION, reason)

    def extend(self, name: str, count: int, *, dry_run: bool = False) -> None:
        """Add partitions until there are ``count``."""
        topic = self._by_name.get(name)
        if topic is None:
            raise RefusedError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition."
            )
        if count <= topic.count:
            reason = f"Topic currently has {topic.count} partition(s), {count} would not be an increase."
            raise RefusedError(ErrorCode.INVALID_PARTITIONS, reason)
        self._check_room(count - topic.count)
        if dry_run:
            return
        self._journal.append("topic", topic.name, topic.identifier, count, topic.config.overrides)
        topic.count = count
        self._open_partitions(topic)

    def delete(self, name: str) -> None:
        """Delete a topic and its records."""
        topic = self._by_name.get(name)
        if topic is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name)
        self._journal.append("topic_deleted", name)
        del self._by_name[name]
        for partition in topic.partitions:
            self._starts.pop((topic.identifier, partition.index), None)
            partition.log.delete()
            partition.notify()
        _logger.info("deleted topic %s", name)

    def delete_records(self, name: str, index: int, offset: int) -> int:
        """Delete records before ``offset`` (-1: all present ones) and return the first offset that remains."""
        partition = self.require(name, index)
        log = partition.log
        offset = log.end_offset if offset == -1 else offset
        if not 0 <= offset <= log.end_offset:
            raise RefusedError(ErrorCode.OFFSET_OUT_OF_RANGE, f"{offset} is beyond {log.end_offset}")
        if offset > log.start_offset:
            self._journal.append("start", partition.topic.identifier, index, offset)
            self._starts[partition.topic.identifier, index] = offset
            log.advance_start(offset)
        return log.start_offset

    # housekeeping

    def enforce_retention(self) -> None:
        """Delete what is too old or too much, in every partition."""
        now = now_ms()
        for topic in self:
            for partition in topic.partitions:
                if partition.log.enforce_retention(now):
                    _logger.info(
                        "%s-%d begins at %d now", topic.name, partition.index, partition.log.start_offset
                    )
                partition.log.producers.expire(now - self._settings.producer_id_expiration_ms)

    def close(self) -> None:
        """Close all logs."""
        for topic in self:
            for partition in topic.partitions:
                partition.log.close()
