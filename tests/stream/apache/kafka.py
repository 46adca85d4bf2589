"""Apache Kafka in KRaft mode: one broker, or a cluster of them, as processes on free loopback ports."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from tests.stream.apache.jars import HERE
from tests.stream.brokers import SHORTEST_SESSION, Broker

LOG4J = HERE / "log4j2.properties"
STARTED = "Kafka Server started"
ARCHIVE_HEAP = 512

BASE = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "num.partitions": "4",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": f"{1000 * SHORTEST_SESSION:.0f}",
    # Expired records and segments are noticed within a second, not within five minutes.
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "500",
    # The new beginning of a partition whose records were deleted survives a kill after this time, not after a minute.
    "log.flush.start.offset.checkpoint.interval.ms": "100",
    # Overdue transactions are looked for twice a second, not every ten seconds.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    # A killed broker may register again when its old session has expired: after two seconds, not nine.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
}

REPLICATED = (
    "default.replication.factor",
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "share.coordinator.state.topic.replication.factor",
)
IN_SYNC = (
    "min.insync.replicas",
    "transaction.state.log.min.isr",
    "share.coordinator.state.topic.min.isr",
)

FAILOVER = {
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.timeout.ms": "500",
    "replica.fetch.wait.max.ms": "100",
}


def free_ports(count: int) -> list[int]:
    """Return free loopback ports.

    They lie below the ports that the system gives to outgoing connections: none of those can take the port of a
    broker while it is dead, nor connect to itself while it waits for the broker.
    """
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range")
    upper = int(ephemeral.read_text().split()[0]) if ephemeral.exists() else 32768
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            candidate = random.randrange(upper // 2, upper)
            probe = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", candidate))
                ports.append(candidate)
    return ports


class ApacheBroker(Broker):
    """One node of Apache Kafka, broker and controller at once.

    Alone it does not keep Kafka's promises through SIGKILL: of a transaction whose commit was acknowledged in the last
    milliseconds before, the marker may never be written ("Couldn't find leader endpoint for partitions" in its log), so
    that readers of committed records wait at it for ever. To kill brokers under transactions, use
    :class:`ApacheCluster`.

    Parameters
    ----------
    jars
        Folder of the jars.
    data_dir
        Its data; kept between restarts. Its properties and its log are beside it.
    properties
        Further properties; those given here win.
    listeners
        Names of further listeners, each on a port of its own (see :attr:`ports`).
    users
        Passwords of SCRAM users by name, known from the beginning.
    node_id
        Number of the node.
    memory
        Megabytes of heap.
    """

    def __init__(
        self,
        jars: Path,
        data_dir: Path,
        properties: Mapping[str, str] | None = None,
        *,
        listeners: Sequence[str] = (),
        users: Mapping[str, str] | None = None,
        node_id: int = 1,
        memory: int = 768,
    ) -> None:
        super().__init__(data_dir)
        self.node_id = node_id
        self.cluster_id = _uuid()
        self.directory_id = _uuid()
        self.properties = dict(properties or {})
        self.users = dict(users or {})
        self.jvm_options: list[str] = []
        names = ("PLAINTEXT", "CONTROLLER", *listeners)
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.port = self.ports["PLAINTEXT"]
        self._jars = jars
        self._memory = memory
        self._properties_path = data_dir.with_name(data_dir.name + ".properties")
        self._formatted = False

    def address(self, listener: str) -> str:
        """Where clients find a listener."""
        return f"127.0.0.1:{self.ports[listener]}"

    def voter(self) -> str:
        """Entry of the node in the list of initial controllers."""
        return f"{self.node_id}@{self.address('CONTROLLER')}:{self.directory_id}"

    def start(self, timeout: float = 60.0) -> Self:
        """Start it and return when it serves clients; the first time its storage is formatted."""
        if not self._formatted:
            self.format()
        return self.launch().wait(timeout)

    def format(self, controllers: Sequence[str] = ()) -> Self:
        """Prepare the storage; ``controllers`` are the voters of a cluster of several."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        addresses = [voter.partition("@")[2].rpartition(":")[0] for voter in controllers or [self.voter()]]
        self._write_properties(",".join(addresses))
        arguments = ["format", "-t", self.cluster_id, "-c", str(self._properties_path)]
        arguments += ["--initial-controllers", ",".join(controllers)] if controllers else ["--standalone"]
        for name, password in self.users.items():
            arguments += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        answer = subprocess.run(
            [*self._java(256), "kafka.tools.StorageTool", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        if answer.returncode != 0:
            raise RuntimeError(f"formatting the broker's storage failed:\n{answer.stdout[-2000:]}")
        self._formatted = True
        return self

    def launch(self) -> Self:
        """Start the process, and do not wait for it."""
        self._log_begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java(self._memory), "kafka.Kafka", str(self._properties_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        return self

    def wait(self, timeout: float = 60.0) -> Self:
        """Wait until it serves clients."""
        deadline = time.monotonic() + timeout
        while STARTED not in self.log_since_start:
            if not self.running:
                raise self._fail(f"it ended with exit code {self.stop()}")
            if time.monotonic() > deadline:
                raise self._fail(f"it does not serve clients after {timeout} s")
            time.sleep(0.05)
        return self

    @property
    def log_since_start(self) -> str:
        """What it has logged since its latest start."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_begin)
            return log.read().decode(errors="replace")

    def _write_properties(self, controllers: str) -> None:
        listeners = ",".join(f"{name}://{self.address(name)}" for name in self.ports)
        advertised = ",".join(f"{name}://{self.address(name)}" for name in self.ports if name != "CONTROLLER")
        properties = {
            **BASE,
            **dict.fromkeys((*REPLICATED, *IN_SYNC), "1"),
            "node.id": str(self.node_id),
            "controller.quorum.bootstrap.servers": controllers,
            "listeners": listeners,
            "advertised.listeners": advertised,
            "log.dirs": str(self.data_dir),
            **self.properties,
        }
        lines = [f"{name}={value}\n" for name, value in properties.items()]
        self._properties_path.write_text("".join(lines))

    def _java(self, memory: int) -> list[str]:
        archive = archive_of(self._jars)
        sharing = [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []
        options = [f"-Xmx{memory}M", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", *sharing]
        return [
            "java",
            *options,
            *self.jvm_options,
            f"-Dlog4j2.configurationFile={LOG4J}",
            "-cp",
            f"{self._jars}/*",
        ]


def archive_of(jars: Path) -> Path:
    """Where the classes of these jars are kept, loaded and checked: with them a broker starts in half the time."""
    return jars.with_suffix(".jsa")


def archive_classes(jars: Path, directory: Path) -> None:
    """Let a broker start and end once to make the archive, unless it is there; without it everything works too."""
    archive = archive_of(jars)
    if archive.exists():
        return
    partial = directory / archive.name
    broker = ApacheBroker(jars, directory / "archiving", memory=ARCHIVE_HEAP)
    broker.format()
    broker.jvm_options = [f"-XX:ArchiveClassesAtExit={partial}"]
    broker.start()
    broker.stop(timeout=60)
    if partial.exists():
        copy = archive.with_suffix(f".{uuid.uuid4().hex}")
        shutil.copyfile(partial, copy)
        copy.replace(archive)


class ApacheCluster:
    """Several nodes of Apache Kafka that replicate everything.

    Parameters
    ----------
    jars
        Folder of the jars.
    directory
        Where the nodes keep their data and logs.
    brokers
        How many; every topic has as many replicas, and one less must be in sync to write.
    properties
        Further properties of every node.

    Examples
    --------
    >>> with ApacheCluster(jars, tmp_path) as cluster:
    ...     connect(cluster.bootstrap)
    ...     cluster.kill(0)          # kill -9
    ...     cluster.restart(0)       # same port, same data
    ...     await cluster.settled()  # every replica is in sync again
    """

    def __init__(
        self, jars: Path, directory: Path, brokers: int = 3, properties: Mapping[str, str] | None = None
    ) -> None:
        common = {
            **FAILOVER,
            **{name: str(brokers) for name in REPLICATED},
            **{name: str(max(1, brokers - 1)) for name in IN_SYNC},
            **(properties or {}),
        }
        self.brokers = [
            ApacheBroker(jars, directory / f"node-{number}", common, node_id=number, memory=384)
            for number in range(1, brokers + 1)
        ]
        cluster_id = self.brokers[0].cluster_id
        for broker in self.brokers:
            broker.cluster_id = cluster_id

    @property
    def bootstrap(self) -> str:
        """Where clients connect: all brokers."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    @property
    def log(self) -> str:
        """What all brokers have logged."""
        return "\n".join(f"== node {broker.node_id}\n{broker.log}" for broker in self.brokers)

    def start(self) -> Self:
        """Format and start all nodes and return when all serve clients."""
        controllers = [broker.voter() for broker in self.brokers]
        self._all(lambda broker: broker.format(controllers))
        return self.mend()

    def mend(self) -> Self:
        """Start whichever nodes are dead and return when all serve clients."""
        dead = [broker for broker in self.brokers if not broker.running]
        for broker in dead:
            broker.launch()
        for broker in dead:
            broker.wait()
        return self

    def kill(self, index: int) -> None:
        """Kill a node with SIGKILL."""
        self.brokers[index].kill()

    def restart(self, index: int) -> None:
        """Kill a node when it runs, start it, and return when it serves clients."""
        self.brokers[index].restart()

    def stop(self) -> None:
        """End all nodes at once, without handing anything over."""
        self._all(lambda broker: broker.kill())

    async def settled(self, timeout: float = 60.0) -> float:
        """Wait until every node is there and every replica in sync; return the seconds it took.

        Before that, killing another node may make partitions unavailable.
        """
        begin = time.monotonic()
        while True:
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(5):
                    if await self._complete():
                        return time.monotonic() - begin
            if time.monotonic() - begin > timeout:
                raise TimeoutError(f"the cluster is not in sync after {timeout} s\n{self.log[-2000:]}")
            await asyncio.sleep(0.1)

    async def _complete(self) -> bool:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=3000)
        try:
            await admin.start()
            nodes = len((await admin.describe_cluster())["brokers"])
            topics = await admin.describe_topics()
        finally:
            await admin.close()
        everything = len(self.brokers)
        return nodes == everything and all(
            len(partition["isr"]) == len(partition["replicas"]) and partition["leader"] >= 0
            for topic in topics
            for partition in topic["partitions"]
        )

    def _all(self, action: Callable[[ApacheBroker], object]) -> None:
        with ThreadPoolExecutor(len(self.brokers)) as threads:
            list(threads.map(action, self.brokers))

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


def _uuid() -> str:
    """Return a random identifier in Kafka's own notation, which must not begin with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
