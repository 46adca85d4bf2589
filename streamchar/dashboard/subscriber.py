"""Keeps the visits of a night up to date from the topics, whatever the brokers do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamchar.dashboard.follow import read_watched
from streamchar.dashboard.visits import Visits
from streamchar.frozen import frozen
from streamchar.kafka.moments import offsets_since
from streamchar.kafka.raw_records import RecordFormatError
from streamchar.kafka.tolerant import poll, rewind
from streamchar.messages import TopicNames
from streamchar.stream.errors import TopicsMissingError
from streamchar.stream.reading import partitions_of
from streamchar.stream.settings import KafkaSettings

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
POLL_RECORDS = 500
CONTACT_SECONDS = 2.0
CONTACT_TIMEOUT = 5.0
RETRY_SECONDS = 2.0
PARTITIONS_SECONDS = 60.0
RENEW_SECONDS = 60.0
_YIELD_EVERY = 50


@frozen
class Contact:
    """How the subscriber stands with the brokers.

    Attributes
    ----------
    connected
        Whether they answer.
    since
        Since when that is so, seconds since 1970.
    detail
        What is wrong.
    missing
        Topics that do not exist yet.
    behind
        Records that were written and not read yet.
    unreadable
        Records that could not be read so far.
    """

    connected: bool
    since: float
    detail: str = ""
    missing: tuple[str, ...] = ()
    behind: int = 0
    unreadable: int = 0


class Subscriber:
    """Reads what was published since a moment in the past, and then everything that comes.

    It belongs to no consumer group, so that it neither takes part in nor disturbs the processing.

    Parameters
    ----------
    kafka
        How to reach the brokers.
    topics
        Names of the topics.
    visits
        Is told everything.
    span
        Seconds to read back at the start.
    changed
        Called after every change of the visits or of the contact.

    Attributes
    ----------
    contact
        How it stands with the brokers.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: TopicNames,
        visits: Visits,
        *,
        span: float,
        changed: Callable[[], None],
    ) -> None:
        self._kafka, self._topics, self._visits = kafka, topics, visits
        self._begin = time.time() - span
        self._changed = changed
        self._wanted = (topics.psf_quality, topics.exposure_status, topics.exposure_ready)
        self._following: dict[TopicPartition, int] = {}
        self._unreadable = 0
        self.contact = Contact(False, time.time(), "connecting")

    async def run(self) -> None:
        """Read for ever.

        Raises
        ------
        ConfigurationError
            A file of the security settings cannot be read.
        """
        while True:
            consumer = AIOKafkaConsumer(
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                max_partition_fetch_bytes=4 << 20,
                **self._kafka.connection(),
            )
            try:
                async with asyncio.timeout(self._kafka.start_timeout):
                    await consumer.start()
                await self._read(consumer)
            except (TimeoutError, KafkaError, OSError, TopicsMissingError, RecordFormatError) as error:
                self._lost(str(error) or "no answer")
            finally:
                await consumer.stop()
            await asyncio.sleep(RETRY_SECONDS)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        loop = asyncio.get_running_loop()
        look_at = contact_at = loop.time()
        while True:
            if loop.time() >= look_at:
                complete = await self._look(consumer)
                look_at = loop.time() + (PARTITIONS_SECONDS if complete else CONTACT_SECONDS)
            took = await self._take(consumer)
            if loop.time() >= contact_at:
                await self._feel(consumer)
                contact_at = loop.time() + CONTACT_SECONDS
            if not self._following:
                await asyncio.sleep(POLL_SECONDS)
            elif not took and not self.contact.behind:
                self._visits.settle()
            if not self.contact.connected and time.time() - self.contact.since > RENEW_SECONDS:
                raise TimeoutError(self.contact.detail)

    async def _look(self, consumer: AIOKafkaConsumer) -> bool:
        """Look for topics and partitions; return whether all topics are there. Without an answer what is known stays."""
        try:
            async with asyncio.timeout(self._kafka.start_timeout):
                return await self._assign(consumer)
        except (TimeoutError, KafkaError, OSError, TopicsMissingError) as error:
            if not self._following:
                self._lost(str(error) or "no answer")
            return False

    async def _assign(self, consumer: AIOKafkaConsumer) -> bool:
        """Take all partitions of the topics that exist; return whether all do."""
        existing = await consumer.topics()
        present = [topic for topic in self._wanted if topic in existing]
        missing = tuple(topic for topic in self._wanted if topic not in existing)
        if missing != self.contact.missing:
            self._say(missing=missing)
        if missing and {partition.topic for partition in consumer.assignment()} == set(present):
            return False
        partitions = await partitions_of(self._kafka, present)
        if set(partitions) != consumer.assignment():
            new = [partition for partition in partitions if partition not in self._following]
            begin = {**self._following, **(await offsets_since(consumer, new, self._begin) if new else {})}
            consumer.assign(partitions)
            self._following = {partition: begin[partition] for partition in partitions}
            rewind(consumer, self._following)
        return not missing

    async def _take(self, consumer: AIOKafkaConsumer) -> int:
        """Read once; return how many records there were."""
        if not self._following:
            return 0
        # Somebody else's event with a header that the client cannot read must not blind the operator.
        batches = await poll(consumer, self._kafka.connection, wait=POLL_SECONDS, max_records=POLL_RECORDS)
        self._following = {partition: await consumer.position(partition) for partition in self._following}
        took = 0
        for records in batches.values():
            for record in records:
                took += 1
                self._add(record)
                if took % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        if took:
            self._heard()
            self._changed()
        return took

    def _add(self, record: Any) -> None:
        message = read_watched(record, self._topics)
        if message is None:
            self._unreadable += 1
        else:
            self._visits.add(message, record.timestamp / 1000)

    async def _feel(self, consumer: AIOKafkaConsumer) -> None:
        """Find out whether the brokers answer and how much there is to read; silence is no error here."""
        try:
            async with asyncio.timeout(CONTACT_TIMEOUT):
                if self._following:
                    end = await consumer.end_offsets(list(self._following))
                else:
                    await consumer.topics()
                    end = {}
        except (TimeoutError, KafkaError, OSError) as error:
            self._lost(str(error) or "no answer")
            return
        behind = sum(max(0, end[partition] - offset) for partition, offset in self._following.items())
        self._heard(behind=behind)

    def _heard(self, **changes: Any) -> None:
        since = self.contact.since if self.contact.connected else time.time()
        self._say(connected=True, since=since, detail="", unreadable=self._unreadable, **changes)

    def _lost(self, detail: str) -> None:
        if self.contact.connected:
            log.warning("no contact with the brokers: %s", detail)
        since = time.time() if self.contact.connected else self.contact.since
        self._say(connected=False, since=since, detail=detail[:300])

    def _say(self, **changes: Any) -> None:
        contact = replace(self.contact, **changes)
        if contact != self.contact:
            self.contact = contact
            self._changed()
