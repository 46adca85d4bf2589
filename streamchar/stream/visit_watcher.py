"""Watches the announcements of all partitions for visits that stay incomplete.

The detectors of a visit are spread over the partitions, and the partitions over the services: no service sees whole
visits among its own events. So one of them, the owner of the first input partition, also reads all announcements,
outside the group, from a little before now, so that a change of the owner hides no gap.
"""

from __future__ import annotations

import asyncio
import logging
import time

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from streamchar.kafka.moments import offsets_since
from streamchar.kafka.raw_records import RawRecord
from streamchar.kafka.tolerant import poll
from streamchar.messages import MessageError, decode_exposure_ready
from streamchar.monitor.metrics import Metrics
from streamchar.stream.errors import TopicsMissingError
from streamchar.stream.reading import partitions_of
from streamchar.stream.settings import ServiceSettings
from streamchar.stream.visits import VisitWatch

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_PAUSE_SECONDS = 5.0
_LOOK_SECONDS = 30.0
"""Seconds between two looks for new partitions at most."""


class VisitWatcher:
    """Reports missing detectors as long as it runs.

    Parameters
    ----------
    settings
        Of the service; ``visits`` says what is expected.
    metrics
        Where gaps are counted.
    """

    def __init__(self, settings: ServiceSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    def regulate(self, *, wanted: bool) -> None:
        """Start or stop watching."""
        wanted = wanted and bool(self._settings.visits.detectors)
        if wanted and (self._task is None or self._task.done()):
            self._task = asyncio.ensure_future(self._run())
        elif not wanted and self._task is not None:
            self._task.cancel()
            self._task = None

    async def stop(self) -> None:
        """Stop watching and wait for the end."""
        task = self._task
        self.regulate(wanted=False)
        if task is not None:
            await asyncio.wait([task])

    async def _run(self) -> None:
        """Watch; when the brokers fail, begin again."""
        while True:
            try:
                await self._watch()
            except (KafkaError, TimeoutError, TopicsMissingError) as error:
                log.warning("watching for incomplete visits is interrupted: %s", error or "no answer")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _watch(self) -> None:
        kafka, visits = self._settings.kafka, self._settings.visits
        watch = VisitWatch(visits.expected(), visits.after)
        consumer = AIOKafkaConsumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **kafka.connection(),
        )
        try:
            await consumer.start()
            partitions = await partitions_of(kafka, [self._settings.topics.names.exposure_ready])
            consumer.assign(partitions)
            past = await offsets_since(consumer, partitions, time.time() - 2 * visits.after)
            for partition, offset in past.items():
                consumer.seek(partition, offset)
            looked = time.monotonic()
            while True:
                for records in (await poll(consumer, kafka.connection, wait=_POLL_SECONDS)).values():
                    for record in records:
                        self._see(watch, record)
                self._report(watch)
                if time.monotonic() - looked > min(_LOOK_SECONDS, visits.after / 4):
                    await self._take_new_partitions(consumer)
                    looked = time.monotonic()
        finally:
            await consumer.stop()

    async def _take_new_partitions(self, consumer: AIOKafkaConsumer) -> None:
        """Read partitions that the topic got meanwhile, too; what is announced in them would look missing."""
        present = consumer.assignment()
        partitions = await partitions_of(self._settings.kafka, [self._settings.topics.names.exposure_ready])
        new = [partition for partition in partitions if partition not in present]
        if new:
            following = {partition: await consumer.position(partition) for partition in present}
            consumer.assign(partitions)
            for partition, offset in (following | await consumer.beginning_offsets(new)).items():
                consumer.seek(partition, offset)

    def _see(self, watch: VisitWatch, record: RawRecord) -> None:
        if len(record.value or b"") > self._settings.limits.message_bytes:
            return
        try:
            event = decode_exposure_ready(record.value or b"", record.headers)
        except MessageError:
            return  # it becomes a dead letter; here it announces nothing
        watch.see(event.instrument, event.exposure, event.detector, record.timestamp / 1000)

    def _report(self, watch: VisitWatch) -> None:
        for gap in watch.due(time.time()):
            labels = {"instrument": gap.instrument}
            self._metrics.change("streamchar_incomplete_visits_total", 1, labels)
            self._metrics.change("streamchar_missing_detectors_total", len(gap.missing), labels)
            extra = {"reason": "missing_detectors", "event": f"{gap.instrument}/{gap.exposure}"}
            log.warning("%s", gap.describe(), extra=extra)
