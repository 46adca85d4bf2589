"""Events on the retry and dead-letter topics: the original bytes and headers, and headers that say what happened.

Our headers begin with ``sc-error-``, ``sc-origin-`` or ``sc-retry-`` and are UTF-8 text. The first position and time
of an event survive all rounds. A dead letter that is replayed loses them, and is announced anew with ``sc-replay-``
headers, which it keeps for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime

from streamchar.frozen import frozen
from streamchar.stream.job import Headers, JobFailure
from streamchar.stream.retry import History

_PREFIXES = ("sc-error-", "sc-origin-", "sc-retry-")
_REPLAY = "sc-replay-"
REPLAY_ROUND = "sc-replay-round"
REPLAY_TIME = "sc-replay-time"
REPLAY_OF = "sc-replay-of"
VALUE_OMITTED = "sc-error-value-omitted"
_MAX_TEXT = 2000
_MAX_TOPIC = 249
_MAX_COUNT = 2**31 - 1
_MAX_OFFSET = 2**62
"""Anybody can write our headers: numbers beyond any real one count as damaged."""


@frozen
class Origin:
    """Where and when an event was first read.

    Attributes
    ----------
    topic, partition, offset
        Its first position.
    first_seen
        When it was first read.
    """

    topic: str
    partition: int
    offset: int
    first_seen: datetime


@frozen
class Passage:
    """What our headers tell about an event that came through the retry topic.

    Attributes
    ----------
    origin
        Where it came from.
    rounds
        How often it was sent to the retry topic.
    lost
        How often it lost its worker.
    attempts
        Attempts in earlier rounds.
    not_before
        Earliest time of the next attempt; None for at once.
    original_headers
        The headers it came with, ours removed.
    """

    origin: Origin
    rounds: int = 0
    lost: int = 0
    attempts: int = 0
    not_before: datetime | None = None
    original_headers: Headers = field(default=())


def read_passage(headers: Headers, here: Origin) -> Passage:
    """Read our headers; what is absent or damaged falls back to a first reading at ``here``."""
    ours = {name: value for name, value in headers if name.startswith(_PREFIXES)}
    original = tuple((name, value) for name, value in headers if not name.startswith(_PREFIXES))
    return Passage(
        _origin(ours) or here,
        rounds=_integer(ours, "sc-retry-round"),
        lost=_integer(ours, "sc-retry-lost-workers"),
        attempts=_integer(ours, "sc-retry-attempts"),
        not_before=_time(ours, "sc-retry-not-before"),
        original_headers=original,
    )


@frozen
class Replay:
    """What our headers tell about an event that an operator announced again.

    Attributes
    ----------
    round
        How often it was replayed; 0 for an ordinary announcement.
    time
        When it was last replayed.
    of
        Position of the dead letter, ``topic/partition/offset``; empty for an ordinary announcement.
    """

    round: int = 0
    time: datetime | None = None
    of: str = ""


def read_replay(headers: Headers) -> Replay:
    """Read the headers of a replay; what is absent or damaged counts as no replay."""
    ours = {name: value or b"" for name, value in headers if name.startswith(_REPLAY)}
    return Replay(
        _integer(ours, REPLAY_ROUND),
        _time(ours, REPLAY_TIME),
        ours.get(REPLAY_OF, b"").decode("utf-8", "replace"),
    )


def replay_headers(headers: Headers, letter: str, now: datetime) -> Headers:
    """Headers with which a dead letter is announced again: the original ones, and that it is a replay.

    Parameters
    ----------
    headers
        Of the dead letter.
    letter
        Its position, ``topic/partition/offset``.
    now
        When it is replayed.
    """
    original = tuple((name, value) for name, value in headers if not name.startswith((*_PREFIXES, _REPLAY)))
    return (
        *original,
        (REPLAY_ROUND, _text(str(read_replay(headers).round + 1))),
        (REPLAY_TIME, _text(now.isoformat())),
        (REPLAY_OF, _text(letter)),
    )


def retry_headers(passage: Passage, failure: JobFailure, history: History, not_before: datetime) -> Headers:
    """Headers of an event on its way to the retry topic."""
    described = describe(passage, failure, history, rounds=history.rounds + 1)
    return (*described, ("sc-retry-not-before", _text(not_before.isoformat())))


def dead_letter_headers(
    passage: Passage, failure: JobFailure, history: History, *, application: str, failed_at: datetime
) -> Headers:
    """Headers of a dead letter: what failed, where, when, and by which version of the software."""
    return (
        *describe(passage, failure, history, rounds=history.rounds),
        ("sc-error-time", _text(failed_at.isoformat())),
        ("sc-error-application", _text(application)),
        ("sc-error-traceback", _text(failure.traceback, 2 * _MAX_TEXT)),
    )


def describe(passage: Passage, failure: JobFailure, history: History, rounds: int) -> Headers:
    """Original headers, provenance and the last error."""
    origin = passage.origin
    values: Mapping[str, str | int] = {
        "sc-origin-topic": origin.topic,
        "sc-origin-partition": origin.partition,
        "sc-origin-offset": origin.offset,
        "sc-origin-time": origin.first_seen.isoformat(),
        "sc-retry-round": rounds,
        "sc-retry-lost-workers": history.lost,
        "sc-retry-attempts": passage.attempts + history.tries,
        "sc-error-code": failure.code,
        "sc-error-category": failure.category,
        "sc-error-text": failure.text,
    }
    return (*passage.original_headers, *((name, _text(str(value))) for name, value in values.items()))


def _text(text: str, limit: int = _MAX_TEXT) -> bytes:
    return text.encode("utf-8", "replace")[:limit]


def _origin(headers: Mapping[str, bytes]) -> Origin | None:
    """Read a first position and time; of one that is damaged in part nothing counts."""
    topic = headers.get("sc-origin-topic", b"").decode("utf-8", "replace")
    partition = _number(headers, "sc-origin-partition", _MAX_COUNT)
    offset = _number(headers, "sc-origin-offset", _MAX_OFFSET)
    first_seen = _time(headers, "sc-origin-time")
    if not 0 < len(topic) <= _MAX_TOPIC or partition is None or offset is None or first_seen is None:
        return None
    return Origin(topic, partition, offset, first_seen)


def _integer(headers: Mapping[str, bytes], name: str) -> int:
    return _number(headers, name, _MAX_COUNT) or 0


def _number(headers: Mapping[str, bytes], name: str, most: int) -> int | None:
    try:
        number = int(headers[name])
    except (KeyError, ValueError):
        return None
    return number if 0 <= number <= most else None


def _time(headers: Mapping[str, bytes], name: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(headers[name].decode("ascii"))
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        return None
