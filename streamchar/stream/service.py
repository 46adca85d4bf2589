"""The service: puts the parts together, starts them in order, watches them, and stops them without losing anything."""

from __future__ import annotations

import asyncio
import logging
import platform
import signal
from collections.abc import Mapping
from typing import Any

from aiokafka.errors import KafkaError

from streamchar import __version__
from streamchar.monitor.health import HealthServer, Probes
from streamchar.monitor.loop_lag import LoopLag
from streamchar.monitor.metrics import Metrics
from streamchar.stream.dispatcher import Dispatcher
from streamchar.stream.errors import FatalError, StuckError
from streamchar.stream.events import NO_DIGEST, Correspondent
from streamchar.stream.outbox import AcknowledgedOutbox, Outbox, TransactionalOutbox
from streamchar.stream.pool import PoolOptions, WorkerPool
from streamchar.stream.process import WorkerExit
from streamchar.stream.pulse import Pulse
from streamchar.stream.recovery import Recovery
from streamchar.stream.settings import ServiceSettings
from streamchar.stream.source import Source
from streamchar.stream.topics import ensure_topics, message_limit
from streamchar.stream.visit_watcher import VisitWatcher

log = logging.getLogger(__name__)

_WATCH_SECONDS = 1.0
_STALE_LOOP = 10.0
_OF_PARTITIONS = ("streamchar_low_water_offset", "streamchar_high_water_offset", "streamchar_consumer_lag")


