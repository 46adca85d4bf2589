"""Polls past records that the client cannot read: without one they ask for nothing that reads files."""

import pytest
from aiokafka import TopicPartition

from streamchar.kafka import tolerant

PARTITION = TopicPartition("topic", 0)


class Consumer:
    """Stands for a client at offset 7 whose poll returns nothing, or raises."""

    def __init__(self, error=None):
        self.error, self.sought = error, []

    def assignment(self):
        return {PARTITION}

    async def position(self, partition):
        return 7

    async def getmany(self, *partitions, timeout_ms, max_records):
        if self.error is not None:
            raise self.error
        return {}

    def seek(self, partition, offset):
        self.sought.append(offset)


def unwanted():
    raise AssertionError("certificates are read although the client can read")


async def test_a_poll_that_works_does_not_ask_how_to_reach_the_brokers():
    assert await tolerant.poll(Consumer(), unwanted, wait=0.1) == {}


async def test_a_poll_that_fails_is_done_once_in_its_place(monkeypatch):
    asked = []

    async def fetch(connection, wanted):
        asked.append((connection, dict(wanted)))
        return {PARTITION: (["record"], 9)}

    monkeypatch.setattr(tolerant, "fetch_leniently", fetch)
    consumer = Consumer(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"))
    found = await tolerant.poll(consumer, lambda: {"bootstrap_servers": "b"}, wait=0.1)
    assert found == {PARTITION: ["record"]}
    assert asked == [({"bootstrap_servers": "b"}, {PARTITION: 7})]
    assert consumer.sought == [7, 9]


async def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError):
        await tolerant.poll(Consumer(ZeroDivisionError()), unwanted, wait=0.1)
