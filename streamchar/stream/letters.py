"""Dead letters: what failed for good, and how it is announced again.

A replay announces the original bytes and headers in the partition the event came from, marked as a replay, so that it
is not taken for a repetition. All letters of a replay go out in one transaction, and a letter that was replayed before
is known by the announcement that names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamchar.frozen import frozen
from streamchar.kafka.raw_records import RawRecord
from streamchar.messages import MessageError, decode_exposure_ready
from streamchar.stream.contact import cause_of
from streamchar.stream.dead_letters import VALUE_OMITTED, Origin, read_passage, read_replay, replay_headers
from streamchar.stream.errors import ReplayError
from streamchar.stream.job import Headers
from streamchar.stream.reading import read_all
from streamchar.stream.settings import ServiceSettings


@frozen
class Letter:
    """A dead letter.

    Attributes
    ----------
    topic, partition, offset
        Where it is.
    time
        When it was written.
    key, value, headers
        As it was written.
    origin
        Where and when the event was first read.
    instrument, exposure, detector
        Whose exposure it is; None when neither the message nor its key tells.
    replayed
        Whether it has been announced again already.
    """

    topic: str
    partition: int
    offset: int
    time: datetime
    key: bytes | None
    value: bytes
    headers: Headers
    origin: Origin
    instrument: str | None = None
    exposure: int | None = None
    detector: int | None = None
    replayed: bool = False

    @property
    def position(self) -> str:
        """Its position as text, ``topic/partition/offset``."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def name(self) -> str:
        """Short name for the command line, ``partition/offset``."""
        return f"{self.partition}/{self.offset}"

    @property
    def exposure_name(self) -> str:
        """``instrument/exposure/detector``, or its key as far as it is text."""
        if self.instrument is not None:
            return f"{self.instrument}/{self.exposure}/{self.detector}"
        return (self.key or b"").decode("utf-8", "backslashreplace")

    @property
    def is_whole(self) -> bool:
        """Whether it carries the original bytes; very large ones are left out."""
        return not any(name == VALUE_OMITTED for name, _ in self.headers)

    def told(self, name: str) -> str:
        """Text of one of our headers, for example ``sc-error-code``; empty when it is absent."""
        return dict(self.headers).get(name, b"").decode("utf-8", "replace")


@frozen
class Selection:
    """Which letters; what is None does not matter.

    Attributes
    ----------
    reason
        The reason code.
    instrument, exposure, detector
        Whose exposure it is.
    names
        ``partition/offset`` of single letters.
    """

    reason: str | None = None
    instrument: str | None = None
    exposure: int | None = None
    detector: int | None = None
    names: Collection[str] = ()

    def takes(self, letter: Letter) -> bool:
        """Say whether a letter is selected."""
        wanted = (
            (self.reason, letter.told("sc-error-code")),
            (self.instrument, letter.instrument),
            (self.exposure, letter.exposure),
            (self.detector, letter.detector),
        )
        return all(want is None or want == found for want, found in wanted) and (
            not self.names or letter.name in self.names
        )


async def read_letters(
    settings: ServiceSettings, selection: Selection | None = None, *, wait: bool = False
) -> list[Letter]:
    """Read the dead letters, oldest first.

    Parameters
    ----------
    settings
        Which brokers and topics.
    selection
        Which letters; all when omitted.
    wait
        Whether to wait for those of transactions that are open now.

    Raises
    ------
    StreamError
        The topics cannot be read.
    """
    names = settings.topics.names
    replayed = set()
    letters = []
    async for record in read_all(settings.kafka, [names.exposure_ready, names.dlq], wait=wait):
        if record.topic == names.dlq:
            letters.append(record)
        elif mark := read_replay(tuple(record.headers)).of:
            replayed.add(mark)
    found = [_letter(record, replayed) for record in letters]
    wanted = selection or Selection()
    return sorted((letter for letter in found if wanted.takes(letter)), key=lambda letter: letter.time)


async def replay(settings: ServiceSettings, selection: Selection, *, again: bool = False) -> list[Letter]:
    """Announce dead letters again, all or none, and return them.

    A letter that was replayed before is left out unless ``again``; one without its original bytes always is. Two
    replays at the same time cannot double anything: the second one ends the first.

    Raises
    ------
    StreamError
        The topics cannot be read.
    ReplayError
        Nothing was announced.
    """
    producer = AIOKafkaProducer(
        transactional_id=f"{settings.kafka.group}-dlq-replay",
        acks="all",
        max_request_size=settings.delivery.max_message_bytes,
        max_batch_size=settings.delivery.max_message_bytes,
        **settings.kafka.connection(),
    )
    try:
        async with asyncio.timeout(settings.kafka.start_timeout):
            await producer.start()  # from here on an earlier replay cannot go on
    except (TimeoutError, KafkaError) as error:
        await producer.stop()
        raise await cause_of(error, settings.kafka) from error
    try:
        letters = [
            letter
            for letter in await read_letters(settings, selection, wait=True)
            if letter.is_whole and (again or not letter.replayed)
        ]
        if letters:
            async with asyncio.timeout(settings.delivery.publish_timeout):
                await _announce(producer, settings, letters)
    except (TimeoutError, KafkaError) as error:
        raise ReplayError(count=len(letters), detail=str(error) or "no answer") from error
    else:
        return letters
    finally:
        await producer.stop()


async def _announce(producer: AIOKafkaProducer, settings: ServiceSettings, letters: Sequence[Letter]) -> None:
    topic = settings.topics.names.exposure_ready
    partitions = await producer.partitions_for(topic)
    now = datetime.now(UTC)
    async with producer.transaction():
        sent = [
            await producer.send(
                topic,
                letter.value,
                key=letter.key,
                partition=_home(letter, topic, partitions),
                headers=list(replay_headers(letter.headers, letter.position, now)),
            )
            for letter in letters
        ]
        await asyncio.gather(*sent)


def _home(letter: Letter, topic: str, partitions: Collection[int]) -> int | None:
    """Partition the event came from, so that it meets its repetitions; None leaves the choice to its key."""
    origin = letter.origin
    return origin.partition if origin.topic == topic and origin.partition in partitions else None


def _letter(record: RawRecord, replayed: Collection[str]) -> Letter:
    headers: Headers = tuple((name, value or b"") for name, value in record.headers)
    value = record.value or b""
    written = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    here = Origin(record.topic, record.partition, record.offset, written)
    instrument, exposure, detector = _whose(record.key, value, headers)
    return Letter(
        record.topic,
        record.partition,
        record.offset,
        written,
        record.key,
        value,
        headers,
        read_passage(headers, here).origin,
        instrument,
        exposure,
        detector,
        f"{record.topic}/{record.partition}/{record.offset}" in replayed,
    )


def _whose(key: bytes | None, value: bytes, headers: Headers) -> tuple[str | None, int | None, int | None]:
    """Instrument, exposure and detector from the message, or else from its key."""
    try:
        event = decode_exposure_ready(value, headers)
    except MessageError:
        parts = (key or b"").decode("utf-8", "replace").split("/")
        if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
            return parts[0], int(parts[1]), int(parts[2])
        return None, None, None
    return event.instrument, event.exposure, event.detector
