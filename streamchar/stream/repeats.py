"""Events announced twice: recognised by their identifier within the latest records of their partition. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Announcements:
    """What was announced within the latest offsets of one partition.

    Whether a record repeats an earlier one follows from the partition's log alone: it does when one of the ``window``
    offsets before it announced the same. So every owner of the partition decides alike, before and after a crash,
    once it has looked at that many records before those it processes.

    Parameters
    ----------
    window
        Number of offsets looked back; 0 recognises nothing.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._latest: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._latest)

    def note(self, identity: Hashable, offset: int) -> int | None:
        """Note an announcement, and return the offset of the one it repeats, or None.

        Offsets must not decrease; one that is noted again repeats nothing.

        >>> announcements = Announcements(window=10)
        >>> announcements.note("event-1", 5), announcements.note("event-1", 7), announcements.note("event-1", 18)
        (None, 5, None)
        """
        if self._window == 0:
            return None
        while self._latest and next(iter(self._latest.values())) < offset - self._window:
            self._latest.popitem(last=False)
        earlier = self._latest.get(identity)
        if earlier is not None and earlier >= offset:
            return None
        self._latest[identity] = offset
        self._latest.move_to_end(identity)
        return earlier
