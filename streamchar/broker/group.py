"""The state machine of one classic consumer group: members, generations, rebalances, assignments.

Members join, the group waits until all are there, the leader assigns, and everyone receives a share. Time is passed in,
so that every transition can be tested without waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.frozen import frozen

T = TypeVar("T")

NEW_MEMBER_JOIN_TIMEOUT = 300.0
"""Seconds a member that never completed a join may wait for one."""


class State(Enum):
    """Where a group stands; the values are what DescribeGroups shows."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


@frozen
class MemberTerms:
    """What a member asks for when it joins."""

    client_id: str
    client_host: str
    instance_id: str | None
    session_timeout: float
    rebalance_timeout: float
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]

    def metadata(self, protocol: str) -> bytes:
        """Return the subscription for an assignment strategy."""
        return next((data for name, data in self.protocols if name == protocol), b"")


@frozen
class Joined:
    """A member's view of a new generation; only the leader sees the members."""

    member_id: str
    generation: int
    protocol: str
    leader: str
    members: tuple[tuple[str, str | None, bytes], ...] = ()


@dataclass(slots=True, eq=False)
class Member:
    """One member of a group."""

    member_id: str
    terms: MemberTerms
    deadline: float
    assignment: bytes = b""
    joining: asyncio.Future[Joined] | None = None
    syncing: asyncio.Future[bytes] | None = None

    def settle_join(self, outcome: Joined | RefusedError) -> None:
        """Answer a waiting join."""
        future, self.joining = self.joining, None
        _settle(future, outcome)

    def settle_sync(self, outcome: bytes | RefusedError) -> None:
        """Answer a waiting sync."""
        future, self.syncing = self.syncing, None
        _settle(future, outcome)


def _settle(future: asyncio.Future[Joined] | asyncio.Future[bytes] | None, outcome: object) -> None:
    if future is None or future.done():
        return
    if isinstance(outcome, RefusedError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)  # type: ignore[arg-type]


