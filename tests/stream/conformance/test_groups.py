"""Consumer groups: rebalances, evictions, static members, and the refusals."""

from __future__ import annotations

import asyncio
import signal
import struct
import sys
import textwrap
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from streamchar.broker.apis import ApiKey
from streamchar.broker.errors import ErrorCode
from streamchar.broker.messages_groups import (
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    ErrorResponse,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
    GroupProtocol,
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    MemberAssignment,
    OffsetCommitPartition,
    OffsetCommitRequest,
    OffsetCommitTopic,
    PartitionResultsResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)
from tests.stream.brokers import SHORTEST_SESSION
from tests.stream.conformance.clients import (
    admin,
    consumer,
    drain,
    fresh,
    make_topic,
    producer,
    settle,
    until,
)
from tests.stream.conformance.raw import RawClient, raw_client

SESSION_MS = round(1000 * SHORTEST_SESSION)
SESSION = {"session_timeout_ms": SESSION_MS, "heartbeat_interval_ms": 300}

MEMBER = textwrap.dedent(
    f"""
    import asyncio, sys, time
    from aiokafka import AIOKafkaConsumer, TopicPartition

    async def main(bootstrap, topic, group):
        member = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group, session_timeout_ms={SESSION_MS},
                                  heartbeat_interval_ms=300, enable_auto_commit=False)
        await member.start()
        await member.getmany(timeout_ms=100)
        print("joined", flush=True)
        sys.stdin.readline()
        try:
            await member.commit({{TopicPartition(topic, 0): 1}})
            print("committed", flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
        await member.stop()

    asyncio.run(main(*sys.argv[1:]))
    """
)


async def _member(bootstrap: str, topic: str, group: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEMBER, bootstrap, topic, group, stdin=pipe, stdout=pipe, cwd=Path.cwd()
    )
    assert process.stdout is not None
    assert (await asyncio.wait_for(process.stdout.readline(), 20)).strip() == b"joined"
    return process


async def _killed_member_is_evicted(bootstrap: str) -> float:
    topic, group = await make_topic(bootstrap, 4), fresh("group")
    process = await _member(bootstrap, topic, group)
    process.kill()
    await process.communicate()
    begin = time.monotonic()
    async with consumer(bootstrap, topic, group_id=group, **SESSION) as survivor:
        await settle([survivor], 4, 40)
        return time.monotonic() - begin


async def _stopped_member_is_fenced(bootstrap: str) -> bytes:
    topic, group = await make_topic(bootstrap, 2), fresh("group")
    process = await _member(bootstrap, topic, group)
    process.send_signal(signal.SIGSTOP)
    try:
        async with consumer(bootstrap, topic, group_id=group, **SESSION) as survivor:
            await settle([survivor], 2, 40)
            process.send_signal(signal.SIGCONT)
            # the survivor must keep up its membership while the woken one speaks
            output, _ = (
                await asyncio.gather(
                    asyncio.wait_for(process.communicate(b"go\n"), 20), survivor.getmany(timeout_ms=500)
                )
            )[0]
            return output
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_silent_members_are_evicted_and_their_commits_refused(bootstrap: str) -> None:
    seconds, output = await asyncio.gather(
        _killed_member_is_evicted(bootstrap), _stopped_member_is_fenced(bootstrap)
    )
    assert SHORTEST_SESSION / 2 < seconds < 20
    assert b"committed" not in output
    assert b"Error" in output


async def test_partitions_are_shared_as_members_come_and_go(bootstrap: str) -> None:
    topic, group = await make_topic(bootstrap, 6), fresh("group")
    async with consumer(bootstrap, topic, group_id=group, **SESSION) as first:
        assert await settle([first], 6) == [6]
        async with consumer(bootstrap, topic, group_id=group, **SESSION) as second:
            assert await settle([first, second], 6) == [3, 3]
            async with consumer(bootstrap, topic, group_id=group, **SESSION) as third:
                assert await settle([first, second, third], 6) == [2, 2, 2]
            assert await settle([first, second], 6) == [3, 3]
        assert await settle([first], 6) == [6]


async def test_static_member_returns_without_a_rebalance(bootstrap: str) -> None:
    topic, group = await make_topic(bootstrap, 4), fresh("group")
    async with consumer(bootstrap, topic, group_id=group, group_instance_id="one", **SESSION) as first:
        second = AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=group, group_instance_id="two", **SESSION
        )
        await second.start()
        try:
            await settle([first, second], 4)
            before, generation = second.assignment(), first._coordinator.generation
        finally:
            await second.stop()
        async with consumer(bootstrap, topic, group_id=group, group_instance_id="two", **SESSION) as again:
            await settle([first, again], 4)
            assert again.assignment() == before
            assert first._coordinator.generation == generation