class Service:
    """One member of the group with its worker processes.

    Parameters
    ----------
    settings
        Everything.
    config_digest
        Digest of the characterization's configuration, written into every status.
    job_settings
        What the worker job is given; made from the settings when omitted.

    Attributes
    ----------
    metrics
        The only registry.
    health
        The port, once started.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        config_digest: str = NO_DIGEST,
        job_settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._loop = asyncio.get_running_loop()
        self._fatal: asyncio.Future[Exception] = self._loop.create_future()
        self._stop = asyncio.Event()
        self._stopping = False
        self._started = False
        self._warm = False
        self._config_digest = config_digest
        self._job_settings = job_settings
        self._pulse = Pulse(settings.kafka, settings.topics.names.exposure_ready)
        self._recovery = Recovery(settings, self._pulse, self.fail)
        self._source = Source(settings, self.metrics, self._recovery.report)
        self._recovery.membership = self._source
        self._build(settings)
        self._lag = LoopLag(lambda seconds: self.metrics.change("streamchar_loop_lag_seconds", seconds))
        self._visits = VisitWatcher(settings, self.metrics)
        probes = Probes(self._live, self._ready, self._startup, self._scrape, self._version)
        self.health = HealthServer(probes, settings.http.host, settings.http.port)
        self.metrics.change("streamchar_build_info", 1, self._build_labels())
        self.metrics.change("streamchar_workers_configured", settings.workers.count)

    def _build(self, settings: ServiceSettings) -> None:
        """Make what depends on how large a message may be; nothing of it is started yet."""
        options = pool_options(settings, self._config_digest, self._job_settings)
        self._pool = WorkerPool(options, _PoolLog(self.metrics))
        self._outbox: Outbox = (
            TransactionalOutbox(settings.kafka, settings.delivery)
            if settings.delivery.mode == "exactly_once"
            else AcknowledgedOutbox(settings.kafka, settings.delivery, self._source.commit)
        )
        correspondent = Correspondent(
            settings.topics.names,
            settings.kafka.group,
            self._config_digest,
            letter_limit=settings.delivery.max_value_bytes,
        )
        self._dispatcher = Dispatcher(
            settings,
            self._pool,
            self._outbox,
            correspondent,
            self.metrics,
            self._recovery.report,
            self._recovery.progress,
        )

    def fail(self, error: Exception) -> None:
        """End the service with an error; the first one counts."""
        if not self._fatal.done():
            self._fatal.set_result(error)

    def request_stop(self) -> None:
        """Drain and stop."""
        self._stop.set()

    async def run(self) -> None:
        """Start, serve until asked to stop, drain, stop.

        Raises
        ------
        StreamcharError
            Why it could not start or go on; everything is stopped by then.
        """
        background: list[asyncio.Task[None]] = [asyncio.ensure_future(self._lag.run())]
        polling: asyncio.Task[None] | None = None
        try:
            if not await self._start_unless_stopped():
                log.info("stopped before everything was started")
                return
            polling = asyncio.ensure_future(self._source.poll())
            watching = (self._watch(), self._pulse.run(), self._recovery.watch())
            background += [asyncio.ensure_future(each) for each in watching]
            self._started = True
            await self._wait(polling, *background)
            await self._drain(polling)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self._visits.stop()
            await self._shut_down(polling)

    async def _start_unless_stopped(self) -> bool:
        """Start everything, or nothing when a stop is asked for meanwhile: without brokers a start takes long."""
        starting = asyncio.ensure_future(self._start())
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            starting.cancel()
            await asyncio.wait([starting])
        if not starting.cancelled():
            starting.result()
        return not starting.cancelled()

    async def _start(self) -> None:
        if self.settings.http.enabled:
            await self.health.start()
            log.info("health and metrics on http://%s:%d", self.settings.http.host, self.health.port)
        created = await ensure_topics(self.settings)
        if created:
            log.info("created the topics %s", ", ".join(created))
        limit = await message_limit(self.settings)
        if limit < self.settings.delivery.max_message_bytes:
            self._build(self.settings.with_message_limit(limit))
        await self._pool.start()
        self._warm = True
        log.info("%d workers are ready", self.settings.workers.count)
        await self._source.start(self._dispatcher, self._outbox)

    async def _wait(self, *tasks: asyncio.Task[None]) -> None:
        """Wait until a stop is asked for; raise what makes going on impossible."""
        stop = asyncio.ensure_future(self._stop.wait())
        ends: list[asyncio.Future[Any]] = [stop, self._fatal, self._pool.failed, *tasks]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        if self._fatal.done():
            raise self._fatal.result()
        if self._pool.failed.done():
            raise self._pool.failed.result()
        for task in tasks:
            if task.done():
                task.result()
                raise FatalError(detail="a part of the service ended by itself")

    async def _drain(self, polling: asyncio.Task[None]) -> None:
        """Finish what is in flight, within the deadline, while the poll loop keeps the membership alive."""
        self._stopping = True
        log.info("draining %d events", self._dispatcher.in_flight)
        self._dispatcher.drain()
        deadline = self._loop.time() + self.settings.lifecycle.drain
        if self._recovery.problem:
            log.warning("nothing can be published: %s", self._recovery.problem)
            deadline = self._loop.time()
        await self._recovery.close()
        while self._dispatcher.in_flight and self._loop.time() < deadline:
            if self._fatal.done():
                error = self._fatal.result()
                if not isinstance(error, FatalError) or error.mending == "never":
                    raise error
                log.warning("nothing more can be published: %s", error)
                break
            if polling.done():
                polling.result()
            await asyncio.sleep(0.02)
        if self._dispatcher.in_flight:
            log.warning("%d events are given up: the next start processes them", self._dispatcher.in_flight)

    async def _shut_down(self, polling: asyncio.Task[None] | None) -> None:
        self._stopping = True
        await self._recovery.close()
        self._source.end_polling()
        if polling is not None:
            await asyncio.wait([polling])
            if not polling.cancelled():
                polling.exception()  # raised already, or hidden by the error that ends the service
            if not self._fatal.done():
                await self._source.revoked(list(self._dispatcher.lanes))
        await self._pool.close(1.0)
        await self._source.stop()
        await self._outbox.stop()
        await self.health.stop()

    async def _watch(self) -> None:
        """Refresh the gauges, and end the service when it is stuck."""
        while True:
            self._refresh()
            self._check_progress()
            self._visits.regulate(wanted=self._source.is_first)
            await asyncio.sleep(_WATCH_SECONDS)

    def _check_progress(self) -> None:
        dispatcher = self._dispatcher
        waiting = dispatcher.in_flight + dispatcher.backlog
        now = self._loop.time()
        if not waiting or dispatcher.breaker_open or self._recovery.problem:
            dispatcher.last_progress = now
        quiet = now - dispatcher.last_progress
        if quiet > self.settings.lifecycle.stuck_after:
            detail = f"{self._pool.ready} workers ready, {self._pool.busy} busy"
            self.fail(StuckError(seconds=quiet, waiting=waiting, detail=detail))

    def _refresh(self) -> None:
        dispatcher, change = self._dispatcher, self.metrics.change
        change("streamchar_events_in_flight", dispatcher.in_flight)
        change("streamchar_events_delayed", dispatcher.delayed)
        change("streamchar_events_backlog", dispatcher.backlog)
        change("streamchar_result_bytes_in_flight", dispatcher.result_bytes)
        change("streamchar_credits", dispatcher.credits)
        change("streamchar_oldest_unfinished_seconds", dispatcher.oldest_unfinished)
        change("streamchar_breaker_open", float(dispatcher.breaker_open))
        change("streamchar_publication_blocked", float(bool(self._recovery.problem)))
        change("streamchar_partitions_assigned", len(dispatcher.lanes))
        change("streamchar_partitions_paused", self._source.paused)
        change("streamchar_workers_ready", self._pool.ready)
        change("streamchar_workers_busy", self._pool.busy)
        change("streamchar_workers_spare", self._pool.spare)
        change("streamchar_worker_queue_events", self._pool.queued)
        change("streamchar_publication_queue_events", dispatcher.unpublished)
        self._refresh_partitions()

    def _refresh_partitions(self) -> None:
        """Replace the series of the partitions owned: those of others disappear."""
        for name in _OF_PARTITIONS:
            self.metrics.clear(name)
        for partition, (low, high) in self._source.marks().items():
            labels = {"topic": partition.topic, "partition": str(partition.partition)}
            for name, value in zip(_OF_PARTITIONS, (low, high, max(0, high - low)), strict=True):
                self.metrics.change(name, value, labels)

    def _scrape(self, accept: str) -> tuple[bytes, str]:
        if self._started:
            self._refresh()
        return self.metrics.exposition(accept)

    def _build_labels(self) -> dict[str, str]:
        version = platform.python_version()
        return {"version": __version__, "python": version, "config_digest": self._config_digest}

    def _live(self) -> Mapping[str, str]:
        now = self._loop.time()
        # Without brokers a poll lasts as long as the rebalance that it waits for; a restart would not mend that.
        polled = max(self._source.last_poll, self._recovery.last_problem)
        poll_age = now - polled if self._started else 0.0
        stale_poll = poll_age > self.settings.kafka.max_poll_interval
        return {
            "loop": f"no tick for {now - self._lag.last_tick:.1f} s"
            if now - self._lag.last_tick > _STALE_LOOP
            else "",
            "poll": f"no poll for {poll_age:.1f} s" if stale_poll else "",
        }

    def _ready(self) -> Mapping[str, str]:
        ready, count = self._pool.ready, self.settings.workers.count
        return {
            "started": "" if self._started else "starting",
            "stopping": "draining" if self._stopping else "",
            "brokers": self._recovery.problem,
            "group": "" if self._source.assigned else "no partitions assigned yet",
            "workers": "" if ready > 0 else f"0 of {count} workers are ready",
            "breaker": "too many dead letters or impossible results: the intake is stopped"
            if self._dispatcher.breaker_open
            else "",
        }

    def _startup(self) -> Mapping[str, str]:
        count = self.settings.workers.count
        return {
            "workers": "" if self._warm else f"waiting for {count} workers to become ready",
            "group": "" if self._source.was_assigned else "no partitions assigned yet",
        }

    def _version(self) -> Mapping[str, Any]:
        return {
            "version": __version__,
            "group": self.settings.kafka.group,
            "delivery": self.settings.delivery.mode,
            "workers": self.settings.workers.count,
            "job": self.settings.workers.job,
        }


class _PoolLog:
    """Counts and logs what happens in the pool."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def worker_started(self, seconds: float) -> None:
        self._metrics.change("streamchar_worker_start_seconds", seconds)

    def worker_ended(self, cause: str, exit_: WorkerExit) -> None:
        self._metrics.change("streamchar_worker_ends_total", 1, {"cause": cause})
        self._metrics.change("streamchar_worker_peak_bytes", exit_.peak_bytes)
        level = logging.INFO if cause in {"closed", "recycled"} else logging.WARNING
        log.log(level, "a worker ended (%s): %s", cause, exit_.describe())


