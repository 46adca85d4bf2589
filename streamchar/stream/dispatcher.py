"""The dispatcher: from a record that was read to an outcome that is published. All decisions, no input or output.

It owns the lanes and the events in hand. Credits bound what is in flight in events and bytes; the backlogs of the
lanes are served in turn, so that no partition waits for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from streamchar.messages import MessageError, decode_exposure_ready
from streamchar.monitor.metrics import Metrics
from streamchar.stream.breaker import Breaker
from streamchar.stream.errors import PublishError
from streamchar.stream.events import Correspondent, Event, identity_of, utc_now
from streamchar.stream.job import Assignment, JobFailure, JobResult
from streamchar.stream.lane import Completion, Lane
from streamchar.stream.ledger import OffsetLedger
from streamchar.stream.outbox import Outbox, Record
from streamchar.stream.pool import Outcome, Ticket, WorkerPool
from streamchar.stream.retry import decide
from streamchar.stream.settings import ServiceSettings

log = logging.getLogger(__name__)

_START_AT_ONCE = 16
_WITHOUT_STATUS = frozenset({"retry", "duplicate"})

Position = tuple[TopicPartition, int]


class Dispatcher:
    """Moves events from backlog to worker to publication.

    Parameters
    ----------
    settings
        Of the service.
    pool
        Runs the attempts.
    outbox
        Publishes.
    correspondent
        Writes statuses, retries and dead letters.
    metrics
        Where everything is counted.
    report
        Called with an error after which partitions must be taken over anew, or the service must end.
    progress
        Called whenever something was published.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        pool: WorkerPool,
        outbox: Outbox,
        correspondent: Correspondent,
        metrics: Metrics,
        report: Callable[[Exception], None],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._outbox = outbox
        self._correspondent = correspondent
        self._metrics = metrics
        self._report = report
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[TopicPartition, Lane] = {}
        self._leaving: list[Lane] = []
        self._turns: deque[TopicPartition] = deque()
        self._events: dict[Position, Event] = {}
        self._timers: dict[Position, asyncio.TimerHandle] = {}
        self._detached: set[Position] = set()
        self._resting: set[Position] = set()
        self._parked: dict[Position, Completion] = {}
        self._breaker = Breaker(settings.breaker)
        self._epoch = 0
        self._result_bytes = 0
        self._draining = False
        self._pump_is_due = False
        self._breaker_timer: asyncio.TimerHandle | None = None
        self.last_progress = self._loop.time()
        self.published_events = 0

    # Lanes -----------------------------------------------------------------------------------------------

    @property
    def lanes(self) -> dict[TopicPartition, Lane]:
        """The lanes of the partitions owned at present."""
        return self._lanes

    @property
    def is_whole(self) -> bool:
        """Whether every partition that is owned can publish."""
        return not any(lane.closed for lane in self._lanes.values())

    @property
    def in_flight(self) -> int:
        """Events that were started and are not published.

        Without those that wait for a later attempt, and without work that outlived its partition: it waits to be
        read again, which must not need the credits that it holds.
        """
        return len(self._events) - len(self._timers) - len(self._detached)

    @property
    def working(self) -> int:
        """Events that wait for a worker or have one; finished ones are bounded by their bytes instead."""
        return len(self._events) - len(self._timers) - len(self._resting)

    @property
    def delayed(self) -> int:
        """Events that wait for a later attempt."""
        return len(self._timers)

    @property
    def backlog(self) -> int:
        """Events that were read and not started."""
        return sum(len(lane.backlog) for lane in self._lanes.values())

    @property
    def unpublished(self) -> int:
        """Finished events that wait for their publication to begin."""
        return sum(lane.waiting for lane in self._lanes.values())

    @property
    def result_bytes(self) -> int:
        """Bytes of finished, unpublished results."""
        return self._result_bytes

    @property
    def breaker_open(self) -> bool:
        """Whether the breaker stops the intake."""
        return self._breaker.state(self._loop.time()) != "closed"

    @property
    def oldest_unfinished(self) -> float:
        """Age in seconds of the oldest event in hand, from when it was read."""
        if not self._events:
            return 0.0
        return (utc_now() - min(event.received_at for event in self._events.values())).total_seconds()

    def assign(self, partition: TopicPartition, ledger: OffsetLedger) -> None:
        """Begin a lane with the ledger of its last commit."""
        self._epoch += 1
        ledger.epoch = self._epoch
        self._lanes[partition] = Lane(
            partition,
            ledger,
            self._outbox,
            self,
            self._settings.delivery,
            self._loop.time,
            self.look_back(partition),
        )
        self._turns.append(partition)
        for position in [position for position in self._events if position[0] == partition]:
            if ledger.is_finished(position[1]):
                self._confirm(position)

    def look_back(self, partition: TopicPartition) -> int:
        """Records before the first unfinished one that are to be read too, to recognise repetitions.

        What passes through the retry topic was announced once already, so nothing is a repetition there.
        """
        names = self._settings.topics.names
        return self._settings.limits.duplicate_window if partition.topic == names.exposure_ready else 0

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """End lanes: let their running publications finish, keep their work in case they come back.

        Should this be cancelled meanwhile, the next call ends those lanes too: no partition may come back before.
        """
        self._leaving += [self._lanes.pop(partition) for partition in partitions if partition in self._lanes]
        self._turns = deque(partition for partition in self._turns if partition in self._lanes)
        lanes = list(self._leaving)
        ended = await asyncio.gather(*(lane.close() for lane in lanes))
        for lane, unpublished in zip(lanes, ended, strict=True):
            if lane in self._leaving:  # or else another call has done it, and they may be published by now
                self._leaving.remove(lane)
                for completion in unpublished:
                    self._parked[lane.partition, completion.offset] = completion
        for position in [position for position in self._events if position[0] not in self._lanes]:
            if position in self._timers:
                self._drop(position)  # no work is lost: it only waits
            else:
                self._detached.add(position)
                self._resting.add(position)

    def forget_lost(self) -> None:
        """Give up the work of partitions that did not come back with the last assignment."""
        for position in [position for position in self._events if position[0] not in self._lanes]:
            self._drop(position)

    def receive(self, partition: TopicPartition, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """Add records that were read to the backlog of their lane."""
        lane = self._lanes.get(partition)
        if lane is None or lane.closed:
            return
        new = [record for record in records if record.offset >= lane.first]
        for record in records[: len(records) - len(new)]:
            self._note(lane, record)
        lane.backlog.extend(new)
        self._metrics.change("streamchar_events_received_total", len(new), {"topic": partition.topic})
        self.pump()

    def drain(self) -> None:
        """Start nothing any more; what is in flight may finish."""
        self._draining = True
        for position in list(self._timers):
            self._drop(position)

    # Starting --------------------------------------------------------------------------------------------

    @property
    def credits(self) -> int:
        """Number of events that may be started now."""
        if self._draining or self._result_bytes >= self._settings.limits.bytes_in_flight:
            return 0
        return max(0, self._settings.events_in_flight - self.working)

    def pump(self) -> None:
        """Start events as long as there are credits, one from each lane in turn, and not too many at once."""
        idle = started = 0
        while self._turns and idle < len(self._turns) and self.credits > 0:
            if started >= _START_AT_ONCE:
                self._pump_soon()
                return
            if not self._breaker.allows(self._loop.time()):
                self._wait_for_breaker()
                return
            partition = self._turns[0]
            self._turns.rotate(-1)
            if self._start_next(self._lanes[partition]):
                idle = 0
                started += 1
            else:
                idle += 1

    def _pump_soon(self) -> None:
        if not self._pump_is_due:
            self._pump_is_due = True
            self._loop.call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._pump_is_due = False
        self.pump()

    def _start_next(self, lane: Lane) -> bool:
        """Start the first event of a lane's backlog that is not finished yet; False when there is none."""
        while lane.backlog and not lane.closed:
            record = lane.backlog[0]
            if (
                not lane.ledger.has_room(record.offset)
                or self.delayed >= self._settings.limits.delayed_events
            ):
                return False
            lane.backlog.popleft()
            position = (lane.partition, record.offset)
            kept = self._events.get(position)
            if not lane.ledger.take(record.offset):
                self._note(lane, record)
                continue
            if kept is not None:
                if kept.is_same_record(record):
                    self._note(lane, record)
                    self._adopt(lane, position)
                    return True
                self._drop(position)
            self._admit(lane, record)
            return True
        return False

    def _note(self, lane: Lane, record: ConsumerRecord[Any, Any]) -> None:
        """Remember the event of a record that is not processed here, to recognise its repetitions."""
        value = record.value or b""
        if not self.look_back(lane.partition) or len(value) > self._settings.limits.message_bytes:
            return
        with contextlib.suppress(MessageError):
            announced = decode_exposure_ready(value, record.headers)
            lane.announcements.note(identity_of(announced, record.headers), record.offset)

    def _adopt(self, lane: Lane, position: Position) -> None:
        """Attach work that outlived a rebalance to the new lane of its partition."""
        self._detached.discard(position)
        completion = self._parked.pop(position, None)
        if completion is not None:
            lane.add(completion)
        else:
            self._resting.discard(position)

    def _confirm(self, position: Position) -> None:
        """Let go of an event in hand whose offset turns out to be committed: its publication was in doubt."""
        completion = self._parked.get(position)
        self._drop(position)
        if completion is not None:
            self._account(completion, utc_now())

    def _admit(self, lane: Lane, record: ConsumerRecord[Any, Any]) -> None:
        """Decode a record and decide whether it is to be processed now, later or not at all."""
        now = utc_now()
        event = Event.read(record, now)
        self._events[event.partition, event.offset] = event
        limit = self._settings.limits.message_bytes
        if len(event.value) > limit:
            text = f"the message has {len(event.value)} bytes, more than {limit} (limits.message_bytes)"
            self._end_dead(
                event, JobFailure("permanent", "event_too_large", text, {"size": len(event.value)})
            )
            return
        try:
            event.announced = decode_exposure_ready(event.value, event.headers)
        except MessageError as error:
            self._end_dead(event, JobFailure("permanent", error.code, str(error), dict(error.values)))
            return
        earlier = lane.announcements.note(identity_of(event.announced, event.headers), event.offset)
        not_before = event.passage.not_before
        if earlier is not None:
            self._end_repeated(event, earlier)
        elif not_before is not None and not_before > now:
            # Longer than we ever ask for: another clock was wrong, or another hand wrote it.
            self._delay(event, min((not_before - now).total_seconds(), self._settings.retry.delay_max))
        else:
            self._attempt(event)

    def _attempt(self, event: Event, *, first: bool = False) -> None:
        """Give an event to the pool, unless it is too old by now."""
        position = (event.partition, event.offset)
        self._timers.pop(position, None)
        now = utc_now()
        limit = self._settings.limits.expire_after
        if event.expired(now, limit):
            self._complete(event, self._correspondent.expired(event, now, limit), "expired")
            return
        self._breaker.started(now=self._loop.time())
        event.tries += 1
        assignment = Assignment(event.value, event.headers, event.passage.attempts + event.tries)
        ticket = self._pool.submit(assignment, first=first)
        event.ticket = ticket
        ticket.outcome.add_done_callback(lambda outcome: self._attempted(event, ticket, outcome))

    def _delay(self, event: Event, seconds: float) -> None:
        position = (event.partition, event.offset)
        self._timers[position] = self._loop.call_later(seconds, self._attempt, event)

    def _wait_for_breaker(self) -> None:
        if self._breaker_timer is None:
            seconds = self._settings.breaker.cool_down / 4
            self._breaker_timer = self._loop.call_later(seconds, self._breaker_over)

    def _breaker_over(self) -> None:
        self._breaker_timer = None
        self.pump()

    # Ending ----------------------------------------------------------------------------------------------

    def _attempted(self, event: Event, ticket: Ticket, outcome: asyncio.Future[Outcome]) -> None:
        """Act on what a worker returned."""
        position = (event.partition, event.offset)
        if outcome.cancelled() or self._events.get(position) is not event:
            return
        event.ticket = None
        if ticket.started is not None and ticket.ended is not None:
            self._metrics.change(
                "streamchar_attempt_seconds", ticket.ended - ticket.started, exposure=event.name
            )
            if event.tries == 1 and event.passage.rounds == 0:
                held = (utc_now() - event.received_at).total_seconds()
                queued = max(0.0, held - (time.monotonic() - ticket.started))
                self._metrics.change("streamchar_queue_seconds", queued, exposure=event.name)
        result = outcome.result()
        if isinstance(result, JobResult):
            self._end_well(event, result)
        else:
            self._end_badly(event, result)

    def _end_well(self, event: Event, result: JobResult) -> None:
        try:
            records = self._correspondent.success(event, result, utc_now())
        except (KeyError, ValueError) as error:
            text = f"the worker's result cannot be published ({type(error).__name__}: {error})"
            self._end_dead(event, JobFailure("permanent", "invalid_result", text))
            return
        for delta in result.metrics:
            if not self._metrics.apply(delta.name, delta.value, delta.labels, event.name):
                log.warning("a worker changed an unknown metric: %s %s", delta.name, dict(delta.labels))
        for stage, _, wall in result.timings:
            self._metrics.change("streamchar_stage_seconds", wall, {"stage": stage}, event.name)
        for reason in result.reasons:
            labels = {"reason": str(reason["code"])}
            self._metrics.change("streamchar_degraded_reasons_total", 1, labels, event.name)
        nonsense = result.summary.get("implausible", ())
        if nonsense:
            text = ", ".join(nonsense)
            extra = {**event.log_fields, "reason": "implausible"}
            log.error("%s: impossible values of %s (plausible)", event.name, text, extra=extra)
        self._complete(event, records, result.outcome, nonsense=bool(nonsense))

    def _end_badly(self, event: Event, failure: JobFailure) -> None:
        """Try again, later, or not at all."""
        labels = {"category": failure.category, "reason": failure.code}
        self._metrics.change("streamchar_event_failures_total", 1, labels, event.name)
        if failure.category == "lost":
            event.lost += 1
        decision = decide(failure, event.history, self._settings.retry)
        extra = {**event.log_fields, "reason": failure.code, "step": decision.step}
        log.warning("%s: attempt %d failed: %s", event.name, event.tries, failure.text, extra=extra)
        if decision.step == "dead":
            self._end_dead(event, failure)
        elif decision.step == "later":
            self._metrics.change("streamchar_retries_total", 1, {"where": "topic"})
            not_before = utc_now() + timedelta(seconds=decision.delay)
            self._complete(event, self._correspondent.retry(event, failure, not_before), "retry")
        elif not self._draining and (event.partition, event.offset) not in self._detached:
            self._metrics.change("streamchar_retries_total", 1, {"where": "in_process"})
            if decision.delay > 0:
                self._delay(event, decision.delay)
                self.pump()
            else:
                self._attempt(event, first=True)
        else:
            self._drop((event.partition, event.offset))

    def _end_repeated(self, event: Event, earlier: int) -> None:
        """Finish a repetition without a word: the status of the first announcement is the event's one status."""
        instrument = event.announced.instrument if event.announced else "unknown"
        self._metrics.change("streamchar_duplicates_total", 1, {"instrument": instrument})
        extra = {**event.log_fields, "reason": "duplicate"}
        log.info("%s: announced before at offset %d, not processed again", event.name, earlier, extra=extra)
        self._complete(event, (), "duplicate")

    def _end_dead(self, event: Event, failure: JobFailure) -> None:
        extra = {**event.log_fields, "reason": failure.code}
        log.error("%s: failed for good: %s", event.name, failure.text, extra=extra)
        self._metrics.change("streamchar_dead_letters_total", 1, {"reason": failure.code}, event.name)
        self._complete(event, self._correspondent.dead(event, failure, utc_now()), "failed")

    def _complete(
        self, event: Event, records: tuple[Record, ...], outcome: str, *, nonsense: bool = False
    ) -> None:
        """Hand the records of an ended event to its lane, or keep them until the partition comes back."""
        if outcome not in _WITHOUT_STATUS:
            self._breaker.finished(dead=outcome == "failed" or nonsense, now=self._loop.time())
        completion = Completion(event.offset, records, (event, outcome))
        self._resting.add((event.partition, event.offset))
        event.result_bytes = completion.nbytes
        self._result_bytes += completion.nbytes
        lane = self._lanes.get(event.partition)
        if lane is not None and not lane.closed and event.offset in lane.ledger.pending:
            lane.add(completion)
        else:
            self._parked[event.partition, event.offset] = completion
        self._pump_soon()

    # What lanes report -----------------------------------------------------------------------------------

    def published(self, lane: Lane, completions: Sequence[Completion], seconds: float) -> None:
        """Count what became visible and start what may follow."""
        now = utc_now()
        self.last_progress = self._loop.time()
        self._progress()
        self._metrics.change("streamchar_publish_seconds", seconds)
        self._metrics.change("streamchar_last_commit_timestamp_seconds", now.timestamp())
        for completion in completions:
            self._release((lane.partition, completion.offset))
            self._account(completion, now)
        self.pump()

    def _account(self, completion: Completion, now: datetime) -> None:
        """Count what a completion made visible."""
        event, outcome = completion.owner
        for record in completion.records:
            labels = {"topic": record.topic}
            self._metrics.change("streamchar_published_messages_total", 1, labels)
            size = memoryview(record.value).nbytes
            self._metrics.change("streamchar_published_bytes_total", size, labels)
        if outcome not in _WITHOUT_STATUS:
            self._count(event, outcome, now)

    def replace_oversized(self, completion: Completion) -> Completion:
        """Turn an event whose products the broker refuses into a dead letter."""
        event, _ = completion.owner
        largest = max(memoryview(record.value).nbytes for record in completion.records)
        text = f"a product of {largest} bytes is larger than its topic allows (max.message.bytes)"
        failure = JobFailure("permanent", "product_too_large", text, {"size": largest})
        extra = {**event.log_fields, "reason": failure.code}
        log.error("%s: failed for good: %s", event.name, text, extra=extra)
        self._metrics.change("streamchar_dead_letters_total", 1, {"reason": failure.code}, event.name)
        records = self._correspondent.dead(event, failure, utc_now())
        return Completion(event.offset, records, (event, "failed"))

    def broke(self, lane: Lane, error: PublishError) -> None:
        """Report that a lane cannot publish any more, unless its partition was given up anyway."""
        if self._lanes.get(lane.partition) is lane:
            self._report(error)
        else:
            log.warning("%s", error)

    def _count(self, event: Event, outcome: str, now: datetime) -> None:
        labels = {"instrument": event.announced.instrument if event.announced else "unknown"}
        seconds = (now - (event.created_at or event.received_at)).total_seconds()
        self.published_events += 1
        change = self._metrics.change
        change("streamchar_events_total", 1, {**labels, "outcome": outcome}, event.name)
        change("streamchar_end_to_end_seconds", max(0.0, seconds), labels, event.name)
        closed = event.shutter_closed_at
        if closed is not None:
            since = (now - closed).total_seconds()
            if 0.0 <= since <= self._settings.limits.expire_after:
                change("streamchar_shutter_to_published_seconds", since, labels, event.name)
        extra = {**event.log_fields, "outcome": outcome, "latency": seconds}
        log.info("%s: %s in %.2f s", event.name, outcome, seconds, extra=extra)

    def _release(self, position: Position) -> None:
        event = self._events.pop(position, None)
        self._detached.discard(position)
        self._resting.discard(position)
        self._parked.pop(position, None)
        if event is not None:
            self._result_bytes -= event.result_bytes

    def _drop(self, position: Position) -> None:
        """Give an event up without an outcome: whoever owns the partition next processes it."""
        timer = self._timers.pop(position, None)
        if timer is not None:
            timer.cancel()
        event = self._events.get(position)
        self._release(position)
        if event is not None and event.ticket is not None:
            self._pool.cancel(event.ticket)
