"""The evidence of a verification: of whole messages, a long night would not fit into memory."""

from __future__ import annotations

import gc

from aiokafka.structs import ConsumerRecord

from streamchar.messages import ExposureReady, TopicNames, encode
from streamchar.messages.base import Message
from streamchar.messages.examples import make_examples
from streamchar.stream.verify import Evidence

NAMES = TopicNames()


def record(message: Message, offset: int) -> ConsumerRecord[bytes | None, bytes | None]:
    """Return the message as it comes from Kafka."""
    encoded = encode(message)
    return ConsumerRecord(
        NAMES.name_of(message.topic_type),
        0,
        offset,
        0,
        0,
        encoded.key,
        encoded.value,
        None,
        len(encoded.key or b""),
        len(encoded.value),
        tuple(encoded.headers),
    )


def test_no_message_is_kept() -> None:
    def messages_in_memory() -> int:
        gc.collect()
        return sum(isinstance(one, Message) for one in gc.get_objects())

    examples = [message for kinds in make_examples().values() for message in kinds.values()]
    outputs = [message for message in examples if not isinstance(message, ExposureReady)]
    records = [record(message, number) for number, message in enumerate(outputs)]
    del examples, outputs
    before = messages_in_memory()
    night = Evidence(NAMES, 100, False)
    for each in records:
        night.add(each)
    assert sum(night.report({}).messages.values()) == len(records) > 5
    assert messages_in_memory() == before