@dataclass(slots=True, eq=False)
class Group:
    """A consumer group.

    Parameters
    ----------
    group_id
        Its name.
    clock
        Seconds that only grow.
    """

    group_id: str
    clock: Callable[[], float]
    state: State = State.EMPTY
    generation: int = 0
    protocol_type: str = ""
    protocol: str = ""
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    announced: dict[str, float] = field(default_factory=dict)
    """Member ids that were handed out and not used yet, with the time they lapse."""
    deadline: float = 0.0
    """End of the present rebalance phase."""
    empty_since: float = 0.0

    # joining

    def join_new(self, member_id: str, terms: MemberTerms) -> asyncio.Future[Joined]:
        """Let a new member in; the future answers it when the generation is complete."""
        self.check_protocols(terms)
        self.announced.pop(member_id, None)
        member = Member(member_id, terms, self.clock() + NEW_MEMBER_JOIN_TIMEOUT)
        self.members[member_id] = member
        self.protocol_type = terms.protocol_type
        return self._wait_for_generation(member)

    def rejoin(self, member_id: str, terms: MemberTerms) -> asyncio.Future[Joined]:
        """Let a known member take part in the next generation, or tell it the present one again."""
        self.check_protocols(terms)
        member = self.require(member_id, terms.instance_id)
        unchanged = member.terms.protocols == terms.protocols
        member.terms = terms
        settled = self.state is State.COMPLETING or (self.state is State.STABLE and member_id != self.leader)
        if settled and unchanged:
            self.touch(member)
            return _resolved(self._view(member))
        return self._wait_for_generation(member)

    def replace_static(self, old_id: str, member_id: str, terms: MemberTerms) -> asyncio.Future[Joined]:
        """Let a restarted static member continue under a new id, without a rebalance if nothing changed."""
        self.check_protocols(terms)
        member = self.members.pop(old_id)
        fenced = RefusedError(ErrorCode.FENCED_INSTANCE_ID, f"{terms.instance_id} is {member_id} now")
        member.settle_join(fenced)
        member.settle_sync(fenced)
        previous_leader = self.leader
        if self.leader == old_id:
            self.leader = member_id
        member.member_id, member.terms = member_id, terms
        self.members[member_id] = member
        self.touch(member)
        if self.state is State.STABLE and self._select_protocol() == self.protocol:
            # the old leader's name keeps the newcomer from assigning again what is assigned already
            return _resolved(Joined(member_id, self.generation, self.protocol, previous_leader))
        return self._wait_for_generation(member)

    def check_protocols(self, terms: MemberTerms) -> None:
        """Refuse a member that shares no assignment strategy with the others."""
        inconsistent = not terms.protocol_type or not terms.protocols
        if self.members and not inconsistent:
            common = self._common_protocols()
            inconsistent = terms.protocol_type != self.protocol_type or not common & {
                n for n, _ in terms.protocols
            }
        if inconsistent:
            raise RefusedError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, self.group_id)

    def _wait_for_generation(self, member: Member) -> asyncio.Future[Joined]:
        superseded = RefusedError(ErrorCode.UNKNOWN_MEMBER_ID, "joined again on another connection")
        member.settle_join(superseded)
        member.joining = future = asyncio.get_running_loop().create_future()
        if self.state is not State.PREPARING:
            self._prepare_rebalance()
        self.complete_join_if_ready()
        return future

    def _prepare_rebalance(self) -> None:
        if self.state is State.COMPLETING:
            for member in self.members.values():
                member.assignment = b""
                member.settle_sync(RefusedError(ErrorCode.REBALANCE_IN_PROGRESS, "members changed"))
        self.state = State.PREPARING
        self.deadline = self.clock() + max(
            (m.terms.rebalance_timeout for m in self.members.values()), default=0.0
        )

    def complete_join_if_ready(self) -> None:
        """Begin the next generation when everyone is there."""
        everyone = all(member.joining is not None for member in self.members.values())
        if self.state is State.PREPARING and everyone and not self.announced:
            self._complete_join()

    def _complete_join(self) -> None:
        for member in [m for m in self.members.values() if m.joining is None and m.terms.instance_id is None]:
            del self.members[member.member_id]
        present = [member for member in self.members.values() if member.joining is not None]
        if self.members and not present:
            self._prepare_rebalance()  # only absent static members: their sessions decide
            return
        self.generation += 1
        if not self.members:
            self._become_empty()
            return
        if self.leader not in {member.member_id for member in present}:
            self.leader = present[0].member_id
        self.protocol = self._select_protocol()
        self.state = State.COMPLETING
        self.deadline = self.clock() + max(member.terms.rebalance_timeout for member in self.members.values())
        for member in present:
            self.touch(member)
            member.settle_join(self._view(member))

    def _become_empty(self) -> None:
        self.state, self.protocol, self.leader, self.empty_since = State.EMPTY, "", "", self.clock()

    def _view(self, member: Member) -> Joined:
        members: Iterable[Member] = self.members.values() if member.member_id == self.leader else ()
        listed = tuple((m.member_id, m.terms.instance_id, m.terms.metadata(self.protocol)) for m in members)
        return Joined(member.member_id, self.generation, self.protocol, self.leader, listed)

    def _common_protocols(self) -> set[str]:
        return set.intersection(*({name for name, _ in m.terms.protocols} for m in self.members.values()))

    def _select_protocol(self) -> str:
        common = self._common_protocols()
        votes = Counter(
            next(name for name, _ in m.terms.protocols if name in common) for m in self.members.values()
        )
        return votes.most_common(1)[0][0]

    # syncing and staying

    def sync(
        self, member_id: str, instance_id: str | None, generation: int, assignments: dict[str, bytes]
    ) -> asyncio.Future[bytes]:
        """Take the leader's assignments, or wait for them; the future answers with the member's share."""
        member = self.require(member_id, instance_id)
        self.require_generation(generation)
        if self.state is State.PREPARING:
            raise RefusedError(ErrorCode.REBALANCE_IN_PROGRESS, self.group_id)
        self.touch(member)
        if self.state is State.STABLE:
            return _resolved(member.assignment)
        member.settle_sync(RefusedError(ErrorCode.UNKNOWN_MEMBER_ID, "synced again on another connection"))
        member.syncing = future = asyncio.get_running_loop().create_future()
        if member_id == self.leader:
            self.state = State.STABLE
            for other in self.members.values():
                other.assignment = assignments.get(other.member_id, b"")
                self.touch(other)
                other.settle_sync(other.assignment)
        return future

    def heartbeat(self, member_id: str, generation: int) -> None:
        """Keep a member alive.

        Raises
        ------
        RefusedError
            ``REBALANCE_IN_PROGRESS`` tells the member to join again; the others that it is out.
        """
        member = self.require(member_id, None)
        self.require_generation(generation)
        self.touch(member)
        if self.state is State.PREPARING:
            raise RefusedError(ErrorCode.REBALANCE_IN_PROGRESS, self.group_id)

    def check_commit(self, member_id: str, generation: int) -> None:
        """Check whether offsets may be committed in the name of a member and generation."""
        if generation < 0 and self.state is State.EMPTY:
            return
        if generation < 0 and not member_id:
            raise RefusedError(ErrorCode.UNKNOWN_MEMBER_ID, "only members may commit offsets of a live group")
        member = self.require(member_id, None)
        self.require_generation(generation)
        if self.state is State.COMPLETING:
            raise RefusedError(ErrorCode.REBALANCE_IN_PROGRESS, self.group_id)
        self.touch(member)

    def require(self, member_id: str, instance_id: str | None) -> Member:
        """Return a member or refuse it."""
        if instance_id is not None:
            current = self.static_member(instance_id)
            if current is None:
                raise RefusedError(ErrorCode.UNKNOWN_MEMBER_ID, instance_id)
            if current.member_id != member_id:
                raise RefusedError(ErrorCode.FENCED_INSTANCE_ID, f"{instance_id} is {current.member_id} now")
        member = self.members.get(member_id)
        if member is None:
            raise RefusedError(ErrorCode.UNKNOWN_MEMBER_ID, member_id)
        return member

    def require_generation(self, generation: int) -> None:
        """Refuse another generation than the present one."""
        if generation != self.generation:
            raise RefusedError(ErrorCode.ILLEGAL_GENERATION, f"{generation}, now {self.generation}")

    def static_member(self, instance_id: str) -> Member | None:
        """Return the member that holds a group instance id."""
        return next((m for m in self.members.values() if m.terms.instance_id == instance_id), None)

    def touch(self, member: Member) -> None:
        """Begin a member's session anew."""
        member.deadline = self.clock() + member.terms.session_timeout

    # leaving

    def leave(self, member_id: str) -> None:
        """Let a member go."""
        if self.announced.pop(member_id, None) is not None:
            self.complete_join_if_ready()
            return
        self.require(member_id, None)
        self.remove(member_id)

    def remove(self, member_id: str) -> None:
        """Take a member out and rebalance what it leaves behind."""
        member = self.members.pop(member_id)
        gone = RefusedError(ErrorCode.UNKNOWN_MEMBER_ID, member_id)
        member.settle_join(gone)
        member.settle_sync(gone)
        if self.state in (State.STABLE, State.COMPLETING):
            self._prepare_rebalance()
        self.complete_join_if_ready()

    # time

    def expire(self) -> None:
        """Evict members whose session ended, and end phases that took too long."""
        now = self.clock()
        for member_id in [member_id for member_id, lapses in self.announced.items() if now > lapses]:
            del self.announced[member_id]
            self.complete_join_if_ready()
        for member in list(self.members.values()):
            waiting = (member.joining or member.syncing) is not None
            if now > member.deadline and not waiting and member.member_id in self.members:
                self.remove(member.member_id)
        if now > self.deadline:
            self._end_phase()

    def _end_phase(self) -> None:
        if self.state is State.PREPARING:
            self.announced.clear()
            self._complete_join()
        elif self.state is State.COMPLETING:
            for member in [m for m in self.members.values() if m.syncing is None]:
                del self.members[member.member_id]
            self._prepare_rebalance()
            self.complete_join_if_ready()

    def abandon(self) -> None:
        """Answer everyone who still waits; the broker stops."""
        stopping = RefusedError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the broker stops")
        for member in self.members.values():
            member.settle_join(stopping)
            member.settle_sync(stopping)


def _resolved(value: T) -> asyncio.Future[T]:
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future
