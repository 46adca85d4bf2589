"""The source without a broker: what a replaced client still tells does not count."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    InvalidSessionTimeoutError,
    KafkaError,
    KafkaTimeoutError,
    UnknownMemberIdError,
)

from streamchar.monitor.metrics import Metrics
from streamchar.stream.errors import (
    FencedError,
    GroupError,
    GroupForbiddenError,
    GroupSilentError,
    RefusedError,
)
from streamchar.stream.settings import load_settings
from streamchar.stream.source import Source, _Listener

PARTITION = TopicPartition("ready", 0)


class FakeDispatcher:
    """Notes what it is told; cannot give partitions up when told so."""

    def __init__(self) -> None:
        self.revoked: list[list[TopicPartition]] = []
        self.problem: Exception | None = None
        self.is_whole = True

    async def revoke(self, partitions: Any) -> None:
        self.revoked.append(list(partitions))
        if self.problem is not None:
            raise self.problem


class FakeOutbox:
    async def close(self, partition: TopicPartition) -> None: ...


async def test_rebalances_of_a_replaced_client_are_none_of_ours() -> None:
    errors: list[Exception] = []
    source = Source(load_settings(None, [], {}), Metrics(), errors.append)
    dispatcher: Any = FakeDispatcher()
    source._dispatcher, source._outbox = dispatcher, FakeOutbox()  # type: ignore[assignment]
    source.assigned = True
    try:
        old = _Listener(source, source._membership)
        source._membership = object()
        await old.on_partitions_revoked([PARTITION])
        await old.on_partitions_assigned([PARTITION])
        assert dispatcher.revoked == errors == []
        assert source.is_whole
        new = _Listener(source, source._membership)
        dispatcher.problem = LookupError("odd")
        await new.on_partitions_revoked([PARTITION])
        assert dispatcher.revoked == [[PARTITION]]
        assert not source.is_whole
        assert "giving partitions back failed: LookupError odd" in str(errors[0])
    finally:
        await source.stop()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FencedError(partition="ready[0]", detail=""), FencedError),
        (GroupAuthorizationFailedError("night"), GroupForbiddenError),
        (TimeoutError(), GroupSilentError),
        (KafkaTimeoutError(), GroupSilentError),
        (CoordinatorNotAvailableError(), GroupSilentError),
        (IllegalGenerationError("night"), GroupSilentError),
        (UnknownMemberIdError("night"), GroupSilentError),
        (KafkaError("Unexpected error during coordination"), GroupError),
        (ValueError("a defect"), GroupError),
    ],
)
async def test_what_errors_mean_for_the_membership(error: Exception, kind: type[Exception]) -> None:
    errors: list[Exception] = []
    source = Source(load_settings(None, [], {}), Metrics(), errors.append)
    try:
        source._fail("reading", error)
        assert [type(each) for each in errors] == [kind]
    finally:
        await source.stop()


async def test_a_session_timeout_that_the_brokers_do_not_allow_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source(load_settings(None, ["kafka.session_timeout=7"], {}), Metrics(), lambda _: None)

    async def refuse() -> None:
        raise InvalidSessionTimeoutError

    monkeypatch.setattr(source, "_join", refuse)
    dispatcher: Any = FakeDispatcher()
    outbox: Any = FakeOutbox()
    with pytest.raises(RefusedError, match=r"they do not allow kafka\.session_timeout = 7 s"):
        await source.start(dispatcher, outbox)
