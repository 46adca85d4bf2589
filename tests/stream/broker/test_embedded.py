"""The broker inside one's own event loop, and the command line."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from streamchar.broker import BrokerSettings, EmbeddedBroker
from streamchar.broker.errors import (
    DataDirectoryInUseError,
    DataDirectoryUnusableError,
    ListenError,
    UnsafeListenerError,
)
from tests.stream.conformance.clients import make_topic, producer, values


async def test_broker_in_the_same_loop(tmp_path: Path) -> None:
    settings = BrokerSettings(data_dir=tmp_path / "data", port=0)
    for turn in range(2):
        async with EmbeddedBroker(settings) as broker:
            if turn == 0:
                await make_topic(broker.bootstrap, name="kept")
            async with producer(broker.bootstrap) as client:
                await client.send_and_wait("kept", b"%d" % turn, partition=0)
            assert len(await values(broker.bootstrap, "kept")) == turn + 1


async def test_directory_belongs_to_one_broker(tmp_path: Path) -> None:
    settings = BrokerSettings(data_dir=tmp_path / "data", port=0)
    async with EmbeddedBroker(settings):
        with pytest.raises(DataDirectoryInUseError):
            await EmbeddedBroker(settings).start()
    async with EmbeddedBroker(settings):
        pass


def test_network_address_needs_consent(tmp_path: Path) -> None:
    with pytest.raises(UnsafeListenerError):
        EmbeddedBroker(BrokerSettings(data_dir=tmp_path, host="192.0.2.1"))
    broker = EmbeddedBroker(
        BrokerSettings(
            data_dir=tmp_path, host="0.0.0.0", allow_remote=True, advertised_host="tower", port=9092
        )
    )
    assert broker.bootstrap == "tower:9092"


@pytest.mark.parametrize(
    ("host", "bootstrap"), [("::1", "[::1]:9092"), ("2001:db8::7", "[2001:db8::7]:9092")]
)
def test_addresses_of_version_6_are_written_so_that_they_can_be_read(
    tmp_path: Path, host: str, bootstrap: str
) -> None:
    settings = BrokerSettings(data_dir=tmp_path, host=host, allow_remote=True, port=9092)
    assert EmbeddedBroker(settings).bootstrap == bootstrap


async def test_what_keeps_it_from_starting_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryUnusableError, match="Not a directory"):
        await EmbeddedBroker(BrokerSettings(data_dir=tmp_path / "file" / "data", port=0)).start()
    data = tmp_path / "data"
    (data / "journal").mkdir(parents=True)
    with pytest.raises(DataDirectoryUnusableError, match=r"Is a directory.*journal"):
        await EmbeddedBroker(BrokerSettings(data_dir=data, port=0)).start()
    (data / "journal").rmdir()
    async with EmbeddedBroker(BrokerSettings(data_dir=data, port=0)) as first:
        settings = BrokerSettings(data_dir=tmp_path / "other", port=first.port)
        with pytest.raises(ListenError, match=f"port {first.port}: Address already in use"):
            await EmbeddedBroker(settings).start()
    async with EmbeddedBroker(settings):  # nothing of the failed start holds the directory
        pass


async def test_records_that_could_not_be_forced_to_disk_are_not_acknowledged_later_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, forced = [True], []

    def fdatasync(descriptor: int) -> None:
        if failing:
            raise OSError(errno.EIO, "Input/output error")
        forced.append(descriptor)

    async with EmbeddedBroker(BrokerSettings(data_dir=tmp_path, port=0, fsync="always")) as broker:
        await make_topic(broker.bootstrap, 2, name="kept")
        files = len(list(Path("/proc/self/fd").iterdir()))
        for partition in (0, 1):
            log = broker._topics.require("kept", partition).log
            log.unsynced = True
        monkeypatch.setattr(os, "fdatasync", fdatasync)
        for _ in range(3):
            with pytest.raises(OSError, match="Input/output"):
                await broker._durability.before_acknowledging()
        assert len(list(Path("/proc/self/fd").iterdir())) <= files
        failing.clear()
        await broker._durability.before_acknowledging()
        assert len(forced) >= 2


async def test_stopping_does_not_wait_for_idle_clients(tmp_path: Path) -> None:
    broker = EmbeddedBroker(BrokerSettings(data_dir=tmp_path / "data", port=0))
    await broker.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
    await asyncio.sleep(0.05)
    await asyncio.wait_for(broker.stop(), 2)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readexactly(1)
    writer.close()
    await broker.stop()


async def test_command_line(tmp_path: Path) -> None:
    code = "import typer; from streamchar.cli.broker import broker; typer.run(broker)"
    arguments = ["--port", "0", "--data-dir", str(tmp_path / "night"), "--set", "default_partitions=2"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    assert line.startswith("listening on 127.0.0.1:")
    async with producer(line.split()[-1]) as client:
        await client.send_and_wait("first-use", b"x")
        assert len(await client.partitions_for("first-use")) == 2
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0