async def test_groups_are_listed_and_described(bootstrap: str) -> None:
    topic, group = await make_topic(bootstrap, 2), fresh("group")
    async with producer(bootstrap) as client:
        await client.send_and_wait(topic, b"x", partition=0)
    async with (
        consumer(bootstrap, topic, group_id=group, client_id="reader-7") as member,
        admin(bootstrap) as client,
    ):
        await drain(member, 1)
        await member.commit({TopicPartition(topic, 0): 1})
        assert (group, "consumer") in [tuple(item[:2]) for item in await client.list_consumer_groups()]
        assert (await client.list_consumer_group_offsets(group))[TopicPartition(topic, 0)].offset == 1
        described = (await client.describe_consumer_groups([group]))[0].groups[0]
        _, name, state, kind, protocol, members = described[:6]
        assert (name, state, kind, protocol) == (group, "Stable", "consumer", "roundrobin")
        assert len(members) == 1
        assert members[0][1] == "reader-7"

    async def empty() -> bool:
        async with admin(bootstrap) as client:
            return (await client.describe_consumer_groups([group]))[0].groups[0][2] == "Empty"

    await until(empty)


# the protocol, one request at a time


def subscription(name: str) -> bytes:
    """Return what a consumer that follows topic "t" sends, with the strategy's name as user data."""
    return struct.pack(">hih1si", 0, 1, 1, b"t", len(name)) + name.encode()


class Member:
    """A group member whose every step the test decides."""

    def __init__(self, client: RawClient, group: str, protocols: tuple[str, ...] = ("range",)) -> None:
        self.client = client
        self.group = group
        self.protocols = [GroupProtocol(name, subscription(name)) for name in protocols]
        self.member_id = ""
        self.generation = -1

    async def join(self, instance: str | None = None, session_ms: int = SESSION_MS) -> JoinGroupResponse:
        request = JoinGroupRequest(
            self.group, session_ms, 6000, self.member_id, instance, "consumer", self.protocols
        )
        answer = await self.client.ask(ApiKey.JOIN_GROUP, 5, request, JoinGroupResponse)
        if answer.error_code in (14, 15, 16):
            await asyncio.sleep(0.1)
            return await self.join(instance, session_ms)
        if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
        if answer.error_code == ErrorCode.NONE:
            self.member_id, self.generation = answer.member_id, answer.generation_id
        return answer

    async def enter(self) -> JoinGroupResponse:
        assert (await self.join()).error_code == ErrorCode.MEMBER_ID_REQUIRED
        return await self.join()

    async def sync(
        self, shares: dict[str, bytes] | None = None, generation: int | None = None
    ) -> SyncGroupResponse:
        assignments = [MemberAssignment(*share) for share in (shares or {}).items()]
        number = self.generation if generation is None else generation
        request = SyncGroupRequest(self.group, number, self.member_id, None, assignments)
        return await self.client.ask(ApiKey.SYNC_GROUP, 3, request, SyncGroupResponse)

    async def heartbeat(self, generation: int | None = None, member_id: str | None = None) -> int:
        number = self.generation if generation is None else generation
        request = HeartbeatRequest(self.group, number, self.member_id if member_id is None else member_id)
        return (await self.client.ask(ApiKey.HEARTBEAT, 1, request, ErrorResponse)).error_code

    async def leave(self) -> int:
        request = LeaveGroupRequest(self.group, self.member_id)
        return (await self.client.ask(ApiKey.LEAVE_GROUP, 1, request, ErrorResponse)).error_code

    async def commit(self, topic: str, generation: int | None = None) -> int:
        number = self.generation if generation is None else generation
        topics = [OffsetCommitTopic(topic, [OffsetCommitPartition(0, 1, "")])]
        request = OffsetCommitRequest(self.group, number, self.member_id, -1, topics)
        answer = await self.client.ask(ApiKey.OFFSET_COMMIT, 3, request, PartitionResultsResponse)
        return answer.topics[0].partitions[0].error_code

    async def state(self) -> str:
        request = DescribeGroupsRequest([self.group])
        answer = await self.client.ask(ApiKey.DESCRIBE_GROUPS, 2, request, DescribeGroupsResponse)
        return answer.groups[0].state


