"""Every message has a topic, and the chunks fit into it."""

from __future__ import annotations

import pytest

from streamchar.messages import TopicNames, topics
from streamchar.messages.catalog_chunks import MAX_CHUNK_BYTES
from streamchar.messages.codec import MESSAGE_TYPES


def test_default_names():
    names = TopicNames()
    assert set(names.all()) == {
        topics.EXPOSURE_READY,
        topics.PSF_QUALITY,
        topics.SOURCE_CATALOG,
        topics.PSF_MODEL,
        topics.EXPOSURE_STATUS,
        topics.RETRY,
        topics.DLQ,
    }
    assert names.dlq == "streamchar.exposure-ready.v1.dlq"
    assert names.retry == "streamchar.exposure-ready.v1.retry"


def test_the_prefix_is_a_setting():
    assert TopicNames("site").source_catalog == "site.source-catalog.v1"
    assert all(name.startswith("site.") for name in TopicNames("site").all())


@pytest.mark.parametrize("model", MESSAGE_TYPES.values())
def test_every_message_has_a_topic(model):
    assert TopicNames().name_of(model.topic_type) in TopicNames().all()


def test_unknown_topic_type():
    with pytest.raises(KeyError, match="weather"):
        TopicNames().name_of("weather")


def test_chunks_fit_with_room_for_headers():
    for configuration in TopicNames().all().values():
        assert configuration.max_message_bytes > MAX_CHUNK_BYTES + 100_000
        assert configuration.settings()["cleanup.policy"] == "delete"
