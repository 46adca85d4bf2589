"""Committed offsets of all groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from streamchar.broker.journal import Event, Handlers, Journal


class Commit(NamedTuple):
    """An offset to commit, as it goes into the journal."""

    topic: str
    partition: int
    offset: int
    metadata: str


class Offsets:
    """Committed offsets by group, topic and partition."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._groups: dict[str, dict[tuple[str, int], Commit]] = {}

    def handlers(self) -> Handlers:
        """Return what to call when the journal is replayed."""
        return {"offsets": self.apply, "offsets_deleted": self._forget_topic}

    def events(self) -> Iterator[Event]:
        """Return the events that lead to the present state."""
        for group_id, commits in self._groups.items():
            yield ("offsets", group_id, list(commits.values()))

    def commit(self, group_id: str, commits: Sequence[Commit]) -> None:
        """Commit offsets durably."""
        if commits:
            self._journal.append("offsets", group_id, commits)
            self.apply(group_id, commits)

    def apply(self, group_id: str, commits: Sequence[Sequence[object]]) -> None:
        """Take over offsets that are in the journal already."""
        group = self._groups.setdefault(group_id, {})
        for commit in commits:
            kept = Commit(*commit)  # type: ignore[arg-type]
            group[kept.topic, kept.partition] = kept

    def delete_topic(self, topic: str) -> None:
        """Forget the offsets of a deleted topic: a new topic of that name begins at 0."""
        if any(name == topic for group in self._groups.values() for name, _ in group):
            self._journal.append("offsets_deleted", topic)
            self._forget_topic(topic)

    def _forget_topic(self, topic: str) -> None:
        for group_id, group in list(self._groups.items()):
            self._groups[group_id] = {key: commit for key, commit in group.items() if key[0] != topic}
            if not self._groups[group_id]:
                del self._groups[group_id]

    def get(self, group_id: str, topic: str, partition: int) -> Commit | None:
        """Return one committed offset."""
        return self._groups.get(group_id, {}).get((topic, partition))

    def of_group(self, group_id: str) -> list[Commit]:
        """Return all committed offsets of a group."""
        return list(self._groups.get(group_id, {}).values())

    def has_group(self, group_id: str) -> bool:
        """Whether a group has committed offsets."""
        return group_id in self._groups

    def groups(self) -> list[str]:
        """Return the groups that have committed offsets."""
        return list(self._groups)
