"""The group state machine with a clock that only the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamchar.broker.errors import ErrorCode, RefusedError
from streamchar.broker.group import Group, Joined, MemberTerms, State

TERMS = MemberTerms("client", "/127.0.0.1", None, 10.0, 30.0, "consumer", (("range", b"r"), ("sticky", b"s")))


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def group(clock: Clock) -> Group:
    return Group("group", clock)


async def _stable(group: Group, *names: str) -> None:
    """Bring members into a stable generation."""
    futures = [group.join_new(name, TERMS) for name in names[:1]]
    for name in names[1:]:
        futures.append(group.join_new(name, TERMS))
        absent = [member for member in group.members.values() if member.joining is None]
        futures.extend(group.rejoin(member.member_id, TERMS) for member in absent)
    await asyncio.gather(*futures, return_exceptions=True)
    for name in sorted(names, key=lambda name: name == group.leader):
        group.sync(name, None, group.generation, {other: other.encode() for other in names})
    assert group.state is State.STABLE


async def _refused(future: asyncio.Future[Joined] | asyncio.Future[bytes]) -> ErrorCode:
    with pytest.raises(RefusedError) as refusal:
        await future
    return refusal.value.error


async def test_silent_member_is_evicted_and_the_rest_rebalances(group: Group, clock: Clock) -> None:
    await _stable(group, "a", "b")
    clock.now = 9
    group.heartbeat("a", group.generation)
    clock.now = 11
    group.expire()
    assert set(group.members) == {"a"}
    assert group.state is State.PREPARING
    with pytest.raises(RefusedError, match="REBALANCE_IN_PROGRESS"):
        group.heartbeat("a", group.generation)
    assert (await group.rejoin("a", TERMS)).generation == 3


async def test_rebalance_ends_without_those_who_do_not_come(group: Group, clock: Clock) -> None:
    await _stable(group, "a", "b")
    patient = replace(TERMS, session_timeout=1000.0)
    group.members["b"].terms = patient
    group.touch(group.members["b"])
    joining = group.rejoin("a", replace(TERMS, protocols=(("range", b"new"),)))
    clock.now = 31
    group.expire()
    joined = await joining
    assert [member for member, *_ in joined.members] == ["a"]
    assert joined.leader == "a"


async def test_static_member_that_does_not_come_keeps_its_seat(group: Group, clock: Clock) -> None:
    seat = replace(TERMS, instance_id="seat", session_timeout=100.0)
    group.join_new("a", seat)
    second = group.join_new("b", TERMS)
    clock.now = 31
    group.expire()
    joined = await second
    assert joined.leader == "b"
    assert {member for member, *_ in joined.members} == {"a", "b"}


async def test_members_that_never_sync_are_put_out(group: Group, clock: Clock) -> None:
    first, second = group.join_new("a", TERMS), group.join_new("b", TERMS)
    await first
    again = group.rejoin("a", TERMS)
    await asyncio.gather(again, second)
    waiting = group.sync("b", None, 2, {})
    clock.now = 9
    group.touch(group.members["a"])
    clock.now = 31
    group.members["a"].deadline = 100
    group.expire()
    assert await _refused(waiting) is ErrorCode.REBALANCE_IN_PROGRESS
    assert set(group.members) == {"b"}


async def test_announced_member_holds_the_rebalance_until_it_lapses(group: Group, clock: Clock) -> None:
    group.announced["late"] = 10.0
    joining = group.join_new("a", TERMS)
    assert group.state is State.PREPARING
    clock.now = 11
    group.expire()
    assert (await joining).generation == 1


async def test_protocol_with_most_votes_among_the_common_ones(group: Group) -> None:
    wishes = [("a", "range sticky"), ("b", "sticky range"), ("c", "sticky range other")]
    futures = []
    for name, protocols in wishes:
        terms = replace(TERMS, protocols=tuple((protocol, b"") for protocol in protocols.split()))
        futures.append(group.join_new(name, terms))
        if name == "a":
            await futures[0]
    futures.append(group.rejoin("a", replace(TERMS, protocols=(("range", b""), ("sticky", b"")))))
    outcomes = await asyncio.gather(*futures)
    assert outcomes[-1].protocol == "sticky"


async def test_commits_need_a_present_member(group: Group) -> None:
    group.check_commit("", -1)
    await _stable(group, "a")
    group.check_commit("a", 1)
    for member, generation, error in (
        ("", -1, ErrorCode.UNKNOWN_MEMBER_ID),
        ("b", 1, ErrorCode.UNKNOWN_MEMBER_ID),
        ("a", 0, ErrorCode.ILLEGAL_GENERATION),
    ):
        with pytest.raises(RefusedError, match=error.name):
            group.check_commit(member, generation)


async def test_stopping_answers_everyone(group: Group) -> None:
    group.announced["other"] = 10.0
    joining = group.join_new("a", TERMS)
    group.abandon()
    assert await _refused(joining) is ErrorCode.COORDINATOR_NOT_AVAILABLE


ACTIONS = st.tuples(
    st.sampled_from(["join", "rejoin", "sync", "heartbeat", "leave", "wait", "announce", "static"]),
    st.sampled_from("abcd"),
    st.floats(0.1, 40),
)


@settings(max_examples=150, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=40))
def test_any_history_keeps_the_group_consistent(actions: list[tuple[str, str, float]]) -> None:
    asyncio.run(_history(actions))


async def _history(actions: list[tuple[str, str, float]]) -> None:
    clock = Clock()
    group = Group("group", clock)
    pending: list[asyncio.Future[Joined] | asyncio.Future[bytes]] = []
    for action, name, seconds in actions:
        generation = group.generation
        with contextlib.suppress(RefusedError):
            _act(group, clock, pending, action, name, seconds)
        assert group.generation >= generation
        _consistent(group)
    clock.now += 10_000
    for _ in range(5):
        group.expire()
        clock.now += 10_000
    assert group.state is State.EMPTY
    assert not group.members
    await asyncio.gather(*pending, return_exceptions=True)
    assert all(future.done() for future in pending)


def _act(
    group: Group,
    clock: Clock,
    pending: list[asyncio.Future[Joined] | asyncio.Future[bytes]],
    action: str,
    name: str,
    seconds: float,
) -> None:
    if action == "join" and name not in group.members:
        pending.append(group.join_new(name, TERMS))
    elif action == "rejoin":
        pending.append(group.rejoin(name, TERMS))
    elif action == "sync":
        pending.append(group.sync(name, None, group.generation, dict.fromkeys(group.members, b"share")))
    elif action == "heartbeat":
        group.heartbeat(name, group.generation)
    elif action == "leave":
        group.leave(name)
    elif action == "announce" and name not in group.members:
        group.announced[name] = clock.now + 10
    elif action == "static" and name not in group.members:
        present = group.static_member("seat")
        terms = replace(TERMS, instance_id="seat")
        pending.append(
            group.replace_static(present.member_id, name, terms) if present else group.join_new(name, terms)
        )
    elif action == "wait":
        clock.now += seconds
        group.expire()


def _consistent(group: Group) -> None:
    if group.state is State.EMPTY:
        assert not group.members
    if group.state in (State.STABLE, State.COMPLETING):
        assert group.leader in group.members
        assert group.protocol
    if group.state is State.STABLE:
        assert not any(member.joining for member in group.members.values())
    waiting = [member for member in group.members.values() if member.joining is not None]
    if group.state is State.PREPARING and not group.announced:
        assert len(waiting) < len(group.members)
