"""When written bytes are forced to the disk: never, before every acknowledgement, or at intervals."""

from __future__ import annotations

import asyncio
import contextlib

from streamchar.broker.config import BrokerSettings
from streamchar.broker.journal import Journal
from streamchar.broker.log import PartitionLog, sync_and_close
from streamchar.broker.topics import Topics


class Durability:
    """Applies the ``fsync`` setting; the forcing happens in a thread while the broker keeps serving."""

    def __init__(self, settings: BrokerSettings, topics: Topics, journal: Journal) -> None:
        self._policy = settings.fsync
        self._topics = topics
        self._journal = journal
        self._one_at_a_time = asyncio.Lock()

    @property
    def interval(self) -> float | None:
        """Seconds between two forced writes, if there is such an interval."""
        return self._policy / 1000 if isinstance(self._policy, int) else None

    async def before_acknowledging(self) -> None:
        """Return when everything written so far is as durable as the settings promise."""
        if self._policy == "always":
            await self.sync()

    async def sync(self) -> None:
        """Force everything written so far to the disk."""
        # the lock also makes a repeated request wait for the write that its first copy started
        async with self._one_at_a_time:
            files: list[PartitionLog | Journal] = [
                partition.log
                for topic in self._topics
                for partition in topic.partitions
                if partition.log.unsynced
            ]
            if self._journal.unsynced:
                files.append(self._journal)
            descriptors = [file.start_sync() for file in files]
            try:
                if descriptors:
                    await asyncio.to_thread(_sync_all, descriptors)
            except OSError:
                for file in files:  # or else the next request would be acknowledged without
                    file.unsynced = True
                raise


def _sync_all(descriptors: list[int]) -> None:
    """Force files to the disk and close the descriptors, of all also when one fails."""
    with contextlib.ExitStack() as stack:
        for descriptor in descriptors:
            stack.callback(sync_and_close, descriptor)