async def test_one_member_through_all_states(bootstrap: str) -> None:
    topic = await make_topic(bootstrap)
    async with raw_client(bootstrap) as client:
        member = Member(client, fresh("group"))
        assert await member.state() == "Dead"
        assert await member.heartbeat(1, "nobody") == ErrorCode.UNKNOWN_MEMBER_ID
        joined = await member.enter()
        assert (joined.error_code, joined.generation_id, joined.protocol_name) == (0, 1, "range")
        assert joined.leader == joined.member_id == joined.members[0].member_id
        assert bytes(joined.members[0].metadata) == subscription("range")
        assert await member.state() == "CompletingRebalance"
        assert await member.heartbeat() == ErrorCode.NONE
        assert await member.commit(topic) == ErrorCode.REBALANCE_IN_PROGRESS
        assert (await member.sync(generation=9)).error_code == ErrorCode.ILLEGAL_GENERATION
        share = await member.sync({member.member_id: b"everything"})
        assert (share.error_code, bytes(share.assignment)) == (0, b"everything")
        assert await member.state() == "Stable"
        assert bytes((await member.sync()).assignment) == b"everything"
        assert await member.heartbeat() == ErrorCode.NONE
        assert await member.heartbeat(generation=9) == ErrorCode.ILLEGAL_GENERATION
        assert await member.heartbeat(member_id="nobody") == ErrorCode.UNKNOWN_MEMBER_ID
        assert await member.commit(topic) == ErrorCode.NONE
        assert await member.commit(topic, generation=9) == ErrorCode.ILLEGAL_GENERATION
        assert await member.leave() == ErrorCode.NONE
        assert await member.leave() == ErrorCode.UNKNOWN_MEMBER_ID
        assert await member.state() == "Empty"
        assert (await member.join()).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        member.member_id = ""
        assert (await member.enter()).generation_id == 3


async def test_second_member_starts_a_rebalance(bootstrap: str) -> None:
    topic, group = await make_topic(bootstrap), fresh("group")
    async with raw_client(bootstrap) as one, raw_client(bootstrap) as two:
        first, second = Member(one, group, ("range", "roundrobin")), Member(two, group, ("roundrobin",))
        await first.enter()
        await first.sync({first.member_id: b"all"})
        assert (await second.join()).error_code == ErrorCode.MEMBER_ID_REQUIRED
        assert await first.heartbeat() == ErrorCode.NONE
        joining = asyncio.create_task(second.join())

        async def noticed() -> bool:
            return await first.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS

        await until(noticed)
        assert await first.state() == "PreparingRebalance"
        assert await first.commit(topic) == ErrorCode.NONE
        assert (await first.sync()).error_code == ErrorCode.REBALANCE_IN_PROGRESS
        rejoined, joined = await asyncio.gather(first.join(), joining)
        assert {rejoined.generation_id, joined.generation_id} == {2}
        assert {rejoined.protocol_name, joined.protocol_name} == {"roundrobin"}
        assert {rejoined.leader, joined.leader} == {first.member_id}
        assert (len(rejoined.members), len(joined.members)) == (2, 0)
        waiting = asyncio.create_task(second.sync())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await first.sync({first.member_id: b"a", second.member_id: b"b"})
        assert bytes((await waiting).assignment) == b"b"
        assert await second.leave() == ErrorCode.NONE
        assert await first.heartbeat() == ErrorCode.REBALANCE_IN_PROGRESS


async def test_replaced_static_member_is_fenced(bootstrap: str) -> None:
    group = fresh("group")
    async with raw_client(bootstrap) as one, raw_client(bootstrap) as two:
        first, second = Member(one, group), Member(two, group)
        joined = await first.join(instance="seat")
        assert (joined.error_code, joined.generation_id) == (0, 1)
        await first.sync({first.member_id: b"all"})
        returned = await second.join(instance="seat")
        assert (returned.error_code, returned.generation_id) == (0, 1)
        assert returned.leader == first.member_id
        assert bytes((await second.sync()).assignment) == b"all"
        assert (await first.join(instance="seat")).error_code == ErrorCode.FENCED_INSTANCE_ID
        assert await first.heartbeat() == ErrorCode.UNKNOWN_MEMBER_ID


async def test_join_refusals(bootstrap: str) -> None:
    group = fresh("group")
    async with raw_client(bootstrap) as one, raw_client(bootstrap) as two:
        member = Member(one, group)
        assert (await member.join(session_ms=1)).error_code == ErrorCode.INVALID_SESSION_TIMEOUT
        assert (await Member(one, "").join()).error_code == ErrorCode.INVALID_GROUP_ID
        assert (
            await Member(one, fresh("group"), ()).join()
        ).error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        await member.enter()
        await member.sync({member.member_id: b"all"})
        other = Member(two, group, ("sticky",))
        assert (await other.join()).error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        wrong = FindCoordinatorRequest(group, 7)
        answer = await one.ask(ApiKey.FIND_COORDINATOR, 1, wrong, FindCoordinatorResponse)
        assert answer.error_code == ErrorCode.INVALID_REQUEST
