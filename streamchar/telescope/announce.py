"""Tells others that an exposure is ready: over Kafka, or in a file of JSON lines."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from streamchar.messages.codec import encode
from streamchar.messages.exposure_ready import ExposureReady
from streamchar.messages.topics import EXPOSURE_READY
from streamchar.telescope.errors import AnnouncementError

SOURCE = "telescope"
"""Who announces, in the events' headers."""


class Announcer(Protocol):
    """Anything that takes events."""

    async def announce(self, event: ExposureReady) -> None:
        """Hand over one event; when this returns it is safe."""
        ...


class KafkaAnnouncer:
    """Publishes events with an idempotent producer that waits for all replicas. An asynchronous context manager.

    Parameters
    ----------
    bootstrap
        ``HOST:PORT`` of one or more brokers, separated by commas.
    topic
        Where to publish.
    **options
        Further options of aiokafka's producer, such as its security settings.
    """

    def __init__(self, bootstrap: str, topic: str = EXPOSURE_READY, **options: Any) -> None:
        self._bootstrap, self._topic, self._options = bootstrap, topic, options
        self._producer: Any = None

    async def __aenter__(self) -> Self:
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,
            client_id="streamchar-telescope",
            **self._options,
        )
        try:
            await producer.start()
        except KafkaError as error:
            await producer.stop()
            raise self._error("of the night", error) from error
        self._producer = producer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._producer.stop()

    async def announce(self, event: ExposureReady) -> None:
        """Publish an event and wait until the broker has it.

        Raises
        ------
        AnnouncementError
            When the broker does not take it.
        """
        from aiokafka.errors import KafkaError

        message = encode(event, source=SOURCE)
        try:
            await self._producer.send_and_wait(
                self._topic, message.value, key=message.key, headers=message.headers
            )
        except KafkaError as error:
            raise self._error(event.key, error) from error

    def _error(self, subject: str, error: Exception) -> AnnouncementError:
        detail = str(error) or type(error).__name__
        return AnnouncementError(subject=subject, bootstrap=self._bootstrap, detail=detail)


class JsonLinesAnnouncer:
    """Appends each event as one line of JSON to a file.

    Parameters
    ----------
    path
        The file; made when missing.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    async def announce(self, event: ExposureReady) -> None:
        """Append one line."""
        # One short append; not worth a thread.
        with self._path.open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json(exclude_none=True) + "\n")