def pool_options(
    settings: ServiceSettings, config_digest: str, job_settings: Mapping[str, Any] | None
) -> PoolOptions:
    """Options of the pool; the job is given what it needs to find, measure and grade exposures."""
    workers = settings.workers
    if job_settings is None:
        job_settings = {
            "characterize": settings.characterize,
            "grades": settings.model_dump()["grades"],
            "plausible": settings.model_dump(exclude_none=True)["plausible"],
            "config_digest": config_digest,
            "source": settings.kafka.group,
            "fetch": settings.fetch.model_dump(mode="json"),
            "read": settings.read.model_dump(mode="json"),
            "store": settings.store.model_dump(mode="json"),
            "max_value_bytes": settings.delivery.max_value_bytes,
        }
    return PoolOptions(
        workers.job,
        job_settings,
        count=workers.count,
        spares=workers.spares,
        niceness=workers.niceness,
        deadline=workers.deadline,
        memory_limit=workers.memory_limit,
        recycle_after=workers.recycle_after,
        start_timeout=workers.start_timeout,
        result_limit=workers.result_limit,
    )


def _note_stray_errors(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keep the client's leftovers out of the log: a fenced producer leaves futures that nobody asks any more."""
    if isinstance(context.get("exception"), KafkaError):
        log.debug("left over by the Kafka client: %s", context["exception"])
    else:
        loop.default_exception_handler(context)


async def serve(service: Service) -> None:
    """Run a service; the first SIGTERM or SIGINT drains it, the second ends the process at once."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def first(number: signal.Signals) -> None:
        log.info("%s: draining; send it again to end at once", number.name)
        for each in signals:
            loop.remove_signal_handler(each)
            # The default action works even when the loop is stuck; workers die with their parent.
            signal.signal(each, signal.SIG_DFL)
        service.request_stop()

    loop.set_exception_handler(_note_stray_errors)
    for number in signals:
        loop.add_signal_handler(number, first, number)
    try:
        await service.run()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
