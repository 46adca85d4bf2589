"""Exact points at which a service ends with SIGKILL, to be planted into its process before it starts."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streamchar.stream.source import Source


def before_the_first_commit() -> None:
    """Die when everything is published and acknowledged, and the commit has not been sent yet."""

    async def die(source: Source, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    Source.commit = die  # type: ignore[method-assign]
