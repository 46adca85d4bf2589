"""What follows a failure, and what the headers say about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamchar.stream.breaker import Breaker
from streamchar.stream.dead_letters import (
    Origin,
    Replay,
    dead_letter_headers,
    read_passage,
    read_replay,
    retry_headers,
)
from streamchar.stream.job import JobFailure
from streamchar.stream.retry import Decision, History, decide
from streamchar.stream.settings import BreakerSettings, RetrySettings

SETTINGS = RetrySettings(
    in_process=2, backoff=0.5, backoff_max=0.8, rounds=2, delay=30, delay_max=50, lost_attempts=2
)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HERE = Origin("ready", 3, 17, NOW)


def failure(category: str) -> JobFailure:
    return JobFailure(category, "some_code", "it failed", {"limit": 3}, "Traceback ...")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("category", "history", "decision"),
    [
        ("permanent", History(1), Decision("dead")),
        ("lost", History(1, lost=1), Decision("again")),
        ("lost", History(2, lost=2), Decision("dead")),
        ("retryable", History(1), Decision("again", 0.5)),
        ("retryable", History(2), Decision("again", 0.8)),
        ("retryable", History(3), Decision("later", 30)),
        ("retryable", History(3, rounds=1), Decision("later", 50)),
        ("retryable", History(3, rounds=2), Decision("dead")),
    ],
)
def test_decisions(category: str, history: History, decision: Decision) -> None:
    assert decide(failure(category), history, SETTINGS) == decision


@given(st.sampled_from(["permanent", "lost", "retryable"]))
def test_every_event_comes_to_an_end(category: str) -> None:
    history = History(1, lost=int(category == "lost"))
    for _ in range(100):
        decision = decide(failure(category), history, SETTINGS)
        if decision.step == "dead":
            return
        lost = history.lost + (category == "lost")
        if decision.step == "later":
            history = History(1, lost, history.rounds + 1)
        else:
            history = History(history.tries + 1, lost, history.rounds)
    raise AssertionError("the event goes round for ever")


def test_headers_survive_the_retry_topic_and_keep_the_original() -> None:
    original = (("content-type", b"application/json"), ("sc-tense", b"test"), ("traceparent", b"00-1-2-03"))
    first = read_passage(original, HERE)
    assert (first.rounds, first.attempts, first.not_before, first.original_headers) == (0, 0, None, original)

    later = NOW + timedelta(seconds=30)
    sent = retry_headers(first, failure("retryable"), History(3, lost=1), later)
    second = read_passage(sent, Origin("retry", 0, 99, later))
    assert second.origin == HERE
    assert (second.rounds, second.lost, second.attempts, second.not_before) == (1, 1, 3, later)
    assert second.original_headers == original

    letter = dead_letter_headers(
        second, failure("lost"), History(1, lost=2, rounds=1), application="streamchar/0", failed_at=later
    )
    assert letter[:3] == original
    told = dict(letter)
    assert told["sc-origin-offset"] == b"17"
    assert told["sc-retry-attempts"] == b"4"
    assert told["sc-error-code"] == b"some_code"
    assert told["sc-error-traceback"] == b"Traceback ..."
    assert len(told) == len(letter)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["sc-retry-round", "sc-origin-time", "sc-origin-topic", "sc-retry-not-before", "x"]
            ),
            st.binary(max_size=20),
        )
    )
)
def test_damaged_headers_mean_a_first_reading(headers: list[tuple[str, bytes]]) -> None:
    passage = read_passage(tuple(headers), HERE)
    assert passage.rounds >= 0
    assert passage.origin.topic is not None


@pytest.mark.parametrize("name", ["topic", "partition", "offset", "time"])
@pytest.mark.parametrize("damaged", [b"", b"-1", b"9" * 300])
def test_a_first_position_that_is_damaged_in_part_does_not_count(name: str, damaged: bytes) -> None:
    elsewhere = Origin("other", 5, 6, NOW - timedelta(hours=1))
    sent = dict(retry_headers(read_passage((), elsewhere), failure("retryable"), History(3), NOW))
    assert read_passage(tuple(sent.items()), HERE).origin == elsewhere
    if name != "topic" or len(damaged) != 2:  # any text is a topic that is neither empty nor too long
        sent[f"sc-origin-{name}"] = damaged
        assert read_passage(tuple(sent.items()), HERE).origin == HERE


def test_error_texts_are_bounded() -> None:
    endless = JobFailure("permanent", "code", "x" * 10**6, traceback="y" * 10**6)
    headers = dead_letter_headers(
        read_passage((), HERE), endless, History(), application="streamchar/0", failed_at=NOW
    )
    assert sum(len(name) + len(value) for name, value in headers) < 10_000


def breaker(**changes: float) -> Breaker:
    return Breaker(
        BreakerSettings(
            **{"window": 10, "minimum": 4, "ratio": 0.5, "consecutive": 4, "cool_down": 60, **changes}
        )
    )  # type: ignore[arg-type]


def test_the_breaker_opens_on_the_ratio() -> None:
    it = breaker(consecutive=100)
    for dead in (True, False, True):
        it.finished(dead=dead, now=0)
    assert it.allows(0)
    it.finished(dead=True, now=0)
    assert it.state(1) == "open"


@pytest.fixture
def opened() -> Breaker:
    """Opened at 0 by dead letters in a row."""
    it = breaker(minimum=1000)
    for _ in range(4):
        it.finished(dead=True, now=0)
    assert it.state(0) == "open"
    assert not it.allows(59)
    return it


@pytest.mark.parametrize("begins", [[60], [60, 120], [60, 120, 180]])
@pytest.mark.parametrize("dead", [True, False])
def test_the_breaker_lets_one_probe_pass_in_a_cool_down_and_its_verdict_counts(
    opened: Breaker, begins: list[float], dead: bool
) -> None:
    """A probe without a verdict went to the retry topic, or its partition to another service; another one follows."""
    for begin in begins:
        assert opened.allows(begin)
        opened.started(now=begin)
        assert not opened.allows(begin + 59)
    end = begins[-1] + 59
    opened.finished(dead=dead, now=end)
    assert opened.state(end + 59) == ("open" if dead else "closed")
    assert opened.state(end + 60) == ("probing" if dead else "closed")


def test_a_replay_header_without_a_value_counts_as_no_replay() -> None:
    assert read_replay((("sc-replay-round", None), ("sc-replay-of", None))) == Replay()  # type: ignore[arg-type]
