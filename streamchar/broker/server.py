"""The broker as a whole: its parts put together, its listener, its housekeeping, its end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import logging
import os
import signal
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from streamchar.broker.administration import Administration, Node
from streamchar.broker.apis import supported_apis
from streamchar.broker.config import BrokerSettings
from streamchar.broker.connection import READ_BUFFER, ByteBudget, Connection
from streamchar.broker.dispatch import Dispatcher
from streamchar.broker.durability import Durability
from streamchar.broker.errors import (
    BrokerError,
    DataDirectoryInUseError,
    DataDirectoryUnusableError,
    ListenError,
    UnsafeListenerError,
)
from streamchar.broker.fetch import RecordReader
from streamchar.broker.groups import GroupCoordinator
from streamchar.broker.journal import Event, Journal
from streamchar.broker.offsets import Offsets
from streamchar.broker.produce import RecordAppender
from streamchar.broker.topics import Topics
from streamchar.broker.transactions import TransactionCoordinator
from streamchar.errors import ConfigurationError, listening_problem

_logger = logging.getLogger(__name__)

_GROUP_TICK = 0.1
_TRANSACTION_TICK = 0.5


class EmbeddedBroker:
    """A broker that runs in the present event loop.

    Parameters
    ----------
    settings
        How and where to run.

    Raises
    ------
    UnsafeListenerError
        When the address is not loopback and ``allow_remote`` is not set.

    Examples
    --------
    >>> async def main() -> None:
    ...     async with EmbeddedBroker(BrokerSettings(data_dir="night", port=0)) as broker:
    ...         print(broker.bootstrap)
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings
        self.host = settings.host
        self.port = settings.port
        self._advertised = _advertised_host(settings)
        self._cluster_id = ""
        self._lock = -1
        self._journal = Journal(settings.data_dir / "journal", settings.journal_max_bytes)
        self._topics = Topics(settings, self._journal)
        self._offsets = Offsets(self._journal)
        self._groups = GroupCoordinator(settings, self._topics, self._offsets)
        self._durability = Durability(settings, self._topics, self._journal)
        self._transactions = TransactionCoordinator(
            settings,
            self._topics,
            self._groups,
            self._offsets,
            self._journal,
            self._durability.before_acknowledging,
        )
        self._server: asyncio.Server | None = None
        self._stopping = False
        self._connections: set[asyncio.Task[None]] = set()
        self._chores: list[asyncio.Task[None]] = []

    @property
    def bootstrap(self) -> str:
        """The address clients connect to first."""
        host = f"[{self._advertised}]" if ":" in self._advertised else self._advertised
        return f"{host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # starting

    async def start(self) -> None:
        """Recover what is in the data directory and begin to listen.

        Raises
        ------
        BrokerError
            The data directory is in use, damaged or not writable, or the address cannot be listened on.
        """
        try:
            await self._recover()
            await self._listen()
        except BaseException:
            await self.stop()
            raise
        self._begin_chores()

    async def _recover(self) -> None:
        directory = self.settings.data_dir
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = _lock_directory(directory)
            self._replay()
            await self._transactions.recover()
        except OSError as error:
            detail = f"{error.strerror} ({error.filename or directory})"
            raise DataDirectoryUnusableError(path=str(directory), detail=detail) from error

    def _replay(self) -> None:
        parts = (self._topics, self._offsets, self._transactions)
        handlers = {name: handler for part in parts for name, handler in part.handlers().items()}
        self._journal.open({**handlers, "cluster": self._replay_cluster})
        self._topics.open()
        if not self._cluster_id:
            self._cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            self._journal.append("cluster", self._cluster_id)

    def _replay_cluster(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id

    async def _listen(self) -> None:
        host, port = self.settings.host, self.settings.port
        try:
            server = await asyncio.start_server(
                self._connected, host, port, limit=READ_BUFFER, start_serving=False
            )
        except OSError as error:
            raise ListenError(host=host, port=port, detail=listening_problem(error)) from error
        self._server = server
        self.port = server.sockets[0].getsockname()[1]
        node = Node(self._cluster_id, self._advertised, self.port)
        self._budget = ByteBudget(self.settings.max_inflight_request_bytes)
        self._dispatcher = Dispatcher(
            supported_apis(self.settings.max_request_bytes),
            Administration(self.settings, self._topics, self._offsets, node),
            RecordAppender(self._topics, self._transactions),
            RecordReader(self.settings, self._topics),
            self._groups,
            self._transactions,
            self._durability,
        )
        await server.start_serving()
        _logger.info("listening on %s, data in %s", self.bootstrap, self.settings.data_dir)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self.settings.max_connections:
            _logger.warning("refused a connection: %d are open already", len(self._connections))
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await Connection(self.settings, self._dispatcher, self._budget, reader, writer).run()
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    # housekeeping

    def _begin_chores(self) -> None:
        self._chore("group-timeouts", _GROUP_TICK, self._expire_groups)
        self._chore("transaction-timeouts", _TRANSACTION_TICK, self.maintain)
        self._chore("retention", self.settings.retention_check_interval_ms / 1000, self._enforce_retention)
        if self._durability.interval is not None:
            self._chore("fsync", self._durability.interval, self._durability.sync)

    def _chore(self, name: str, interval: float, work: Callable[[], Awaitable[None]]) -> None:
        self._chores.append(asyncio.create_task(_repeat(name, interval, work), name=f"broker-{name}"))

    async def _expire_groups(self) -> None:
        self._groups.expire()

    async def maintain(self) -> None:
        """End overdue transactions and keep the journal short; happens by itself twice a second."""
        await self._transactions.expire()
        if self._journal.overgrown:
            self._journal.rewrite(self._events())

    async def _enforce_retention(self) -> None:
        self._topics.enforce_retention()

    def _events(self) -> list[Event]:
        parts = (self._topics, self._offsets, self._transactions)
        return [("cluster", self._cluster_id), *(event for part in parts for event in part.events())]

    # stopping

    async def stop(self) -> None:
        """Stop listening, let go of clients, and close all files; safe to call twice."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        self._groups.abandon()
        for task in (*self._chores, *self._connections):
            task.cancel()
        await asyncio.gather(*self._chores, *self._connections, return_exceptions=True)
        self._chores.clear()
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None
            _logger.info("stopped")
        if self._lock >= 0:
            await self._durability.sync()
            self._topics.close()
            self._journal.close()
            os.close(self._lock)
            self._lock = -1


async def _repeat(name: str, interval: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except (BrokerError, OSError):
            _logger.exception("%s failed; trying again in %g s", name, interval)


def _advertised_host(settings: BrokerSettings) -> str:
    if not settings.allow_remote and not _is_loopback(settings.host):
        raise UnsafeListenerError(host=settings.host)
    advertised = settings.advertised_host or settings.host
    if "," in advertised or (":" in advertised and not _is_address(advertised)):
        raise ConfigurationError.at(
            "advertised_host", f"{advertised!r} must name exactly one node, without a port"
        )
    if advertised in ("", "0.0.0.0", "::"):  # noqa: S104 - refused here, not bound
        raise ConfigurationError.at(
            "advertised_host", "say how clients reach this machine when listening everywhere"
        )
    return advertised


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback if _is_address(host) else host == "localhost"


def _lock_directory(path: Path) -> int:
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise DataDirectoryInUseError(path=str(path), owner=owner) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


async def run_until_terminated(settings: BrokerSettings, ready: Callable[[EmbeddedBroker], None]) -> None:
    """Run a broker until SIGTERM or SIGINT.

    Parameters
    ----------
    settings
        How and where to run.
    ready
        Called once when clients can connect.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with EmbeddedBroker(settings) as broker:
        ready(broker)
        await stop.wait()
        _logger.info("stopping")
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError):
            loop.remove_signal_handler(number)
